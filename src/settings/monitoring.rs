//! `[metrics]` and `[heartbeat]`: what tells a shop's monitoring that runs take place.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::checker::Checker;
use super::{HeartbeatSettings, MetricsSettings};
use crate::domain::web_address::is_web_address;
use crate::failure::Failure;

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct MetricsTable {
    file: Option<String>,
    ledger: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct HeartbeatTable {
    detect: Option<String>,
    detect_file: Option<String>,
    run_campaigns: Option<String>,
    run_campaigns_file: Option<String>,
    bounces: Option<String>,
    bounces_file: Option<String>,
}

impl Checker<'_> {
    pub(super) fn metrics(&self, table: MetricsTable) -> Result<Option<MetricsSettings>, Failure> {
        let Some(file) = table.file else { return Ok(None) };
        if !file.ends_with(".prom") {
            let what = format!("{file:?} does not end in .prom");
            return Err(self.wrong("metrics.file", what, "node_exporter's textfile collector reads no others"));
        }
        Ok(Some(MetricsSettings { file: self.at(&file), ledger: table.ledger }))
    }

    pub(super) fn heartbeat(&self, table: HeartbeatTable) -> Result<HeartbeatSettings, Failure> {
        let mut urls = BTreeMap::new();
        for (command, key, url, file) in [
            ("detect", "heartbeat.detect", table.detect, table.detect_file),
            ("run-campaigns", "heartbeat.run_campaigns", table.run_campaigns, table.run_campaigns_file),
            ("bounces", "heartbeat.bounces", table.bounces, table.bounces_file),
        ] {
            let file_key = format!("{key}_file");
            let (key, url) = match (url, file) {
                (Some(_), Some(_)) => {
                    let what = format!("{key} is set as well, and only one of them can be");
                    return Err(self.wrong(&file_key, what, "remove one"));
                }
                (url, None) => (key, url),
                (None, Some(file)) => {
                    let bytes = self.secret(&file_key, &file, "write the address into that file, mode 0600")?;
                    (file_key.as_str(), bytes.map(|bytes| String::from_utf8_lossy(bytes.trim_ascii_end()).into_owned()))
                }
            };
            let Some(url) = url else { continue };
            if !is_web_address(&url) || url.contains(['?', '#']) {
                let next = "write https://… as your monitoring shows it, without anything behind a ? or #";
                return Err(self.wrong(key, "is no web address to call", next));
            }
            if cfg!(not(feature = "heartbeat")) {
                return Err(self.wrong(
                    key,
                    "this mailonce was built without heartbeats",
                    "build it with --features heartbeat",
                ));
            }
            urls.insert(command, url.trim_end_matches('/').to_owned());
        }
        Ok(HeartbeatSettings { urls })
    }
}
