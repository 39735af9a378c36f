//! `metrics` and what runs tell the monitoring: the numbers are those of the ledger, and nothing that goes wrong with telling
//! changes what is sent.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::sync::mpsc;

use crate::support::{Act, Cart, Plan, Server, Stage, World, definition, installed, people};

/// Cart messages sent, refused, in doubt and suppressed, and a campaign of three of which two are put off.
fn world(server: &Server) -> World {
    let world = World::with_campaigns(&definition("spring", "at = \"2026-03-01 12:30\"")).smtp(server);
    world.audience("audience.csv", &people(3));
    let cart = |id: &str, sku: &str| Cart::of(id).item(sku, "x", 1, "1").email(&format!("{id}@example.com"));
    let world = world.carts([cart("c1", "A"), cart("c2", "B"), cart("c3", "C"), cart("c4", "D")]).init();
    world.ok(["suppress", "add", "c4@example.com"]);
    world.configure("metrics.file", "numbers.prom");
    world
}

fn server() -> Server {
    let later = Act::Reply("451 4.3.0 try later");
    let plan = Plan::accepting()
        .for_recipient("c2@", Stage::Rcpt, Act::Reply("550 5.1.1 no such user"))
        .for_recipient("c3@", Stage::Taken, Act::Close)
        .for_recipient("r2@", Stage::Rcpt, later)
        .for_recipient("r3@", Stage::Rcpt, later);
    Server::start(plan)
}

fn numbers(world: &World) -> String {
    fs::read_to_string(world.path("numbers.prom")).unwrap()
}

#[track_caller]
fn says(text: &str, line: &str) {
    assert!(text.lines().any(|known| known == line), "no line {line:?} in\n{text}");
}

#[test]
fn the_numbers_are_those_of_the_ledger() {
    let server = server();
    let world = world(&server);
    world.exits(1, ["detect"]);
    world.set_now("2026-03-01T12:30:00Z");
    world.run(["run-campaigns"]);
    let text = numbers(&world);
    for line in [
        r#"mailonce_messages{kind="cart",state="in_doubt"} 1"#,
        r#"mailonce_messages{kind="campaign",state="planned"} 2"#,
        r#"mailonce_messages{kind="campaign",state="in_doubt"} 0"#,
        r#"mailonce_messages_sent_total{kind="cart"} 1"#,
        r#"mailonce_messages_sent_total{kind="campaign"} 1"#,
        r#"mailonce_messages_refused_total{kind="cart"} 1"#,
        r#"mailonce_attempts_total{outcome="deferred"} 2"#,
        r#"mailonce_attempts_total{outcome="in_doubt"} 1"#,
        "mailonce_suppressed_addresses 2",
        r#"mailonce_run_last_exit_code{command="detect"} 1"#,
        r#"mailonce_run_last_success_timestamp_seconds{command="detect"} 1772366400"#,
        r#"mailonce_run_last_timestamp_seconds{command="run-campaigns"} 1772368200"#,
        r#"mailonce_oldest_in_doubt_timestamp_seconds{kind="cart"} 1772366400"#,
    ] {
        says(&text, line);
    }
    let left = text.lines().find(|line| line.starts_with("mailonce_campaign_left")).unwrap();
    assert!(left.ends_with(" 2"), "{left}");
    assert!(text.ends_with('\n') && !text.contains('@'), "{text}");
    assert_eq!(fs::metadata(world.path("numbers.prom")).unwrap().permissions().mode() & 0o777, 0o644);
    // The command says the same, but for the size of a file that is still being written to.
    let printed = world.ok(["metrics"]).stdout;
    let but_size =
        |text: &str| text.lines().filter(|line| !line.contains("size_bytes")).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(but_size(&printed), but_size(&text));
}

#[test]
fn counters_never_fall() {
    let server = server();
    let world = world(&server);
    world.exits(1, ["detect"]);
    world.ok(["resolve", "--state", "refused", "--since", "2h", "--resend", "--reason", "was a mistake"]);
    let text = world.ok(["metrics"]).stdout;
    says(&text, r#"mailonce_messages_refused_total{kind="cart"} 1"#);
    says(&text, r#"mailonce_messages{kind="cart",state="planned"} 1"#);
}

#[test]
fn promtool_finds_nothing_to_say_against_it() {
    let Some(promtool) = installed("promtool") else { return println!("promtool is not installed: left out") };
    let server = server();
    let world = world(&server);
    world.exits(1, ["detect"]);
    world.set_now("2026-03-01T12:30:00Z");
    world.run(["run-campaigns"]);
    for ledger in [false, true] {
        if ledger {
            world.configure("metrics.ledger", "the \"first\" shop");
            world.run(["detect"]);
        }
        let mut checking = Command::new(&promtool)
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        checking.stdin.take().unwrap().write_all(numbers(&world).as_bytes()).unwrap();
        let checked = checking.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&[checked.stdout, checked.stderr].concat()).into_owned();
        assert!(checked.status.success() && said.is_empty(), "{said}\n{}", numbers(&world));
    }
    says(&numbers(&world), r#"mailonce_suppressed_addresses{ledger="the \"first\" shop"} 2"#);
}

#[test]
fn a_file_that_cannot_be_written_is_told_once_and_changes_nothing() {
    let world = World::new().cart(Cart::of("c1").email("a@example.com")).init();
    world.configure("metrics.file", "gone/numbers.prom");
    let ran = world.ok(["detect"]);
    ran.says("could not write the metrics").says("told once");
    world.has([("sent", 1)]);
    world.set_now("2026-03-01T12:01:00Z");
    world.ok(["detect"]).is_silent();
    world.ok(["status"]).says("could not write the metrics");
    fs::create_dir(world.path("gone")).unwrap();
    world.ok(["detect"]).is_silent();
    assert!(!world.ok(["status"]).output().contains("metrics"));
    let text = fs::read_to_string(world.path("gone/numbers.prom")).unwrap();
    says(&text, r#"mailonce_run_last_exit_code{command="detect"} 0"#);
    assert!(!text.contains(r#"mailonce_notices{kind="metrics"}"#), "it is written, and says that it is not:\n{text}");
    world.exits(78, ["status", "--config", "nowhere.toml"]);
    world.configure("metrics.file", "numbers.txt");
    world.exits(78, ["status"]).says("does not end in .prom");
}

#[test]
fn a_file_that_cannot_be_written_again_is_told_again_but_not_twice_within_an_hour() {
    let world = World::new().cart(Cart::of("c1").email("a@example.com")).init();
    world.configure("metrics.file", "numbers/numbers.prom");
    let run_at = |now: &str, is_there: bool| {
        match is_there {
            true => fs::create_dir_all(world.path("numbers")).unwrap(),
            false => drop(fs::remove_dir_all(world.path("numbers"))),
        }
        world.set_now(now);
        world.ok(["detect"])
    };
    run_at("2026-03-01T12:00:00Z", false).says("could not write the metrics");
    run_at("2026-03-01T12:10:00Z", true).is_silent();
    run_at("2026-03-01T12:20:00Z", false).is_silent();
    world.ok(["status"]).says("since 2026-03-01T12:20:00Z: could not write the metrics");
    run_at("2026-03-01T12:59:00Z", false).is_silent();
    run_at("2026-03-01T13:00:00Z", false).says("could not write the metrics");
    run_at("2026-03-01T15:00:00Z", false).is_silent();
    run_at("2026-03-01T15:10:00Z", true).is_silent();
    run_at("2026-05-01T12:00:00Z", false).says("could not write the metrics");
    world.ok(["status"]).says("since 2026-05-01T12:00:00Z: could not write the metrics");
}

#[test]
fn without_a_file_the_ledger_tells_of_runs() {
    let world = World::new().cart(Cart::of("c1").email("a@example.com")).init();
    let text = world.ok(["metrics"]).stdout;
    assert!(!text.contains("mailonce_run_last"), "nothing has run:\n{text}");
    for (part, name) in [
        (r#"class="complaint""#, "mailonce_bounces_total"),
        (r#"origin="one-click""#, "mailonce_unsubscribes_total"),
        (r#"kind="campaign",reason="expired""#, "mailonce_messages_skipped_total"),
        (r#"outcome="in_doubt""#, "mailonce_attempts_total"),
        (r#"step="""#, "mailonce_recovered_orders_total"),
    ] {
        // A counter that is not there before its first event never shows it as an increase.
        says(&text, &format!("{name}{{{part}}} 0"));
    }
    world.ok(["detect"]);
    world.set_now("2026-03-01T12:01:00Z");
    world.ok(["detect"]);
    let text = world.ok(["metrics"]).stdout;
    for name in ["", "_success"] {
        says(&text, &format!("mailonce_run_last{name}_timestamp_seconds{{command=\"detect\"}} {}", NOON + 60));
    }
    assert!(!text.contains("run_last_exit_code"), "only a file knows it:\n{text}");
    world.set_now("2026-03-01T12:02:00Z");
    world.configure("source.path", "nowhere.jsonl");
    assert!(world.run(["detect"]).code > 1);
    let text = world.ok(["metrics"]).stdout;
    says(&text, &format!("mailonce_run_last_success_timestamp_seconds{{command=\"detect\"}} {}", NOON + 60));
}

#[test]
fn without_a_ledger_or_a_sound_configuration_the_run_is_told_all_the_same() {
    let (url, heard) = service("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    let world = World::new().cart(Cart::of("c1").email("a@example.com")).init();
    world.configure("metrics.file", "numbers.prom");
    world.configure("heartbeat.detect", url);
    world.ok(["detect"]);
    let fails = |minute: i64| {
        world.set_now(&format!("2026-03-01T12:0{minute}:00Z"));
        world.exits(78, ["detect"]);
        let text = numbers(&world);
        says(&text, r#"mailonce_run_last_exit_code{command="detect"} 78"#);
        says(&text, &format!("mailonce_run_last_timestamp_seconds{{command=\"detect\"}} {}", NOON + minute * 60));
        says(&text, &format!("mailonce_run_last_success_timestamp_seconds{{command=\"detect\"}} {NOON}"));
        assert!(text.contains("mailonce_build_info"), "{text}");
        text
    };
    world.configure("detect.idle", "60");
    says(&fails(1), r#"mailonce_messages_sent_total{kind="cart"} 1"#);
    world.configure("detect.idle", "60m");
    fs::rename(world.path("mailonce.db"), world.path("away.db")).unwrap();
    let text = fails(2);
    assert!(!text.contains("mailonce_messages"), "nothing is known of messages:\n{text}");
    let calls: Vec<String> = heard.try_iter().collect();
    assert_eq!(calls, ["/ping/uuid/start", "/ping/uuid/0", "/ping/uuid/78", "/ping/uuid/78"]);
}

#[test]
fn what_is_only_tried_out_is_no_run() {
    let (url, heard) = service("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    let world = World::new().cart(Cart::of("c1").email("a@example.com")).init();
    world.configure("metrics.file", "numbers.prom");
    world.configure("heartbeat.detect", url);
    world.ok(["detect", "--test-to", "me@shop.example"]);
    world.ok(["detect", "--dry-run"]);
    assert!(!world.path("numbers.prom").exists() && heard.try_recv().is_err(), "a test counted as a run");
}

#[test]
fn a_pipe_in_the_place_of_the_file_holds_no_run_up() {
    let world = World::new().cart(Cart::of("c1").email("a@example.com")).init();
    world.configure("metrics.file", "numbers.prom");
    let pipe = Command::new("mkfifo").arg(world.path("numbers.prom")).status().unwrap();
    assert!(pipe.success());
    world.ok(["detect"]).says("something else than a file is there");
    world.ok(["metrics"]);
    world.has([("sent", 1)]);
}

#[test]
fn a_run_that_fails_keeps_the_last_success() {
    let world = World::new().cart(Cart::of("c1").email("a@example.com")).init();
    world.configure("metrics.file", "numbers.prom");
    world.ok(["detect"]);
    world.set_now("2026-03-01T13:00:00Z");
    world.configure("source.path", "nowhere.jsonl");
    let code = world.run(["detect"]).code;
    assert!(code > 1);
    let text = numbers(&world);
    says(&text, &format!("mailonce_run_last_exit_code{{command=\"detect\"}} {code}"));
    says(&text, r#"mailonce_run_last_timestamp_seconds{command="detect"} 1772370000"#);
    says(&text, r#"mailonce_run_last_success_timestamp_seconds{command="detect"} 1772366400"#);
}

/// A monitoring service that answers each call with this; what was asked for.
fn service(answer: &'static str) -> (String, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/ping/uuid", listener.local_addr().unwrap());
    let (asked, heard) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut line = String::new();
            BufReader::new(&stream).read_line(&mut line).unwrap();
            let _ = asked.send(line.split_whitespace().nth(1).unwrap_or_default().to_owned());
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    (url, heard)
}

#[test]
fn a_run_calls_when_it_begins_and_how_it_ended() {
    let (url, heard) = service("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nOK");
    let server = server();
    let world = world(&server);
    world.configure("heartbeat.detect", url);
    world.exits(1, ["detect"]);
    assert_eq!(heard.recv().unwrap(), "/ping/uuid/start");
    assert_eq!(heard.recv().unwrap(), "/ping/uuid/1");
    world.run(["run-campaigns"]);
    world.run(["detect", "--dry-run"]);
    assert!(heard.try_recv().is_err(), "a command without an address of its own called");
}

#[test]
fn a_run_that_finds_another_one_under_way_has_not_begun() {
    let (url, heard) = service("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    let world = World::new().cart(Cart::of("c1").email("a@example.com")).init();
    world.configure("heartbeat.detect", url);
    let held = fs::File::open(world.path("mailonce.db.lock")).unwrap();
    held.lock().unwrap();
    world.exits(75, ["detect"]);
    assert!(heard.try_recv().is_err(), "a start that no end follows looks like a run that died");
    drop(held);
    world.ok(["detect"]);
    assert_eq!(heard.try_iter().collect::<Vec<_>>(), ["/ping/uuid/start", "/ping/uuid/0"]);
}

#[test]
fn an_address_to_call_can_lie_in_a_file_that_no_one_else_may_read() {
    let (url, heard) = service("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    let world = World::new().cart(Cart::of("c1").email("a@example.com")).init();
    world.configure("heartbeat.detect_file", "detect.url");
    let ran = world.exits(78, ["detect"]);
    ran.says("heartbeat.detect_file");
    fs::write(world.path("detect.url"), format!("{url}\n")).unwrap();
    fs::set_permissions(world.path("detect.url"), fs::Permissions::from_mode(0o644)).unwrap();
    world.exits(78, ["detect"]).says("can be read by others");
    fs::set_permissions(world.path("detect.url"), fs::Permissions::from_mode(0o600)).unwrap();
    world.ok(["detect"]);
    assert_eq!(heard.try_iter().collect::<Vec<_>>(), ["/ping/uuid/start", "/ping/uuid/0"]);
    world.configure("heartbeat.detect", url);
    world.exits(78, ["detect"]).says("only one of them can be");
    world.configure("heartbeat", toml::Table::new());
    fs::write(world.path("detect.url"), "no address").unwrap();
    world.configure("heartbeat.detect_file", "detect.url");
    let ran = world.exits(78, ["detect"]);
    assert!(ran.says("is no web address").output().contains("detect_file"), "{ran}");
}

#[test]
fn a_service_that_refuses_or_is_down_changes_nothing() {
    let (refusing, _heard) = service("HTTP/1.1 500 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    let down = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}/ping/a-secret", listener.local_addr().unwrap())
    };
    for (url, why) in [(refusing, "it answered 500"), (down, "refused")] {
        let world = World::new().cart(Cart::of("c1").email("a@example.com")).init();
        world.configure("heartbeat.detect", url.as_str());
        world.ok(["detect"]).is_silent();
        world.has([("sent", 1)]);
        let ran = world.ok(["detect", "-v"]);
        ran.says("the monitoring was not told").says(why);
        assert!(!ran.output().contains("secret") && !ran.output().contains("uuid"), "the address is a secret: {ran}");
    }
}

#[test]
fn the_alerts_are_rules_of_prometheus_about_numbers_that_there_are() {
    let rules = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/monitoring/alerts.yml");
    let server = server();
    let world = world(&server);
    world.exits(1, ["detect"]);
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/monitoring.md")).unwrap();
    let documented = |name: &str| page.contains(&format!("| `{name}` |"));
    for name in numbers(&world).lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()) {
        assert!(documented(name), "{name} is not on the page");
    }
    let text = fs::read_to_string(rules).unwrap();
    let names = text.split(|c: char| !c.is_ascii_lowercase() && c != '_').filter(|word| word.starts_with("mailonce_"));
    names.for_each(|name| assert!(documented(name), "{name} is not on the page"));
    let Some(promtool) = installed("promtool") else { return println!("promtool is not installed: left out") };
    let checked = Command::new(promtool).args(["check", "rules", rules]).output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&[checked.stdout, checked.stderr].concat()));
}

/// The instant that a [`World`] begins at.
const NOON: i64 = 1_772_366_400;

#[test]
fn the_alerts_fire_when_they_should() {
    let Some(promtool) = installed("promtool") else { return println!("promtool is not installed: left out") };
    let world = World::new();
    let tests = format!(
        r#"
rule_files: [{}/examples/monitoring/alerts.yml]
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:
      - {{series: 'mailonce_oldest_due_timestamp_seconds{{kind="cart"}}', values: '0x120'}}
      - {{series: 'mailonce_bounces_total{{class="complaint"}}', values: '0x60 4x60'}}
      - {{series: 'mailonce_messages_sent_total{{kind="cart"}}', values: '0x60 1000x60'}}
      - {{series: 'mailonce_messages_sent_total{{kind="campaign"}}', values: '0x60 1000x60'}}
      - {{series: 'mailonce_run_last_exit_code{{command="detect"}}', values: '1 0x14 1 0x14 1 0x14 1 0x14 1 0x14 1 0x14 1 0x14 1 0x14'}}
      - {{series: 'mailonce_run_last_exit_code{{command="run-campaigns"}}', values: '0x29 1 0x90'}}
    alert_rule_test:
      - eval_time: 75m
        alertname: MailonceNeedsAPerson
        exp_alerts:
          - exp_labels: {{command: detect, severity: ticket}}
            exp_annotations:
              summary: "For an hour runs of `mailonce detect` have needed a person: `mailonce status` says why"
      - {{eval_time: 60m, alertname: MailonceIsLate, exp_alerts: []}}
      - {{eval_time: 60m, alertname: MailonceComplaints, exp_alerts: []}}
      - eval_time: 62m
        alertname: MailonceIsLate
        exp_alerts:
          - exp_labels: {{kind: cart, severity: ticket}}
            exp_annotations:
              summary: "A message has been due for more than an hour: `mailonce status` says what it waits for"
      - eval_time: 70m
        alertname: MailonceComplaints
        exp_alerts:
          - exp_labels: {{severity: ticket}}
            exp_annotations:
              summary: "More than one in a thousand complained today: `mailonce rates` says about what"
"#,
        env!("CARGO_MANIFEST_DIR")
    );
    fs::write(world.path("tests.yml"), tests).unwrap();
    let tested = Command::new(promtool).args(["test", "rules"]).arg(world.path("tests.yml")).output().unwrap();
    assert!(tested.status.success(), "{}", String::from_utf8_lossy(&[tested.stdout, tested.stderr].concat()));
}
