//! What the tests stand on: a world of files, a shop, and a mail server that does as it is told.

#![allow(dead_code, unused_imports, reason = "no single test file uses every word of it")]

pub mod campaigns;
pub mod certificates;
pub mod database;
pub mod old_log;
pub mod postfix;
pub mod process;
pub mod schemas;
mod shop;
pub mod smtp;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub mod trace;
pub mod world;

use tempfile::TempDir;

pub use campaigns::{definition, people};
pub use database::{Database, DatabaseServer, Engine};
pub use old_log::PLAIN;
pub use postfix::Postfix;
pub use process::{Process, free_port, installed, listening, wait_until};
pub use shop::{Cart, Kind, Spelling};
pub use smtp::{Act, Plan, Server, Stage, Tls, header};
pub use world::{Ran, Running, World};

/// A folder in memory, where there is one with room: what is killed in a test is a process, and what it wrote outlives it
/// there as well. With `TMPDIR` set it is in that one, so that the tests can be run on any disk.
pub fn folder() -> TempDir {
    const IN_MEMORY: &str = "/dev/shm";
    const ROOM: u64 = 4 << 30;
    let has_room = fs2::available_space(IN_MEMORY).is_ok_and(|bytes| bytes >= ROOM);
    let folder = match std::env::var_os("TMPDIR") {
        None if has_room => tempfile::tempdir_in(IN_MEMORY).or_else(|_| tempfile::tempdir()),
        _ => tempfile::tempdir(),
    };
    folder.expect("a temporary folder")
}
