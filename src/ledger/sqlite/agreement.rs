//! What planning decides and what the schema's triggers allow are two statements of one rule: here they are compared over
//! histories that chance writes.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use chrono::TimeDelta;
use proptest::prelude::*;
use rusqlite::Connection;

use crate::domain::flow::Step;
use crate::domain::instant::{self, Instant};
use crate::domain::standing::Standing;
use crate::domain::state::{Reason, State};
use crate::ledger::{Candidate, Kind, Ledger, Place, PlanRules};

const NOW: &str = "2026-03-10T12:00:00Z";
const WINDOW: TimeDelta = TimeDelta::hours(24);
const SHOPPERS: [&str; 3] = ["u:1", "e:a@shop.example", "e:b@shop.example"];
const ADDRESSES: [&str; 2] = ["a@shop.example", "b@shop.example"];
const HASHES: [&str; 3] = ["v1:one", "v1:two", "of an older system"];

fn now() -> Instant {
    instant::from_text(NOW).expect("an instant")
}

/// A message of the past, in any state that a message can be in.
#[derive(Debug, Clone)]
struct Past {
    identity: &'static str,
    address: &'static str,
    cart_hash: &'static str,
    state: State,
    reason: Option<Reason>,
    armed_at: Option<Instant>,
    settled_at: Option<Instant>,
}

/// What an older system has written about, in its table or among the duplicates that were moved aside.
#[derive(Debug, Clone)]
struct Old {
    identity: &'static str,
    address: &'static str,
    cart_hash: &'static str,
    at: Instant,
    moved_aside: bool,
}

/// Around the beginning of the window and its end, where the two statements could differ by a second.
fn instants() -> impl Strategy<Value = Instant> {
    let edge = prop_oneof![Just(-WINDOW), Just(TimeDelta::zero()), Just(-WINDOW * 2), Just(TimeDelta::hours(-3))];
    (edge, -2i64..=2).prop_map(|(edge, seconds)| now() + edge + TimeDelta::seconds(seconds))
}

fn messages() -> impl Strategy<Value = Past> {
    let whose = (prop::sample::select(&SHOPPERS[..]), prop::sample::select(&ADDRESSES[..]));
    let state = (prop::sample::select(State::ALL), prop::sample::select(Reason::ALL), any::<bool>());
    (whose, prop::sample::select(&HASHES[..2]), state, instants(), instants()).prop_map(
        |((identity, address), cart_hash, (state, reason, was_armed), armed_at, settled_at)| {
            let is_armed = match state {
                State::Planned => false,
                State::Armed | State::Sent | State::InDoubt => true,
                State::Refused | State::Skipped => was_armed,
            };
            Past {
                identity,
                address,
                cart_hash,
                state,
                reason: (state == State::Skipped).then_some(reason),
                armed_at: is_armed.then_some(armed_at),
                settled_at: (!matches!(state, State::Planned | State::Armed)).then_some(settled_at),
            }
        },
    )
}

fn old_rows() -> impl Strategy<Value = Old> {
    let whose = (prop::sample::select(&SHOPPERS[..]), prop::sample::select(&ADDRESSES[..]));
    (whose, prop::sample::select(&HASHES[..]), instants(), any::<bool>()).prop_map(
        |((identity, address), cart_hash, at, moved_aside)| Old { identity, address, cart_hash, at, moved_aside },
    )
}

/// A ledger without the triggers that would keep chance from writing a history; with those that are compared.
fn bare_ledger() -> (tempfile::TempDir, Ledger) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("mailonce.db");
    let place = Place { path: &path, trusted: &[] };
    let window = Duration::from_secs(WINDOW.num_seconds() as u64);
    let ledger = Ledger::create(place, Kind::Rehearsal, now(), window).expect("a ledger");
    let names = "SELECT name FROM sqlite_schema WHERE type = 'trigger' AND name NOT LIKE 'window_on_%' AND name NOT LIKE 'step%'
                 UNION ALL SELECT name FROM sqlite_schema WHERE name LIKE 'one_planned_per_%'";
    let conn = ledger.conn();
    let names: Vec<String> = conn
        .prepare(names)
        .and_then(|mut names| names.query_map([], |row| row.get(0))?.collect())
        .expect("the names of the triggers");
    for name in names {
        let kind = if name.starts_with("one_planned") { "INDEX" } else { "TRIGGER" };
        conn.execute_batch(&format!("DROP {kind} {name}")).expect("a trigger less");
    }
    (folder, ledger)
}

/// Writes what the triggers would forbid.
fn unguarded(ledger: &Ledger, work: impl FnOnce(&Connection)) {
    let conn = ledger.conn();
    conn.execute_batch("SAVEPOINT unguarded").expect("a savepoint");
    let triggers: Vec<(String, String)> = conn
        .prepare("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'")
        .and_then(|mut all| all.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect())
        .expect("the triggers");
    for (name, _) in &triggers {
        conn.execute_batch(&format!("DROP TRIGGER {name}")).expect("a trigger less");
    }
    work(conn);
    for (_, sql) in &triggers {
        conn.execute_batch(sql).expect("the trigger again");
    }
    conn.execute_batch("RELEASE unguarded").expect("what was written");
}

fn write_history(conn: &Connection, messages: &[Past], old: &[Old]) {
    conn.execute_batch("DELETE FROM cart_abandonment_log; DELETE FROM message; DELETE FROM removed_duplicate")
        .expect("nothing left");
    for (number, past) in messages.iter().enumerate() {
        conn.execute(
            "INSERT INTO message (message_key, kind, state, reason, recipient, folded_address, message_id, planned_at,
                 not_before, expires_at, armed_at, settled_at, epoch, identity, cart_id, cart_hash, cart_touched_at, episode)
             VALUES (?1, 'cart', ?2, ?3, ?4, ?4, ?1, ?5, ?5, '2026-03-20T12:00:00Z', ?6, ?7, 1, ?8, ?1, ?9, ?5, ?1)",
            (
                format!("m{number}"),
                past.state,
                past.reason,
                past.address,
                NOW,
                past.armed_at.map(instant::text),
                past.settled_at.map(instant::text),
                past.identity,
                past.cart_hash,
            ),
        )
        .expect("a message");
    }
    for (number, old) in old.iter().enumerate() {
        let (table, more, values) = match old.moved_aside {
            false => ("cart_abandonment_log", "", ""),
            true => ("removed_duplicate", ", kept_row, moved_aside_at", ", 0, ''"),
        };
        conn.execute(
            &format!(
                "INSERT OR IGNORE INTO {table} (identity, email, cart_id, cart_hash, created_at, email_sent, origin{more})
                 VALUES (?1, ?2, ?3, ?4, ?5, 1, 'import'{values})"
            ),
            (old.identity, old.address, format!("o{number}"), old.cart_hash, instant::text(old.at)),
        )
        .expect("an old row");
    }
}

/// Whether a trigger forbids this.
fn is_forbidden(ledger: &Ledger, trigger: &str, sql: &str) -> bool {
    match ledger.conn().execute_batch(&format!("SAVEPOINT tried; {sql}; ROLLBACK TO tried; RELEASE tried")) {
        Ok(()) => false,
        Err(err) => {
            ledger.conn().execute_batch("ROLLBACK TO tried; RELEASE tried").expect("as before");
            assert!(err.to_string().starts_with(trigger), "{err}");
            true
        }
    }
}

#[test]
fn what_planning_decides_is_what_the_triggers_allow() {
    let (_folder, ledger) = bare_ledger();
    let histories = (
        prop::collection::vec(messages(), 0..5),
        prop::collection::vec(old_rows(), 0..3),
        prop::sample::select(&SHOPPERS[..]),
        prop::sample::select(&ADDRESSES[..]),
        prop::sample::select(&HASHES[..2]),
    );
    let config = ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |((messages, old, identity, address, cart_hash) in histories)| {
        unguarded(&ledger, |conn| write_history(conn, &messages, &old));
        let cart = Candidate {
            id: 0,
            cart_id: "new".into(),
            identity: identity.into(),
            user_id: None,
            recipient: address.into(),
            folded_address: address.into(),
            cart_hash: cart_hash.into(),
            cart_value: "1.00".into(),
            currency: "EUR".into(),
            touched_at: now(),
            timezone: None,
            locale: None,
        };
        let rules = PlanRules {
            window: WINDOW,
            max_age: WINDOW * 3,
            max_per_cart: 3,
            steps: Vec::new(),
            held_back_at: None,
            pools: Vec::new(),
            send_window: None,
            zone: chrono_tz::Tz::UTC,
            holdout: None,
        };
        let standing = ledger.standing(&cart, &rules, now()).expect("a standing").standing;
        let is_held = matches!(
            standing,
            Standing::AlreadySent { .. } | Standing::InProgress | Standing::InDoubt | Standing::Settled { .. }
        );
        let plan = format!(
            "INSERT INTO message (id, message_key, kind, state, recipient, folded_address, message_id, planned_at,
                 not_before, expires_at, identity, cart_id, cart_hash, cart_touched_at, episode)
             VALUES (1000, 'new', 'cart', 'planned', '{address}', '{address}', 'new', '{NOW}', '{NOW}', '{NOW}',
                 '{identity}', 'new', '{cart_hash}', '{NOW}', 'new')"
        );
        prop_assert_eq!(is_held, is_forbidden(&ledger, "window_on_planning", &plan), "{:?}", standing);
        // What is only planned keeps others from being planned; whichever is armed first goes.
        let others: Vec<Past> = messages.into_iter().filter(|past| past.state != State::Planned).collect();
        unguarded(&ledger, |conn| write_history(conn, &others, &old));
        let standing = ledger.standing(&cart, &rules, now()).expect("a standing").standing;
        let may_go = matches!(standing, Standing::Free | Standing::Untouched { .. } | Standing::Enough { .. });
        unguarded(&ledger, |conn| conn.execute_batch(&plan).expect("a planned message"));
        let arm = format!("UPDATE message SET state = 'armed', armed_at = '{NOW}', epoch = 1 WHERE id = 1000");
        let is_forbidden = is_forbidden(&ledger, "window_on_arming", &arm);
        prop_assert_eq!(!may_go, is_forbidden, "{:?}", standing);
    });
}

/// Three steps, of which the ends are where the histories' instants lie.
fn steps() -> Vec<Step> {
    let step = |name: &str, after: i64, until: i64| Step {
        name: name.into(),
        after: TimeDelta::hours(after),
        until: TimeDelta::hours(until),
        coupon: None,
        variants: Vec::new(),
    };
    vec![step("a", 1, 72), step("b", 3, 24), step("c", 24, 72)]
}

/// Makes some messages later steps of the episodes of others, as far as one episode has one of each step.
fn make_steps(conn: &Connection, places: &[(usize, usize)]) {
    for (number, (of, step)) in places.iter().enumerate() {
        let (first, steps) = (of % (number + 1), steps());
        let step = &steps[*step];
        conn.execute(
            "UPDATE OR IGNORE message SET step = ?2, step_after = ?3,
                 episode = coalesce((SELECT episode FROM message WHERE message_key = ?4), episode)
             WHERE message_key = ?1",
            (format!("m{number}"), &step.name, step.after.num_seconds(), format!("m{first}")),
        )
        .expect("a step");
    }
}

#[test]
fn what_a_flow_plans_no_trigger_forbids() {
    let (_folder, ledger) = bare_ledger();
    let ledger = RefCell::new(ledger);
    let histories = (
        prop::collection::vec(messages(), 0..5),
        prop::collection::vec((0..4usize, 0..3usize), 5),
        prop::collection::vec(old_rows(), 0..2),
        prop::sample::select(&SHOPPERS[..]),
        prop::sample::select(&ADDRESSES[..]),
        instants(),
    );
    let config = ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() };
    let planned = Cell::new(0);
    proptest!(config, |((messages, places, old, identity, address, touched_at) in histories)| {
        let mut ledger = ledger.borrow_mut();
        unguarded(&ledger, |conn| {
            write_history(conn, &messages, &old);
            make_steps(conn, &places);
        });
        let cart = Candidate {
            id: 0,
            cart_id: "new".into(),
            identity: identity.into(),
            user_id: None,
            recipient: address.into(),
            folded_address: address.into(),
            cart_hash: HASHES[0].into(),
            cart_value: "1.00".into(),
            currency: "EUR".into(),
            touched_at,
            timezone: None,
            locale: None,
        };
        let rules = PlanRules {
            window: WINDOW,
            max_age: WINDOW * 3,
            max_per_cart: 3,
            steps: steps(),
            held_back_at: None,
            pools: Vec::new(),
            holdout: None,
            send_window: None,
            zone: chrono_tz::Tz::UTC,
        };
        let judged = ledger.standing(&cart, &rules, now()).expect("a standing");
        if judged.standing == Standing::Free {
            ledger.begin_candidates().expect("a table");
            ledger.add_candidate(&cart, None).expect("a row");
            ledger.end_candidates(true).expect("a commit");
            ledger.decide_candidate(1, "plan", "", false).expect("a verdict");
            let written = ledger.plans().plan_candidates(&rules, now(), "shop.example");
            prop_assert_eq!(written.map(|planned| planned.messages).map_err(|err| err.to_string()), Ok(1), "{:?}", judged);
            planned.set(planned.get() + 1);
        }
    });
    assert!(planned.get() > 20, "only {planned:?} were planned: the histories say nothing");
}
