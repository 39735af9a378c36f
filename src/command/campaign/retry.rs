//! `campaign retry`: messages of an opening planned anew, with a corrected template if one is named.

use std::path::Path;

use anyhow::Result;
use serde_json::json;

use super::super::Context;
use super::super::run_campaigns::definitions;
use super::{chosen, unknown};
use crate::delivery::CANNOT_BE_RENDERED;
use crate::domain::address::Address;
use crate::domain::campaign::Campaign;
use crate::domain::instant::Instant;
use crate::domain::span;
use crate::domain::state::{Retried, State};
use crate::failure::{Exit, Failure};
use crate::ledger::{OpenOccurrence, Records, Retemplated};
use crate::letters::campaign::{CampaignLetters, MOST_TRIED, TrialRow, read_row};
use crate::mail::translations::TemplateTexts;
use crate::output::count;
use crate::progress;
use crate::settings::Settings;

/// A corrected template for an opened occurrence: that of a file, or template and subject as the definition has them now.
///
/// # Errors
/// Exit 2: there is no definition to take it from. Exit 78: it cannot be read, or not be rendered for one of the messages
/// that it is for. Nothing was changed.
fn corrected(
    settings: &Settings,
    ledger: &Records,
    defined: Option<&Campaign>,
    occurrence: i64,
    file: Option<&Path>,
    states: &[Retried],
) -> Result<OpenOccurrence> {
    let mut corrected = ledger.open_occurrence_by_id(occurrence)?;
    let path = match (file, defined) {
        (Some(file), _) => file,
        (None, Some(campaign)) => {
            corrected.subject = campaign.subject.stored();
            &campaign.template
        }
        (None, None) => {
            let what = format!("campaign {} has no definition to take the template from", corrected.campaign_id);
            return Err(Failure::usage(what, "name a file: `--template FILE`; nothing was changed").into());
        }
    };
    corrected.template_name = path.display().to_string();
    let texts = TemplateTexts::read(path).map_err(|(path, err)| {
        let what = format!("the template {} cannot be read: {err}", path.display());
        Failure::config(what, "put it there").kept("nothing was changed")
    })?;
    corrected.template = texts.stored();
    let has_coupons = defined.is_some_and(|campaign| campaign.coupon.is_some());
    let letters = CampaignLetters::of(&corrected, settings)?.with_coupons(has_coupons);
    let retried: Vec<_> = states.iter().map(|which| which.stand()).collect();
    for which in [retried.as_slice(), &[(State::Planned, None)]] {
        let mut rows = Vec::new();
        for (at, (recipient, values)) in ledger.rows_that_stand(occurrence, which, MOST_TRIED)?.into_iter().enumerate()
        {
            let place = format!("recipient {} of those it is for", at + 1);
            let address = Address::parse(&recipient).map_err(anyhow::Error::from)?;
            let values = read_row(&values).map_err(anyhow::Error::msg)?;
            rows.push(TrialRow { place, address, values });
        }
        letters.try_on(&rows).map_err(|failure| failure.kept("nothing was changed"))?;
    }
    Ok(corrected)
}

/// What a retry without `--template` is written with, where the occurrence's own template refused some of its messages: the
/// definition's, if that is another by now.
fn mended(
    context: &Context<'_>,
    ledger: &Records,
    defined: Option<&Campaign>,
    occurrence: i64,
) -> Result<Option<Option<&'static Path>>> {
    let refused = ledger.count_refused_with(occurrence, CANNOT_BE_RENDERED)?;
    let Some(campaign) = defined.filter(|_| refused > 0) else { return Ok(None) };
    let opened_with = ledger.open_occurrence_by_id(occurrence)?;
    let is_mended = campaign.subject.stored() != opened_with.subject
        || TemplateTexts::read(&campaign.template).is_ok_and(|texts| texts.stored() != opened_with.template);
    if !is_mended {
        context.output.print(format!(
            "{} refused over the template, which is as the campaign opened with: correct {}, or the next run refuses the same again",
            count(refused, "message"),
            campaign.template.display()
        ));
    }
    Ok(is_mended.then_some(None))
}

pub(super) fn retry(
    context: &Context<'_>,
    settings: &Settings,
    id: &str,
    states: &[Retried],
    occurrence: Option<Instant>,
    template: Option<Option<&Path>>,
) -> Result<Exit> {
    let (_lock, mut ledger) = context.lock_and_ledger(settings, "campaign retry")?;
    let definitions = definitions(settings)?;
    if ledger.campaign(id)?.is_none() {
        return Err(unknown(id, &definitions).into());
    }
    let Some(row) = chosen(&ledger, id, occurrence)? else {
        return Err(Failure::usage(format!("campaign {id} has not opened yet"), "there is nothing to retry").into());
    };
    let defined = definitions.campaigns.iter().find(|campaign| campaign.id == id);
    let send_until = defined.map_or(settings.campaigns.send_until, |campaign| campaign.send_until);
    let now = context.clock.now();
    let expires_at = now + span::delta(send_until);
    let mut written_with = None;
    let template = match template {
        None if states.contains(&Retried::Refused) => mended(context, &ledger, defined, row.id)?,
        named => named,
    };
    if let Some(file) = template {
        let corrected = corrected(settings, &ledger, defined, row.id, file, states)?;
        let waiting = row.messages.get("planned").copied().unwrap_or(0);
        ledger.campaigns().retemplate(
            row.id,
            Retemplated {
                subject: &corrected.subject,
                template: &corrected.template,
                template_name: &corrected.template_name,
            },
        )?;
        context.output.print(format!(
            "{} is written with {} from now on{}",
            row.planned_at,
            corrected.template_name,
            if waiting > 0 { format!(", also {} of it", count(waiting, "planned message")) } else { String::new() }
        ));
        written_with = Some(corrected.template_name);
    }
    let progress = progress::bar("planning", None, context.output.json);
    let planned = ledger.campaigns().retry(row.id, states, expires_at, now, &mut |messages| progress.inc(messages))?;
    progress.finish_and_clear();
    let held_back = ledger.count_held_back(row.id)?;
    context.output.document("campaign-retry", &json!({ "campaign_id": id, "occurrence": row.planned_at, "planned": planned, "held_back": held_back, "template": written_with }),
    );
    context.output.print(format!(
        "{} of {} planned anew; `mailonce run-campaigns` sends them",
        count(planned, "message"),
        row.planned_at
    ));
    if held_back > 0 {
        context.output.print(format!(
            "{} held back when an old copy of the ledger was put back, left alone: each may have gone out already",
            count(held_back, "message")
        ));
    }
    Ok(Exit::Done)
}
