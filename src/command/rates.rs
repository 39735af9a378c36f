//! `rates`: what came back per thousand messages.

use anyhow::Result;
use serde_json::json;

use super::Context;
use crate::cli;
use crate::domain::instant;
use crate::failure::Exit;
use crate::ledger::{Records, Returned};

pub fn run(context: &Context<'_>, args: &cli::Rates) -> Result<Exit> {
    let settings = context.settings_without_secrets()?;
    let ledger = Records::open(settings.place())?;
    let since = args.since.from(context.clock.now());
    let returned = ledger.returned(since)?;
    let unmatched = ledger.unmatched_reports(100)?;
    let rows: Vec<serde_json::Value> = returned.iter().map(document).collect();
    context.output.document("rates", &json!({ "since": instant::text(since), "rates": rows, "unmatched": unmatched }));
    if context.output.json {
        return Ok(Exit::Done);
    }
    if returned.is_empty() {
        context.output.print(format!("nothing was sent since {}", instant::text(since)));
    }
    for row in &returned {
        let sent = row.sent;
        let named = |number: u64, what: &str| format!("{what} {number} ({})", per_thousand(number, sent));
        context.output.print(format!(
            "{}: sent {sent}; {}; {}; {}; {}; {}",
            name(row),
            named(row.hard, "dead"),
            named(row.soft, "soft"),
            named(row.blocked, "turned away"),
            named(row.complaints, "complaints"),
            named(row.unsubscribes, "unsubscribes"),
        ));
    }
    if !unmatched.is_empty() {
        context.output.print(format!("of no message in this ledger, the newest {}:", unmatched.len()));
    }
    for report in &unmatched {
        let said = report.diagnostic.as_deref().unwrap_or("-");
        let reporter = report.reporter.as_deref().unwrap_or("-");
        context.output.print(format!("  {}  {}  {reporter}  {said}", report.received_at, report.class));
    }
    Ok(Exit::Done)
}

fn name(row: &Returned) -> String {
    match (&row.campaign_id, &row.step) {
        (Some(campaign), _) => format!("campaign {campaign}"),
        (None, Some(step)) => format!("step {step}"),
        (None, None) => "carts".to_owned(),
    }
}

/// `1.2 ‰`.
fn per_thousand(number: u64, of: u64) -> String {
    let tenths = (number * 10_000).checked_div(of).unwrap_or(0);
    format!("{}.{} ‰", tenths / 10, tenths % 10)
}

fn document(row: &Returned) -> serde_json::Value {
    let share = |number: u64| (number * 100_000).checked_div(row.sent).unwrap_or(0) as f64 / 100.0;
    json!({
        "kind": row.kind, "campaign_id": row.campaign_id, "step": row.step, "sent": row.sent,
        "hard": row.hard, "soft": row.soft, "blocked": row.blocked,
        "complaints": row.complaints, "unsubscribes": row.unsubscribes,
        "per_thousand": {
            "hard": share(row.hard), "soft": share(row.soft), "blocked": share(row.blocked),
            "complaints": share(row.complaints), "unsubscribes": share(row.unsubscribes),
        },
    })
}
