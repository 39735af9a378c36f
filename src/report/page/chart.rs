//! Bars as SVG paths: one for each kind, so that a year of days is a few kilobytes.

use std::fmt::Write;

use serde::Serialize;

use super::Page;
use super::health::Returned;
use super::html::NAME_SHOWN;
use super::mask::plain;
use super::tally::Counts;

/// In the units of the picture, which is stretched to its place.
const WIDTH: f64 = 600.0;
const HEIGHT: f64 = 100.0;
/// The lines at which Gmail warns, and blocks: complaints per thousand.
const RATE_LINES: [f64; 2] = [1.0, 3.0];

/// A picture: paths by the class that fills them.
#[derive(Debug, Serialize)]
pub struct Chart {
    pub width: f64,
    pub height: f64,
    pub paths: Vec<Path>,
    /// Horizontal or vertical lines, as a path.
    pub lines: String,
    /// What the highest bar stands for.
    pub most: u64,
    pub first: String,
    pub last: String,
}

#[derive(Debug, Serialize)]
pub struct Path {
    pub class: &'static str,
    pub d: String,
}

/// All pictures of a page; `None` where there is nothing to see.
#[derive(Debug, Serialize)]
pub struct Charts {
    pub days: Option<Chart>,
    pub deferrals: Option<Chart>,
    pub rates: Option<Rates>,
    pub funnel: Vec<Funnel>,
}

/// The bars of one step: its messages, those sent, those that an order followed.
#[derive(Debug, Serialize)]
pub struct Funnel {
    pub step: String,
    pub bars: Vec<Bar>,
}

#[derive(Debug, Serialize)]
pub struct Bar {
    pub label: &'static str,
    pub class: &'static str,
    pub number: u64,
    /// From 0 to the width of the picture.
    pub width: f64,
}

#[derive(Debug, Serialize)]
pub struct Rates {
    pub bars: Vec<RateBar>,
    /// Where the lines at 1 and 3 stand.
    pub lines: Vec<f64>,
    pub width: f64,
}

#[derive(Debug, Serialize)]
pub struct RateBar {
    pub of: &'static str,
    pub what: &'static str,
    pub class: &'static str,
    pub rate: f64,
    pub width: f64,
}

pub fn charts(page: &Page) -> Charts {
    let days: Vec<_> = page.days.rows.iter().map(|day| (day.from.as_str(), day.counts)).collect();
    let stacked = |counts: &Counts| {
        [
            ("sent", counts.sent),
            ("skipped", counts.skipped),
            ("come", counts.to_come),
            ("refused", counts.refused),
            ("doubt", counts.in_doubt),
        ]
    };
    let deferrals: Vec<_> = page.health.deferrals.iter().map(|day| (day.from.as_str(), day.tries)).collect();
    Charts {
        days: bars(&days, stacked),
        deferrals: bars(&deferrals, |tries| [("skipped", *tries)]),
        rates: rates(page),
        funnel: funnel(page),
    }
}

fn bars<T, const N: usize>(rows: &[(&str, T)], parts: impl Fn(&T) -> [(&'static str, u64); N]) -> Option<Chart> {
    let most = rows.iter().map(|(_, row)| parts(row).iter().map(|(_, number)| number).sum::<u64>()).max()?;
    if most == 0 {
        return None;
    }
    let pitch = WIDTH / rows.len() as f64;
    let mut paths: Vec<Path> = parts(&rows[0].1).iter().map(|(class, _)| Path { class, d: String::new() }).collect();
    for (at, (_, row)) in rows.iter().enumerate() {
        let mut y = HEIGHT;
        for ((_, number), path) in parts(row).iter().zip(&mut paths).filter(|((_, number), _)| *number > 0) {
            // One message in a day of thousands is a line, not nothing.
            let height = (*number as f64 / most as f64 * HEIGHT).max(0.7);
            y -= height;
            let (x, width) = (at as f64 * pitch, pitch * 0.86);
            let _ = write!(path.d, "M{x:.1} {y:.1}h{width:.1}v{height:.1}h-{width:.1}z");
        }
    }
    paths.retain(|path| !path.d.is_empty());
    let lines = [0.25, 0.5, 0.75].iter().map(|share| format!("M0 {:.0}h{WIDTH:.0}", share * HEIGHT)).collect();
    let (first, last) = (rows[0].0.to_owned(), rows[rows.len() - 1].0.to_owned());
    Some(Chart { width: WIDTH, height: HEIGHT, paths, lines, most, first, last })
}

fn funnel(page: &Page) -> Vec<Funnel> {
    let Some(carts) = &page.carts else { return Vec::new() };
    let most = carts.steps.iter().map(|step| step.counts.messages).max().unwrap_or(0).max(1);
    let bar = |label, class, number: u64| Bar { label, class, number, width: number as f64 / most as f64 * WIDTH };
    carts
        .steps
        .iter()
        .map(|step| Funnel {
            step: plain(&step.step, NAME_SHOWN),
            bars: [
                Some(bar("planned", "come", step.counts.messages)),
                Some(bar(page.sent_word, "sent", step.counts.sent)),
                step.ordered.as_ref().map(|ordered| bar("ordered", "ordered", ordered.messages)),
            ]
            .into_iter()
            .flatten()
            .collect(),
        })
        .collect()
}

fn rates(page: &Page) -> Option<Rates> {
    let of = |row: &Returned| {
        [
            ("complaints", "refused", row.complaints_per_thousand),
            ("unsubscribes", "skipped", row.unsubscribes_per_thousand),
        ]
        .map(|(what, class, rate)| rate.map(|rate| (row.of, what, class, rate)))
    };
    let bars: Vec<_> = page.health.returned.iter().flat_map(of).flatten().collect();
    let most = bars.iter().map(|(.., rate)| *rate).fold(RATE_LINES[1] * 1.25, f64::max);
    let scaled = |rate: f64| rate / most * WIDTH;
    let shown =
        bars.iter().map(|(of, what, class, rate)| RateBar { of, what, class, rate: *rate, width: scaled(*rate) });
    (!bars.is_empty()).then(|| Rates { bars: shown.collect(), lines: RATE_LINES.map(scaled).into(), width: WIDTH })
}
