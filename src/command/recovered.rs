//! `recovered`: the orders that followed a mail, and what they come to.

use anyhow::Result;
use chrono::TimeDelta;
use comfy_table::{Table, presets::NOTHING};
use serde_json::json;

use super::Context;

use crate::cli;
use crate::domain::instant;
use crate::domain::message_key;
use crate::failure::{Exit, Failure};
use crate::ledger::{Records, RecoveredOrder};
use crate::output::{inert, note_lost};
use crate::report;

/// Without `--since`.
const DAYS: i64 = 30;

pub fn run(context: &Context<'_>, args: &cli::Recovered) -> Result<Exit> {
    let settings = context.settings_without_secrets()?;
    let ledger = Records::open(settings.place())?;
    let now = context.clock.now();
    let since = args.since.map_or(now - TimeDelta::days(DAYS), |since| since.from(now));
    let Some(brought) = ledger.brought(since)? else {
        let next = match settings.attribution {
            Some(_) => "`mailonce detect` reads them; `mailonce doctor` says whether it can",
            None => "add [attribution] to the configuration, as docs/recovery.md shows",
        };
        return Err(Failure::usage("the shop's orders were never read", next).into());
    };
    let orders = ledger.recovered_orders(since)?;
    if args.csv {
        note_lost(write_csv(&orders));
        return Ok(Exit::Done);
    }
    context.output.document("recovered", &json!({ "recovered": brought, "orders": orders }));
    if !orders.is_empty() {
        context.output.print(table(&orders).trim_fmt());
    }
    let time = format!("the time since {}", instant::text(since));
    for line in report::brought::lines(&brought, &time) {
        context.output.print(line);
    }
    Ok(Exit::Done)
}

fn table(orders: &[RecoveredOrder]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(["order", "ordered", "value", "status", "by", "after", "message"]);
    for order in orders {
        let value = order.value.as_ref().zip(order.currency.as_ref());
        table.add_row([
            order.order_id.clone(),
            order.ordered_at.clone(),
            value.map_or_else(String::new, |(value, currency)| format!("{value} {currency}")),
            order.status.to_string(),
            order.how.to_string(),
            order.campaign_id.clone().or_else(|| order.step.clone()).unwrap_or_default(),
            message_key::short_id(&order.message_id).to_owned(),
        ]);
    }
    table
}

fn write_csv(orders: &[RecoveredOrder]) -> std::io::Result<()> {
    let mut writer = csv::Writer::from_writer(std::io::stdout());
    writer.write_record([
        "order_id",
        "ordered_at",
        "value",
        "currency",
        "status",
        "how",
        "step",
        "campaign_id",
        "message_id",
        "armed_at",
    ])?;
    for order in orders {
        let (status, how) = (order.status.to_string(), order.how.to_string());
        let optional = |text: &Option<String>| text.clone().unwrap_or_default();
        let fields = [
            order.order_id.clone(),
            order.ordered_at.clone(),
            optional(&order.value),
            optional(&order.currency),
            status,
            how,
            optional(&order.step),
            optional(&order.campaign_id),
            order.message_id.clone(),
            order.armed_at.clone(),
        ];
        writer.write_record(fields.map(|field| inert(&field).into_owned()))?;
    }
    writer.flush()
}
