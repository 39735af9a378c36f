//! `coupon`: the pools of codes, filled and looked at; and what a person is told of them.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Result;
use comfy_table::{Table, presets::NOTHING};
use serde_json::json;

use super::Context;
use crate::cli;
use crate::domain::coupon::{Pool, folded};
use crate::domain::instant::Instant;
use crate::failure::{Exit, Failure};
use crate::ledger::{Ledger, Notice, Records};
use crate::output::count;
use crate::settings::Settings;
use crate::source::coupons::{self, CouponRow};

pub fn run(context: &Context<'_>, args: &cli::Coupon) -> Result<Exit> {
    let settings = context.settings()?;
    match args {
        cli::Coupon::Import { pool, file } => import(context, &settings, known(&settings, pool)?, file),
        cli::Coupon::List => list(context, &settings),
        cli::Coupon::Release { pool } => release(context, &settings, pool),
    }
}

/// The configured pool of this name.
///
/// # Errors
/// Exit 64, naming those that are.
fn known<'a>(settings: &'a Settings, name: &str) -> Result<&'a Pool, Failure> {
    settings.pools.iter().find(|pool| pool.name == name).ok_or_else(|| {
        let names: Vec<&str> = settings.pools.iter().map(|pool| pool.name.as_str()).collect();
        let next = match names.is_empty() {
            true => format!("add [[coupon]] with name = {name:?} to the configuration"),
            false => format!("write one of: {}", names.join(", ")),
        };
        Failure::usage(format!("there is no pool {name:?}"), next)
    })
}

fn import(context: &Context<'_>, settings: &Settings, pool: &Pool, file: &Path) -> Result<Exit> {
    let now = context.clock.now();
    let (mut codes, mut bad, mut ended, mut repeated) = (Vec::new(), 0, 0, 0);
    let mut seen = BTreeSet::new();
    coupons::read(file, settings.shop.timezone, &mut |row| match row {
        CouponRow::Code(coupon) if coupon.expires_at.is_some_and(|at| at <= now) => ended += 1,
        CouponRow::Code(coupon) if !seen.insert(folded(&coupon.code)) => repeated += 1,
        CouponRow::Code(coupon) => codes.push(coupon),
        CouponRow::Bad { line, problem } => {
            bad += 1;
            if bad <= MOST_BAD_ROWS_NAMED {
                context.output.alarm(format!("{}:{line}: {problem}; row left out", file.display()));
            }
        }
    })?;
    let mut ledger = context.ledger(settings)?;
    let mut imported = ledger.coupons().import(&pool.name, &codes, now)?;
    imported.repeated += repeated;
    let free = ledger.free_codes(pool, now, u64::MAX >> 1)?;
    context.output.document("coupon-import", &json!({
        "pool": pool.name, "added": imported.added, "repeated": imported.repeated, "ended": ended, "bad_rows": bad, "free": free,
    }));
    context.output.print(format!(
        "{}: {} added, {} known already, {} ended, {}; {} can be given now",
        pool.name,
        count(imported.added, "code"),
        imported.repeated,
        ended,
        count(bad, "bad row"),
        free
    ));
    Ok(if bad > 0 { Exit::NeedsAPerson } else { Exit::Done })
}

fn list(context: &Context<'_>, settings: &Settings) -> Result<Exit> {
    let ledger = Records::open(settings.place())?;
    let now = context.clock.now();
    let mut pools = ledger.pools(now)?;
    for state in &mut pools {
        // Of a pool that is configured, those that a message would be given now.
        if let Some(pool) = settings.pools.iter().find(|pool| pool.name == state.pool) {
            state.free = ledger.free_codes(pool, now, u64::MAX >> 1)?;
        }
    }
    context.output.document("coupon-list", &json!({ "pools": pools }));
    if pools.is_empty() && settings.pools.is_empty() {
        context.output.print("no pool; next: add [[coupon]] with a name to the configuration");
        return Ok(Exit::Done);
    }
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(["pool", "codes", "free", "given", "ended", "held", "next end"]);
    for pool in &pools {
        table.add_row(vec![
            pool.pool.clone(),
            pool.codes.to_string(),
            pool.free.to_string(),
            pool.given.to_string(),
            pool.expired.to_string(),
            pool.held.to_string(),
            pool.next_ends_at.clone().unwrap_or_default(),
        ]);
    }
    if !pools.is_empty() {
        context.output.print(table.trim_fmt());
    }
    for pool in &settings.pools {
        let name = &pool.name;
        if !pools.iter().any(|known| known.pool == *name) {
            context.output.print(format!("{name}: no codes; next: `mailonce coupon import {name} FILE`"));
        }
    }
    for pool in pools.iter().filter(|pool| pool.held > 0) {
        context.output.print(format!(
            "{}: {} on hold: an old copy of the ledger was put back, and some may have been given away since. If none was: `mailonce \
             coupon release {}`",
            pool.pool,
            count(pool.held, "code"),
            pool.pool
        ));
    }
    Ok(Exit::Done)
}

fn release(context: &Context<'_>, settings: &Settings, pool: &str) -> Result<Exit> {
    let released = context.ledger(settings)?.coupons().release(pool)?;
    context.output.document("coupon-release", &json!({ "pool": pool, "released": released }));
    context.output.print(format!("{} released", count(released, "code")));
    Ok(Exit::Done)
}

/// So many bad rows are named.
const MOST_BAD_ROWS_NAMED: u64 = 20;

/// What a person is to hear of pools that are nearly empty, each once, and once more when it is.
pub(super) fn tell_of_few(ledger: &mut Ledger, pools: &[Pool], now: Instant) -> Result<Vec<String>, Failure> {
    let mut standing = Vec::new();
    for pool in pools {
        let free = ledger.free_codes(pool, now, pool.warn_below.max(1))?;
        let name = &pool.name;
        if free == 0 {
            let line = format!(
                "the pool {name} has no coupon code left that is valid for long enough; next: `mailonce coupon import {name} FILE`"
            );
            standing.push(Notice { key: format!("{name}: empty"), line });
        } else if free < pool.warn_below {
            let line = format!(
                "the pool {name} has {} left (warn_below = {}); next: `mailonce coupon import {name} FILE`",
                count(free, "coupon code"),
                pool.warn_below
            );
            standing.push(Notice { key: name.clone(), line });
        }
    }
    let news = ledger.notices().note("coupon", &standing, now)?;
    let again = news.reminder.map(|_| standing.iter().map(|notice| notice.line.clone())).into_iter().flatten();
    Ok(news.new.iter().cloned().chain(again).collect())
}
