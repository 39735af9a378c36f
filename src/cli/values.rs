//! Values as they are typed.

use std::time::Duration;

use chrono::{NaiveDate, TimeDelta};
use clap::builder::{PossibleValuesParser, TypedValueParser};

use crate::domain::instant::{self, Instant};
use crate::domain::locale::Locale;
use crate::domain::span;

/// From when on: an instant, or a length of time before now.
#[derive(Debug, Clone, Copy)]
pub enum Since {
    At(Instant),
    Ago(Duration),
}

impl Since {
    pub fn from(self, now: Instant) -> Instant {
        match self {
            Since::At(at) => at,
            Since::Ago(span) => now.checked_sub_signed(span::delta(span)).unwrap_or(Instant::MIN_UTC),
        }
    }
}

pub(super) fn parse_since(text: &str) -> Result<Since, String> {
    span::parse(text)
        .map(Since::Ago)
        .or_else(|_| parse_instant(text).map(Since::At))
        .map_err(|_| format!("{text:?} is neither a time such as 2026-03-01T08:00:00Z nor a length of time such as 2h"))
}

/// The same for an end: a date alone is the last second of that day.
pub(super) fn parse_until(text: &str) -> Result<Since, String> {
    let until = parse_since(text)?;
    Ok(match until {
        Since::At(day) if NaiveDate::parse_from_str(text.trim(), "%Y-%m-%d").is_ok() => {
            Since::At(day + TimeDelta::seconds(24 * 60 * 60 - 1))
        }
        until => until,
    })
}

/// Takes one of these values by its word.
pub(super) fn one_of<T: Copy + Send + Sync + 'static>(
    all: &'static [T],
    word: fn(T) -> &'static str,
    of_word: fn(&str) -> Option<T>,
) -> impl TypedValueParser<Value = T> {
    PossibleValuesParser::new(all.iter().copied().map(word)).try_map(move |given| of_word(&given).ok_or("is unknown"))
}

/// Parses a window: whole seconds, at least one.
pub(super) fn parse_window(text: &str) -> Result<Duration, String> {
    span::parse(text).and_then(|span| match span.as_secs() {
        0 => Err("must be at least 1s".into()),
        seconds => Ok(Duration::from_secs(seconds)),
    })
}

pub(super) fn parse_reason(text: &str) -> Result<String, String> {
    let text = text.trim();
    let sound = !text.is_empty() && !text.chars().any(char::is_control);
    sound.then(|| text.to_owned()).ok_or_else(|| "say why, in one line".to_owned())
}

/// Parses an instant; one without an offset is UTC.
pub(super) fn parse_instant(text: &str) -> Result<Instant, String> {
    instant::parse(text, chrono_tz::Tz::UTC)
        .ok_or_else(|| format!("{text:?} is no time; write for example 2026-03-01T08:00:00Z"))
}

pub(super) fn parse_locale(text: &str) -> Result<Locale, String> {
    Locale::parse(text).ok_or_else(|| "no language tag; write for example de or pt-BR".to_owned())
}
