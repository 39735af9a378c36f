//! One click to leave: signed links, the spool that a shop's page fills, the command, and what each takes off the list.

use crate::support::{Act, Cart, Plan, Server, Stage, World, definition, header, people, wait_until};

/// A world whose links are signed and whose spool is there.
fn world() -> World {
    let world = World::with_campaigns("")
        .set("mail.unsubscribe", "https://shop.example/unsubscribe?t={unsubscribe}")
        .set("mail.unsubscribe_mailto", "stop@shop.example")
        .set("unsubscribe.spool", "spool");
    std::fs::create_dir(world.path("spool")).unwrap();
    world
}

/// The messages that were written, in order of name.
fn written(world: &World) -> Vec<Vec<u8>> {
    world.outbox().into_iter().map(|(_, bytes)| bytes).collect()
}

fn token_in(message: &[u8]) -> String {
    let header = header(message, "List-Unsubscribe").expect("List-Unsubscribe");
    let link = header.split("?t=").nth(1).expect("a token");
    link.split('>').next().unwrap().to_owned()
}

/// The token of the message to an address.
fn token_of(world: &World, address: &str) -> String {
    let to = |message: &Vec<u8>| header(message, "To").is_some_and(|to| to.contains(address));
    token_in(&written(world).into_iter().find(to).expect("a message to that address"))
}

fn click(world: &World, token: &str) {
    std::fs::write(world.path("spool").join(token), "2026-03-01T12:00:00Z\n").unwrap();
}

fn suppressed(world: &World) -> Vec<(String, String, String)> {
    let list = world.ok(["suppress", "list", "--json"]).json()["suppressions"].clone();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let rows = list.as_array().unwrap().iter();
    rows.map(|row| (text(&row["address"]), text(&row["list"]), text(&row["origin"]))).collect()
}

fn all_mail(address: &str) -> (String, String, String) {
    (address.into(), String::new(), "one-click".into())
}

#[test]
fn every_message_can_be_left_by_one_click_and_by_mail_and_no_address_stands_in_the_link() {
    let world = world().set("mail.list_domain", "lists.shop.example").set("mail.feedback_sender", "shopexample");
    let world = world.cart(Cart::of("c1").email("ada@example.com")).init();
    world.ok(["detect"]);
    let [message] = written(&world).try_into().unwrap();
    let token = token_in(&message);
    assert!(token.len() >= 56 && !token.contains("ada"), "{token}");
    assert_eq!(
        header(&message, "List-Unsubscribe").unwrap(),
        format!("<https://shop.example/unsubscribe?t={token}>, <mailto:stop@shop.example?subject={token}>")
    );
    assert_eq!(header(&message, "List-Unsubscribe-Post").as_deref(), Some("List-Unsubscribe=One-Click"));
    assert_eq!(header(&message, "List-Id").as_deref(), Some("Cart reminders <cart.lists.shop.example>"));
    assert_eq!(header(&message, "Feedback-ID").as_deref(), Some(":cart::shopexample"));
    // The link in the body is the same.
    let body = String::from_utf8_lossy(&message).replace("=\r\n", "").replace("=3D", "=");
    assert!(body.matches(&token).count() >= 4, "{body}");
}

#[test]
fn a_click_takes_its_reader_off_the_list_before_anything_is_planned_and_again_changes_nothing() {
    let world =
        world().cart(Cart::of("c1").email("Ada@example.com")).cart(Cart::of("c2").email("bob@example.com")).init();
    world.ok(["detect"]);
    let token = token_of(&world, "Ada");
    click(&world, &token);
    world.put(Cart::of("c3").email("ada@example.com").item("Z", "Other", 1, "2"));
    world.set_now("2026-03-01T12:01:00Z");
    world.ok(["detect", "--json"]);
    assert_eq!(std::fs::read_dir(world.path("spool")).unwrap().count(), 0, "the file goes once the wish is on disk");
    assert_eq!(suppressed(&world), [all_mail("ada@example.com")]);
    assert_eq!(world.messages().len(), 2, "nothing more was planned for her");
    // Again by the page, and by the command.
    click(&world, &token);
    world.ok(["detect"]).is_silent();
    let ran = world.ok(["unsubscribe", &token, "--json"]).json();
    assert_eq!((&ran["tokens"][0]["address"], &ran["tokens"][0]["new"]), (&"ada@example.com".into(), &false.into()));
    assert_eq!(suppressed(&world).len(), 1);
    assert_eq!(world.number("SELECT count(*) FROM report WHERE class = 'unsubscribe'"), 1);
    world.ok(["audit"]);
}

#[test]
fn who_leaves_a_list_gets_the_mail_of_the_others() {
    let world = world().set("unsubscribe.scope", "list");
    let news = definition("spring", "at = \"2026-03-01 12:30\"") + "list = \"new-in-store\"\n";
    world.define(&news);
    world.audience("audience.csv", &people(2));
    let world = world.cart(Cart::of("c1").email("r1@example.com")).init();
    world.ok(["run-campaigns"]);
    world.campaigns_at("2026-03-01T12:30:00Z", 0);
    let messages = written(&world);
    assert_eq!(header(&messages[0], "List-Id").as_deref(), Some("New in store <new-in-store.shop.example>"));
    let token = token_of(&world, "r1@");
    let left = world.ok(["unsubscribe", &token]);
    left.says("r1@example.com: no more mail of the list new-in-store");
    assert_eq!(suppressed(&world), [("r1@example.com".into(), "new-in-store".into(), "one-click".into())]);
    world.ok(["detect"]);
    world.has([("sent", 3)]);
    // Now the carts as well.
    let cart = written(&world).into_iter().find(|mail| header(mail, "List-Id").unwrap().contains("<cart.")).unwrap();
    world.ok(["unsubscribe", &token_in(&cart)]).says("no more mail of the list cart");
    world.put(Cart::of("c9").email("r1@example.com").item("Q", "x", 1, "1"));
    world.ok(["detect"]);
    world.has([("sent", 3)]);
    assert_eq!(world.ok(["status", "--json"]).json()["suppressed_addresses"], 1);
    world.ok(["audit"]);
}

#[test]
fn what_no_key_signed_takes_nobody_off_the_list() {
    let world =
        world().carts([Cart::of("c1").email("ada@example.com"), Cart::of("c2").email("bob@example.com")]).init();
    world.ok(["detect"]);
    let (ada, bob) = (token_of(&world, "ada"), token_of(&world, "bob"));
    // Bob's MAC under Ada's message, another row, another digit; none of them a token at all.
    let forged = [
        format!("{}{}", &ada[..ada.len() - 20], &bob[bob.len() - 20..]),
        ada.replacen(".", "9.", 1),
        format!("{}{}", &ada[..ada.len() - 1], if ada.ends_with('0') { '1' } else { '0' }),
    ];
    for token in &forged {
        world.exits(65, ["unsubscribe", token]).says("was signed by no key");
        click(&world, token);
    }
    for token in ["x", "ada@example.com", &ada.to_uppercase()] {
        world.exits(65, ["unsubscribe", token]).says("is no token");
    }
    // The good one beside them is not taken either: what is typed wrong is typed again.
    world.exits(65, ["unsubscribe", &bob, &forged[0]]);
    std::fs::write(world.path("spool/README"), "x").unwrap();
    std::fs::create_dir(world.path("spool").join(&ada)).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", world.path("spool").join(&bob)).unwrap();
    world.exits(1, ["detect"]).says("3 clicks that no key signed");
    world.ok(["detect"]).is_silent();
    assert_eq!(suppressed(&world), []);
    let refused = std::fs::read_dir(world.path("spool/refused")).unwrap().count();
    assert_eq!(refused, 3);
    assert!(world.path("spool/README").exists() && world.path("spool").join(&bob).is_symlink());
}

#[test]
fn a_link_called_refused_gets_no_file_of_another_folder() {
    let world = world().cart(Cart::of("c1").email("ada@example.com")).init();
    world.ok(["detect"]);
    let ada = token_of(&world, "ada");
    let forged = ada.replacen(".", "9.", 1);
    std::fs::create_dir(world.path("elsewhere")).unwrap();
    std::os::unix::fs::symlink(world.path("elsewhere"), world.path("spool/refused")).unwrap();
    click(&world, &forged);
    world.exits(78, ["detect"]).says("could not put a file aside");
    assert_eq!(std::fs::read_dir(world.path("elsewhere")).unwrap().count(), 0);
}

#[test]
fn keys_are_renewed_and_lost_ones_are_not_made_anew_in_silence() {
    let world =
        world().carts([Cart::of("c1").email("ada@example.com"), Cart::of("c2").email("bob@example.com")]).init();
    let keys = world.path("unsubscribe.keys");
    let mode = || std::os::unix::fs::PermissionsExt::mode(&keys.metadata().unwrap().permissions()) & 0o777;
    assert_eq!(mode(), 0o640);
    world.ok(["detect"]);
    let (ada, bob) = (token_of(&world, "ada"), token_of(&world, "bob"));
    let old = std::fs::read_to_string(&keys).unwrap();
    world.ok(["unsubscribe", "rotate"]).says("links that are out stay good");
    let new = std::fs::read_to_string(&keys).unwrap();
    assert!(new.ends_with(&old) && new.lines().count() == 2 && mode() == 0o640, "{new}");
    world.put(Cart::of("c3").email("cy@example.com"));
    world.ok(["detect"]);
    world.ok(["unsubscribe", &ada]);
    let cy = token_of(&world, "cy");
    assert_ne!(cy[1..2], ada[1..2], "the new key signs");
    // The file as it was before the rotation, back from a backup: the newer link cannot be checked, and is kept.
    std::fs::write(&keys, &old).unwrap();
    click(&world, &cy);
    click(&world, &bob);
    world
        .exits(1, ["detect"])
        .says("1 click not honoured and kept: unsubscribe.keys has not the key that signed the link");
    world.ok(["detect"]).is_silent();
    std::fs::write(&keys, &new).unwrap();
    world.ok(["detect"]);
    assert_eq!(suppressed(&world).len(), 3);
    // Lost: nothing is planned until a person says so.
    std::fs::remove_file(&keys).unwrap();
    world.put(Cart::of("c4").email("di@example.com"));
    world.exits(78, ["detect"]).says("nothing was planned or sent").says("put it back from your backup");
    world.exits(78, ["init", "--rehearsal"]);
    assert!(!keys.exists());
    world.has([("sent", 3)]);
    world.ok(["status"]);
}

#[test]
fn nothing_is_sent_while_the_spool_cannot_be_read() {
    let world = world().cart(Cart::of("c1")).init();
    std::fs::remove_dir(world.path("spool")).unwrap();
    world.exits(78, ["detect"]).says("could not read the spool").says("nothing more is sent");
    world.exits(78, ["run-campaigns"]);
    assert_eq!(world.messages().len(), 0);
    std::fs::create_dir(world.path("spool")).unwrap();
    world.ok(["detect"]);
    world.has([("sent", 1)]);
}

#[test]
fn a_click_takes_effect_on_a_run_under_way() {
    let server = Server::start(Plan::accepting().nth(Stage::Taken, 1, Act::Hang));
    let world = world().set("mail.smtp.connections", 1);
    world.define(&definition("spring", "at = \"2026-03-01 12:30\""));
    world.audience("audience.csv", &people(3));
    let world = world.smtp(&server).init();
    world.ok(["run-campaigns"]);
    world.set_now("2026-03-01T12:30:00Z");
    let first = world.spawn(["run-campaigns"]);
    server.wait_for_final_dot();
    // The link of a message that is still to come: made of its row and its Message-ID.
    let keys = std::fs::read_to_string(world.path("unsubscribe.keys")).unwrap();
    let row = "SELECT id, substr(message_id, 2, 32) AS message FROM message WHERE recipient = 'r3@example.com'";
    let row = &world.rows(row)[0];
    let (row, message) = (row["id"].clone().unwrap().parse().unwrap(), row["message"].clone().unwrap());
    let token = signed(&keys, &message, row);
    click(&world, &token);
    wait_until("the run under way to hear of it", || !world.path("spool").join(&token).exists());
    server.release();
    world.check(first.wait(), 0);
    let recipients = server.recipients();
    assert!(!recipients.iter().any(|to| to.contains("r3@")), "{recipients:?}");
    world.has([("sent", 2), ("skipped", 1)]);
}

/// A token, made without mailonce.
fn signed(keys: &str, message: &str, row: i64) -> String {
    let (id, key) = keys.lines().next().unwrap().split_once(' ').unwrap();
    let row = std::iter::successors(Some(row), |rest| (*rest >= 36).then_some(rest / 36));
    let row: String = row.map(|rest| char::from_digit((rest % 36) as u32, 36).unwrap()).collect();
    let signed = format!("1{id}{message}{}", row.chars().rev().collect::<String>());
    let openssl = std::process::Command::new("sh")
        .args([
            "-c",
            &format!("printf 'mailonce unsubscribe {signed}' | openssl dgst -sha256 -mac HMAC -macopt hexkey:{key}"),
        ])
        .output()
        .unwrap();
    let mac = String::from_utf8(openssl.stdout).unwrap().trim().rsplit(' ').next().unwrap()[..20].to_owned();
    format!("{signed}.{mac}")
}

#[test]
fn what_a_person_wanted_is_taken_back_only_with_a_reason_that_is_kept() {
    let world = world().cart(Cart::of("c1").email("ada@example.com")).init();
    world.ok(["detect"]);
    world.ok(["suppress", "add", "ada@example.com", "--reason", "bounced"]);
    world.ok(["unsubscribe", &token_of(&world, "ada")]);
    assert_eq!(suppressed(&world).len(), 2, "the wish stands beside what was there before");
    world
        .exits(2, ["suppress", "remove", "ada@example.com"])
        .says("ada@example.com wanted no more mail: asked to get no more")
        .says("(one-click)")
        .says("--reason");
    world.ok(["suppress", "remove", "ada@example.com", "--reason", "asked for it again by phone"]);
    assert_eq!(suppressed(&world), []);
    let kept =
        world.number("SELECT count(*) FROM removed_suppression WHERE removed_why = 'asked for it again by phone'");
    assert_eq!(kept, 2);
    // The link in the old mail still works.
    world.ok(["unsubscribe", &token_of(&world, "ada")]);
    assert_eq!(suppressed(&world), [all_mail("ada@example.com")]);
}

#[test]
fn links_of_tests_and_previews_take_nobody_off_the_list() {
    let server = Server::start(Plan::accepting());
    let world = world().cart(Cart::of("c1").email("ada@example.com")).smtp(&server).init();
    world.ok(["detect", "--test-to", "me@shop.example"]);
    let test = token_in(&server.accepted()[0].bytes);
    world.ok(["unsubscribe", &test]).says("it works, and nobody is taken off the list");
    click(&world, &test);
    world.ok(["detect"]);
    assert_eq!(std::fs::read_dir(world.path("spool")).unwrap().count(), 0);
    assert_eq!(suppressed(&world), []);
}

const OPT_OUTS: &str = "CREATE TABLE newsletter (email TEXT, token TEXT, active INTEGER, changed_at TEXT)";
const QUERY: &str = "SELECT email, token, changed_at FROM newsletter WHERE active = 0 AND changed_at > :since";

fn in_shop(world: &World, sql: &str) {
    rusqlite::Connection::open(world.shop()).unwrap().execute_batch(sql).unwrap_or_else(|err| panic!("{sql}: {err}"));
}

fn with_list(rows: &str) -> World {
    let world = world().set("unsubscribe.source", QUERY);
    in_shop(&world, OPT_OUTS);
    if !rows.is_empty() {
        in_shop(&world, &format!("INSERT INTO newsletter VALUES {rows}"));
    }
    world
}

#[test]
fn whoever_is_on_the_shops_own_list_gets_nothing_and_one_who_leaves_it_stays_off() {
    let world = with_list(
        "('ADA@example.com', NULL, 0, '2026-02-01 10:00:00'), ('bob@example.com', NULL, 1, '2026-02-01 10:00:00')",
    );
    let world = world.carts([Cart::of("c1").email("ada@example.com"), Cart::of("c2").email("bob@example.com")]).init();
    world.ok(["detect"]);
    world.has([("sent", 1)]);
    assert_eq!(suppressed(&world), [("ada@example.com".into(), String::new(), "source".into())]);
    // By the token of a message that went to Bob, as a shop's page may keep it.
    let token = token_of(&world, "bob");
    in_shop(&world, &format!("INSERT INTO newsletter VALUES (NULL, '{token}', 0, '2026-03-01 12:00:30')"));
    in_shop(&world, "DELETE FROM newsletter WHERE email = 'ADA@example.com'");
    world.put(Cart::of("c3").email("bob@example.com").item("Z", "x", 1, "1"));
    world.set_now("2026-03-01T12:01:00Z");
    world.ok(["detect"]);
    world.has([("sent", 1)]);
    assert_eq!(suppressed(&world).len(), 2);
    world.ok(["audit"]);
}

#[test]
fn nothing_is_sent_while_the_shops_own_list_cannot_be_read() {
    let world = with_list("").cart(Cart::of("c1")).init();
    in_shop(&world, "ALTER TABLE newsletter RENAME TO elsewhere");
    world.exits(78, ["detect"]).says("unsubscribe.source").says("nothing is sent");
    world.exits(78, ["run-campaigns"]);
    assert_eq!(world.messages().len(), 0);
    in_shop(&world, "ALTER TABLE elsewhere RENAME TO newsletter");
    world.ok(["detect"]);
    world.has([("sent", 1)]);
    // A file that is gone, too.
    let world = World::new().set("unsubscribe.file", "optout.csv").cart(Cart::of("c1").email("ada@example.com")).init();
    world.exits(65, ["detect"]).says("optout.csv").says("nothing is sent");
    std::fs::write(world.path("optout.csv"), "email,changed_at\nADA@EXAMPLE.com,2026-02-01\n").unwrap();
    world.ok(["detect"]);
    assert_eq!(world.messages().len(), 0);
}

#[test]
fn a_query_that_is_the_wrong_way_round_takes_nobody_off_the_list() {
    let world = with_list("").cart(Cart::of("c1")).init();
    in_shop(
        &world,
        "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 1001)
         INSERT INTO newsletter SELECT 'r' || n || '@example.com', NULL, 0, '2026-02-01 10:00:00' FROM n",
    );
    world.exits(1, ["detect"]).says("more than 1000 people would be taken off").says("unsubscribe source --allow");
    assert_eq!((suppressed(&world).len(), world.messages().len()), (0, 0));
    world.ok(["unsubscribe", "source", "--allow", "1001"]).says("1001 people new on the shop's own list");
    world.ok(["unsubscribe", "source"]).says("0 people new");
    world.ok(["detect"]);
    world.has([("sent", 1)]);
}

#[test]
fn who_was_taken_back_by_a_person_is_not_taken_off_again_by_what_was_said_before() {
    let world = with_list("('ada@example.com', NULL, 0, '2026-03-01 11:00:00')").init();
    world.ok(["unsubscribe", "source"]);
    world.exits(2, ["suppress", "remove", "ada@example.com"]).says("(source)");
    world.ok(["suppress", "remove", "ada@example.com", "--reason", "by phone"]);
    world.ok(["unsubscribe", "source"]).says("0 people");
    in_shop(&world, "UPDATE newsletter SET changed_at = '2026-03-01 13:00:00'");
    world.set_now("2026-03-01T14:00:00Z");
    world.ok(["unsubscribe", "source"]).says("1 person new");
}

#[test]
fn a_row_that_cannot_be_read_is_told_once_and_keeps_no_other_from_counting() {
    let world =
        with_list("('nobody', NULL, 0, '2026-03-01 10:00:00'), ('ada@example.com', NULL, 0, '2026-03-01 10:00:00')")
            .init();
    world.exits(1, ["detect"]).says("opt-outs: shop.db: row 1: the address has no @; row skipped");
    world.ok(["detect"]).is_silent();
    assert_eq!(suppressed(&world).len(), 1);
    in_shop(&world, "DELETE FROM newsletter WHERE email LIKE 'ada%'");
    world.exits(1, ["detect"]).says("no row of the shop's opt-outs can be read");
}

#[test]
fn nobodys_wish_is_lost_with_an_old_copy_of_the_ledger() {
    let world =
        world().carts([Cart::of("c1").email("ada@example.com"), Cart::of("c2").email("bob@example.com")]).init();
    world.ok(["suppress", "add", "cy@example.com"]);
    world.ok(["detect"]);
    let copy = world.path("copy.db");
    world.ledger().backup("main", &copy, None::<fn(rusqlite::backup::Progress)>).unwrap();
    world.set_now("2026-03-01T12:01:00Z");
    click(&world, &token_of(&world, "ada"));
    world.ok(["detect"]);
    world.ok(["unsubscribe", &token_of(&world, "bob")]);
    world.ok(["suppress", "remove", "cy@example.com"]);
    let before = suppressed(&world);
    assert_eq!(before.len(), 2);
    for end in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(world.path(format!("mailonce.db{end}")));
    }
    std::fs::copy(&copy, world.ledger_file()).unwrap();
    world.exits(74, ["detect"]);
    world.ok(["resolve", "--restored", "--hold-back"]).says("3 changes of the suppression list");
    assert_eq!(suppressed(&world), before);
    world.ok(["resolve", "--restored"]);
    world.set_now("2026-03-01T12:02:00Z");
    world.ok(["detect"]);
}

/// As after an old copy of the ledger was put back, in which the row is another message's.
#[test]
fn the_message_decides_and_not_the_row() {
    let world =
        world().carts([Cart::of("c1").email("ada@example.com"), Cart::of("c2").email("bob@example.com")]).init();
    world.ok(["detect"]);
    let keys = std::fs::read_to_string(world.path("unsubscribe.keys")).unwrap();
    let message =
        world.rows("SELECT substr(message_id, 2, 32) AS token FROM message WHERE recipient = 'ada@example.com'");
    let row = world.number("SELECT id FROM message WHERE recipient = 'bob@example.com'");
    let token = signed(&keys, message[0]["token"].as_deref().unwrap(), row);
    world.ok(["unsubscribe", &token]);
    assert_eq!(suppressed(&world), [all_mail("ada@example.com")]);
}
