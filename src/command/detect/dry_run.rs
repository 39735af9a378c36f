//! `detect --dry-run`: the same look and the same verdicts, on a ledger opened read-only.

use anyhow::Result;
use serde::Serialize;

use super::super::holds::Hold;
use super::due::hold;
use super::last_look::{LastLook, QUIET, last_look};
use super::planning::{Look, NO_ADDRESS, WAITS};
use super::{Context, plan_rules};
use crate::cli;
use crate::domain::cart::short_hash;
use crate::domain::state::Reason;
use crate::domain::{instant, list};
use crate::failure::Exit;
use crate::ledger::Records;
use crate::letters::cart::CartLetters;
use crate::output::count;
use crate::settings::Settings;
use crate::source;

/// In prose, so many carts of one reason are listed; JSON lists all.
const MOST_LISTED: u64 = 1000;

/// For the value of a cart with a line that has no price.
const NO_TOTAL: &str = "without a total";

#[derive(Debug, Serialize)]
struct WouldSend {
    cart_id: String,
    identity: String,
    recipient: String,
    cart_hash: String,
    value: String,
    /// Already planned by an earlier run, and due.
    planned_before: bool,
    /// It waits until then: for the send window, or a cap.
    not_before: Option<String>,
}

#[derive(Debug, Serialize)]
struct LeftOut {
    cart_id: String,
    cart_hash: String,
    reason: String,
    detail: String,
}

#[derive(Debug, Serialize)]
struct DryRun {
    would_send: Vec<WouldSend>,
    left_out: Vec<LeftOut>,
    bad_rows: Vec<String>,
    /// Anonymous shoppers' carts.
    without_address: u64,
    carts_seen: u64,
    #[serde(skip)]
    to_plan: u64,
    /// More than `max_per_run` would be planned: a real run would plan none.
    over_max_per_run: bool,
}

pub(super) fn run(context: &Context<'_>, settings: &Settings, args: &cli::Detect) -> Result<Exit> {
    let now = context.clock.now();
    CartLetters::load_and_try(settings, now)?;
    let ledger = Records::open(settings.place())?;
    let mut source = source::open(&settings.source)?;
    let look = Look { settings, now, output: context.output, record_left_out: true, asked: None, stop: None };
    let found = look.read(source.as_mut(), &ledger)?;
    let rules = plan_rules(settings, &ledger)?;
    let decided = look.decide(source.as_mut(), &ledger, &rules, u64::MAX)?;
    let decided = decided.unwrap_or_default();
    let mut report = DryRun {
        would_send: Vec::new(),
        left_out: Vec::new(),
        without_address: found.left_out.get(NO_ADDRESS).copied().unwrap_or(0),
        bad_rows: found.notices.into_iter().map(|notice| notice.line).collect(),
        carts_seen: found.carts_seen,
        to_plan: decided.to_plan,
        over_max_per_run: decided.to_plan > settings.detect.max_per_run.max(args.allow.unwrap_or(0)),
    };
    for due in ledger.due_carts(now, None, usize::MAX >> 1)? {
        let suppressed = ledger.is_suppressed(&due.folded_address, list::CARTS)?;
        let look = if suppressed {
            LastLook::Skip(Reason::Suppressed)
        } else {
            last_look(source.as_mut(), settings, &due, now)?
        };
        let (reason, detail) = match look {
            LastLook::Same(cart) => {
                let not_before = match hold(settings, &ledger, &due, &cart, now)? {
                    Hold::Free => None,
                    Hold::Until { at, .. } => Some(instant::text(at)),
                    Hold::Never(reason) => {
                        let detail = "the message planned earlier would be skipped".to_owned();
                        let reason = reason.word().to_owned();
                        report.left_out.push(LeftOut {
                            cart_id: due.cart_id,
                            cart_hash: due.cart_hash,
                            reason,
                            detail,
                        });
                        continue;
                    }
                };
                let value = cart.value().map_or_else(|| NO_TOTAL.into(), |value| value.display());
                report.would_send.push(WouldSend {
                    cart_id: due.cart_id,
                    identity: due.identity,
                    recipient: due.recipient,
                    cart_hash: due.cart_hash,
                    value,
                    planned_before: true,
                    not_before,
                });
                continue;
            }
            LastLook::Skip(reason) => {
                (reason.word().to_owned(), "the message planned earlier would be skipped".to_owned())
            }
            LastLook::Missing => {
                ("missing".to_owned(), "the shop does not show the cart just now; tried again".to_owned())
            }
            LastLook::Unreadable(problem) => ("bad row".to_owned(), problem),
            LastLook::Touched(touched) => {
                (WAITS.to_owned(), format!("touched again, due {}", instant::text(touched.not_before)))
            }
            LastLook::Quiet => (QUIET.to_owned(), String::new()),
            LastLook::Early(at) => (WAITS.to_owned(), format!("due {}", instant::text(at))),
        };
        report.left_out.push(LeftOut { cart_id: due.cart_id, cart_hash: due.cart_hash, reason, detail });
    }
    let prose = !context.output.json;
    let mut listed: std::collections::BTreeMap<String, u64> = std::collections::BTreeMap::new();
    ledger.each_candidate(|cart, verdict, detail| {
        let place = listed.entry(verdict.to_owned()).or_default();
        *place += 1;
        if prose && *place > MOST_LISTED {
            return;
        }
        if verdict == "plan" {
            let leaves_at = rules.opens(cart, now);
            report.would_send.push(WouldSend {
                cart_id: cart.cart_id.clone(),
                identity: cart.identity.clone(),
                recipient: cart.recipient.clone(),
                cart_hash: cart.cart_hash.clone(),
                value: match cart.cart_value.as_str() {
                    "" => NO_TOTAL.into(),
                    value => format!("{value} {}", cart.currency),
                },
                planned_before: false,
                not_before: (leaves_at > now).then(|| instant::text(leaves_at)),
            });
        } else {
            report.left_out.push(LeftOut {
                cart_id: cart.cart_id.clone(),
                cart_hash: cart.cart_hash.clone(),
                reason: verdict.to_owned(),
                detail: detail.to_owned(),
            });
        }
    })?;
    context.output.document("detect-dry-run", &report);
    let first_anonymous = found.first_anonymous.map(|first| first.line).unwrap_or_default();
    say(context, settings, &report, &listed, &first_anonymous, found.bad_rows, decided.to_plan - decided.without_code);
    let needs_a_person = report.over_max_per_run || found.bad_rows > 0;
    Ok(if needs_a_person { Exit::NeedsAPerson } else { Exit::Done })
}

fn say(
    context: &Context<'_>,
    settings: &Settings,
    report: &DryRun,
    listed: &std::collections::BTreeMap<String, u64>,
    first_anonymous: &str,
    bad_rows: u64,
    planned_now: u64,
) {
    let output = context.output;
    for mail in &report.would_send {
        let planned = if mail.planned_before { " (planned earlier)" } else { "" };
        let from = mail.not_before.as_ref().map_or_else(String::new, |at| format!(", not before {at}"));
        let hash = short_hash(&mail.cart_hash);
        output.print(format!(
            "would send  cart {} ({hash}) to {}, {}{from}{planned}",
            mail.cart_id, mail.recipient, mail.value
        ));
    }
    for cart in &report.left_out {
        let detail = if cart.detail.is_empty() { String::new() } else { format!(" ({})", cart.detail) };
        output.print(format!(
            "left out    cart {} ({}) - {}{detail}",
            cart.cart_id,
            short_hash(&cart.cart_hash),
            cart.reason
        ));
    }
    if report.without_address > 0 {
        let carts = count(report.without_address, "cart");
        output.print(format!("left out    {carts} - {NO_ADDRESS} (the first: {first_anonymous})"));
    }
    for line in &report.bad_rows {
        output.print(format!("bad row     {line}; row skipped"));
    }
    if bad_rows > report.bad_rows.len() as u64 {
        let more = bad_rows - report.bad_rows.len() as u64;
        output.print(format!("            and {}", count(more, "more bad row")));
    }
    for (verdict, carts) in listed.iter().filter(|(_, carts)| **carts > MOST_LISTED) {
        output.print(format!("            and {} more: {verdict}", carts - MOST_LISTED));
    }
    let earlier = report.would_send.iter().filter(|mail| mail.planned_before).count() as u64;
    let left_out = listed.iter().filter(|(verdict, _)| *verdict != "plan").map(|(_, carts)| carts);
    let left_out = report.without_address + left_out.sum::<u64>();
    output.print(format!(
        "{}: would send {}, left out {left_out}, bad rows {}; nothing was written",
        count(report.carts_seen, "cart"),
        planned_now + earlier,
        bad_rows
    ));
    if report.carts_seen == 0 {
        output.print(
            "no cart was read; next: `mailonce doctor` says whether the shop has any that its queries pass over",
        );
    }
    if report.over_max_per_run {
        output.print(format!(
            "more than detect.max_per_run = {}: a real run would plan none of them without --allow {}",
            settings.detect.max_per_run, report.to_plan
        ));
    }
}
