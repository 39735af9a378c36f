//! The promise, fault by fault: at most one accepted copy of each message, and none dropped in silence.
//!
//! Each test lets runs meet a server that misbehaves, then servers that do not, until nothing is left to try. Then it
//! compares what all of them accepted with what the ledger says.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};
use std::thread;
use std::time::Duration;

use crate::support::{Act, Cart, Kind, Plan, Server, Stage, World};

/// Faults that must be waited for are given this long.
const SOON: &str = "1s";
/// Long enough for a run to have done what it must not do.
const A_MOMENT: Duration = Duration::from_millis(200);
const SIGTERM: i32 = libc::SIGTERM;

const STRAY_YES: &str = "250 2.0.0 stray";
const STRAY_LATER: &str = "451 4.3.0 stray";
const STRAY_GO: &str = "354 stray";
const NO: &str = "550 5.7.1 not wanted here";
const LATER: &str = "451 4.3.0 try later";

pub(crate) fn accepting() -> Server {
    Server::start(Plan::accepting())
}

pub(crate) fn carts(n: usize) -> impl Iterator<Item = Cart> {
    (1..=n).map(|n| Cart::of(&format!("c{n}")))
}

/// A world with an empty rehearsal ledger, like `init` makes it but without the process, and with a template that is soon
/// rendered: there are hundreds of worlds here.
pub(crate) fn world_with_ledger() -> World {
    static LEDGER: OnceLock<Vec<u8>> = OnceLock::new();
    let ledger = LEDGER.get_or_init(|| std::fs::read(World::new().init().ledger_file()).expect("a new ledger"));
    let world = World::new().source(Kind::JsonLines).set("detect.template", "cart.html");
    std::fs::write(world.ledger_file(), ledger).expect("the ledger is copied");
    std::fs::write(world.path("cart.html"), "<p>You left something behind.</p>\n").expect("a template");
    world
}

/// What of the promise does not hold, given every server that this ledger ever sent to.
pub(crate) fn broken_promises(world: &World, servers: &[&Server]) -> Vec<String> {
    let mut broken = Vec::new();
    let mut accepted: BTreeMap<String, usize> = BTreeMap::new();
    for server in servers {
        broken.extend(server.violations());
        for message in server.accepted() {
            *accepted.entry(message.message_id).or_default() += 1;
        }
    }
    let messages = world.messages();
    for message in &messages {
        let copies = accepted.remove(message.message_id.as_deref().unwrap_or_default()).unwrap_or(0);
        let right = match message.state.as_str() {
            "sent" => copies == 1,
            "in_doubt" => copies <= 1,
            // A run that is dead left it: the next one must not let it stand.
            "armed" => false,
            _ => copies == 0,
        };
        if !right {
            broken.push(format!("{} is {} and was accepted {copies} times", message.recipient, message.state));
        }
    }
    broken.extend(accepted.into_keys().map(|id| format!("{id} was accepted, and the ledger does not know it")));
    for episode in world.episodes() {
        let sent = messages
            .iter()
            .any(|message| Some(&message.message_key) == episode.message_key.as_ref() && message.state == "sent");
        if episode.email_sent != sent {
            broken.push(format!("email_sent is {} for {:?}", episode.email_sent, episode.cart_id));
        }
    }
    let integrity = world.rows("PRAGMA integrity_check");
    if integrity[0].values().next() != Some(&Some("ok".into())) {
        broken.push(format!("the ledger is damaged: {integrity:?}"));
    }
    broken
}

/// Runs `detect` against a server that takes everything, every two hours, until nothing is planned. What is not
/// sent by then must stay so in one run more.
fn until_quiet(world: &World, carts: usize) -> (Server, Vec<i32>, Vec<String>) {
    let server = accepting();
    world.send_to(&server);
    let mut codes = Vec::new();
    let mut broken = Vec::new();
    for hour in (14..=22).step_by(2) {
        world.set_now(&format!("2026-03-01T{hour}:00:00Z"));
        codes.push(world.run(["detect"]).code);
        let states = world.states();
        if states.values().sum::<usize>() != carts {
            broken.push(format!("{carts} carts, but {states:?}"));
        }
        if !states.contains_key("planned") && !states.contains_key("armed") {
            if states.keys().eq(["sent"]) {
                return (server, codes, broken);
            }
            let before = server.accepted().len();
            world.set_now("2026-03-01T23:00:00Z");
            let last = world.run(["detect"]).code;
            if (last, server.accepted().len()) != (0, before) {
                broken.push(format!("a run with nothing to do: exit {last}, accepted {before} before it"));
            }
            return (server, codes, broken);
        }
    }
    broken.push(format!("never quiet: {:?}", world.states()));
    (server, codes, broken)
}

/// Checks every case, several at a time, and names all that failed.
#[track_caller]
pub(crate) fn check_all<T: Debug + Sync>(cases: &[T], at_once: usize, check: impl Fn(&T) -> Vec<String> + Sync) {
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    for problem in check(case) {
                        failures.lock().unwrap().push(format!("{case:?}: {problem}"));
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(!cases.is_empty());
    assert!(failures.is_empty(), "{} problems in {} cases:\n{}", failures.len(), cases.len(), failures.join("\n"));
}

mod every_fault {
    use super::*;

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Fault {
        Does(Act),
        /// The server hangs, and the run is killed with SIGKILL.
        Killed,
    }
    use Fault::{Does, Killed};

    const FAULTS: [Fault; 14] = [
        Does(Act::Code(451)),
        Does(Act::Code(550)),
        Does(Act::Code(421)),
        Does(Act::Close),
        Does(Act::Reset),
        Does(Act::Hang),
        Killed,
        Does(Act::Garbage),
        Does(Act::StrayBefore(STRAY_YES)),
        Does(Act::StrayBefore(STRAY_LATER)),
        Does(Act::StrayAfter(STRAY_YES)),
        Does(Act::StrayAfter(STRAY_GO)),
        Does(Act::StrayAfter(STRAY_LATER)),
        Does(Act::SplitReply),
    ];

    /// Where the fault sits, and at which arrival; with three carts over one connection each of these comes about.
    const PLACES: [(Stage, usize); 17] = [
        (Stage::Connect, 1),
        (Stage::Banner, 1),
        (Stage::Ehlo, 1),
        (Stage::Mail, 1),
        (Stage::Mail, 2),
        (Stage::Rcpt, 1),
        (Stage::Rcpt, 2),
        (Stage::Data, 1),
        (Stage::Data, 2),
        (Stage::Body, 1),
        (Stage::Dot, 1),
        (Stage::Dot, 2),
        (Stage::Taken, 1),
        (Stage::Taken, 2),
        (Stage::AfterDot, 1),
        (Stage::AfterDot, 3),
        (Stage::Quit, 1),
    ];

    #[derive(Debug)]
    struct Case {
        stage: Stage,
        nth: usize,
        fault: Fault,
        pipelining: bool,
    }

    fn cases() -> Vec<Case> {
        let mut cases = Vec::new();
        for (stage, nth) in PLACES {
            for (turn, fault) in FAULTS.into_iter().enumerate() {
                for pipelining in [true, false] {
                    // A server that takes a message and says 451 lies: no client can help it.
                    let lie = stage == Stage::Taken && matches!(fault, Does(Act::Code(421 | 451 | 550)));
                    // At connect there is nothing to say yet; a stray line after the dot stands at Dot and Taken.
                    let nothing = match (stage, fault) {
                        (Stage::Connect, Does(act)) => !matches!(act, Act::Close | Act::Reset | Act::Hang),
                        (Stage::AfterDot, Does(Act::StrayBefore(_) | Act::StrayAfter(_) | Act::SplitReply)) => true,
                        _ => false,
                    };
                    // Elsewhere the two differ in nothing: there they take turns.
                    let both = matches!(stage, Stage::Mail | Stage::Rcpt | Stage::Data);
                    let its_turn = (nth + turn).is_multiple_of(2) == pipelining;
                    if !(lie || nothing) && (both || its_turn) {
                        cases.push(Case { stage, nth, fault, pipelining });
                    }
                }
            }
        }
        cases
    }

    fn before_the_body(stage: Stage) -> bool {
        !matches!(stage, Stage::Body | Stage::Dot | Stage::Taken | Stage::AfterDot | Stage::Quit)
    }

    /// How many messages must end in doubt, and how many refused, where the server is honest about what it took.
    fn expected(case: &Case) -> Option<(usize, usize)> {
        let Case { stage, nth, fault, .. } = *case;
        let first = nth == 1;
        let judged = matches!(stage, Stage::Rcpt | Stage::Data | Stage::Dot);
        Some(match fault {
            Does(Act::SplitReply) if stage != Stage::Body => (0, 0),
            Does(Act::Garbage) if before_the_body(stage) && first => (0, 0),
            // It comes together with the 354.
            Does(Act::StrayAfter(_)) if stage == Stage::Data => (0, 0),
            // This one is taken for the 354: found out then, or only after the dot.
            Does(Act::StrayAfter(STRAY_GO)) if stage == Stage::Rcpt => return None,
            // Any other is found out before the body.
            Does(Act::StrayBefore(_) | Act::StrayAfter(_)) if before_the_body(stage) && first => (0, 0),
            Does(Act::Code(451)) if before_the_body(stage) || stage == Stage::Dot => (0, 0),
            Does(Act::Code(550)) if judged => (0, 1),
            Does(Act::Code(550)) if before_the_body(stage) => (0, 0),
            // The 221 to QUIT shows that it was the dot's: a no like any other 4yz.
            Does(Act::Code(421)) if stage == Stage::Dot => (0, 0),
            Does(Act::Code(421) | Act::Close | Act::Reset | Act::Hang) => {
                (usize::from(matches!(stage, Stage::Body | Stage::Dot | Stage::Taken)), 0)
            }
            // Killed while the second is opened, the first one's 250 has not been proven yet.
            Killed => (usize::from(!before_the_body(stage) || nth == 2), 0),
            _ => return None,
        })
    }

    fn check(case: &Case) -> Vec<String> {
        let act = match case.fault {
            Does(act) => act,
            Killed => Act::Hang,
        };
        let plan = Plan::accepting().nth(case.stage, case.nth, act);
        let bad = Server::start(if case.pipelining { plan } else { plan.without_pipelining() });
        let patience = if case.fault == Does(Act::Hang) { SOON } else { "20s" };
        let world = world_with_ledger().carts(carts(3)).smtp(&bad);
        for key in ["connect_timeout", "timeout", "dot_timeout"] {
            world.configure(&format!("mail.smtp.{key}"), patience);
        }
        let run = world.spawn(["detect"]);
        let ran = match case.fault {
            Killed => {
                bad.wait_for(case.stage, case.nth);
                run.kill()
            }
            Does(_) => run.wait(),
        };
        let mut problems = Vec::new();
        if bad.reached(case.stage) < case.nth {
            problems.push("the fault never came about".into());
        }
        if case.fault != Killed && ![0, 1].contains(&ran.code) {
            problems.push(format!("{ran}"));
        }
        let (good, codes, broken) = until_quiet(&world, 3);
        problems.extend(broken);
        problems.extend(broken_promises(&world, &[&bad, &good]));
        if matches!(case.fault, Does(Act::StrayBefore(_) | Act::StrayAfter(_))) {
            // A client that was answered too early talks too early.
            problems.retain(|problem| !problem.ends_with("several commands in one go, without PIPELINING"));
        }
        let states = world.states();
        let of = |state: &str| states.get(state).copied().unwrap_or(0);
        if let Some((in_doubt, refused)) = expected(case)
            && (of("in_doubt"), of("refused"), of("sent")) != (in_doubt, refused, 3 - in_doubt - refused)
        {
            problems.push(format!("{in_doubt} in doubt and {refused} refused were expected: {states:?}"));
        }
        if of("in_doubt") > 0 && ran.code != 1 && !codes.contains(&1) {
            problems.push("a message came in doubt and no run called a person".into());
        }
        if !problems.is_empty() {
            problems.push(format!("exit codes {} and {codes:?}; the server saw\n{}", ran.code, bad.transcript()));
        }
        problems
    }

    #[test]
    fn at_every_stage_leaves_each_message_accepted_at_most_once_and_listed() {
        check_all(&cases(), 8, check);
    }

    /// The same with twenty carts over four connections: a fault on one must not touch the others.
    #[test]
    fn on_one_of_four_connections_is_no_trouble_for_the_others() {
        let mut cases = Vec::new();
        for stage in [Stage::Rcpt, Stage::Data, Stage::Dot, Stage::Taken, Stage::AfterDot] {
            for fault in [Does(Act::Close), Does(Act::Code(421)), Does(Act::StrayAfter(STRAY_YES)), Killed] {
                let nothing = matches!((stage, fault), (Stage::AfterDot, Does(Act::StrayAfter(_))));
                let lie = matches!((stage, fault), (Stage::Taken, Does(Act::Code(421))));
                if !(nothing || lie) {
                    cases.push(Case { stage, nth: 7, fault, pipelining: cases.len() % 2 == 0 });
                }
            }
        }
        check_all(&cases, 4, |case| {
            let act = match case.fault {
                Does(act) => act,
                Killed => Act::Hang,
            };
            let plan = Plan::accepting().nth(case.stage, case.nth, act);
            let bad = Server::start(if case.pipelining { plan } else { plan.without_pipelining() });
            let world = world_with_ledger().carts(carts(20)).set("mail.smtp.connections", 4).smtp(&bad);
            let run = world.spawn(["detect"]);
            let ran = match case.fault {
                Killed => {
                    bad.wait_for(case.stage, case.nth);
                    run.kill()
                }
                Does(_) => run.wait(),
            };
            let (good, _, mut problems) = until_quiet(&world, 20);
            problems.extend(broken_promises(&world, &[&bad, &good]));
            let in_doubt = world.states().get("in_doubt").copied().unwrap_or(0);
            // One connection has at most one message in hand and one that is not proven yet.
            let most = if case.fault == Killed { 8 } else { 2 };
            if in_doubt > most {
                problems.push(format!("{in_doubt} in doubt\n{ran}"));
            }
            problems
        });
    }

    /// Killed again and again at whatever instant it happens to be.
    #[test]
    fn killed_over_and_over_no_message_goes_twice() {
        let rounds: Vec<u64> = (0..4).collect();
        check_all(&rounds, 4, |round| {
            let server = accepting();
            let world = world_with_ledger().carts(carts(40)).set("mail.smtp.connections", 4).smtp(&server);
            for n in 0..8 {
                world.set_now(&format!("2026-03-01T12:{:02}:00Z", n * 3));
                let run = world.spawn(["detect"]);
                thread::sleep(Duration::from_millis(10 + (round * 13 + n * 29) % 90));
                run.kill();
            }
            let (good, _, mut problems) = until_quiet(&world, 40);
            problems.extend(broken_promises(&world, &[&server, &good]));
            problems
        });
    }
}

/// A stray line makes every later reply answer the command before.
mod out_of_step {
    use super::*;

    /// The message's own `Message-ID` is in doubt or planned after this, but never sent.
    fn refused_behind_a_stray_yes(pipelining: bool, carts_in_world: usize) {
        let plan =
            Plan::accepting().nth(Stage::Body, 1, Act::Reply(STRAY_YES)).nth(Stage::Dot, 1, Act::Reply("554 5.7.1 no"));
        let bad = Server::start(if pipelining { plan } else { plan.without_pipelining() });
        let world = world_with_ledger().carts(carts(carts_in_world)).smtp(&bad);
        let ran = world.exits(1, ["detect"]);
        assert_eq!(bad.accepted().len(), 0);
        let states = world.states();
        assert_eq!(states.get("sent"), None, "nothing was accepted:\n{ran}{}", bad.transcript());
        assert_eq!(states.get("in_doubt"), Some(&1), "{states:?}\n{}", bad.transcript());
        let (good, _, broken) = until_quiet(&world, carts_in_world);
        assert_eq!(broken, [""; 0]);
        assert_eq!(broken_promises(&world, &[&bad, &good]), [""; 0]);
        assert_eq!(good.accepted().len(), carts_in_world - 1);
    }

    #[test]
    fn a_refusal_behind_a_stray_yes_is_in_doubt_whatever_comes_next() {
        for pipelining in [true, false] {
            refused_behind_a_stray_yes(pipelining, 1);
            refused_behind_a_stray_yes(pipelining, 3);
        }
    }

    #[test]
    fn in_the_middle_of_a_connection_the_messages_before_it_stand() {
        let plan =
            Plan::accepting().nth(Stage::Body, 3, Act::Reply(STRAY_YES)).nth(Stage::Dot, 3, Act::Reply("554 5.7.1 no"));
        let bad = Server::start(plan);
        let world = world_with_ledger().carts(carts(5)).smtp(&bad);
        world.exits(1, ["detect"]);
        world.has([("in_doubt", 1), ("planned", 2), ("sent", 2)]);
        let (good, _, broken) = until_quiet(&world, 5);
        assert_eq!(broken, [""; 0]);
        assert_eq!(broken_promises(&world, &[&bad, &good]), [""; 0]);
    }

    #[test]
    fn a_deferral_that_was_not_the_dots_is_not_tried_again() {
        // 451 first, then the dot's own 250: trying again would be the second copy.
        for stage in [Stage::Dot, Stage::Taken] {
            let bad = Server::start(Plan::accepting().nth(stage, 1, Act::StrayBefore(STRAY_LATER)));
            let world = world_with_ledger().carts(carts(2)).smtp(&bad);
            world.exits(1, ["detect"]);
            let accepted = bad.accepted().swap_remove(0);
            let known = world.messages().into_iter().find(|m| m.message_id.as_deref() == Some(&accepted.message_id));
            assert_eq!(known.unwrap().state, "in_doubt", "{stage:?}");
            let (good, _, broken) = until_quiet(&world, 2);
            assert_eq!(broken, [""; 0]);
            assert_eq!(broken_promises(&world, &[&bad, &good]), [""; 0], "{stage:?}");
        }
    }

    #[test]
    fn a_connection_that_merely_ends_after_the_250_leaves_it_sent() {
        for act in [Act::Close, Act::Reset, Act::Code(421)] {
            let server = Server::start(Plan::accepting().nth(Stage::AfterDot, 1, act));
            let world = world_with_ledger().carts(carts(1)).smtp(&server);
            world.ok(["detect"]);
            world.has([("sent", 1)]);
        }
    }
}

mod recording {
    use super::*;

    /// Four acceptances become known at once; the ledger, changed by hand meanwhile, forbids to record more than two.
    #[test]
    fn an_outcome_that_is_forbidden_is_named_and_takes_no_other_with_it() {
        let server = Server::start(Plan::accepting().at(Stage::Quit, Act::Hang));
        let world = world_with_ledger().carts(carts(4)).set("mail.smtp.connections", 4).smtp(&server);
        let run = world.spawn(["detect"]);
        server.wait_for(Stage::Quit, 4);
        // Held until all four have come in: the first waits for it, and the others share what comes after.
        let meddler = rusqlite::Connection::open(world.ledger_file()).unwrap();
        meddler
            .execute_batch(
                "BEGIN IMMEDIATE;
                 CREATE TRIGGER two_are_enough BEFORE UPDATE OF state ON message WHEN NEW.state = 'sent'
                     AND (SELECT count(*) FROM message WHERE state = 'sent') = 2
                 BEGIN SELECT RAISE(ABORT, 'two_are_enough: no'); END",
            )
            .unwrap();
        server.release();
        server.wait_for_silence();
        meddler.execute_batch("COMMIT").unwrap();
        let ran = world.check(run.wait(), 74);
        ran.says("two_are_enough: no").says("kept: 2 messages sent and recorded; ").says("not recorded: cart ");
        assert_eq!(world.states().get("sent"), Some(&2), "{ran}");
        assert_eq!(server.accepted().len(), 4);

        meddler.execute_batch("DROP TRIGGER two_are_enough").unwrap();
        let later = accepting();
        world.send_to(&later);
        world.exits(1, ["detect"]);
        world.has([("sent", 2), ("in_doubt", 2)]);
        assert_eq!(broken_promises(&world, &[&server, &later]), Vec::<String>::new());
        assert_eq!(later.final_dots(), 0, "a message was sent again");
    }
}

mod killed {
    use super::*;

    const UP_TO_THE_354: [Stage; 6] =
        [Stage::Connect, Stage::Banner, Stage::Ehlo, Stage::Mail, Stage::Rcpt, Stage::Data];
    const FROM_THE_BODY_ON: [Stage; 5] = [Stage::Body, Stage::Dot, Stage::Taken, Stage::AfterDot, Stage::Quit];

    fn killed_at(stage: Stage, cart: Cart) -> (World, Server) {
        let server = Server::start(Plan::accepting().nth(stage, 1, Act::Hang));
        let world = world_with_ledger().cart(cart).smtp(&server);
        let run = world.spawn(["detect"]);
        server.wait_for(stage, 1);
        assert_eq!(run.kill().code, 128 + libc::SIGKILL);
        (world, server)
    }

    #[test]
    fn before_the_body_it_is_planned_and_sent_once() {
        check_all(&UP_TO_THE_354, 3, |stage| {
            let (world, server) = killed_at(*stage, Cart::of("c1"));
            world.has([("planned", 1)]);
            let next = accepting();
            world.send_to(&next);
            world.set_now("2026-03-01T12:01:00Z");
            world.ok(["detect"]);
            world.set_now("2026-03-01T12:02:00Z");
            world.ok(["detect"]);
            assert_eq!(next.accepted().len(), 1, "{stage:?}");
            broken_promises(&world, &[&server, &next])
        });
    }

    #[test]
    fn from_the_body_on_it_is_in_doubt_called_once_listed_and_never_sent_again() {
        check_all(&FROM_THE_BODY_ON, 3, |stage| {
            let (world, server) = killed_at(*stage, Cart::of("c1").user("u1").email("Ada@Example.com"));
            world.has([("armed", 1)]);
            assert_eq!(world.message().armed_at.as_deref(), Some("2026-03-01T12:00:00Z"), "{stage:?}");
            let next = accepting();
            world.send_to(&next);
            world.set_now("2026-03-01T12:01:00Z");
            world.exits(1, ["detect"]).says("in doubt").says("mailonce resolve");
            world.has([("in_doubt", 1)]);
            let message_id = world.message().message_id.unwrap();
            world.ok(["resolve"]).says(&message_id).says("1 message in doubt");
            world.ok(["log", "--state", "in_doubt"]).says("example.com");
            assert_eq!(world.ok(["status", "--json"]).json()["states"]["in_doubt"], 1);
            // The same cart, for the same user and for a guest of the same address.
            world.set_now("2026-03-01T12:02:00Z");
            world.ok(["detect"]);
            world.put(Cart::of("c2").email("ada@EXAMPLE.com").updated("2026-03-01T10:00:00Z"));
            world.set_now("2026-03-01T12:03:00Z");
            world.ok(["detect"]);
            world.touch("c1", "2026-03-02T08:00:00Z");
            world.touch("c2", "2026-03-02T08:00:00Z");
            world.set_now("2026-03-02T13:00:00Z");
            world.ok(["detect"]);
            world.has([("in_doubt", 1)]);
            assert_eq!(next.connections(), 0, "{stage:?}");
            broken_promises(&world, &[&server, &next])
        });
    }

    #[test]
    fn a_second_sigterm_ends_the_run_at_once_and_the_message_is_in_doubt() {
        let server = Server::start(Plan::accepting().nth(Stage::Dot, 1, Act::Hang));
        let world = world_with_ledger().carts(carts(2)).smtp(&server);
        let mut run = world.spawn(["detect"]);
        server.wait_for_final_dot();
        run.signal(SIGTERM);
        thread::sleep(A_MOMENT);
        assert!(run.is_running(), "the reply to the dot is waited for");
        run.signal(SIGTERM);
        assert_eq!(run.wait().code, 128 + SIGTERM);
        world.has([("armed", 1), ("planned", 1)]);
        let next = accepting();
        world.send_to(&next);
        world.set_now("2026-03-01T12:01:00Z");
        world.exits(1, ["detect"]);
        world.has([("in_doubt", 1), ("sent", 1)]);
        assert_eq!(broken_promises(&world, &[&server, &next]), [""; 0]);
    }
}

mod stopped {
    use super::*;

    #[test]
    fn before_the_body_it_leaves_at_once_and_all_is_planned() {
        let stages = [Stage::Connect, Stage::Banner, Stage::Ehlo, Stage::Mail, Stage::Rcpt, Stage::Data];
        check_all(&stages, 3, |stage| {
            for signal in [SIGTERM, libc::SIGINT] {
                let server = Server::start(Plan::accepting().nth(*stage, 1, Act::Hang));
                let world = world_with_ledger().carts(carts(2)).smtp(&server);
                let run = world.spawn(["detect"]);
                server.wait_for(*stage, 1);
                run.signal(signal);
                world.check(run.wait(), 0);
                world.has([("planned", 2)]);
                assert_eq!(world.attempts().len(), 0);
                let next = accepting();
                world.send_to(&next);
                world.set_now("2026-03-01T12:01:00Z");
                world.ok(["detect"]);
                world.has([("sent", 2)]);
                assert_eq!(broken_promises(&world, &[&server, &next]), [""; 0], "{stage:?}");
            }
            Vec::new()
        });
    }

    #[test]
    fn from_the_body_on_the_reply_is_waited_for_and_recorded_and_the_rest_is_planned() {
        let stages = [Stage::Body, Stage::Dot, Stage::Taken, Stage::AfterDot, Stage::Quit];
        check_all(&stages, 3, |stage| {
            let server = Server::start(Plan::accepting().nth(*stage, 1, Act::Hang));
            // At QUIT there is no rest.
            let rest = if *stage == Stage::Quit { 0 } else { 2 };
            let world = world_with_ledger().carts(carts(1 + rest)).smtp(&server);
            let mut run = world.spawn(["detect"]);
            server.wait_for(*stage, 1);
            run.signal(SIGTERM);
            thread::sleep(A_MOMENT);
            assert!(run.is_running(), "{stage:?}: it left a message whose body was out");
            assert_eq!(world.states().get("sent"), None, "{stage:?}");
            server.release();
            world.check(run.wait(), 0);
            assert_eq!(world.states().get("sent"), Some(&1), "{stage:?}");
            assert_eq!(world.states().get("planned").copied().unwrap_or(0), rest, "{stage:?}");
            broken_promises(&world, &[&server])
        });
    }

    #[test]
    fn a_message_judged_while_the_run_stops_is_recorded_as_judged() {
        for (act, state) in [(Act::Reply(NO), "refused"), (Act::Reply(LATER), "planned")] {
            let plan = Plan::accepting().nth(Stage::Body, 1, Act::Hang).nth(Stage::Dot, 1, act);
            let server = Server::start(plan);
            let world = world_with_ledger().carts(carts(1)).smtp(&server);
            let run = world.spawn(["detect"]);
            server.wait_for(Stage::Body, 1);
            run.signal(SIGTERM);
            thread::sleep(A_MOMENT);
            server.release();
            world.check(run.wait(), 0);
            world.has([(state, 1)]);
            assert_eq!(world.attempts().len(), 1);
        }
    }
}

/// A crash between arming and settling, made by hand: the file transport leaves no instant to kill at.
mod to_files {
    use super::*;

    /// A world whose one message, to a file, was armed by a run that then died.
    fn armed() -> World {
        let bad = Server::start(Plan::accepting().at(Stage::Rcpt, Act::Reply(LATER)));
        let world = world_with_ledger().cart(Cart::of("c1")).smtp(&bad);
        world.ok(["detect"]);
        world.has([("planned", 1)]);
        world.configure("mail.transport", "file");
        let ledger = rusqlite::Connection::open(world.ledger_file()).unwrap();
        let arm = "UPDATE message SET state = 'armed', armed_at = '2026-03-01T12:00:30Z',
                       epoch = (SELECT epoch FROM ledger)";
        assert_eq!(ledger.execute(arm, []).unwrap(), 1);
        world
    }

    fn token(world: &World) -> String {
        let message_id = world.message().message_id.unwrap();
        message_id.trim_start_matches('<').split('@').next().unwrap().to_owned()
    }

    #[test]
    fn a_message_found_by_its_token_is_sent_and_needs_no_one() {
        let world = armed();
        std::fs::create_dir(world.path("outbox")).unwrap();
        std::fs::write(world.path(format!("outbox/{}.eml", token(&world))), "Subject: x\r\n\r\n").unwrap();
        world.set_now("2026-03-01T12:05:00Z");
        world.ok(["detect"]);
        world.has([("sent", 1)]);
        assert!(world.episodes()[0].email_sent);
        assert_eq!(world.outbox().len(), 1);
        world.set_now("2026-03-01T13:05:00Z");
        world.ok(["detect"]);
        world.has([("sent", 1)]);
        assert_eq!(world.outbox().len(), 1);
    }

    #[test]
    fn one_that_is_not_there_is_in_doubt_and_not_written_again() {
        for leftover in [None, Some("outbox/.mailonce-TOKEN.tmp"), Some("outbox/0123.eml")] {
            let world = armed();
            std::fs::create_dir(world.path("outbox")).unwrap();
            if let Some(name) = leftover {
                std::fs::write(world.path(name.replace("TOKEN", &token(&world))), "half a mess").unwrap();
            }
            let before = world.outbox();
            world.set_now("2026-03-01T12:05:00Z");
            world.exits(1, ["detect"]);
            world.has([("in_doubt", 1)]);
            world.set_now("2026-03-01T13:05:00Z");
            world.ok(["detect"]);
            world.has([("in_doubt", 1)]);
            assert_eq!(world.outbox(), before);
        }
    }

    #[test]
    fn killed_over_and_over_each_message_is_one_file() {
        let world = world_with_ledger().carts(carts(60));
        for n in 0..8 {
            world.set_now(&format!("2026-03-01T12:{:02}:00Z", n * 3));
            let run = world.spawn(["detect"]);
            thread::sleep(Duration::from_millis(15 + n * 17));
            run.kill();
        }
        for hour in [14, 16] {
            world.set_now(&format!("2026-03-01T{hour}:00:00Z"));
            world.run(["detect"]);
        }
        let sent = world.messages().iter().filter(|message| message.state == "sent").count();
        assert_eq!(world.messages().len(), 60);
        assert_eq!(world.outbox().len(), sent, "{:?}", world.states());
        let states = world.states();
        assert_eq!(sent + states.get("in_doubt").copied().unwrap_or(0), 60, "{states:?}");
    }
}

mod overlapping {
    use super::*;

    #[test]
    fn eight_runs_that_wait_for_each_other_send_200_messages_once() {
        let server = accepting();
        let world = world_with_ledger().carts(carts(200)).set("mail.smtp.connections", 4).smtp(&server);
        // A budget that none can do all of it in, so that the work goes from hand to hand.
        let runs: Vec<_> = (0..8).map(|_| world.spawn(["detect", "--wait", "60s", "--time-budget", "250ms"])).collect();
        for run in runs {
            world.check(run.wait(), 0);
        }
        world.ok(["detect"]);
        world.has([("sent", 200)]);
        assert_eq!(server.accepted().len(), 200);
        assert_eq!(broken_promises(&world, &[&server]), [""; 0]);
    }

    #[test]
    fn eight_runs_that_do_not_wait_send_200_messages_once() {
        let server = accepting();
        let world = world_with_ledger().carts(carts(200)).set("mail.smtp.connections", 2).smtp(&server);
        let mut codes = BTreeMap::new();
        for _ in 0..3 {
            let runs: Vec<_> = (0..8).map(|_| world.spawn(["detect", "--time-budget", "250ms"])).collect();
            for run in runs {
                let ran = run.wait();
                assert!([0, 75].contains(&ran.code), "{ran}");
                ran.is_silent();
                *codes.entry(ran.code).or_insert(0) += 1;
            }
        }
        world.ok(["detect"]);
        world.has([("sent", 200)]);
        assert_eq!(server.accepted().len(), 200);
        assert_eq!(broken_promises(&world, &[&server]), [""; 0]);
        assert!(codes.contains_key(&75), "no two of them met: {codes:?}");
    }

    /// The lock file goes while a run waits at `stage`; a second run then gets past the lock and does all there is to do.
    fn second_run_while_the_first_waits_at(stage: Stage, carts_in_world: usize) -> (World, [Server; 2], i32, i32) {
        let first_server = Server::start(Plan::accepting().nth(stage, 1, Act::Hang));
        let second_server = accepting();
        let world = world_with_ledger().carts(carts(carts_in_world)).smtp(&first_server);
        let first = world.spawn(["detect"]);
        first_server.wait_for(stage, 1);
        std::fs::remove_file(world.path("mailonce.db.lock")).unwrap();
        world.send_to(&second_server);
        world.set_now("2026-03-01T12:01:00Z");
        let second = world.run(["detect"]);
        first_server.release();
        let first = first.wait();
        let codes = (first.code, second.code);
        if codes.0 == 75 {
            first.says("taken the ledger over").says(".lock");
        }
        (world, [first_server, second_server], codes.0, codes.1)
    }

    #[test]
    fn when_the_lock_file_is_deleted_the_older_run_stops_at_its_next_arming() {
        let (world, [one, two], first, second) = second_run_while_the_first_waits_at(Stage::Data, 3);
        assert_eq!((first, second), (75, 0));
        assert_eq!((one.accepted().len(), two.accepted().len()), (0, 3));
        world.has([("sent", 3)]);
        assert_eq!(broken_promises(&world, &[&one, &two]), [""; 0]);
        // Neither run leaves something behind that later ones take for a restored backup.
        world.set_now("2026-03-01T12:05:00Z");
        world.ok(["detect"]).is_silent();
    }

    #[test]
    fn when_the_lock_file_is_deleted_a_body_on_its_way_is_in_doubt_and_not_sent_by_the_other() {
        let (world, [one, two], first, second) = second_run_while_the_first_waits_at(Stage::Dot, 3);
        assert_eq!(second, 1, "it found a message in doubt");
        assert!([1, 75].contains(&first), "{first}");
        assert_eq!((one.accepted().len(), two.accepted().len()), (1, 2));
        world.has([("in_doubt", 1), ("sent", 2)]);
        assert_eq!(broken_promises(&world, &[&one, &two]), [""; 0]);
        world.set_now("2026-03-01T12:05:00Z");
        world.ok(["detect"]);
    }

    #[test]
    fn the_older_run_stops_even_for_a_message_that_the_newer_one_left_planned() {
        let first_server = Server::start(Plan::accepting().nth(Stage::Data, 1, Act::Hang));
        let world = world_with_ledger().carts(carts(2)).smtp(&first_server);
        let first = world.spawn(["detect"]);
        first_server.wait_for(Stage::Data, 1);
        std::fs::remove_file(world.path("mailonce.db.lock")).unwrap();
        let second_server = Server::start(Plan::accepting().at(Stage::Rcpt, Act::Reply(LATER)));
        world.send_to(&second_server);
        world.set_now("2026-03-01T12:01:00Z");
        world.ok(["detect"]);
        first_server.release();
        world.check(first.wait(), 75);
        assert_eq!(first_server.accepted().len(), 0, "an older run may not arm");
        world.has([("planned", 2)]);
    }
}
