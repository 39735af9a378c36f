//! A file that others read while it is made anew: they have the old one or the new, never a part.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Whether the file outlives a loss of power.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lasting {
    /// It is on the disk before its name leads to it.
    Yes,
    /// It is made anew soon.
    No,
}

/// Writes the file beside its place, and puts it there whole with this mode. A link is replaced, not followed.
///
/// # Errors
/// What was there stays as it was, and nothing is left beside it. No error has the name of the file beside it: that says
/// nothing to anyone.
pub fn replace(path: &Path, content: &[u8], mode: u32, lasting: Lasting) -> io::Result<()> {
    // Made here: an error of tempfile's own has the name in it. Nobody else reads it before it has its mode.
    let open = |beside: &Path| OpenOptions::new().write(true).create_new(true).mode(0o600).open(beside);
    let mut file = tempfile::Builder::new().prefix(".mailonce-").make_in(folder_of(path), open)?;
    file.as_file_mut().write_all(content)?;
    // The process's umask has taken bits away.
    file.as_file().set_permissions(Permissions::from_mode(mode))?;
    if lasting == Lasting::Yes {
        file.as_file().sync_all()?;
    }
    file.persist(path).map(drop).map_err(|err| err.error)
}

pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Where a link leads; the path itself where there is none, and where nothing is yet.
///
/// # Errors
/// The link leads nowhere, or around in a circle.
pub fn followed(path: &Path) -> io::Result<PathBuf> {
    match fs::canonicalize(path) {
        Err(_) if !fs::symlink_metadata(path).is_ok_and(|there| there.is_symlink()) => Ok(path.to_owned()),
        followed => followed,
    }
}
