//! Every named guard of the schema is tried by name, and each case is about the guard that it names: without that one,
//! what it forbids can be done.

use std::collections::BTreeSet;
use std::time::Duration;

use rusqlite::backup::Backup;
use rusqlite::{Connection, OptionalExtension};

use crate::support::{Act, Cart, Plan, Server, Stage, World, definition, people};

const SCHEMA: &str = include_str!("../../src/ledger/sqlite/schema.sql");

/// What a guard says when it forbids something.
#[derive(Debug, Clone, Copy)]
enum Says {
    /// A trigger: its name and a sentence.
    Name,
    /// A CHECK: its name.
    Check,
    /// A UNIQUE: the columns, for SQLite does not name it.
    Columns(&'static str),
}
use Says::{Check, Columns, Name};

struct Case {
    guard: &'static str,
    says: Says,
    /// Guards that stand in front of this one, so that it is met only when they are gone.
    behind: &'static [&'static str],
    before: String,
    forbidden: String,
}

fn case(guard: &'static str, says: Says, forbidden: impl Into<String>) -> Case {
    Case { guard, says, behind: &[], before: String::new(), forbidden: forbidden.into() }
}

impl Case {
    fn after(mut self, sql: impl Into<String>) -> Case {
        self.before = sql.into();
        self
    }

    fn behind(mut self, guards: &'static [&'static str]) -> Case {
        self.behind = guards;
        self
    }
}

/// c1 and r1 sent, c2 refused, c3 in doubt, c4 superseded, c5 and r2 planned, c6 settled by a person.
fn world() -> World {
    let later = Act::Reply("451 4.3.0 try later");
    let plan = Plan::accepting()
        .for_recipient("c2@", Stage::Rcpt, Act::Reply("550 5.1.1 no such user"))
        .for_recipient("c3@", Stage::Taken, Act::Close)
        .for_recipient("c5@", Stage::Rcpt, later)
        .for_recipient("c6@", Stage::Taken, Act::Close)
        .for_recipient("r2@", Stage::Rcpt, later);
    let server = Server::start(plan);
    let cart = |id: &str, sku: &str| Cart::of(id).item(sku, "x", 1, "1").user(id);
    let older = Cart::of("c4").item("D", "x", 1, "1").email("c1@example.com").updated("2026-03-01T07:00:00Z");
    let world = World::with_campaigns(&definition("spring", "at = \"2026-03-01 12:30\"")).smtp(&server);
    world.audience("audience.csv", &people(2));
    let world = world.carts([cart("c1", "A"), cart("c2", "B"), older, cart("c6", "F")]).init();
    world.ok(["run-campaigns"]);
    world.exits(1, ["detect"]);
    world.ok(["resolve", "--all", "--sent", "--reason", "seen in the log"]);
    world.ok(["suppress", "add", "x@example.com", "--reason", "x"]);
    world.by_hand("INSERT INTO report (digest, received_at, class) VALUES (x'00', '2026-03-01T12:00:00Z', 'hard')");
    let world = world.carts([cart("c3", "C"), cart("c5", "E")]);
    world.set_now("2026-03-01T12:01:00Z");
    world.exits(1, ["detect"]);
    world.campaigns_at("2026-03-01T12:30:00Z", 0);
    world.has([("in_doubt", 1), ("planned", 2), ("refused", 1), ("sent", 3), ("skipped", 1)]);
    world
}

fn insert(table: &str, values: &[(&str, &str)], changes: &[(&str, &str)]) -> String {
    let value = |column: &str, value| changes.iter().find(|(name, _)| *name == column).map_or(value, |change| change.1);
    let new = changes.iter().filter(|(name, _)| values.iter().all(|(column, _)| column != name));
    let columns: Vec<&str> = values.iter().chain(new.clone()).map(|(column, _)| *column).collect();
    let values: Vec<&str> = values.iter().chain(new).map(|(column, default)| value(column, default)).collect();
    format!("INSERT INTO {table} ({}) VALUES ({})", columns.join(", "), values.join(", "))
}

const MESSAGE: [(&str, &str); 8] = [
    ("message_key", "'k'"),
    ("state", "'planned'"),
    ("recipient", "'n@example.com'"),
    ("folded_address", "'n@example.com'"),
    ("message_id", "'<n@shop.example>'"),
    ("planned_at", "'2026-03-01T13:00:00Z'"),
    ("not_before", "'2026-03-01T13:00:00Z'"),
    ("expires_at", "'2026-03-03T13:00:00Z'"),
];

/// A planned message about a cart that the ledger knows nothing of, but for these columns.
fn cart_message(changes: &[(&str, &str)]) -> String {
    let cart = [
        ("kind", "'cart'"),
        ("identity", "'u:n'"),
        ("cart_id", "'n'"),
        ("cart_hash", "'v1:n'"),
        ("cart_touched_at", "'2026-03-01T11:00:00Z'"),
        ("episode", changes.iter().find(|change| change.0 == "message_key").map_or("'k'", |change| change.1)),
    ];
    insert("message", &[&MESSAGE[..], &cart].concat(), changes)
}

/// A later step of the episode that a cart's message began.
fn step_of(cart_id: &str, changes: &[(&str, &str)]) -> String {
    let episode = format!("(SELECT message_key FROM message WHERE cart_id = '{cart_id}')");
    let key = format!("{episode} || '/second'");
    let step = [("message_key", &*key), ("episode", &*episode), ("step", "'second'"), ("step_after", "86400")];
    let unchanged = step.into_iter().filter(|(column, _)| changes.iter().all(|change| change.0 != *column));
    cart_message(&unchanged.chain(changes.iter().copied()).collect::<Vec<_>>())
}

/// Begins the step of c3.
fn arm_step(at: &str) -> String {
    format!(
        "UPDATE message SET state = 'armed', armed_at = '{at}', epoch = (SELECT epoch FROM ledger) WHERE step = 'second'"
    )
}

fn campaign_message(changes: &[(&str, &str)]) -> String {
    let campaign = [("kind", "'campaign'"), ("occurrence", "(SELECT id FROM campaign_occurrence)")];
    insert("message", &[&MESSAGE[..], &campaign].concat(), changes)
}

/// A try of c3.
fn attempt(changes: &[(&str, &str)]) -> String {
    let values = [
        ("message", "(SELECT id FROM message WHERE recipient = 'c3@example.com')"),
        ("epoch", "1"),
        ("ended_at", "'2026-03-01T12:00:00Z'"),
        ("outcome", "'deferred'"),
        ("reply", "'x'"),
    ];
    insert("attempt", &values, changes)
}

/// What a person says of c3.
fn resolution(changes: &[(&str, &str)]) -> String {
    let values = [
        ("message", "(SELECT id FROM message WHERE recipient = 'c3@example.com')"),
        ("armed_at", "'2026-03-01T12:01:00Z'"),
        ("decided_at", "'2026-03-01T12:40:00Z'"),
        ("decision", "'sent'"),
        ("who", "'x'"),
        ("reason", "'x'"),
    ];
    insert("resolution", &values, changes)
}

/// A row of an older system, about a cart that the ledger knows nothing of.
fn old_row(changes: &[(&str, &str)]) -> String {
    let values = [
        ("identity", "'u:n'"),
        ("cart_hash", "'x'"),
        ("created_at", "'2026-03-01T11:00:00Z'"),
        ("email_sent", "1"),
        ("origin", "'x'"),
    ];
    insert("cart_abandonment_log", &values, changes)
}

/// Another instant of the campaign, which was left.
fn occurrence(changes: &[(&str, &str)]) -> String {
    let values = [
        ("campaign_id", "'spring'"),
        ("planned_at", "'2026-04-01T12:30:00Z'"),
        ("state", "'not_in_time'"),
        ("decided_at", "'2026-04-09T12:30:00Z'"),
        ("schedule", "'x'"),
    ];
    insert("campaign_occurrence", &values, changes)
}

fn of_c1(column: &str, table: &str) -> String {
    let whose = if table == "message" { "recipient = 'c1@example.com' AND state = 'sent'" } else { "cart_id = 'c1'" };
    format!("(SELECT {column} FROM {table} WHERE {whose})")
}

const ARM_C5: &str = "UPDATE message SET state = 'armed', armed_at = '2026-03-01T13:00:00Z',
    epoch = (SELECT epoch FROM ledger) WHERE recipient = 'c5@example.com'";

fn skip_c5(reason: &str) -> String {
    format!(
        "UPDATE message SET state = 'skipped', reason = '{reason}', settled_at = '2026-03-01T13:00:00Z'
         WHERE recipient = 'c5@example.com'"
    )
}

/// Puts rows in their own place, each over itself.
fn over(table: &str) -> String {
    format!("INSERT OR REPLACE INTO {table} SELECT * FROM {table} LIMIT 1")
}

fn cases() -> Vec<Case> {
    let parts =
        [of_ledger_and_runs(), of_messages(), of_steps(), of_coupons(), of_recoveries(), of_tries(), of_episodes()];
    parts.into_iter().flatten().chain(of_campaigns()).collect()
}

fn of_ledger_and_runs() -> Vec<Case> {
    vec![
        case("only_one", Check, "UPDATE ledger SET one = 2"),
        case("ledger_kind", Check, "UPDATE ledger SET kind = 'trial'"),
        case("window_is_positive", Check, "UPDATE ledger SET window_seconds = 0"),
        case("ledger_is_kept", Name, "DELETE FROM ledger"),
        case("ledger_is_not_replaced", Name, over("ledger")),
        case("run_is_not_replaced", Name, over("run")),
        case("run_is_itself", Name, "UPDATE run SET epoch = epoch + 100"),
        case("suppression_is_not_replaced", Name, over("suppression")),
        case("cap_is_positive", Check, "INSERT INTO cap VALUES (3600, 0, '2026-03-01T12:00:00Z')"),
        case("suppression_is_itself", Name, "UPDATE suppression SET folded_address = 'y@example.com'"),
        case(
            "suppressed_once",
            Columns("suppression.folded_address, suppression.list, suppression.origin"),
            "INSERT INTO suppression SELECT * FROM suppression",
        )
        .behind(&["suppression_is_not_replaced"]),
        case("report_is_not_replaced", Name, over("report")),
        case("report_stands", Name, "UPDATE report SET class = 'hard'"),
        case("report_is_kept", Name, "DELETE FROM report"),
        case(
            "proves_is_a_flag",
            Check,
            "INSERT INTO report (digest, received_at, class, proves) VALUES (x'01', 'x', 'hard', 2)",
        ),
        case(
            "report_once",
            Columns("report.digest"),
            "INSERT INTO report (digest, received_at, class) SELECT digest, 'x', 'hard' FROM report",
        )
        .behind(&["report_is_not_replaced"]),
    ]
}

fn of_messages() -> Vec<Case> {
    const C5: &str = "WHERE recipient = 'c5@example.com'";
    vec![
        case("message_key_once", Columns("message.message_key"), {
            cart_message(&[("message_key", &of_c1("message_key", "message"))])
        })
        .behind(&["message_is_not_replaced"]),
        // cart_or_campaign knows no third kind either.
        case("message_kind", Check, cart_message(&[("kind", "'parcel'")]))
            .behind(&["cart_or_campaign", "cart_has_episode"]),
        case("message_state_known", Check, format!("UPDATE message SET state = 'lost', settled_at = 'x' {C5}"))
            .behind(&["message_moves"]),
        case("skipped_has_reason", Check, skip_c5("bored")),
        case("armed_has_epoch", Check, {
            format!("UPDATE message SET state = 'armed', epoch = (SELECT epoch FROM ledger) {C5}")
        }),
        case("planned_is_unarmed", Check, format!("UPDATE message SET armed_at = '2026-03-01T13:00:00Z' {C5}")),
        case("sent_was_armed", Check, "UPDATE message SET armed_at = NULL WHERE state = 'sent'"),
        case("settled_has_instant", Check, "UPDATE message SET settled_at = NULL WHERE state = 'sent'"),
        case("cart_or_campaign", Check, cart_message(&[("cart_touched_at", "NULL")])),
        case("one_planned_per_address", Columns("message.folded_address"), {
            cart_message(&[("folded_address", "'c5@example.com'")])
        })
        .behind(&["message_is_not_replaced"]),
        case("one_planned_per_cart", Columns("message.cart_id"), cart_message(&[("cart_id", "'c5'")]))
            .behind(&["message_is_not_replaced"]),
        case("one_per_occurrence_and_address", Columns("message.occurrence, message.folded_address"), {
            campaign_message(&[("folded_address", "'r1@example.com'")])
        })
        .behind(&["message_is_not_replaced"]),
        case("message_begins_planned", Name, {
            cart_message(&[("state", "'refused'"), ("settled_at", "'2026-03-01T13:00:00Z'")])
        }),
        case("message_moves", Name, "UPDATE message SET state = 'refused' WHERE state = 'sent'"),
        case("doubt_is_settled_on_record", Name, "UPDATE message SET state = 'sent' WHERE state = 'in_doubt'"),
        case("held_back_for_good", Name, format!("UPDATE message SET reason = 'cancelled' {C5}"))
            .after(skip_c5("held_back")),
        case("held_out_for_good", Name, format!("UPDATE message SET reason = 'expired' {C5}"))
            .after(skip_c5("holdout")),
        case("message_is_not_replaced", Name, {
            cart_message(&[("cart_id", "'c5'")]).replace("INSERT", "INSERT OR REPLACE")
        }),
        case("planned_again_replaces_none", Name, {
            format!("UPDATE OR REPLACE message SET state = 'planned', reason = NULL, settled_at = NULL {C5}")
        })
        .after(format!("{}; {}", skip_c5("expired"), cart_message(&[("folded_address", "'c5@example.com'")]))),
        case("message_is_kept", Name, "DELETE FROM message"),
        case("message_is_itself", Name, "UPDATE message SET message_id = '<other@shop.example>' WHERE id = 1"),
        case("arming_is_of_the_newest_run", Name, ARM_C5.replace("SELECT epoch", "SELECT epoch - 1")),
        case("settling_is_of_the_arming_run", Name, {
            format!("UPDATE message SET state = 'sent', settled_at = '2026-03-01T13:00:01Z', epoch = epoch - 1 {C5}")
        })
        .after(ARM_C5),
        case("window_on_planning", Name, {
            cart_message(&[
                ("identity", &of_c1("identity", "message")),
                ("cart_hash", &of_c1("cart_hash", "message")),
                ("planned_at", "'2026-03-02T11:59:00Z'"),
            ])
        }),
        case("cap_on_arming", Name, ARM_C5).after(
            "INSERT INTO cap VALUES (36000, 1, '2026-03-01T12:00:00Z');
             UPDATE message SET recipient = 'r1' WHERE recipient = 'r1@example.com';
             DROP TRIGGER message_is_itself;
             UPDATE message SET folded_address = 'c5@example.com' WHERE recipient = 'r1'",
        ),
        case("taken_over_already", Name, ARM_C5).after(
            "INSERT INTO report (digest, received_at, message, class, proves)
             SELECT x'01', '2026-03-01T12:05:00Z', id, 'hard', 1 FROM message WHERE recipient = 'c5@example.com'",
        ),
        case("window_on_arming", Name, ARM_C5)
            .after(old_row(&[("identity", "(SELECT identity FROM message WHERE cart_id = 'c5')")])),
    ]
}

fn of_steps() -> Vec<Case> {
    let expired = [("state", "'skipped'"), ("reason", "'expired'"), ("settled_at", "'2026-03-01T13:00:00Z'")];
    let held_out = [("state", "'skipped'"), ("reason", "'holdout'"), ("settled_at", "'2026-03-01T13:00:00Z'")];
    vec![
        case("holdout_comes_first", Name, step_of("c3", &held_out)),
        case("cart_has_episode", Check, cart_message(&[("episode", "NULL")])),
        case("step_has_its_place", Check, cart_message(&[("step", "'first'")])),
        case("step_is_of_its_episode", Name, cart_message(&[("episode", "'nowhere'")])),
        case("step_once", Columns("message.episode, message.step"), step_of("c2", &[("message_key", "'other'")]))
            .after(step_of("c2", &expired))
            .behind(&["message_is_not_replaced", "step_is_of_its_episode", "steps_in_order"]),
        case("steps_in_order", Name, {
            let key = "(SELECT message_key FROM message WHERE cart_id = 'c3') || '/between'";
            step_of("c3", &[("message_key", key), ("message_id", "'<m@shop.example>'"), ("step", "'between'"), ("step_after", "7200")])
        })
        .after(step_of("c3", &expired)),
        case("steps_keep_their_order", Name, {
            "UPDATE message SET state = 'planned', armed_at = NULL, settled_at = NULL WHERE recipient = 'c3@example.com'"
        })
        .after([resolution(&[("decision", "'planned'")]), step_of("c3", &[]), arm_step("2026-03-01T14:00:00Z")].join(";")),
        case("steps_keep_distance", Name, arm_step("2026-03-01T13:00:59Z")).after(step_of("c3", &[])),
    ]
}

/// A code, of the message about a cart if it says so.
fn code(changes: &[(&str, &str)]) -> String {
    let values = [("pool", "'p'"), ("code", "'A'"), ("folded_code", "'a'"), ("imported_at", "'2026-03-01T12:00:00Z'")];
    insert("coupon_code", &values, changes)
}

fn code_of(cart_id: &str, code_: &str) -> String {
    let message = format!("(SELECT id FROM message WHERE cart_id = '{cart_id}')");
    let claim = [("message", &*message), ("folded_address", "'x'"), ("claimed_at", "'2026-03-01T12:00:00Z'")];
    code(&[&claim[..], &[("code", code_), ("folded_code", code_)]].concat())
}

fn of_coupons() -> Vec<Case> {
    vec![
        case("coupon_code_once", Columns("coupon_code.folded_code"), code(&[("pool", "'q'")]))
            .after(code(&[]))
            .behind(&["coupon_is_not_replaced"]),
        case("message_has_one_coupon", Columns("coupon_code.message"), code_of("c5", "'b'"))
            .after(code_of("c5", "'a'"))
            .behind(&["coupon_is_not_replaced"]),
        case("coupon_claim_is_complete", Check, code(&[("folded_address", "'x'")])),
        case("coupon_is_not_replaced", Name, over("coupon_code")).after(code(&[])),
        case("coupon_is_itself", Name, "UPDATE coupon_code SET pool = 'q'").after(code(&[])),
        case("coupon_is_kept", Name, "DELETE FROM coupon_code").after(code_of("c5", "'a'")),
        case(
            "coupon_is_burnt",
            Name,
            "UPDATE coupon_code SET message = NULL, folded_address = NULL, claimed_at = NULL",
        )
        .after(code_of("c3", "'a'")),
    ]
}

/// An order that followed the message about c1.
fn recovery(changes: &[(&str, &str)]) -> String {
    let message = of_c1("id", "message");
    let values = [
        ("order_id", "'o1'"),
        ("message", message.as_str()),
        ("how", "'cart'"),
        ("ordered_at", "'2026-03-01T13:00:00Z'"),
        ("status", "'placed'"),
        ("window_seconds", "3600"),
        ("recorded_at", "'2026-03-01T13:00:00Z'"),
    ];
    insert("recovery", &values, changes)
}

fn of_recoveries() -> Vec<Case> {
    let of_episode = |status: &str| {
        format!(
            "INSERT INTO episode_order VALUES ('o1', {}, '2026-03-01T13:00:00Z', '{status}')",
            of_c1("id", "message")
        )
    };
    vec![
        case("recovery_how", Check, recovery(&[("how", "'luck'")])),
        case("recovery_status", Check, recovery(&[("status", "'lost'")])),
        case("recovery_follows_its_message", Name, recovery(&[("ordered_at", "'2026-03-01T13:00:01Z'")])),
        case("recovery_is_not_replaced", Name, recovery(&[("how", "'person'")]).replace("INSERT", "INSERT OR REPLACE"))
            .after(recovery(&[])),
        case("recovery_stands", Name, "UPDATE recovery SET how = 'person'").after(recovery(&[])),
        case("recovery_is_kept", Name, "DELETE FROM recovery").after(recovery(&[])),
        case("episode_order_status", Check, of_episode("lost")),
        case("episode_order_is_kept", Name, "DELETE FROM episode_order").after(of_episode("placed")),
    ]
}

fn of_tries() -> Vec<Case> {
    vec![
        case("attempt_outcome", Check, attempt(&[("outcome", "'lost'")])),
        case("attempt_is_not_replaced", Name, over("attempt")),
        case("attempt_is_kept", Name, "DELETE FROM attempt"),
        case("attempt_stands", Name, "UPDATE attempt SET reply = '250 ok'"),
        case("resolution_decision", Check, resolution(&[("decision", "'skipped'")])),
        case("resolution_has_who", Check, resolution(&[("who", "''")])),
        case("resolution_has_reason", Check, resolution(&[("reason", "''")])),
        case("resolution_is_not_replaced", Name, over("resolution")),
        case("resolution_is_kept", Name, "DELETE FROM resolution"),
        case("resolution_stands", Name, "UPDATE resolution SET who = 'someone else'"),
    ]
}

fn of_episodes() -> Vec<Case> {
    const LOG: &str = "cart_abandonment_log";
    let (hash, at) = (of_c1("cart_hash", LOG), of_c1("created_at", LOG));
    vec![
        case("email_sent_is_a_flag", Check, "UPDATE cart_abandonment_log SET email_sent = 2"),
        case("email_sent_means_sent", Name, "UPDATE cart_abandonment_log SET email_sent = 1 WHERE cart_id = 'c5'"),
        case("episode_has_one_message", Columns("cart_abandonment_log.message_key"), {
            old_row(&[("message_key", &of_c1("message_key", LOG))])
        })
        .behind(&["episode_is_not_replaced"]),
        case(
            "idx_user_cart_unique",
            Columns("cart_abandonment_log.user_id, cart_abandonment_log.cart_hash, cart_abandonment_log.created_at"),
            old_row(&[("user_id", "'c1'"), ("cart_hash", &hash), ("created_at", &at)]),
        )
        .behind(&["episode_is_not_replaced"]),
        case(
            "episode_once",
            Columns("cart_abandonment_log.identity, cart_abandonment_log.cart_hash, cart_abandonment_log.created_at"),
            old_row(&[("identity", &of_c1("identity", LOG)), ("cart_hash", &hash), ("created_at", &at)]),
        )
        .behind(&["episode_is_not_replaced"]),
        case("episode_is_not_replaced", Name, over(LOG)),
        case("episode_is_kept", Name, "DELETE FROM cart_abandonment_log"),
        case("episode_is_itself", Name, "UPDATE cart_abandonment_log SET created_at = '2020-01-01T00:00:00Z'"),
    ]
}

fn of_campaigns() -> Vec<Case> {
    vec![
        case("campaign_status", Check, "UPDATE scheduled_campaign SET status = 'gone'"),
        case("enabled_is_a_flag", Check, "UPDATE scheduled_campaign SET enabled = 2"),
        case("defined_is_a_flag", Check, "UPDATE scheduled_campaign SET defined = 2"),
        case("paused_by_absence_is_a_flag", Check, "UPDATE scheduled_campaign SET paused_by_absence = 2"),
        case("campaign_is_not_replaced", Name, over("scheduled_campaign")),
        case("campaign_is_itself", Name, "UPDATE scheduled_campaign SET campaign_id = 'summer'"),
        case("campaign_is_kept", Name, "DELETE FROM scheduled_campaign"),
        case("occurrence_state", Check, occurrence(&[("state", "'postponed'")])),
        case("occurrence_opens_once", Columns("campaign_occurrence.campaign_id, campaign_occurrence.planned_at"), {
            occurrence(&[("planned_at", "'2026-03-01T12:30:00Z'")])
        })
        .behind(&["occurrence_is_not_replaced"]),
        case("opened_is_complete", Check, occurrence(&[("state", "'opened'"), ("subject", "'x'")])),
        case("occurrence_is_kept", Name, "DELETE FROM campaign_occurrence"),
        case("occurrence_is_decided_once", Name, "UPDATE campaign_occurrence SET state = 'not_in_time'"),
        case("occurrence_is_not_replaced", Name, over("campaign_occurrence")),
    ]
}

/// Changes that a trigger counts, each with what keeps a guard from forbidding it.
fn counted() -> Vec<(&'static str, String)> {
    let pruning = "UPDATE ledger SET pruned_to = '2030-01-01T00:00:00Z'";
    vec![
        ("tally_message", cart_message(&[])),
        ("tally_move", skip_c5("expired")),
        ("tally_attempt", attempt(&[])),
        ("tally_report", "INSERT INTO report (digest, received_at, class) VALUES (x'01', 'x', 'soft')".into()),
        ("tally_suppression", "INSERT INTO suppression VALUES ('y@example.com', 'x', 'x', 'by hand', '')".into()),
        ("tally_suppression_removed", "DELETE FROM suppression".into()),
        ("tally_recovery", recovery(&[("value", "'1.50'"), ("currency", "'EUR'")])),
        ("tally_pruned_message", format!("{pruning}; DELETE FROM message WHERE state = 'sent'")),
        ("tally_pruned_attempt", format!("{pruning}; DELETE FROM attempt WHERE outcome = 'sent'")),
        ("tally_pruned_report", format!("{pruning}; DELETE FROM report")),
    ]
}

/// Triggers that forbid nothing.
#[test]
fn what_happens_is_counted_by_the_trigger_that_is_there_for_it() {
    const COUNTS: &str =
        "SELECT group_concat(occurrence || state || reason || messages || ' ' || pruned) FROM message_tally
        UNION ALL SELECT group_concat(counted || part || number || ' ' || pruned) FROM tally";
    let world = world();
    let ledger = world.ledger();
    let counts = |copy: &Connection| -> Vec<String> {
        copy.prepare(COUNTS).unwrap().query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    };
    for (trigger, change) in counted() {
        let (with, without) = (copy(&ledger), copy(&ledger));
        let before = counts(&with);
        with.execute_batch(&change).unwrap_or_else(|err| panic!("{trigger}: {err} in {change}"));
        assert_ne!(counts(&with), before, "{trigger}");
        take_away(&without, trigger);
        without.execute_batch(&change).unwrap_or_else(|err| panic!("{trigger}: {err} in {change}"));
        assert_eq!(counts(&without), before, "without {trigger}");
    }
}

/// A copy in memory, opened as any other program would: without the foreign keys that mailonce's connections keep.
fn copy(ledger: &Connection) -> Connection {
    let mut copy = Connection::open_in_memory().unwrap();
    Backup::new(ledger, &mut copy).unwrap().run_to_completion(10_000, Duration::ZERO, None).unwrap();
    copy.pragma_update(None, "foreign_keys", false).unwrap();
    copy
}

/// Takes one guard away and leaves all others.
fn take_away(ledger: &Connection, guard: &str) {
    let kind = "SELECT type FROM sqlite_schema WHERE name = ?1";
    let kind: Option<String> = ledger.query_row(kind, [guard], |row| row.get(0)).optional().unwrap();
    if let Some(kind) = kind {
        return ledger.execute_batch(&format!("DROP {kind} {guard}")).unwrap();
    }
    let words = format!("CONSTRAINT {guard}");
    let table = "SELECT name, sql FROM sqlite_schema WHERE type = 'table' AND sql GLOB '*' || ?1 || '[^a-z_]*'";
    let (table, sql): (String, String) = ledger
        .query_row(table, [&words], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap_or_else(|err| panic!("the ledger has no {guard}: {err}"));
    let (before, after) = sql.split_once(&words).unwrap();
    let after = after.trim_start();
    let is_unique = after.starts_with("UNIQUE");
    let after = after.trim_start_matches("UNIQUE").trim_start_matches("CHECK").trim_start();
    let without = format!("{before}{words} CHECK (1){}", &after[length_in_brackets(after)..]);
    ledger.pragma_update(None, "writable_schema", true).unwrap();
    ledger.execute("UPDATE sqlite_schema SET sql = ?2 WHERE type = 'table' AND name = ?1", [&table, &without]).unwrap();
    if is_unique {
        let index = "DELETE FROM sqlite_schema WHERE tbl_name = ?1 AND name LIKE 'sqlite_autoindex_%'";
        assert_eq!(ledger.execute(index, [&table]), Ok(1), "{guard} alone has an index without a name");
    }
    ledger.execute_batch("PRAGMA writable_schema = RESET").unwrap();
}

/// How long the bracket is that a text begins with; 0 when it begins with none.
fn length_in_brackets(text: &str) -> usize {
    let mut depth = 0;
    for (at, character) in text.char_indices() {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return if at == 0 { 0 } else { at + 1 };
        }
    }
    panic!("a bracket does not end: {text}")
}

#[test]
fn each_forbids_what_it_is_there_for_and_no_other_does() {
    let world = world();
    let ledger = world.ledger();
    let mut problems = Vec::new();
    for Case { guard, says, behind, before, forbidden } in cases() {
        let copy = copy(&ledger);
        for other in behind {
            take_away(&copy, other);
        }
        copy.execute_batch(&before).unwrap_or_else(|err| panic!("{guard}: {err} in {before}"));
        let said = copy.execute(&forbidden, []).map_err(|err| err.to_string());
        let is_met = said.as_ref().is_err_and(|words| match says {
            Name => words.starts_with(&format!("{guard}: ")),
            Check => words == &format!("CHECK constraint failed: {guard}"),
            Columns(columns) => words == &format!("UNIQUE constraint failed: {columns}"),
        });
        if !is_met {
            problems.push(format!("{guard} was not met: {said:?} from {forbidden}"));
        }
        take_away(&copy, guard);
        let said = copy.execute(&forbidden, []).map_err(|err| err.to_string());
        if said.as_ref().map_or(true, |rows| *rows == 0) {
            problems.push(format!("without {guard}: {said:?} from {forbidden}"));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    world.ok(["audit"]).is_silent();
}

/// A trigger that forbids nothing.
#[test]
fn a_code_is_free_again_with_the_skip_of_its_message() {
    let world = world();
    let ledger = world.ledger();
    for (away, left) in [(None, 0), (Some("coupon_is_free_again"), 1)] {
        let copy = copy(&ledger);
        away.into_iter().for_each(|guard| take_away(&copy, guard));
        copy.execute_batch(&[code_of("c5", "'a'"), skip_c5("expired")].join(";")).unwrap();
        let given = "SELECT count(*) FROM coupon_code WHERE message IS NOT NULL";
        assert_eq!(copy.query_row(given, [], |row| row.get::<_, i64>(0)), Ok(left), "{away:?}");
    }
}

/// The other trigger that forbids nothing.
#[test]
fn planned_again_runs_again_and_nothing_else_does() {
    let world = world();
    let ledger = world.ledger();
    for (away, status) in [(None, "running"), (Some("planned_again_runs_again"), "completed")] {
        let copy = copy(&ledger);
        away.into_iter().for_each(|guard| take_away(&copy, guard));
        copy.execute_batch(
            "UPDATE message SET state = 'skipped', reason = 'expired', settled_at = 'x' WHERE recipient = 'r2@example.com';
             UPDATE scheduled_campaign SET status = 'completed';
             UPDATE message SET state = 'planned', reason = NULL, settled_at = NULL WHERE recipient = 'r2@example.com'",
        )
        .unwrap();
        let found: String = copy.query_row("SELECT status FROM scheduled_campaign", [], |row| row.get(0)).unwrap();
        assert_eq!(found, status, "{away:?}");
    }
}

#[test]
fn no_guard_of_the_schema_goes_untried_and_none_is_without_a_name() {
    let text: String = SCHEMA.lines().map(|line| line.split("--").next().unwrap_or("")).collect::<Vec<_>>().join("\n");
    let words: Vec<&str> = text.split_whitespace().collect();
    let mut named: BTreeSet<&str> = BTreeSet::new();
    for (at, word) in words.iter().enumerate() {
        let before = |back: usize| at.checked_sub(back).map_or("", |at| words[at]);
        match word.trim_end_matches(',') {
            "CONSTRAINT" | "TRIGGER" => drop(named.insert(words[at + 1])),
            "INDEX" if before(1) == "UNIQUE" => drop(named.insert(words[at + 1])),
            "CHECK" | "UNIQUE" if before(1) != "CREATE" => {
                assert_eq!(before(2), "CONSTRAINT", "without a name: {} {word} {}", before(1), words[at + 1]);
            }
            _ => {}
        }
    }
    let mut tried: Vec<&str> =
        cases().iter().map(|case| case.guard).chain(["coupon_is_free_again", "planned_again_runs_again"]).collect();
    let counted = counted();
    tried.extend(counted.iter().map(|(trigger, _)| *trigger));
    tried.sort_unstable();
    assert_eq!(tried, named.into_iter().collect::<Vec<_>>(), "the cases, and what the schema names");
}
