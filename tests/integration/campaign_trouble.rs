//! What keeps a campaign from being sent: told once, listed until it is settled, and mended.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use crate::support::World;

#[test]
fn a_campaigns_file_that_is_a_link_stays_one_and_keeps_its_mode() {
    let world = World::with_campaigns("").init();
    let (link, real) = (world.path("campaigns.toml"), world.path("versioned/real.toml"));
    fs::create_dir(world.path("versioned")).unwrap();
    fs::rename(&link, &real).unwrap();
    fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
    symlink("versioned/real.toml", &link).unwrap();
    let add = ["campaign", "add", "new", "--subject", "x", "--template", "letter.html", "--audience", "audience.csv"];
    let at = ["--at", "2027-01-01 09:00"];
    // Paths of a definition are relative to the file as it is named.
    world.ok([add.as_slice(), &at].concat());
    world.write("old.json", "[{\"campaign_id\": \"old\", \"schedule_time\": \"2026-03-02T09:00:00\", \"subject\": \"S\", \"template\": \"letter.html\", \"audience\": \"audience.csv\"}]");
    world.ok(["import", "schedules", "old.json"]);
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    let text = fs::read_to_string(&real).unwrap();
    assert!(text.contains("\"new\"") && text.contains("\"old\""), "{text}");
    assert_eq!(fs::metadata(&real).unwrap().permissions().mode() & 0o777, 0o640);
    assert!(!world.path("versioned/real.toml.new").exists());
    // A link that leads nowhere yet.
    fs::remove_file(&real).unwrap();
    world.write("letter.html", "x");
    let other = [&["campaign", "add", "other"], &add[3..], &at].concat();
    world.ok(other);
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink() && real.is_file());
}
