//! `explain`: why somebody got a mail, or got none; from the ledger and the shop, without writing to either.

mod answer;
mod asked;
mod known;
mod phrases;
mod prose;
mod timeline;

use anyhow::Result;
use serde_json::json;

use super::Context;
use super::detect::WeighedCart;
use crate::cli;
use crate::domain::instant;
use crate::failure::Exit;
use crate::ledger::Records;
use crate::run_lock::{Found, RunLock};
use crate::settings::SourceKind;
use answer::Answer;
use known::{Known, Shop};

pub fn run(context: &Context<'_>, args: &cli::Explain) -> Result<Exit> {
    let mut settings = context.settings_without_secrets()?;
    if matches!(settings.source.kind, SourceKind::Server(_)) {
        // Its password.
        settings = context.settings()?;
    }
    let remembered = RunLock::peek(&settings.ledger).unwrap_or(Found::Empty);
    let ledger = Records::open(settings.place())?;
    let (asked, also) = asked::recognise(&settings, &ledger, args)?;
    let known = Known::gather(&settings, &ledger, &remembered, asked, context.clock.now())?;
    let answer = Answer::of(&settings, &known);
    let history = timeline::events(&known);
    let (shop_read, shop_problem) = match &known.shop {
        Shop::Read(_) => (true, None),
        Shop::NotAsked => (false, None),
        Shop::Unreadable { problem, .. } => (false, Some(problem)),
    };
    let reasons = answer.about.and_then(|at| known.carts().get(at)).map_or(&[][..], |cart| &cart.findings);
    context.output.document(
        "explain",
        &json!({
            "asked": args.what,
            "as": known.asked.word(),
            "found": answer.found,
            "verdict": answer.verdict,
            "answer": answer.line,
            "cart_id": answer.about.and_then(|at| known.carts().get(at)).map(|cart| &cart.cart.cart_id),
            "reasons": reasons,
            "carts": known.carts().iter().map(cart_document).collect::<Vec<_>>(),
            "more_carts": known.more_carts(),
            "history": history,
            "history_left_out": known.stories.left_out,
            "suppressions": known.suppressions.iter().map(|row| json!({
                "list": row.list, "reason": row.reason, "added_at": row.added_at, "origin": row.origin,
            })).collect::<Vec<_>>(),
            "next": answer.next,
            "notes": known.notes.iter().chain(&also).collect::<Vec<_>>(),
            "ledger": ledger.path(),
            "source": settings.source.kind.described(),
            "source_read": shop_read,
            "source_problem": shop_problem,
        }),
    );
    for line in prose::lines(&known, &answer, &history, &also) {
        context.output.print(prose::tame(&line));
    }
    let well = answer.found && shop_problem.is_none();
    Ok(if well { Exit::Done } else { Exit::NeedsAPerson })
}

fn cart_document(weighed: &WeighedCart) -> serde_json::Value {
    let WeighedCart { cart, verdict, detail, findings, leaves_at, window_ends_at, .. } = weighed;
    json!({
        "cart_id": cart.cart_id,
        "verdict": verdict,
        "detail": detail,
        "leaves_at": leaves_at.map(instant::text),
        "touched_at": instant::text(cart.updated_at),
        "user_id": cart.user_id,
        "timezone": cart.timezone.map(|zone| zone.to_string()),
        "window_ends_at": window_ends_at.map(instant::text),
        "value": cart.value().map(|value| value.decimal()),
        "currency": cart.currency.code(),
        "reasons": findings,
    })
}
