//! `[send_window]` and `[caps]`: when mail may leave, and how much of it one person gets.

use std::time::Duration;

use chrono::{NaiveTime, TimeDelta, Weekday};
use serde::{Deserialize, Serialize};

use super::checker::{Checker, Span};
use super::{CapSettings, StepSettings};
use crate::domain::campaign::is_id;
use crate::domain::caps::Cap;
use crate::domain::coupon::{Pool, WhenEmpty};
use crate::domain::recurrence;
use crate::domain::send_window::SendWindow;
use crate::domain::span;
use crate::failure::Failure;

/// A send window as written.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SendWindowTable {
    hours: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    days: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    spread: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct CapsTable {
    #[serde(default)]
    per_person: Vec<String>,
    quiet_after_order: Option<Span>,
}

/// `[[coupon]]` as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CouponTable {
    name: String,
    min_validity: Option<Span>,
    per_person: Option<Span>,
    #[serde(default)]
    when_empty: WhenEmpty,
    warn_below: Option<u64>,
}

/// A code is worth something for at least so long.
const MIN_VALIDITY: TimeDelta = TimeDelta::hours(48);
/// A person is told when fewer codes are left.
const WARN_BELOW: u64 = 100;

const EVERY_DAY: [Weekday; 7] =
    [Weekday::Mon, Weekday::Tue, Weekday::Wed, Weekday::Thu, Weekday::Fri, Weekday::Sat, Weekday::Sun];

impl SendWindowTable {
    /// Checks it.
    ///
    /// # Errors
    /// Key, problem, and what would be right.
    pub fn check(&self) -> Result<SendWindow, (&'static str, String, &'static str)> {
        let wrong_hours = |what: &str| {
            (
                "hours",
                format!("{:?} {what}", self.hours),
                "write for example \"08:00-21:00\"; \"22:00-06:00\" is a night",
            )
        };
        let (opens, closes) = self.hours.split_once('-').ok_or_else(|| wrong_hours("are no two times of day"))?;
        let time = |text: &str| match text.trim() {
            "24:00" => Some(NaiveTime::MIN),
            text => recurrence::parse_time_of_day(text),
        };
        let (Some(opens), Some(closes)) = (time(opens), time(closes)) else {
            return Err(wrong_hours("are no two times of day"));
        };
        if opens == closes && self.hours.replace(' ', "") != "00:00-24:00" {
            return Err(wrong_hours("begin where they end: it would open never, or always"));
        }
        let day = |name: &String| {
            let next = "write days such as [\"mon\", \"tue\"]";
            recurrence::parse_weekday(name).ok_or_else(|| ("days", format!("{name:?} is no day of the week"), next))
        };
        let days = match &self.days {
            None => EVERY_DAY.to_vec(),
            Some(days) if days.is_empty() => {
                return Err((
                    "days",
                    "is empty: it would open never".into(),
                    "write days, or leave it out for every day",
                ));
            }
            Some(days) => days.iter().map(day).collect::<Result<_, _>>()?,
        };
        let spread = self.spread.as_deref().map_or(Ok(Duration::ZERO), span::parse);
        let spread = spread.map_err(|problem| ("spread", problem, "write for example \"30m\""))?;
        Ok(SendWindow { opens, closes, days, spread: span::delta(spread) })
    }
}

impl Checker<'_> {
    pub(super) fn send_window(&self, table: Option<&SendWindowTable>) -> Result<Option<SendWindow>, Failure> {
        let wrong =
            |(key, problem, next): (&str, String, &str)| self.wrong(&format!("send_window.{key}"), problem, next);
        table.map(|table| table.check().map_err(wrong)).transpose()
    }

    pub(super) fn caps(&self, table: &CapsTable, steps: &[StepSettings]) -> Result<CapSettings, Failure> {
        let mut per_person: Vec<Cap> = Vec::new();
        for text in &table.per_person {
            let next = "write for example [\"1 in 20h\", \"3 in 7d\"]";
            let cap =
                Cap::parse(text).ok_or_else(|| self.wrong("caps.per_person", format!("{text:?} is no cap"), next))?;
            if per_person.iter().any(|other| other.within == cap.within) {
                let what = format!("{text:?}: there is another for the same time");
                return Err(self.wrong("caps.per_person", what, "keep one of them"));
            }
            self.lets_a_second_step_through(text, cap, steps)?;
            per_person.push(cap);
        }
        Ok(CapSettings { per_person, quiet_after_order: table.quiet_after_order.map(|span| span.0) })
    }

    pub(super) fn coupons(&self, tables: Vec<CouponTable>, steps: &[StepSettings]) -> Result<Vec<Pool>, Failure> {
        let mut pools: Vec<Pool> = Vec::new();
        for table in tables {
            if !is_id(&table.name) {
                let next = "write 1 to 64 letters, digits, dots, underscores or hyphens, for example \"comeback\"";
                return Err(self.wrong("coupon", format!("the name {:?} is none", table.name), next));
            }
            if pools.iter().any(|pool| pool.name == table.name) {
                return Err(self.wrong(
                    "coupon",
                    format!("{:?} is there twice", table.name),
                    "give each pool its own name",
                ));
            }
            pools.push(Pool {
                name: table.name,
                min_validity: table.min_validity.map_or(MIN_VALIDITY, |span| span::delta(span.0)),
                per_person: table.per_person.map(|span| span::delta(span.0)),
                when_empty: table.when_empty,
                warn_below: table.warn_below.unwrap_or(WARN_BELOW),
            });
        }
        for step in steps {
            if let Some(pool) = step.step.coupon.as_ref().filter(|name| pools.iter().all(|pool| pool.name != **name)) {
                let key = format!("detect.step {:?}: coupon", step.step.name);
                return Err(self.wrong(
                    &key,
                    format!("there is no [[coupon]] {pool:?}"),
                    "add it, or correct the name",
                ));
            }
        }
        Ok(pools)
    }

    fn lets_a_second_step_through(&self, text: &str, cap: Cap, steps: &[StepSettings]) -> Result<(), Failure> {
        let [first, second, ..] = steps else { return Ok(()) };
        let at: TimeDelta = first.step.after + cap.within;
        if cap.messages > 1 || at < second.step.until {
            return Ok(());
        }
        let what = format!(
            "{text:?} lets the step {:?} go {} after the last touch, and its until is {}",
            second.step.name,
            span::spoken(at),
            span::spoken(second.step.until)
        );
        Err(self.wrong("caps.per_person", what, "make the cap shorter, or the step's until longer"))
    }
}
