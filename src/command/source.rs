//! `source`: the queries in force, and what is read with them.

use anyhow::Result;
use chrono::TimeDelta;
use serde::Serialize;

use super::Context;
use super::detect::by_itself;
use crate::cli;
use crate::domain::address;
use crate::domain::cart::Cart;
use crate::domain::instant;
use crate::domain::span;
use crate::failure::{Exit, Failure};
use crate::output::count;
use crate::settings::Settings;
use crate::source::{self, BadRow, Look, Row, Source, Touched};

pub fn run(context: &Context<'_>, command: &cli::Source) -> Result<Exit> {
    let settings = context.settings()?;
    match command {
        cli::Source::Queries => queries(context, &settings),
        cli::Source::Carts { cart_id, limit } => carts(context, &settings, *limit, cart_id.as_deref()),
    }
}

fn queries(context: &Context<'_>, settings: &Settings) -> Result<Exit> {
    let source = &settings.source;
    let product = source.preset.as_ref().and_then(|preset| preset.product());
    let queries = [
        ("carts", source.carts.as_ref()),
        ("cart", source.cart.as_ref()),
        ("ordered", source.ordered.as_ref()),
        ("orders", source.orders.as_ref()),
        ("product", product.as_ref()),
    ];
    let in_force: Vec<_> = queries.into_iter().filter_map(|(key, query)| Some((key, query?))).collect();
    if in_force.is_empty() {
        let next =
            "docs/guide.md has the tables that are read; set source.carts to a query of your own, or source.shop";
        return Err(
            Failure::config("no query is configured: the tables carts, cart_items and orders are read", next).into()
        );
    }
    context.output.document(
        "source-queries",
        &serde_json::json!({ "queries": in_force.iter().copied().collect::<std::collections::BTreeMap<_, _>>() }),
    );
    for (key, query) in in_force {
        let query = query.trim_end();
        context.output.print(match key {
            // There is no such key: it is asked besides.
            "product" => format!("# product = '''\n# {}\n# '''", query.replace('\n', "\n# ")),
            key => format!("{key} = '''\n{query}\n'''\n"),
        });
    }
    Ok(Exit::Done)
}

/// A cart as people may see it: without its address, and without the link, which may log someone in.
#[derive(Debug, Serialize)]
struct Shown {
    cart_id: String,
    /// `write`, or why not.
    verdict: &'static str,
    detail: String,
    email: String,
    is_guest: bool,
    updated_at: String,
    consent: Option<bool>,
    has_link: bool,
    locale: Option<String>,
    lines: Vec<ShownLine>,
    total: Option<String>,
}

#[derive(Debug, Serialize)]
struct ShownLine {
    sku: String,
    name: String,
    quantity: String,
    unit_price: Option<String>,
    has_picture: bool,
}

fn carts(context: &Context<'_>, settings: &Settings, limit: usize, cart_id: Option<&str>) -> Result<Exit> {
    let mut source = source::open(&settings.source)?;
    let rows = match cart_id {
        Some(cart_id) => match source.cart(cart_id)? {
            Look::Cart(cart) => vec![Row::Cart(cart)],
            Look::Bad(bad) => vec![Row::Bad(bad)],
            Look::Gone => Vec::new(),
        },
        None => due(context, settings, source.as_mut(), limit)?,
    };
    let (mut shown, mut bad_rows) = (Vec::new(), Vec::new());
    for row in rows {
        match row {
            Row::Bad(BadRow { place, problem, .. }) => bad_rows.push(format!("{place}: {problem}")),
            Row::Cart(cart) => shown.push(show(context, settings, source.as_mut(), &cart)?),
        }
    }
    context.output.document("source-carts", &serde_json::json!({ "carts": shown, "bad_rows": bad_rows }));
    for cart in &shown {
        print(context, cart);
    }
    for bad in &bad_rows {
        context.output.print(format!("bad row  {bad}"));
    }
    let found = (shown.len() + bad_rows.len()) as u64;
    context.output.print(match (found, cart_id) {
        (0, Some(cart_id)) => format!("the shop has no cart {cart_id:?}, or does not show it"),
        (0, None) => "no cart is idle and within reach; `mailonce source carts ID` shows any one".into(),
        (found, _) => format!("{} shown; nothing was written, and the ledger was not asked", count(found, "cart")),
    });
    Ok(Exit::Done)
}

/// The first carts that a run would look at.
fn due(context: &Context<'_>, settings: &Settings, source: &mut dyn Source, limit: usize) -> Result<Vec<Row>> {
    let (detect, now) = (&settings.detect, context.clock.now());
    let idle_before = now - span::delta(detect.idle);
    let not_before = now - span::delta(detect.max_age) + TimeDelta::seconds(1);
    let not_before = detect.since.map_or(not_before, |since| since.max(not_before));
    let touched = Touched { not_before, idle_before, fresh_until: idle_before };
    let mut rows = Vec::new();
    let read = source.read_carts(&touched, &mut |row| {
        if rows.len() < limit {
            rows.push(row);
        }
        // There is no other way to end a reading before its time.
        if rows.len() < limit { Ok(()) } else { Err(anyhow::anyhow!("enough was read")) }
    });
    if rows.len() < limit {
        read?;
    }
    Ok(rows)
}

fn show(context: &Context<'_>, settings: &Settings, source: &mut dyn Source, cart: &Cart) -> Result<Shown> {
    let (verdict, detail) = match by_itself(settings, context.clock.now(), cart) {
        Some(found) => found,
        None if source.ordered(cart)? => ("ordered", String::new()),
        None => ("write", String::new()),
    };
    let line = |line: &crate::domain::cart::CartLine| ShownLine {
        sku: line.sku.clone(),
        name: address::masked(&line.name),
        quantity: line.quantity.to_string(),
        unit_price: line.unit_price.map(|price| price.display()),
        has_picture: line.image_url.is_some(),
    };
    Ok(Shown {
        cart_id: address::masked(&cart.cart_id),
        verdict,
        detail,
        email: address::masked(&cart.email.envelope()),
        is_guest: cart.user_id.is_none(),
        updated_at: instant::text(cart.updated_at),
        consent: cart.consent,
        has_link: cart.recovery_url.is_some(),
        locale: cart.locale.map(|locale| locale.to_string()),
        lines: cart.lines.iter().map(line).collect(),
        total: cart.value().map(|value| value.display()),
    })
}

fn print(context: &Context<'_>, cart: &Shown) {
    let Shown { cart_id, email, updated_at, verdict, detail, .. } = cart;
    let becomes = match (*verdict, detail.as_str()) {
        ("write", _) => "would be written to, if the ledger has nothing against it".to_owned(),
        (verdict, "") => format!("left out: {verdict}"),
        (verdict, detail) => format!("left out: {verdict} ({detail})"),
    };
    let consent = cart.consent.map_or("not known", |yes| if yes { "yes" } else { "no" });
    let who = if cart.is_guest { "guest" } else { "customer" };
    let link = if cart.has_link { "a link of its own" } else { "no link of its own" };
    context.output.print(format!("cart {cart_id}  {email} ({who}), touched {updated_at}, consent {consent}, {link}"));
    for ShownLine { sku, name, quantity, unit_price, has_picture } in &cart.lines {
        let price = unit_price.as_deref().unwrap_or("no price");
        let picture = if *has_picture { ", picture" } else { "" };
        context.output.print(format!("    {quantity} × {name} ({sku}), {price}{picture}"));
    }
    context.output.print(format!("    total {}; {becomes}", cart.total.as_deref().unwrap_or("not shown")));
}
