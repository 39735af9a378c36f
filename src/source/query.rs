//! What holds for a configured query on whatever database: its parameters, and what is said of one that cannot be used.

use crate::failure::Failure;

/// The parameters of each query. Times come as texts, and in Unix seconds for shops that keep those.
pub(super) const OF_CARTS: [&str; 4] = [":idle_before", ":not_before", ":idle_before_unix", ":not_before_unix"];
pub(super) const OF_CART: [&str; 1] = [":cart_id"];
pub(super) const OF_ORDERS: [&str; 2] = [":since", ":since_unix"];
pub(super) const OF_OPT_OUTS: [&str; 2] = OF_ORDERS;
pub(super) const OF_ORDERED: [&str; 5] = [":cart_id", ":user_id", ":email", ":since", ":since_unix"];

/// What the key of the query for the shop's own opt-outs is called.
pub(super) const OPT_OUTS_KEY: &str = "unsubscribe.source";

/// Before and after every time that a shop keeps, in Unix seconds: the years 0 and 9999.
pub(super) const EARLIEST_UNIX: i64 = -62_167_219_200;
pub(super) const LATEST_UNIX: i64 = 253_402_300_799;

pub(super) fn misses_cart_id(key: &str) -> Failure {
    let next = "let it select the rows of one cart: `… WHERE cart_id = :cart_id`";
    Failure::config(format!("the query `{key}` does not use :cart_id"), next)
}

pub(super) fn unknown_parameter(key: &str, parameter: &str, known: &[&str]) -> Failure {
    let next = match known {
        [] => "write it without parameters".to_owned(),
        known => format!("use only {}", known.join(", ")),
    };
    Failure::config(format!("the query `{key}` has the parameter {parameter}, which is not known there"), next)
}

pub(super) fn wrong_columns(key: &str, name: &str, what: &str) -> Failure {
    Failure::config(
        format!("the query `{key}` on {name} {what}"),
        "name each column as docs/guide.md shows, for example `SELECT id AS cart_id, …`; write NULL AS for what is unknown",
    )
}
