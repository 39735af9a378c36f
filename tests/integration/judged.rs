//! Who is judged by a refusal, a deferral or the end of a connection: the recipient, the sender, or the server.

use crate::exactly_once::{accepting, broken_promises, check_all};
use crate::support::{Act, Cart, Plan, Server, Stage, World};
use crate::wire::{BOTH, DETECT, Way};

const DENIED: Act = Act::Reply("554 5.7.1 Relay access denied");

fn names(word: &str, number: usize) -> impl Iterator<Item = String> {
    (1..=number).map(move |n| format!("{word}{n}"))
}

fn attempts(world: &World, outcome: &str) -> usize {
    world.attempts().iter().filter(|attempt| attempt["outcome"].as_deref() == Some(outcome)).count()
}

/// Runs every ten minutes from this minute on, so often.
fn runs(way: Way, world: &World, from: u32, number: u32) -> Vec<i32> {
    (0..number).map(|n| way.run(world, from + n * 10).code).collect()
}

mod refusals {
    use super::*;

    #[test]
    fn ten_about_us_stop_the_run_and_are_planned_again_with_a_wait() {
        let acts = [
            DENIED,
            Act::Reply("550 5.4.5 Daily user sending limit exceeded"),
            Act::Reply("550 5.3.0 system"),
            Act::Reply("550 not from here"),
            Act::Bytes(b"550 unzul\xe4ssig\r\n"),
        ];
        let cases: Vec<_> = BOTH
            .into_iter()
            .flat_map(|way| acts.map(|act| (way, act)))
            .flat_map(|(way, act)| [Stage::Rcpt, Stage::Dot].map(|stage| (way, act, stage)))
            .collect();
        check_all(&cases, 4, |&(way, act, stage)| {
            let server = Server::start(way.plan().at(stage, act));
            let world = way.world(14, &server);
            let ran = way.run(&world, 0);
            let mut problems = Vec::new();
            if ran.code != 1 || world.states().get("planned") != Some(&14) || world.states().len() != 1 {
                problems.push(format!("{:?}\n{ran}", world.states()));
            }
            let tries = server.reached(stage);
            if !(10..=11).contains(&tries) {
                problems.push(format!("{tries} tries"));
            }
            // The first of each later run trips it again.
            for minute in [60, 120] {
                let before = server.reached(stage);
                let ran = way.run(&world, minute);
                if (ran.code, server.reached(stage) - before) != (1, 1) {
                    problems.push(format!("{} tries by a run that probes\n{ran}", server.reached(stage) - before));
                }
                if world.states().get("planned") != Some(&14) {
                    problems.push(format!("{:?}", world.states()));
                }
            }
            let good = accepting();
            world.send_to(&good);
            for minute in [190, 260, 330] {
                way.run(&world, minute);
            }
            if world.states().get("sent") != Some(&14) {
                problems.push(format!("mended, but {:?}", world.states()));
            }
            problems.extend(broken_promises(&world, &[&server, &good]));
            problems
        });
    }

    #[test]
    fn the_wait_before_each_is_planned_again_is_no_shorter_than_retry_after() {
        let server = Server::start(Plan::accepting().at(Stage::Rcpt, DENIED));
        let world = DETECT.world(10, &server);
        assert_eq!(DETECT.run(&world, 0).code, 1);
        for message in world.messages() {
            assert!(message.not_before.as_deref() >= Some("2026-03-01T12:02:00Z"), "{message:?}");
        }
        let before = server.reached(Stage::Rcpt);
        DETECT.run(&world, 1);
        assert_eq!(server.reached(Stage::Rcpt), before, "tried again within the wait");
    }

    #[test]
    fn they_are_counted_across_runs_of_a_few_carts_each() {
        let texts = ["554 5.7.1 Relay access denied", "550 5.7.1 policy", "550 5.4.5 limit"];
        let mut plan = Plan::accepting();
        for n in 1..=40 {
            plan = plan.for_recipient(&format!("n{n}@"), Stage::Rcpt, Act::Reply(texts[n % 3]));
        }
        let server = Server::start(plan);
        let world = DETECT.world(0, &server);
        let mut codes = Vec::new();
        for round in 0..5 {
            world_of_three_more(&world, round * 3 + 1);
            codes.push(DETECT.run(&world, round * 3).code);
        }
        // The tenth is refused in the fourth run.
        assert_eq!(codes[..4], [0, 0, 0, 1], "{codes:?}");
        assert_eq!(codes[4], 1, "the next run probes");
        world.has([("planned", 15)]);
        assert!(server.reached(Stage::Rcpt) <= 12, "{} tries", server.reached(Stage::Rcpt));
        let good = accepting();
        world.send_to(&good);
        runs(DETECT, &world, 90, 8);
        world.has([("sent", 15)]);
        assert_eq!(broken_promises(&world, &[&server, &good]), [""; 0]);
    }

    fn world_of_three_more(world: &World, first: u32) {
        for n in first..first + 3 {
            world.put(Cart::of(&format!("n{n}")));
        }
    }

    #[test]
    fn those_about_the_recipients_with_unequal_texts_trip_nothing() {
        let words = ["alpha", "beta", "gamma", "delta", "eta", "iota", "kappa", "lambda", "my", "ny", "pi", "rho"];
        for way in BOTH {
            let mut plan = way.plan();
            for (n, word) in words.iter().enumerate() {
                let text = Box::leak(format!("550 5.1.1 no such user as {word}").into_boxed_str());
                plan = plan.for_recipient(&format!("n{}@", n + 1), Stage::Rcpt, Act::Reply(text));
            }
            let server = Server::start(plan);
            let world = way.world(12, &server);
            assert_eq!(way.run(&world, 0).code, 0);
            world.has([("refused", 12)]);
        }
    }

    #[test]
    fn with_acceptances_between_they_are_the_recipients_own() {
        for way in BOTH {
            let server = Server::start(way.plan().for_recipient("dead", Stage::Rcpt, Act::Code(550)));
            // Nine dead, one alive, nine dead, one alive.
            let list = (1..=20).map(|n| if n % 10 == 0 { format!("n{n:02}alive") } else { format!("n{n:02}dead") });
            let world = way.world_of(list, &server);
            assert_eq!(way.run(&world, 0).code, 0);
            world.has([("refused", 18), ("sent", 2)]);
        }
    }

    #[test]
    fn dead_addresses_at_the_head_of_a_list_are_refused_in_the_end_and_block_no_one() {
        for way in BOTH {
            for dead in [10, 25] {
                let no = Act::Reply("550 5.1.1 no such user");
                let server = Server::start(way.plan().for_recipient("dead", Stage::Rcpt, no));
                let world = way.world_of(names("dead", dead).chain(names("n", 8)), &server);
                assert_eq!(way.run(&world, 0).code, 1);
                assert_eq!(world.states().get("refused"), None);
                let codes = runs(way, &world, 10, 30);
                world.has([("refused", dead), ("sent", 8)]);
                assert_eq!(codes[25..], [0; 5], "{codes:?}");
                assert_eq!(broken_promises(&world, &[&server]), [""; 0]);
            }
        }
    }

    #[test]
    fn refused_again_after_others_were_accepted_it_is_refused_for_good_and_does_not_count() {
        let no = Act::Reply("554 5.7.1 not wanted");
        let server = Server::start(Plan::accepting().at(Stage::Rcpt, no));
        let world = DETECT.world_of(names("dead", 10), &server);
        assert_eq!(DETECT.run(&world, 0).code, 1);
        let server = Server::start(Plan::accepting().for_recipient("dead", Stage::Rcpt, no));
        world.send_to(&server);
        world.put(Cart::of("n1"));
        // The probe is n1, which is not put off.
        assert_eq!(DETECT.run(&world, 1).code, 0);
        assert_eq!(DETECT.run(&world, 70).code, 0);
        world.has([("refused", 10), ("sent", 1)]);
    }
}

mod deferrals {
    use super::*;

    #[test]
    fn of_everyone_for_an_hour_are_told_once_until_something_is_accepted() {
        for way in BOTH {
            for (stage, act) in [
                (Stage::Rcpt, Act::Code(451)),
                (Stage::Rcpt, Act::Reply("450 4.2.0 greylisted")),
                (Stage::Dot, Act::Code(452)),
            ] {
                let server = Server::start(way.plan().at(stage, act));
                let world = way.world(3, &server);
                let codes = runs(way, &world, 0, 24);
                assert_eq!(codes[..6], [0; 6], "{codes:?}");
                assert_eq!(codes.iter().sum::<i32>(), 1, "a person is told once: {codes:?}");
                let good = accepting();
                world.send_to(&good);
                assert_eq!(runs(way, &world, 240, 7), [0; 7]);
                world.has([("sent", 3)]);
                assert_eq!(broken_promises(&world, &[&server, &good]), [""; 0]);
            }
        }
    }

    #[test]
    fn after_an_acceptance_an_hour_more_of_them_is_told_again() {
        let no = Server::start(Plan::accepting().at(Stage::Rcpt, Act::Code(451)));
        let world = DETECT.world(2, &no);
        assert_eq!(runs(DETECT, &world, 0, 15).iter().sum::<i32>(), 1);
        let good = accepting();
        world.send_to(&good);
        assert_eq!(runs(DETECT, &world, 150, 7), [0; 7]);
        world.send_to(&no);
        world.put(Cart::of("n3"));
        assert_eq!(runs(DETECT, &world, 220, 15).iter().sum::<i32>(), 1);
    }

    #[test]
    fn of_one_recipient_while_others_are_accepted_call_no_one() {
        let server = Server::start(Plan::accepting().for_recipient("slow", Stage::Rcpt, Act::Code(451)));
        let world = DETECT.world_of(names("slow", 2), &server);
        for n in 0..20 {
            world.put(Cart::of(&format!("n{n}")));
            assert_eq!(DETECT.run(&world, n * 10).code, 0, "run {n}");
        }
        world.has([("planned", 2), ("sent", 20)]);
    }
}

mod ends {
    use super::*;

    const ENDS: [Act; 5] =
        [Act::Code(421), Act::SayAndClose("421 4.3.0 go away"), Act::Bytes(b"421\r\n"), Act::Close, Act::Reset];

    fn cases() -> Vec<(Way, Act, Stage)> {
        let without = Way { pipelining: false, ..DETECT };
        let ways = BOTH.into_iter().chain([without]);
        ways.flat_map(|way| ENDS.map(|act| (way, act)))
            .flat_map(|(way, act)| [Stage::Rcpt, Stage::Data].map(|stage| (way, act, stage)))
            .collect()
    }

    #[test]
    fn at_one_recipient_that_one_steps_back_and_the_others_are_sent() {
        check_all(&cases(), 4, |&(way, act, stage)| {
            let server = Server::start(way.plan().for_recipient("n2@", stage, act));
            let world = way.world(6, &server);
            let ran = way.run(&world, 0);
            let mut problems = Vec::new();
            let states = world.states();
            if ran.code != 0 || (states.get("planned"), states.get("sent")) != (Some(&1), Some(&5)) {
                problems.push(format!("{states:?}\n{ran}{}", server.transcript()));
            }
            if attempts(&world, "deferred") != 1 {
                problems.push(format!("{:?}", world.attempts()));
            }
            // Alone, it makes a run that accepted nothing.
            let ran = way.run(&world, 2);
            if ran.code != 1 || attempts(&world, "deferred") != 2 {
                problems.push(format!("tried again after retry_after, alone: {ran}"));
            }
            // The wait has doubled.
            way.run(&world, 5);
            if attempts(&world, "deferred") != 2 {
                problems.push("tried again too soon".into());
            }
            let good = accepting();
            world.send_to(&good);
            way.run(&world, 6);
            problems.extend(broken_promises(&world, &[&server, &good]));
            if world.states().get("sent") != Some(&6) {
                problems.push(format!("at last {:?}", world.states()));
            }
            problems
        });
    }

    #[test]
    fn at_every_recipient_ten_in_a_row_stop_the_run() {
        check_all(&cases(), 4, |&(way, act, stage)| {
            let server = Server::start(way.plan().at(stage, act));
            let world = way.world(15, &server);
            let ran = way.run(&world, 0);
            let mut problems = Vec::new();
            if ran.code != 1 || world.states().get("planned") != Some(&15) || server.reached(stage) != 10 {
                problems.push(format!("{} tries, {:?}\n{ran}", server.reached(stage), world.states()));
            }
            let good = accepting();
            world.send_to(&good);
            for minute in [60, 130] {
                way.run(&world, minute);
            }
            problems.extend(broken_promises(&world, &[&server, &good]));
            if world.states().get("sent") != Some(&15) {
                problems.push(format!("at last {:?}", world.states()));
            }
            problems
        });
    }

    #[test]
    fn many_such_recipients_do_not_make_the_others_wait() {
        for act in [Act::Code(421), Act::Close] {
            let server = Server::start(Plan::accepting().for_recipient("poison", Stage::Rcpt, act));
            let world = DETECT.world_of(names("poison", 45), &server);
            for n in 0..8 {
                DETECT.run(&world, n);
            }
            world.put(Cart::of("n1").updated("2026-03-01T11:00:00Z"));
            for n in 8..23 {
                DETECT.run(&world, n);
            }
            assert_eq!(server.recipients(), ["n1@example.com"], "it waited longer than 15 minutes");
        }
    }

    #[test]
    fn at_mail_they_are_about_the_server_and_nothing_is_counted_against_anyone() {
        let acts = [Act::Code(421), Act::Code(451), Act::Code(550), Act::Close, Act::Reset];
        let cases: Vec<_> = BOTH.into_iter().flat_map(|way| acts.map(|act| (way, act))).collect();
        check_all(&cases, 4, |&(way, act)| {
            let mut problems = Vec::new();
            for connections in [1, 4] {
                let way = Way { connections, ..way };
                let server = Server::start(way.plan().at(Stage::Mail, act));
                let world = way.world(6, &server);
                let ran = way.run(&world, 0);
                if ran.code != 1 || world.states().get("planned") != Some(&6) || !world.attempts().is_empty() {
                    problems.push(format!("{:?}\n{ran}", world.states()));
                }
            }
            problems
        });
    }
}
