//! Tests drive the real binary.

mod add_index;
mod audit;
mod bad_rows;
mod campaign;
mod campaign_trouble;
mod cleanup_duplicates;
mod clock;
mod constraints;
mod data;
mod demo;
mod detect;
mod docs;
mod doctor;
mod exactly_once;
mod examples;
mod expiry;
mod failures;
mod guards;
mod import_log;
mod import_schedules;
mod import_suppressions;
mod init;
mod judged;
mod ledger_place;
mod preview;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod proof;
mod resolve;
mod run_campaigns;
mod settings;
mod status_and_log;
mod support;
mod support_itself;
mod suppress;
mod upgrade;
mod wire;
