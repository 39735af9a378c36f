//! `[detect]` as written, and the checks that turn it into [`DetectSettings`].

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use chrono::TimeDelta;
use chrono_tz::Tz;
use serde::Deserialize;

use super::checker::{Checker, Span};
use super::{DetectSettings, StepSettings, VariantSettings};
use crate::domain::filter::{Filter, limit};
use crate::domain::flow::Step;
use crate::domain::instant;
use crate::domain::locale::Locale;
use crate::domain::money::{Currency, Money};
use crate::domain::span;
use crate::domain::subject::Subject;
use crate::domain::variant::Variant;
use crate::failure::Failure;
use crate::ledger::STEP_GAP;

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct Detect {
    idle: Option<Span>,
    max_age: Option<Span>,
    window: Option<Span>,
    retry_after: Option<Span>,
    since: Option<String>,
    consent: Option<String>,
    max_per_cart: Option<u32>,
    max_per_run: Option<u64>,
    pub subject: Option<Subject>,
    pub template: Option<String>,
    #[serde(default)]
    min_value: BTreeMap<String, String>,
    #[serde(default)]
    max_value: BTreeMap<String, String>,
    #[serde(default)]
    exclude_sku: Vec<String>,
    #[serde(default)]
    exclude_category: Vec<String>,
    exclude: Option<Exclude>,
    #[serde(default)]
    step: Vec<StepTable>,
}

/// Whether a cart is left out when every line of it is of what is excluded, or when any is.
#[derive(Deserialize, Clone, Copy, Default, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Exclude {
    #[default]
    Only,
    Any,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StepTable {
    name: String,
    after: Span,
    until: Option<Span>,
    subject: Option<Subject>,
    template: Option<String>,
    coupon: Option<String>,
    #[serde(default)]
    variant: Vec<VariantTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct VariantTable {
    name: String,
    weight: Option<u32>,
    subject: Option<Subject>,
    template: Option<String>,
}

/// Steps in one flow: more would be no reminder any more.
const MOST_STEPS: usize = 10;

/// A last step has at least so long to be tried again before its cart is too old.
const LAST_STEP_HAS: TimeDelta = TimeDelta::days(1);

impl Checker<'_> {
    pub(super) fn detect(&self, detect: Detect, shop: Locale) -> Result<DetectSettings, Failure> {
        let minutes = |span: Option<Span>, default: u64| span.map_or(Duration::from_secs(default * 60), |span| span.0);
        let since = match &detect.since {
            None => None,
            Some(text) => Some(instant::parse(text, Tz::UTC).ok_or_else(|| {
                self.wrong("detect.since", format!("{text:?} is no time"), "write for example \"2026-03-01T00:00:00Z\"")
            })?),
        };
        let consent_assumed = match detect.consent.as_deref() {
            None | Some("required") => false,
            Some("assumed") => true,
            Some(other) => {
                let next = "write consent = \"assumed\" only where the law lets you write without it being recorded; otherwise leave it out";
                return Err(self.wrong("detect.consent", format!("{other:?} is not known"), next));
            }
        };
        let filter = Filter {
            least: self.limits_by_currency("detect.min_value", &detect.min_value)?,
            most: self.limits_by_currency("detect.max_value", &detect.max_value)?,
            skus: detect.exclude_sku,
            categories: detect.exclude_category,
            any: detect.exclude.unwrap_or_default() == Exclude::Any,
        };
        let mut settings = DetectSettings {
            idle: minutes(detect.idle, 60),
            max_age: minutes(detect.max_age, 72 * 60),
            window: minutes(detect.window, 24 * 60),
            retry_after: minutes(detect.retry_after, 2),
            since,
            consent_assumed,
            max_per_cart: detect.max_per_cart.unwrap_or(3),
            max_per_run: detect.max_per_run.unwrap_or(1000),
            subject: detect.subject.unwrap_or_else(|| "{{ text.subject }}".into()).for_shop(shop),
            template: detect.template.as_deref().map(|file| self.at(file)),
            filter,
            steps: Vec::new(),
        };
        if settings.max_age <= settings.idle {
            return Err(self.wrong(
                "detect.max_age",
                "must be longer than detect.idle",
                "make it longer, for example \"72h\"",
            ));
        }
        if settings.window < Duration::from_secs(60) {
            return Err(self.wrong("detect.window", "must be at least 1m", "make it longer, for example \"24h\""));
        }
        if settings.retry_after < Duration::from_secs(1) {
            return Err(self.wrong("detect.retry_after", "must be at least 1s", "make it longer, for example \"2m\""));
        }
        if settings.max_per_cart == 0 {
            return Err(self.wrong("detect.max_per_cart", "must be at least 1", "write a number from 1"));
        }
        if settings.max_per_run == 0 {
            return Err(self.wrong("detect.max_per_run", "must be at least 1", "write a number from 1"));
        }
        settings.steps = self.steps(&settings, detect.step, shop)?;
        Ok(settings)
    }

    fn limits_by_currency(
        &self,
        key: &str,
        limits: &BTreeMap<String, String>,
    ) -> Result<BTreeMap<Currency, Money>, Failure> {
        let limit = |(code, text): (&String, &String)| {
            limit(code, text).ok_or_else(|| {
                let what = format!("{code} = {text:?} is no amount of a currency");
                self.wrong(key, what, "write for example { EUR = \"20.00\" }")
            })
        };
        limits.iter().map(limit).collect()
    }

    /// The steps, each with its place in time.
    ///
    /// # Errors
    /// Exit 78, naming both of two values that cannot hold together.
    fn steps(
        &self,
        detect: &DetectSettings,
        tables: Vec<StepTable>,
        shop: Locale,
    ) -> Result<Vec<StepSettings>, Failure> {
        if tables.len() > MOST_STEPS {
            let what = format!("there are {} of them, and at most {MOST_STEPS} can be", tables.len());
            return Err(self.wrong("detect.step", what, "remove some"));
        }
        let max_age = span::delta(detect.max_age);
        let mut steps: Vec<StepSettings> = Vec::new();
        for table in tables {
            let key = |key: &str| format!("detect.step {:?}: {key}", table.name);
            if !is_step_name(&table.name) {
                let next = "write 1 to 32 lower-case letters, digits and hyphens, for example \"reminder\"";
                return Err(self.wrong("detect.step", format!("the name {:?} is none", table.name), next));
            }
            if steps.iter().any(|step| step.step.name == table.name) {
                return Err(self.wrong(&key("name"), "another step has it", "give each step a name of its own"));
            }
            let template =
                self.template(&key("template"), table.template.as_deref())?.or_else(|| detect.template.clone());
            let subject = table.subject.map_or_else(|| detect.subject.clone(), |subject| subject.for_shop(shop));
            let variants = self.variants(&key("variant"), table.variant, (&template, &subject), shop)?;
            let after = span::delta(table.after.0);
            let until = table.until.map_or(max_age, |until| span::delta(until.0)).min(max_age);
            let spoken = |span: TimeDelta| span::spoken(span);
            match steps.last() {
                None if after < span::delta(detect.idle) => {
                    let what =
                        format!("{} is shorter than detect.idle, {}", spoken(after), spoken(span::delta(detect.idle)));
                    return Err(self.wrong(
                        &key("after"),
                        what,
                        "the first step comes once the cart is idle: make it longer",
                    ));
                }
                Some(before) if after < before.step.after + STEP_GAP => {
                    let what = format!(
                        "{} is less than {} after that of the step before it, {:?} with {}",
                        spoken(after),
                        spoken(STEP_GAP),
                        before.step.name,
                        spoken(before.step.after)
                    );
                    return Err(self.wrong(
                        &key("after"),
                        what,
                        "put the steps in the order of `after`, an hour apart at least",
                    ));
                }
                _ => {}
            }
            if until <= after {
                let limit = if table.until.is_some_and(|until| span::delta(until.0) <= max_age) {
                    "until"
                } else {
                    "detect.max_age"
                };
                let what = format!("{limit}, {}, is not longer than after, {}", spoken(until), spoken(after));
                return Err(self.wrong(&key("until"), what, "make it longer"));
            }
            let step = Step {
                name: table.name,
                after,
                until,
                coupon: table.coupon,
                variants: variants.iter().map(|variant| variant.variant.clone()).collect(),
            };
            steps.push(StepSettings { step, subject, template, variants });
        }
        if let Some(last) = steps.last().filter(|last| last.step.after + LAST_STEP_HAS > max_age) {
            let what = format!(
                "{} leaves the last step, {:?} after {}, less than a day to be tried again",
                span::spoken(max_age),
                last.step.name,
                span::spoken(last.step.after)
            );
            let next = format!("write at least \"{}h\"", (last.step.after + LAST_STEP_HAS).num_hours());
            return Err(self.wrong("detect.max_age", what, &next));
        }
        Ok(steps)
    }

    fn template(&self, key: &str, file: Option<&str>) -> Result<Option<PathBuf>, Failure> {
        if file.is_some_and(|file| file.trim().is_empty() || file.chars().any(char::is_control)) {
            return Err(self.wrong(key, "is empty or holds a control character", "write a value there"));
        }
        Ok(file.map(|file| self.at(file)))
    }

    fn variants(
        &self,
        key: &str,
        tables: Vec<VariantTable>,
        (template, subject): (&Option<PathBuf>, &Subject),
        shop: Locale,
    ) -> Result<Vec<VariantSettings>, Failure> {
        let mut variants: Vec<VariantSettings> = Vec::new();
        for table in tables {
            if !is_step_name(&table.name) || variants.iter().any(|variant| variant.variant.name == table.name) {
                let next = "give each a name of its own: 1 to 32 lower-case letters, digits and hyphens";
                return Err(self.wrong(key, format!("the name {:?} is none, or is there twice", table.name), next));
            }
            let own = self.template(key, table.template.as_deref())?;
            let variant = Variant { name: table.name, weight: table.weight.unwrap_or(1) };
            if variant.weight == 0 {
                return Err(self.wrong(
                    key,
                    format!("{:?} has weight 0: nobody would get it", variant.name),
                    "write 1 or more",
                ));
            }
            variants.push(VariantSettings {
                variant,
                subject: table.subject.map_or_else(|| subject.clone(), |subject| subject.for_shop(shop)),
                template: own.or_else(|| template.clone()),
            });
        }
        Ok(variants)
    }
}

/// Whether a text can be the name of a step or a variant.
fn is_step_name(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=32).contains(&text.len()) && text.chars().all(allowed)
}
