//! Tests drive the real binary.

mod detect;
mod support;
mod support_itself;
