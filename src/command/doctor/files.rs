//! The files of a run: who may do what with them, and the room on their disk.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use super::Findings;
use crate::command::run_campaigns;
use crate::domain::campaign::Audience;
use crate::run_lock::RunLock;
use crate::settings::Settings;
use crate::user::{self, Right};

/// Below this much room on the ledger's disk, nothing can be relied on.
const LEAST_ROOM: u64 = 32 << 20;
/// Below this much, it is time to look.
const LITTLE_ROOM: u64 = 512 << 20;

/// Whether the user who runs this may do what a run does with its files. What is not there, others look for.
pub(super) fn look_at_rights(settings: &Settings, findings: &mut Findings) {
    let folder = folder_of(&settings.ledger);
    let mut needed = vec![
        (Right::Write, folder.canonicalize().unwrap_or_else(|_| folder.to_owned())),
        (Right::Read, settings.ledger.clone()),
        (Right::Write, settings.ledger.clone()),
        (Right::Read, RunLock::path_for(&settings.ledger)),
        (Right::Write, RunLock::path_for(&settings.ledger)),
    ];
    needed.extend(settings.detect.template.iter().map(|file| (Right::Read, file.clone())));
    needed.extend(settings.campaigns.file.iter().map(|file| (Right::Read, file.clone())));
    for campaign in run_campaigns::definitions(settings).map_or(Vec::new(), |definitions| definitions.campaigns) {
        needed.push((Right::Read, campaign.template));
        if let Audience::Csv(file) | Audience::JsonLines(file) = campaign.audience {
            needed.push((Right::Read, file));
        }
    }
    needed.retain(|(right, file)| is_there(file) && !user::may(*right, file));
    needed.dedup_by(|(_, file), (_, before)| file == before);
    let user = user::name_of(user::this());
    if needed.is_empty() {
        findings.ok("rights", format!("{user} may do all that a run does with its files"));
    }
    for (right, file) in needed {
        let what = format!("{user} may not {} {}: {}", right.word(), file.display(), user::owner_of(&file));
        findings.fail(
            "rights",
            what,
            "run doctor as the user that cron runs as; if this is that user, grant it the right",
        );
    }
}

/// Whether a file is there, as far as this user can see.
fn is_there(file: &Path) -> bool {
    std::fs::metadata(file).err().is_none_or(|err| err.kind() != std::io::ErrorKind::NotFound)
}

pub(super) fn look_at_permissions(settings: &Settings, findings: &mut Findings) {
    let mut sound = true;
    let mut files = vec![settings.ledger.clone(), RunLock::path_for(&settings.ledger)];
    for end in ["-wal", "-shm"] {
        let mut name = settings.ledger.clone().into_os_string();
        name.push(end);
        files.push(name.into());
    }
    let user = user::this();
    let mut of_a_group = false;
    for file in files {
        let Ok(meta) = std::fs::metadata(&file) else { continue };
        let mode = meta.permissions().mode() & 0o777;
        // A group that may read was let in by a person; see docs/ledger.md.
        of_a_group |= mode & 0o040 != 0;
        if mode & 0o037 != 0 {
            sound = false;
            let what = format!("{} is open to others (mode {mode:04o}), and holds addresses", file.display());
            findings.fail("permissions", what, format!("chmod 600 {}", file.display()));
        }
        if meta.uid() != user {
            sound = false;
            let (owner, user) = (user::name_of(meta.uid()), user::name_of(user));
            let what = format!("{} belongs to {owner}, and this is {user}", file.display());
            findings.warn("permissions", what, "run every command that writes, and doctor, as the user cron runs as");
        }
    }
    if sound {
        let whose = if of_a_group { "this user only; their group may read" } else { "this user only" };
        findings.ok("permissions", format!("the ledger and what lies beside it are for {whose}"));
    }
}

pub(super) fn look_at_room(settings: &Settings, findings: &mut Findings) {
    let Ok(room) = fs2::available_space(&settings.ledger) else { return };
    let said = format!("{} MB are free for the ledger", room >> 20);
    match room {
        ..LEAST_ROOM => findings.fail("disk", said, "make room: a full disk ends every run with exit 74"),
        LEAST_ROOM..LITTLE_ROOM => findings.warn("disk", said, "make room before it is full"),
        _ => findings.ok("disk", said),
    }
}

pub(super) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
