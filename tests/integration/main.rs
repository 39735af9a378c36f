//! Tests drive the real binary.

mod detect;
mod exactly_once;
mod guards;
mod support;
mod support_itself;
