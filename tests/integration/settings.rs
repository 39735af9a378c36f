//! The configuration file: each wrong key is named, and what to do about it.

use std::os::unix::fs::PermissionsExt;

use toml::Value;

use crate::support::{Cart, World};

/// `status` with this configuration must end with 78 and say all of these words, ` next:` among them.
#[track_caller]
fn refused(world: &World, words: &[&str]) {
    let ran = world.exits(78, ["status"]);
    assert!(ran.stderr.starts_with("error: ") && ran.stderr.contains("\n next: "), "{ran}");
    assert_eq!(ran.stdout, "", "{ran}");
    for word in words {
        assert!(ran.stderr.contains(word), "no word of {word:?} in\n{ran}");
    }
}

#[test]
fn every_wrong_value_is_named_by_its_key() {
    let wrong: [(&str, Value); 28] = [
        ("ledger", "".into()),
        ("shop.name", "a\nb".into()),
        ("shop.url", "shop.example".into()),
        ("shop.timezone", "Berlin".into()),
        ("source.kind", "oracle".into()),
        ("source.path", " ".into()),
        ("source.timezone", "CEST?".into()),
        ("mail.from", "nobody".into()),
        ("mail.from", "A\r\nBcc: b@c.example <a@b.example>".into()),
        ("mail.reply_to", "nobody".into()),
        ("mail.unsubscribe", "call me".into()),
        ("mail.envelope", "bounce@shop.example".into()),
        ("mail.transport", "pigeon".into()),
        ("mail.file.dir", "".into()),
        ("mail.limits.per_second", 0.into()),
        ("mail.limits.per_hour", (-1).into()),
        ("detect.idle", 60.into()),
        ("detect.idle", "60".into()),
        ("detect.max_age", "30m".into()),
        ("detect.window", "1s".into()),
        ("detect.retry_after", "0s".into()),
        ("detect.since", "yesterday".into()),
        ("detect.consent", "yes".into()),
        ("detect.max_per_cart", 0.into()),
        ("detect.max_per_run", 0.into()),
        ("detect.subject", "".into()),
        ("detect.template", "".into()),
        ("campaigns.min_gap", "soon".into()),
    ];
    for (key, value) in wrong {
        let world = World::new().set(key, value);
        let (_, last) = key.rsplit_once('.').unwrap_or(("", key));
        refused(&world, &["mailonce.toml", last]);
    }
}

#[test]
fn every_wrong_value_of_a_server_is_named_by_its_key() {
    let wrong: [(&str, Value); 14] = [
        ("host", "a b".into()),
        ("port", 0.into()),
        ("port", 70_000.into()),
        ("tls", "ssl".into()),
        ("tls", "none".into()),
        ("connections", 0.into()),
        ("connections", 65.into()),
        ("connect_timeout", "0s".into()),
        ("timeout", "soon".into()),
        ("dot_timeout", "0s".into()),
        ("hello", "a b".into()),
        ("username", "hello".into()),
        ("password_file", "smtp.password".into()),
        ("password_env", "SMTP_PASSWORD".into()),
    ];
    for (key, value) in wrong {
        let world = World::new().set("mail.transport", "smtp").set("mail.smtp.host", "smtp.shop.example");
        let world = world.set(&format!("mail.smtp.{key}"), value);
        let named = if key.starts_with("password") { "username" } else { key };
        refused(&world, &["mailonce.toml", named]);
    }
    refused(&World::new().set("mail.transport", "smtp"), &["mail.smtp.host"]);
    let world = World::new().set("mail.transport", "smtp").set("mail.smtp.host", "smtp.shop.example");
    let world = world.set("mail.smtp.tls", "none").set("mail.smtp.allow_plain_text", true).init();
    world.exits(78, ["detect"]).says("rehearsal ledger");
}

#[test]
fn a_password_must_be_private_there_and_not_empty_and_is_never_shown() {
    let world = World::new().set("mail.transport", "smtp").set("mail.smtp.host", "smtp.shop.example");
    let world = world.set("mail.smtp.username", "hello").set("mail.smtp.password_file", "pw");
    let write = |text: &str, mode| {
        let _ = std::fs::remove_file(world.path("pw"));
        std::fs::write(world.path("pw"), text).unwrap();
        std::fs::set_permissions(world.path("pw"), PermissionsExt::from_mode(mode)).unwrap();
    };
    write("hunter2", 0o600);
    world.ok(["init", "--rehearsal"]);
    world.ok(["status"]);
    write("hunter2", 0o640);
    refused(&world, &["password_file", "mode 0640", "chmod 600"]);
    write("\n", 0o600);
    refused(&world, &["empty"]);
    std::fs::remove_file(world.path("pw")).unwrap();
    refused(&world, &["password_file", "No such file"]);
    world.configure("mail.smtp.password_env", "SMTP_PASSWORD");
    refused(&world, &["only one"]);
    let world = world.unset("mail.smtp.password_file");
    world.exits(78, ["detect"]).says("SMTP_PASSWORD");
    // Only the crontab sets it, and whoever asks how things stand needs none.
    world.ok(["status"]);
    let world = world.env("SMTP_PASSWORD", "hunter2");
    world.ok(["status"]);
    world.configure("mail.smtp.password", "hunter2");
    let ran = world.exits(78, ["status"]);
    assert!(ran.stderr.contains("no key `password`; the nearest is `password_"), "{ran}");
    assert!(!ran.output().contains("hunter2"), "the password is shown:\n{ran}");
}

#[test]
fn an_unknown_key_is_answered_with_the_nearest_one() {
    for (key, nearest) in [
        ("ledgr", "ledger"),
        ("detct.idle", "detect"),
        ("shop.nmae", "name"),
        ("source.pth", "path"),
        ("mail.form", "from"),
        ("mail.smtp.conections", "connections"),
        ("mail.limits.per_day", "per_"),
        ("detect.max_per_carts", "max_per_cart"),
    ] {
        let world = World::new().set("mail.smtp.host", "localhost").set(key, "x");
        refused(&world, &["mailonce.toml:", "there is no key", &format!("the nearest is `{nearest}")]);
    }
}

#[test]
fn the_address_of_a_server_is_checked() {
    let at_server = || {
        let world = World::new().unset("source.path").set("source.kind", "mysql");
        world.set("source.url", "mysql://reader@db.shop.example/shop")
    };
    refused(&at_server().unset("source.url"), &["source.url is missing", "mysql://USER@HOST/DATABASE"]);
    let secret = at_server().set("source.url", "mysql://reader:secret@db.shop.example/shop");
    let ran = secret.exits(78, ["status"]);
    ran.says("source.url: holds a password").says("source.password_file");
    assert!(!ran.output().contains("secret"), "{ran}");
    refused(&at_server().set("source.url", "postgres://reader@h/shop"), &["source.url: does not begin with mysql://"]);
    refused(&at_server().set("source.path", "shop.db"), &["source.path: a server has no path"]);
    refused(&at_server().set("source.tls", "prefer"), &["tls"]);
    refused(&at_server().set("source.timeout", "0s"), &["source.timeout: must be at least 1s"]);
    let nowhere = at_server().set("source.password_env", "NOWHERE");
    nowhere.exits(78, ["detect"]).says("source.password_env").says("no variable NOWHERE");
    let on_socket = at_server().set("source.socket", "/run/mysqld/mysqld.sock").set("source.tls", "verify");
    refused(&on_socket, &["source.tls: a socket has no TLS"]);
    let world = at_server().set("source.password_file", "password");
    std::fs::write(world.path("password"), "secret").unwrap();
    std::fs::set_permissions(world.path("password"), std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    refused(&world, &["source.password_file", "can be read by others (mode 0644)", "chmod 600"]);
    for key in ["url", "socket", "password_file", "password_env", "tls", "ca_file", "timeout"] {
        let value = match key {
            "tls" => "none",
            "timeout" => "30s",
            _ => "x",
        };
        let world = World::new().set(&format!("source.{key}"), value);
        refused(&world, &[&format!("source.{key}: only a server has that")]);
    }
    let world = World::new().source(crate::support::Kind::Csv).set("source.carts", "SELECT 1");
    refused(&world, &["source.carts: only a database has queries"]);
}

#[test]
fn every_required_key_is_missed_by_name() {
    for key in ["ledger", "shop.name", "shop.url", "source.kind", "source.path", "mail.from"] {
        refused(&World::new().unset(key), &[&format!("{key} is missing")]);
    }
    refused(&World::new().unset("mail"), &["the table [mail] is missing"]);
}

#[test]
fn a_file_that_is_none_is_named() {
    let world = World::new().init();
    std::fs::create_dir(world.path("etc")).unwrap();
    std::fs::write(world.path("latin1.toml"), b"ledger = \"caf\xe9.db\"").unwrap();
    std::fs::write(world.path("broken.toml"), "ledger = \"x\"\n[shop\n").unwrap();
    for (file, words) in [
        ("nowhere.toml", "there is no configuration file nowhere.toml"),
        ("etc", "Is a directory"),
        ("latin1.toml", "save it as UTF-8"),
        ("broken.toml", "broken.toml:2: [shop: "),
    ] {
        let ran = world.exits(78, ["status", "--config", file]);
        assert!(ran.stderr.contains(words) && ran.stderr.contains("\n next: "), "{ran}");
    }
    std::fs::remove_file(world.path("mailonce.toml")).unwrap();
    // There may be a /etc/mailonce on this machine: only what belongs to this test is looked at.
    if !std::path::Path::new("/etc/mailonce/mailonce.toml").exists() {
        world.exits(78, ["status"]).says("make one with `mailonce init`");
    }
}

#[test]
fn a_certificate_authority_that_is_not_there_stops_the_run_and_keeps_the_message() {
    let world = World::new()
        .set("mail.transport", "smtp")
        .set("mail.smtp.host", "localhost")
        .set("mail.smtp.ca_file", "no.pem");
    let world = world.cart(Cart::of("c1")).init();
    world.exits(78, ["detect"]).says("no.pem");
    assert!(world.messages().iter().all(|message| message.state == "planned"));
}

#[test]
fn every_wrong_value_of_a_preset_is_named_by_its_key() {
    let of = |shop: &str| {
        let url =
            if shop == "odoo" || shop == "saleor" { "postgres://m@localhost/shop" } else { "mysql://m@localhost/shop" };
        World::new().unset("source.kind").unset("source.path").set("source.shop", shop).set("source.url", url)
    };
    refused(&of("magneto"), &["source.shop", "the nearest is \"magento2\"", "write one of magento2, woocommerce"]);
    refused(
        &of("magento2").set("source.kind", "postgres"),
        &["source.kind", "Magento 2.4 keeps its carts in \"mysql\""],
    );
    refused(&of("magento2").set("source.kind", "sqlite"), &["source.kind"]);
    refused(&of("magento2").set("source.timezone", "Europe/Berlin"), &["source.timezone", "in UTC"]);
    refused(&of("prestashop8"), &["source.timezone: is missing", "PS_TIMEZONE"]);
    refused(&of("saleor"), &["source.base_url: is missing", "address of the storefront"]);
    refused(&of("magento2").set("source.table_prefix", "m2_; DROP TABLE quote"), &["source.table_prefix"]);
    refused(&of("odoo").set("source.table_prefix", "o_"), &["source.table_prefix", "no use for it"]);
    refused(&of("magento2").set("source.stores", Value::Array(vec![(-1).into()])), &["stores"]);
    refused(&of("magento2").set("source.stores", Value::Array(Vec::new())), &["source.stores: names no store"]);
    refused(&of("magento2").set("source.language", "en_US"), &["source.language"]);
    refused(&of("magento2").set("source.base_url", "shop.example"), &["source.base_url", "no web address"]);
    refused(&of("magento2").set("source.recovery_url", "https://shop.example/"), &["source.recovery_url", "{cart_id}"]);
    refused(&of("magento2").set("source.carts", "SELECT 1"), &["source.cart: is missing", "mailonce source queries"]);
    refused(&World::new().set("source.stores", Value::Array(vec![1.into()])), &["source.stores: only a preset"]);
}
