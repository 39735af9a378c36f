//! Verdicts and reasons in a sentence, and what would change them.

use super::known::Known;
use crate::command::detect::WeighedCart;
use crate::domain::instant;
use crate::domain::state::{Origin, Reason};
use crate::ledger::Suppression;
use crate::settings::Settings;

/// Why a cart is left out, as it follows on `no mail, because`.
pub(super) fn because(settings: &Settings, known: &Known, weighed: &WeighedCart) -> String {
    let WeighedCart { cart, verdict, detail, idle_at, .. } = weighed;
    let touched_at = instant::text(cart.updated_at);
    let until = weighed.window_ends_at.map_or_else(String::new, |at| format!(", until {}", instant::text(at)));
    let beside = if detail.is_empty() { String::new() } else { format!(" ({detail})") };
    match verdict.as_str() {
        "not idle yet" => {
            let due = idle_at
                .map_or_else(String::new, |at| format!("; it is left alone long enough at {}", instant::text(at)));
            format!("it is not idle yet{beside}{due}")
        }
        "older than max_age" => format!("it is too old{beside}"),
        "touched before since" if known.held_back_at.is_some_and(|at| cart.updated_at < at) => {
            format!(
                "it was touched {touched_at}, before an old copy of the ledger was put back: it may have been written about already"
            )
        }
        "touched before since" if settings.detect.since.is_none() => {
            let born_at = instant::text(known.ledger_born_at);
            format!("it was touched {touched_at}, before the ledger was made ({born_at})")
        }
        "touched before since" => format!("it was touched {touched_at}, before detect.since"),
        "empty" if detail == "gone" => "the shop does not show it any more".to_owned(),
        "empty" => "nothing is in it".to_owned(),
        "ordered" => match cart.ordered_at {
            Some(at) => format!("it was ordered {}", instant::text(at)),
            None => "it was ordered, or its address ordered since it was begun".to_owned(),
        },
        "filtered" => format!("it is filtered: {detail}"),
        "no consent" if detail == "refused" => "its shopper has refused consent".to_owned(),
        "no consent" => "it has no consent (none is recorded)".to_owned(),
        "email already sent" => {
            format!("its shopper was written to about these contents {detail}, within detect.window{until}")
        }
        "processing already in progress" => {
            "a message about it is planned or under way, or a cart with the same contents stands for it".to_owned()
        }
        "in doubt" => "a message about these contents is in doubt: it may have arrived".to_owned(),
        "decided within the window" => {
            format!("a message about these contents was decided against ({detail}), within detect.window{until}")
        }
        "not touched since it was skipped" => {
            format!("a message about it was skipped ({detail}), and it was not touched since")
        }
        "max_per_cart reached" => {
            format!("its shopper was written to about it as often as detect.max_per_cart allows{beside}")
        }
        "suppressed" if detail == "forgotten" => "its owner was forgotten".to_owned(),
        "suppressed" => {
            known.suppression_of_carts().map_or_else(|| "its address is on the suppression list".to_owned(), suppressed)
        }
        "busy with another cart" => format!("its shopper is at another cart just now{beside}"),
        "superseded" => format!("another cart of its shopper was touched later{beside}"),
        "waiting for the next step" => format!("its next step is not due yet{beside}"),
        "every step decided" => "every step of its flow was sent, or passed over".to_owned(),
        "held out" => "its address is held out, so that what comes without mail is known".to_owned(),
        "no coupon code left" => "the pool of its step has no coupon code left".to_owned(),
        "quiet after an order" => "its shopper ordered something within caps.quiet_after_order".to_owned(),
        "more than max_per_run" => {
            "more messages than detect.max_per_run would be planned at once, so that none is".to_owned()
        }
        other => format!("{other}{beside}"),
    }
}

/// `its address is on the suppression list since …`.
pub(super) fn suppressed(row: &Suppression) -> String {
    let list = if row.list.is_empty() { String::new() } else { format!(", for the list {}", row.list) };
    format!("its address is on the suppression list since {}{list} ({}; {})", row.added_at, row.reason, row.origin)
}

/// Why a message was skipped, in a clause.
pub(super) fn skipped(reason: Reason) -> &'static str {
    match reason {
        Reason::Ordered => "ordered: the cart or its address had an order by then",
        Reason::Changed => {
            "changed: the cart was touched, holds something else, or has another owner or no consent any more"
        }
        Reason::Empty => "empty: nothing was in the cart, or the shop had not shown it for an hour",
        Reason::Superseded => "superseded: another cart of its shopper was touched later",
        Reason::Suppressed => "suppressed: its address was on the suppression list",
        Reason::Expired => "expired: its time had passed before it could be sent",
        Reason::Cancelled => "cancelled: its campaign was cancelled, or its step taken out of the configuration",
        Reason::HeldBack => "held_back: an old copy of the ledger was put back, and it may have gone out already",
        Reason::Capped => "capped: as many as a cap allows had gone to its address until it was too late",
        Reason::Holdout => "holdout: its address is held out",
    }
}

/// What would change what a rule says, one line each: a command, or a key with what it means.
pub(super) fn what_would_change(settings: &Settings, known: &Known, weighed: &WeighedCart, shown: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let failing = weighed.findings.iter().filter(|finding| !finding.passes);
    for finding in failing {
        let line = match finding.rule {
            "idle" => match weighed.idle_at {
                Some(at) if weighed.verdict == "not idle yet" => {
                    format!(
                        "nothing to do: from {} on it is left alone long enough, unless it is touched again",
                        instant::text(at)
                    )
                }
                _ => continue,
            },
            "window" | "older_system" => match weighed.window_ends_at {
                Some(at) => format!(
                    "nothing to do: other contents are written about before that, these from {} on, if the cart is young enough then",
                    instant::text(at)
                ),
                None => continue,
            },
            "busy" | "step" | "caps" | "send_window" | "quiet_after_order" => continue,
            "max_age" => "a longer max_age in [detect] would reach it, and every other cart of that age".to_owned(),
            "since" if known.held_back_at.is_some_and(|at| weighed.cart.updated_at < at) => {
                "nothing brings it back but a touch by its shopper: it may have been written about already".to_owned()
            }
            "since" => {
                "an earlier since in [detect] would reach it, and every other cart touched after that".to_owned()
            }
            "consent" if weighed.cart.consent == Some(false) => {
                "its shopper said no: no key of mailonce writes to them about a cart".to_owned()
            }
            "consent" => {
                "consent = \"assumed\" in [detect] would write to it, and to all others of whom nothing is recorded; \
                          whether that may be is a question of law, not of mailonce"
                    .to_owned()
            }
            "min_value" | "max_value" => {
                format!("{} in [detect] decides that", finding.key.unwrap_or_default().replace("detect.", ""))
            }
            "goods" => "exclude_sku and exclude_category in [detect] decide that".to_owned(),
            "max_per_cart" => "a larger max_per_cart in [detect] would allow another".to_owned(),
            "holdout" => {
                "it is so for as long as [holdout] has this percent and salt; another salt holds others out".to_owned()
            }
            "coupon" => coupon_import(settings),
            "max_per_run" => {
                "look at `mailonce detect --dry-run`; if all of them are right, `mailonce detect --allow N` once"
                    .to_owned()
            }
            "suppression" | "opt_outs" => {
                lines.extend(known.suppression_of_carts().map(|row| off_the_list(row, shown)));
                continue;
            }
            _ => continue,
        };
        lines.push(line);
    }
    if weighed.verdict == "in doubt" {
        lines.push("`mailonce resolve` lists it, and settles it by the mail server's log or by hand".to_owned());
    }
    lines
}

fn coupon_import(settings: &Settings) -> String {
    let pool = settings.detect.steps.iter().find_map(|step| step.step.coupon.as_deref()).unwrap_or("POOL");
    format!("more codes: `mailonce coupon import {pool} FILE`")
}

/// How an address comes off the list, and what to know before.
pub(super) fn off_the_list(row: &Suppression, shown: &str) -> String {
    let is_a_wish = Origin::of_word(&row.origin).is_some_and(Origin::is_a_wish);
    match is_a_wish {
        true => format!(
            "they asked for no more mail: only a word of theirs takes that back, and then `mailonce suppress remove {shown} --reason \"…\"`"
        ),
        false => format!("to write to it again: `mailonce suppress remove {shown}`"),
    }
}

/// An argument as a shell takes it; `None` where it cannot be typed.
pub(super) fn argument(text: &str) -> Option<String> {
    if text.chars().any(super::prose::is_unseen) || text.is_empty() {
        return None;
    }
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._+=:@%-".contains(c);
    let quoted = match text.chars().all(is_plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    };
    Some(if text.starts_with('-') { format!("-- {quoted}") } else { quoted })
}
