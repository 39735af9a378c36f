//! `doctor`: looks at everything a run needs, changes nothing and sends nothing, and says the remedy.

mod bulk;
mod campaigns;
mod configuration;
mod files;
mod flows;
mod history;
mod mail;
mod received;
mod shop;

use anyhow::Result;
use serde::Serialize;

use super::{Context, detect};
use crate::cli;
use crate::failure::{Exit, Failure};
use crate::ledger::Records;
use crate::run_lock::RunLock;

use bulk::{Rule, Seen};
use campaigns::look_at_campaigns;
use configuration::look_at_placeholders;
use files::{look_at_permissions, look_at_rights, look_at_room};
use history::{look_at_history, look_at_lock};
use mail::{look_at_mail, look_at_server};
use shop::look_at_source;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Ok,
    /// Works, and could be better.
    Warn,
    /// Must be mended.
    Fail,
}

impl Level {
    fn word(self) -> &'static str {
        match self {
            Level::Ok => "ok  ",
            Level::Warn => "warn",
            Level::Fail => "FAIL",
        }
    }
}

#[derive(Debug, Serialize)]
struct Finding {
    level: Level,
    check: &'static str,
    what: String,
    #[serde(serialize_with = "null_if_empty")]
    remedy: String,
}

fn null_if_empty<S: serde::Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
    Some(text).filter(|text| !text.is_empty()).serialize(serializer)
}

#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, level: Level, check: &'static str, what: impl Into<String>, remedy: impl Into<String>) {
        self.0.push(Finding { level, check, what: what.into(), remedy: remedy.into() });
    }

    fn ok(&mut self, check: &'static str, what: impl Into<String>) {
        self.add(Level::Ok, check, what, "");
    }

    fn warn(&mut self, check: &'static str, what: impl Into<String>, remedy: impl Into<String>) {
        self.add(Level::Warn, check, what, remedy);
    }

    fn fail(&mut self, check: &'static str, what: impl Into<String>, remedy: impl Into<String>) {
        self.add(Level::Fail, check, what, remedy);
    }

    /// `Ok` with these words, or the failure.
    fn take<T>(&mut self, check: &'static str, result: Result<T, Failure>, words: impl Into<String>) -> Option<T> {
        match result {
            Ok(value) => {
                self.ok(check, words);
                Some(value)
            }
            Err(failure) => {
                self.fail(check, failure.what, failure.next);
                None
            }
        }
    }
}

pub fn run(context: &Context<'_>, args: &cli::Doctor) -> Result<Exit> {
    if let Some(copy) = &args.received {
        return received::run(context, copy);
    }
    let mut findings = Findings::default();
    let mut rules = Vec::new();
    let settings = context.settings();
    let with_secrets = findings.take("configuration", settings, "every key is known and within its bounds");
    // Whom the passwords are not for is still told of all the rest.
    let settings = with_secrets.clone().or_else(|| context.settings_without_secrets().ok());
    if let Some(settings) = settings {
        look_at_placeholders(&settings, &mut findings);
        look_at_mail(&settings, &mut findings);
        if with_secrets.is_some() {
            look_at_server(&settings, &mut findings);
            look_at_source(context, &settings, &mut findings);
        }
        look_at_rights(&settings, &mut findings);
        let checked = detect::check_template(&settings, context.clock.now());
        findings.take("template", checked, "the cart message can be rendered");
        let now = context.clock.now();
        let mut seen = Seen::default();
        // Read first: the file may lag behind the ledger, never the other way round.
        let record = RunLock::peek(&settings.ledger);
        let opened = Records::open(settings.place());
        let words = opened.as_ref().map_or_else(
            |_| String::new(),
            |ledger| format!("{} ledger {}, on a local disk", ledger.kind().word(), ledger.path().display()),
        );
        if let Some(ledger) = findings.take("ledger", opened, words) {
            findings.take(
                "ledger",
                crate::run::check_fit(&settings, &ledger, crate::clock::Clock::new(None)),
                "its kind fits where mail is sent to",
            );
            seen.campaigns = look_at_campaigns(context, &settings, &ledger, &mut findings);
            seen.returned = ledger.returned(now - bulk::COUNTED).ok();
            flows::look_at_pools(&settings, &ledger, now, &mut findings)?;
            if let Ok(definitions) = super::run_campaigns::definitions(&settings) {
                flows::look_at_caps(&settings, &definitions.campaigns, now, &mut findings);
            }
            look_at_permissions(&settings, &mut findings);
            look_at_room(&settings, &mut findings);
            look_at_lock(&settings, &ledger, record, &mut findings);
            look_at_history(context, &settings, &ledger, args, &mut findings)?;
        }
        rules = bulk::rules(&settings, &seen, now);
    }
    Ok(report(context, findings, Some(rules)))
}

/// Prints what was found, and how the rules for bulk senders stand, where they were looked at.
fn report(context: &Context<'_>, findings: Findings, rules: Option<Vec<Rule>>) -> Exit {
    let findings = findings.0;
    let of_rules = rules.iter().flatten().filter_map(|rule| rule.level);
    let levels: Vec<Level> = findings.iter().map(|finding| finding.level).chain(of_rules).collect();
    let count_of = |wanted| levels.iter().filter(|level| **level == wanted).count() as u64;
    let failed = count_of(Level::Fail);
    let document = serde_json::json!({
        "failed": failed, "warned": count_of(Level::Warn), "findings": findings, "bulk_senders": rules,
    });
    context.output.document("doctor", &document);
    for finding in &findings {
        context.output.print(format!("{}  {:<13}  {}", finding.level.word(), finding.check, finding.what));
        if !finding.remedy.is_empty() {
            context.output.print(format!("{:21}remedy: {}", "", finding.remedy));
        }
    }
    if let Some(rules) = rules.filter(|rules| !rules.is_empty()) {
        bulk::print(context.output, &rules);
    }
    if failed > 0 { Exit::NeedsAPerson } else { Exit::Done }
}
