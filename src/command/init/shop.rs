//! What `init --shop` writes and says besides.

use std::fmt::Write;
use std::path::Path;

use super::STARTER;
use crate::domain::engine::Engine;
use crate::failure::Failure;
use crate::settings::{Settings, SourceKind};
use crate::shops::{Shop, Times};

/// The file beside the configuration that holds the password of the shop's database.
pub(super) const PASSWORD_FILE: &str = "shop.password";

/// The starter configuration, with the table `[source]` of one kind of shop.
pub(super) fn starter(shop: &Shop) -> String {
    let (before, rest) = STARTER.split_once("[source]").unwrap_or((STARTER, ""));
    let after = rest.split_once("\n[mail]\n").map_or("", |(_, after)| after);
    format!("{before}{}\n[mail]\n{after}", source(shop))
}

/// The table `[source]`: the keys that this shop has, and no others.
fn source(shop: &Shop) -> String {
    let mut table =
        String::from("[source]                                    # where carts and orders are read; never written\n");
    let mut line = |key: &str, comment: &str| {
        let _ = writeln!(table, "{key:<43} # {comment}");
    };
    let engine = shop.engines[0];
    line(&format!("shop = \"{}\"", shop.name), shop.title);
    if shop.engines.len() > 1 {
        let words: Vec<&str> = shop.engines.iter().map(|engine| engine.word()).collect();
        line(&format!("kind = \"{}\"", engine.word()), &words.join(" | "));
    }
    let url = format!("url = \"{}://mailonce@127.0.0.1/{}\"", engine.word(), shop.database);
    line(&url, "the user, the host, and the name of the database");
    line(
        "# socket = \"/run/mysqld/mysqld.sock\"",
        match engine {
            Engine::MySql => "in place of the host: a socket of this machine",
            Engine::Postgres => "in place of the host: the folder of a socket, such as \"/run/postgresql\"",
        },
    );
    line(
        &format!("password_file = \"{PASSWORD_FILE}\""),
        "or password_env = \"SHOP_PASSWORD\"; the file must have mode 0600",
    );
    line("# tls = \"verify\"", "verify | require | none; none by default on this machine, else verify");
    line("# ca_file = \"shop-ca.pem\"", "a certificate authority of your own");
    line("# timeout = \"30s\"", "for each query");
    if let Times::Wall(place) = shop.times {
        line("timezone = \"UTC\"", &format!("the zone of the shop's clock: {place}"));
    }
    if let Some(prefix) = shop.table_prefix {
        line(&format!("# table_prefix = \"{prefix}\""), "how the tables' names begin");
    }
    if let Some(stores) = shop.stores {
        line("# stores = [1]", &format!("only carts of these {stores}; default: all"));
    }
    if shop.has_language {
        line("# language = \"en_US\"", "for the names of goods, where the shopper's own is not known");
    }
    match shop.asks_base_url {
        true => line("base_url = \"https://shop.example\"", "the storefront: the database does not have its address"),
        false => line("# base_url = \"https://shop.example\"", "default: the address in the database"),
    }
    line(
        "# recovery_url = \"https://shop.example/…\"",
        &match shop.link {
            Some(link) => format!("a page of yours that takes up the cart {{cart_id}}; default: {link}"),
            None => "in place of the shop's own link; {cart_id} is filled in".to_owned(),
        },
    );
    line(&format!("# html_names = {}", shop.html_names), "whether names are kept as HTML: `Salt &amp; Pepper`");
    table.push_str("# carts, cart, ordered, orders = '''SELECT …'''       # in place of the preset's queries, which `mailonce source queries` prints\n");
    table
}

/// What the database must grant so that the configured user can read the shop.
///
/// # Errors
/// Exit 78 when the configuration that is there is not of this shop.
pub(super) fn grants(settings: &Settings, shop: &Shop, config: &Path) -> Result<Vec<String>, Failure> {
    match (&settings.source.preset, &settings.source.kind) {
        (Some(preset), SourceKind::Server(server)) if preset.shop.name == shop.name => {
            Ok(preset.grants(server.engine, &server.database, &server.user, server.is_on_this_machine()))
        }
        _ => Err(Failure::config(
            format!(
                "{} is there already, and source.shop in it is not \"{}\"; nothing was written",
                config.display(),
                shop.name
            ),
            "name another file with --config, or leave --shop out",
        )),
    }
}
