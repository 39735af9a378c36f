//! Servers that cannot be reached, do not answer, or end in the middle.
