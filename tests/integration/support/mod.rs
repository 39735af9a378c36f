//! What the tests stand on: a world of files, a shop, and a mail server that does as it is told.

#![allow(dead_code, unused_imports, reason = "no single test file uses every word of it")]

pub mod campaigns;
pub mod old_log;
pub mod shop;
pub mod smtp;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub mod trace;
pub mod world;

pub use campaigns::{definition, people};
pub use old_log::PLAIN;
pub use shop::{Cart, Kind, Spelling};
pub use smtp::{Act, Plan, Server, Stage, Tls};
pub use world::{Ran, Running, World};
