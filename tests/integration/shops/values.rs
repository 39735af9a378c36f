//! What databases make of times, numbers and texts.
