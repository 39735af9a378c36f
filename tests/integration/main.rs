//! Tests drive the real binary.

mod add_index;
mod bad_rows;
mod campaign;
mod cleanup_duplicates;
mod demo;
mod detect;
mod exactly_once;
mod examples;
mod guards;
mod import_log;
mod import_schedules;
mod import_suppressions;
mod init;
mod preview;
mod run_campaigns;
mod settings;
mod status_and_log;
mod support;
mod support_itself;
mod suppress;
