mod domain;
mod failure;
mod settings;
fn main() {}
