//! `[source]` of a shop that there is a preset for.

use super::checker::Checker;
use super::file::{Kind, Source};
use super::{Failure, Tz};
use crate::domain::engine::Engine;
use crate::shops::{self, Preset, SHOPS, Times};

impl Checker<'_> {
    /// The preset that `source.shop` names.
    ///
    /// # Errors
    /// Exit 78: a shop that is not known, a key that it does not have or that it lacks, times of another zone.
    pub(super) fn preset(&self, source: &Source) -> Result<Option<Preset>, Failure> {
        let Some(name) = &source.shop else {
            let of_presets = [
                ("table_prefix", source.table_prefix.is_some()),
                ("stores", source.stores.is_some()),
                ("base_url", source.base_url.is_some()),
                ("language", source.language.is_some()),
                ("recovery_url", source.recovery_url.is_some()),
            ];
            return match of_presets.iter().find(|(_, is_set)| *is_set) {
                Some((key, _)) => Err(self.wrong(
                    &format!("source.{key}"),
                    "only a preset has that",
                    "remove it, or set source.shop; docs/shops.md has the presets",
                )),
                None => Ok(None),
            };
        };
        let shop = shops::find(name).map_err(|nearest| {
            let names: Vec<&str> = SHOPS.iter().map(|shop| shop.name).collect();
            let what = format!("{name:?} is no preset; the nearest is {nearest:?}");
            self.wrong("source.shop", what, &format!("write one of {}", names.join(", ")))
        })?;
        match (shop.times, source.timezone) {
            (Times::Utc, Some(zone)) if zone.0 != Tz::UTC => {
                let what = format!("{} keeps its times in UTC", shop.title);
                return Err(self.wrong("source.timezone", what, "remove it"));
            }
            (Times::Wall(place), None) => {
                let what = format!("is missing: {} keeps the times of its own clock", shop.title);
                return Err(self.wrong("source.timezone", what, &format!("write that clock's zone ({place})")));
            }
            _ => {}
        }
        if source.carts.is_some() != source.cart.is_some() {
            let (key, other) = if source.cart.is_some() { ("carts", "cart") } else { ("cart", "carts") };
            return Err(self.wrong(
                &format!("source.{key}"),
                format!("is missing: source.{other} is a query of your own, and the two must agree about each cart"),
                "write both; `mailonce source queries` without them prints those of the preset",
            ));
        }
        if source.stores.as_ref().is_some_and(Vec::is_empty) {
            return Err(self.wrong("source.stores", "names no store", "remove it for all, or list their numbers"));
        }
        let preset = Preset {
            shop,
            table_prefix: source.table_prefix.clone(),
            stores: source.stores.clone().unwrap_or_default(),
            base_url: source.base_url.clone(),
            language: source.language.clone(),
            recovery_url: source.recovery_url.clone(),
        };
        preset.check().map_err(|(key, what, next)| self.wrong(&format!("source.{key}"), what, &next))?;
        Ok(Some(preset))
    }

    /// `source.kind`, which a preset implies.
    pub(super) fn kind(&self, source: &Source, preset: Option<&Preset>) -> Result<Kind, Failure> {
        let kind = |engine: &Engine| if *engine == Engine::MySql { Kind::Mysql } else { Kind::Postgres };
        match (source.kind, preset) {
            (Some(kind), None) => Ok(kind),
            (None, None) => {
                let next = "write \"sqlite\", \"jsonl\", \"csv\", \"mysql\" or \"postgres\", or set source.shop";
                Err(self.missing("source.kind", next))
            }
            (None, Some(preset)) => {
                let begins = |engine: &&Engine| source.url.as_deref().is_some_and(|url| url.starts_with(engine.word()));
                let engines = preset.shop.engines;
                Ok(kind(engines.iter().find(begins).unwrap_or(&engines[0])))
            }
            (Some(given), Some(preset)) => {
                let words: Vec<String> =
                    preset.shop.engines.iter().map(|engine| format!("{:?}", engine.word())).collect();
                match preset.shop.engines.iter().any(|engine| kind(engine) == given) {
                    true => Ok(given),
                    false => Err(self.wrong(
                        "source.kind",
                        format!("{} keeps its carts in {}", preset.shop.title, words.join(" or ")),
                        "remove it: the preset says it",
                    )),
                }
            }
        }
    }
}
