//! Tests drive the real binary.
