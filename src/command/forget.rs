//! `forget`: what tells who a person is goes from the ledger; that they were written to, and want no more, stays.

use std::path::PathBuf;

use anyhow::Result;
use serde_json::json;

use super::Context;
use crate::cli;
use crate::domain::address::Address;
use crate::failure::Exit;
use crate::ledger::Forgotten;
use crate::output::count;
use crate::settings::{Settings, TransportSettings};

pub fn run(context: &Context<'_>, args: &cli::Forget) -> Result<Exit> {
    let settings = context.settings_without_secrets()?;
    let (_lock, mut ledger) = context.lock_and_ledger(&settings, "forget")?;
    let mut all = Vec::new();
    for address in &args.addresses {
        let forgotten = ledger.erasures().forget(address, context.clock.now())?;
        context.output.print(line(address, &forgotten));
        if forgotten.in_doubt > 0 {
            context.output.print(format!(
                "  {} in doubt: `mailonce resolve` settles what the mail server's log can tell",
                count(forgotten.in_doubt, "message")
            ));
        }
        if forgotten.to_other_addresses > 0 {
            context.output.print(format!(
                "  {} to other addresses of the same shopper: forget those too, if they are the same person's",
                count(forgotten.to_other_addresses, "message")
            ));
        }
        all.push(forgotten);
    }
    ledger.erasures().overwrite()?;
    let elsewhere = elsewhere(&settings);
    context.output.print("not touched, and for you to look at:");
    for what in &elsewhere {
        context.output.print(format!("  {what}"));
    }
    context.output.document("forget", &json!({ "forgotten": all, "elsewhere": elsewhere }));
    Ok(Exit::Done)
}

fn line(address: &Address, forgotten: &Forgotten) -> String {
    let Forgotten { messages, not_sent, episodes, reports, .. } = *forgotten;
    if messages + episodes + reports == 0 {
        return format!(
            "{address}: the ledger knows of no mail to it, so look whether it is spelt right; nothing is sent there any more"
        );
    }
    format!(
        "{address} is forgotten: {} ({not_sent} of them planned, not sent now), {} of the log of carts, {} that came back; nothing is sent there any more",
        count(messages, "message"),
        count(episodes, "row"),
        count(reports, "report"),
    )
}

/// Where else the address may stand.
fn elsewhere(settings: &Settings) -> Vec<String> {
    let mut places = vec![
        "the shop itself, its backups, the lists of your campaigns, the mail server's log, mails that cron sent".to_owned(),
        "pages of `report --names`, folders of `preview`, mails of `--test-to`".to_owned(),
        "backups of the ledger: one that is put back knows the person again until `mailonce resolve --restored --hold-back`, which forgets again".to_owned(),
    ];
    if let TransportSettings::File { dir, .. } = &settings.transport {
        places.push(format!("files in {}", dir.display()));
    }
    places.extend(
        copies(settings).iter().map(|copy| format!("{}: a copy from before an upgrade; delete it", copy.display())),
    );
    places
}

/// Copies of the ledger beside it, from before upgrades.
fn copies(settings: &Settings) -> Vec<PathBuf> {
    let ledger = settings.ledger.canonicalize().unwrap_or_else(|_| settings.ledger.clone());
    let (Some(folder), Some(name)) = (ledger.parent(), ledger.file_name()) else { return Vec::new() };
    let begins = format!("{}.schema-", name.to_string_lossy());
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(&begins))
        .map(|entry| entry.path())
        .collect();
    found.sort();
    found
}
