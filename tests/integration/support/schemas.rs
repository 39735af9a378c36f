//! What `--json` promises: every document that a test reads is held to its schema in `docs/schema/`.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

pub fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/schema"))
}

/// Fails where a document is not as its schema says.
#[track_caller]
pub fn check(document: &Value) {
    let name =
        document["schema"].as_str().unwrap_or_else(|| panic!("a document that does not say what it is: {document}"));
    let name = name.strip_prefix("mailonce/").and_then(|name| name.strip_suffix("/1")).expect("a name and a version");
    let schema =
        fs::read_to_string(folder().join(format!("{name}.json"))).unwrap_or_else(|err| panic!("{name}: {err}"));
    let schema: Value = serde_json::from_str(&schema).unwrap_or_else(|err| panic!("{name}: {err}"));
    let validator = jsonschema::validator_for(&schema).unwrap_or_else(|err| panic!("{name}: {err}"));
    let problems: Vec<String> =
        validator.iter_errors(document).map(|err| format!("{} at {}", err, err.instance_path)).collect();
    assert!(problems.is_empty(), "{name}: {}\n{document:#}", problems.join("\n"));
}
