//! Numbers for monitoring, in the text format that Prometheus reads.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::domain::bounce::Class;
use crate::domain::coupon::Pool;
use crate::domain::fate::Fate;
use crate::domain::instant::Instant;
use crate::domain::state::{Origin, Reason, State};
use crate::failure::Failure;
use crate::ledger::{Counted, Records, StateCount};
use crate::settings::Monitoring;

const KINDS: [&str; 2] = ["cart", "campaign"];
/// States that a message leaves again.
const OPEN: [State; 3] = [State::Planned, State::Armed, State::InDoubt];
const ENDED: &str = "mailonce_run_last_timestamp_seconds";
const SUCCEEDED: &str = "mailonce_run_last_success_timestamp_seconds";

/// How a command ended.
#[derive(Debug, Clone, Copy)]
pub struct LastRun<'a> {
    pub command: &'a str,
    pub ended_at: Instant,
    /// Of the real clock.
    pub seconds: f64,
    pub exit: u8,
}

impl LastRun<'_> {
    /// It came to its end; that a person is needed for a message is no failure of the run.
    fn is_success(&self) -> bool {
        self.exit <= 1
    }
}

/// Metrics of one name.
struct Family {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    /// Labels as they are printed, without the ledger's, and the value.
    samples: Vec<(String, String)>,
}

impl Family {
    fn gauge(name: &'static str, help: &'static str) -> Family {
        Family { name, kind: "gauge", help, samples: Vec::new() }
    }

    fn counter(name: &'static str, help: &'static str) -> Family {
        Family { name, kind: "counter", help, samples: Vec::new() }
    }

    fn with<'a>(mut self, samples: impl IntoIterator<Item = (Vec<(&'a str, &'a str)>, String)>) -> Family {
        self.samples.extend(samples.into_iter().map(|(labels, value)| (labelled(&labels), value)));
        self
    }
}

/// The whole of what a ledger tells, or of what there is to tell without it. `before` is the text that was written last: what it
/// says of runs of other commands stays, as far as the ledger does not know better.
///
/// # Errors
/// Exit 74 when the ledger cannot be read.
pub fn text(
    records: Option<&Records>,
    monitored: &Monitoring,
    before: &str,
    last: Option<&LastRun<'_>>,
    now: Instant,
) -> Result<String, Failure> {
    let mut families = vec![
        Family::gauge("mailonce_build_info", "The version that wrote this.")
            .with([(vec![("version", env!("CARGO_PKG_VERSION"))], "1".to_owned())]),
    ];
    let recorded = records.map(Records::last_runs).transpose()?.unwrap_or_default();
    families.extend(of_runs(before, &recorded, last));
    if let Some(records) = records {
        families.extend(of_messages(records, now)?);
        families.extend(of_people(records, &monitored.steps)?);
        families.extend(of_the_rest(records, &monitored.pools, now)?);
    }
    let ledger = monitored.metrics.as_ref().and_then(|metrics| metrics.ledger.as_deref());
    let mut text = String::new();
    for Family { name, kind, help, samples } in families.iter().filter(|family| !family.samples.is_empty()) {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in samples {
            let ledger = ledger.map(|name| labelled(&[("ledger", name)]));
            let labels: Vec<&str> =
                [ledger.as_deref(), Some(labels)].into_iter().flatten().filter(|labels| !labels.is_empty()).collect();
            let _ = match labels.is_empty() {
                true => writeln!(text, "{name} {value}"),
                false => writeln!(text, "{name}{{{}}} {value}", labels.join(",")),
            };
        }
    }
    Ok(text)
}

/// `recorded`: by command when its last run ended, and its last good one.
fn of_runs(
    before: &str,
    recorded: &BTreeMap<String, (Instant, Option<Instant>)>,
    last: Option<&LastRun<'_>>,
) -> Vec<Family> {
    let mut families = vec![
        Family::gauge(ENDED, "When the last run ended, however it did."),
        Family::gauge(SUCCEEDED, "When the last run ended that came to its end (exit 0 or 1)."),
        Family::gauge("mailonce_run_last_duration_seconds", "How long the last run took."),
        Family::gauge("mailonce_run_last_exit_code", "How the last run ended; docs/troubleshooting.md has the codes."),
    ];
    for family in &mut families {
        let mut values: BTreeMap<&str, String> = said_before(before, family.name).collect();
        for (command, (ended_at, succeeded_at)) in recorded {
            let known = match family.name {
                ENDED => Some(*ended_at),
                SUCCEEDED => *succeeded_at,
                _ => None,
            };
            let said: Option<f64> = values.get(command.as_str()).and_then(|value| value.parse().ok());
            if let Some(known) = known.map(|at| at.timestamp())
                && said.is_none_or(|said| said < known as f64)
            {
                values.insert(command, known.to_string());
            }
        }
        if let Some(last) = last {
            let value = match family.name {
                ENDED => Some(last.ended_at.timestamp().to_string()),
                SUCCEEDED => last.is_success().then(|| last.ended_at.timestamp().to_string()),
                "mailonce_run_last_duration_seconds" => Some(format!("{:.3}", last.seconds)),
                _ => Some(last.exit.to_string()),
            };
            values.extend(value.map(|value| (last.command, value)));
        }
        family.samples =
            values.into_iter().map(|(command, value)| (labelled(&[("command", command)]), value)).collect();
    }
    families
}

/// What a text says of one name, by command. Anyone may have written it.
fn said_before<'a>(before: &'a str, name: &str) -> impl Iterator<Item = (&'a str, String)> {
    before.lines().filter_map(move |line| {
        let (labels, value) = line.strip_prefix(name)?.strip_prefix('{')?.rsplit_once("} ")?;
        let command = labels.split("command=\"").nth(1)?.split('"').next()?;
        let is_sound = command.bytes().all(|b| b.is_ascii_lowercase() || b == b'-') && value.parse::<f64>().is_ok();
        is_sound.then(|| (command, value.to_owned()))
    })
}

fn of_messages(records: &Records, now: Instant) -> Result<Vec<Family>, Failure> {
    let by_state = records.count_by_state()?;
    let open = KINDS.iter().flat_map(|kind| OPEN.map(|state| (*kind, state))).map(|(kind, state)| {
        let messages: u64 = by_state
            .iter()
            .filter(|count| count.kind == kind && count.state == state)
            .map(|count| count.messages)
            .sum();
        (vec![("kind", kind), ("state", state.word())], messages.to_string())
    });
    let entered = records.count_entered()?;
    let came_to = |state: State| {
        let of = |kind: &str| -> u64 {
            entered.iter().filter(|count| count.kind == kind && count.state == state).map(|count| count.messages).sum()
        };
        KINDS.map(|kind| (vec![("kind", kind)], of(kind).to_string()))
    };
    let skipped =
        KINDS.iter().flat_map(|kind| Reason::ALL.iter().map(move |reason| (*kind, *reason))).map(|(kind, why)| {
            let is_it = |count: &&StateCount| count.kind == kind && count.reason == Some(why);
            let messages: u64 = entered.iter().filter(is_it).map(|count| count.messages).sum();
            (vec![("kind", kind), ("reason", why.word())], messages.to_string())
        });
    let attempts = from_zero(records.counted(Counted::Attempts)?, Fate::WORDS);
    let at = |instants: [Option<Instant>; 2]| {
        KINDS
            .into_iter()
            .zip(instants)
            .filter_map(|(kind, at)| Some((vec![("kind", kind)], at?.timestamp().to_string())))
    };
    let left = records.left_by_campaign()?;
    Ok(vec![
        Family::gauge("mailonce_messages", "Messages that are not settled.").with(open),
        Family::counter("mailonce_messages_sent_total", "Messages that the mail server accepted.")
            .with(came_to(State::Sent)),
        Family::counter("mailonce_messages_refused_total", "Messages that were refused for good.")
            .with(came_to(State::Refused)),
        Family::counter("mailonce_messages_skipped_total", "Messages that were decided against.").with(skipped),
        Family::counter("mailonce_attempts_total", "Tries to send a message.").with(by_part(&attempts, "outcome")),
        Family::gauge("mailonce_oldest_due_timestamp_seconds", "Since when the oldest message that is due is.")
            .with(at(records.oldest_due(now)?)),
        Family::gauge("mailonce_oldest_in_doubt_timestamp_seconds", "When the oldest message in doubt was begun.")
            .with(at(records.oldest_in_doubt()?)),
        Family::gauge("mailonce_campaign_left", "Messages of a campaign that are still to be sent.")
            .with(by_part(&left, "campaign")),
    ])
}

/// What came back from people, and what they bought.
fn of_people(records: &Records, steps: &[String]) -> Result<Vec<Family>, Failure> {
    let mut reports = from_zero(records.counted(Counted::Reports)?, Class::ALL.iter().map(|class| class.word()));
    // Counted below, with those that came otherwise.
    reports.remove(Class::Unsubscribe.word());
    let mut wishes = from_zero(records.counted(Counted::Suppressed)?, Origin::ALL.iter().map(|origin| origin.word()));
    wishes.retain(|origin, _| Origin::of_word(origin).is_some_and(Origin::is_a_wish));
    let first = if steps.is_empty() { Some("") } else { None };
    let orders = from_zero(records.counted(Counted::Orders)?, steps.iter().map(String::as_str).chain(first));
    let values = records.counted(Counted::OrderValue)?;
    let values = values.iter().map(|(part, value)| {
        let (step, currency) = part.rsplit_once(' ').unwrap_or(("", part));
        (vec![("step", step), ("currency", currency)], format!("{}.{:04}", value / 10_000, value % 10_000))
    });
    Ok(vec![
        Family::counter("mailonce_bounces_total", "Reports that came back.").with(by_part(&reports, "class")),
        Family::counter("mailonce_unsubscribes_total", "People who asked to get no more.")
            .with(by_part(&wishes, "origin")),
        Family::gauge("mailonce_suppressed_addresses", "Addresses that are not written to.")
            .with([(Vec::new(), records.count_suppressed()?.to_string())]),
        Family::counter("mailonce_recovered_orders_total", "Orders that followed a message, as first seen.")
            .with(by_part(&orders, "step")),
        Family::counter("mailonce_recovered_value_total", "What they came to when first seen.").with(values),
    ])
}

fn of_the_rest(records: &Records, pools: &[Pool], now: Instant) -> Result<Vec<Family>, Failure> {
    let mut notices: BTreeMap<String, u64> = BTreeMap::new();
    for notice in records.open_notices()? {
        *notices.entry(notice.kind).or_default() += 1;
    }
    let mut left = BTreeMap::new();
    for pool in pools {
        left.insert(pool.name.clone(), records.free_codes(pool, now, u64::MAX >> 1)?);
    }
    let size = std::fs::metadata(records.path()).map_or(0, |meta| meta.len());
    Ok(vec![
        Family::gauge("mailonce_notices", "What waits for a person.").with(by_part(&notices, "kind")),
        Family::gauge("mailonce_ledger_size_bytes", "The size of the ledger's file.")
            .with([(Vec::new(), size.to_string())]),
        Family::gauge("mailonce_coupon_codes_left", "Codes that can be given.").with(by_part(&left, "pool")),
    ])
}

/// A counter that begins with its first event never shows that one as an increase: what is known beforehand is there from 0.
fn from_zero<'a>(mut counts: BTreeMap<String, u64>, parts: impl IntoIterator<Item = &'a str>) -> BTreeMap<String, u64> {
    for part in parts {
        counts.entry(part.to_owned()).or_default();
    }
    counts
}

fn by_part<'a>(
    counts: &'a BTreeMap<String, u64>,
    label: &'a str,
) -> impl Iterator<Item = (Vec<(&'a str, &'a str)>, String)> {
    counts.iter().map(move |(part, number)| (vec![(label, part.as_str())], number.to_string()))
}

/// `a="b",c="d"`, as the format escapes values.
fn labelled(labels: &[(&str, &str)]) -> String {
    let escaped = |value: &str| value.replace('\\', r"\\").replace('"', r#"\""#).replace('\n', r"\n");
    let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
    labels.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::instant;

    const BEFORE: &str = "mailonce_run_last_exit_code{command=\"detect\"} 1
mailonce_run_last_success_timestamp_seconds{ledger=\"x\",command=\"detect\"} 5
mailonce_run_last_exit_code{command=\"run-campaigns\"} 0
mailonce_run_last_exit_code{command=\"no such }\"} 0
mailonce_run_last_exit_code{command=\"bounces\"} many
";

    #[test]
    fn what_was_said_of_other_commands_stays_and_a_failure_keeps_the_last_success() {
        let ended_at = instant::from_text("1970-01-01T00:01:00Z").expect("an instant");
        let said = |recorded: &[(&str, i64)], exit: u8| -> Vec<String> {
            let last = LastRun { command: "detect", ended_at, seconds: 0.25, exit };
            let second = |second| Instant::from_timestamp(second, 0).expect("an instant");
            let recorded: BTreeMap<_, _> = recorded
                .iter()
                .map(|(command, at)| ((*command).to_owned(), (second(*at), Some(second(*at - 1)))))
                .collect();
            let line = |name: &str, (labels, value): &(String, String)| {
                format!("{} {labels} {value}", name.trim_start_matches("mailonce_run_last_"))
            };
            of_runs(BEFORE, &recorded, Some(&last))
                .iter()
                .flat_map(|family| family.samples.iter().map(|sample| line(family.name, sample)))
                .collect()
        };
        assert_eq!(
            said(&[], 74),
            [
                "timestamp_seconds command=\"detect\" 60",
                "success_timestamp_seconds command=\"detect\" 5",
                "duration_seconds command=\"detect\" 0.250",
                "exit_code command=\"detect\" 74",
                "exit_code command=\"run-campaigns\" 0",
            ]
        );
        assert_eq!(said(&[], 1)[1], "success_timestamp_seconds command=\"detect\" 60");
        assert_eq!(
            said(&[("detect", 9), ("run-campaigns", 7)], 74)[..4],
            [
                "timestamp_seconds command=\"detect\" 60",
                "timestamp_seconds command=\"run-campaigns\" 7",
                "success_timestamp_seconds command=\"detect\" 8",
                "success_timestamp_seconds command=\"run-campaigns\" 6",
            ]
        );
    }

    #[test]
    fn values_of_labels_are_escaped() {
        assert_eq!(labelled(&[("campaign", "a\"b\\c\nd")]), r#"campaign="a\"b\\c\nd""#);
    }
}
