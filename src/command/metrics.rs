//! `metrics`: the numbers for monitoring, on stdout.

use anyhow::Result;

use super::{Context, monitored};
use crate::failure::Exit;
use crate::ledger::Records;
use crate::settings::Monitoring;

pub fn run(context: &Context<'_>) -> Result<Exit> {
    let monitored = Monitoring::from(context.settings_without_secrets()?);
    let records = Records::open(monitored.place())?;
    let text = monitored::current(context, &monitored, Some(&records), None)?;
    context.output.document("metrics", &serde_json::json!({ "text": text }));
    for line in text.lines() {
        context.output.print(line);
    }
    Ok(Exit::Done)
}
