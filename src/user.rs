//! Users of this machine: who runs this, and what they may do with a file.

use std::ffi::{CStr, CString};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What is to be done with a file or folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    Read,
    Write,
}

impl Right {
    pub fn word(self) -> &'static str {
        match self {
            Right::Read => "read",
            Right::Write => "write",
        }
    }
}

/// The number of the user with whose rights this process works.
pub fn this() -> u32 {
    // SAFETY: geteuid has no preconditions.
    unsafe { libc::geteuid() }
}

/// The user's name, or `uid 1001` where the system knows none.
pub fn name_of(uid: u32) -> String {
    // SAFETY: what getpwuid points to is copied before anything else can ask it, as only the main thread does.
    let name = unsafe {
        let entry = libc::getpwuid(uid);
        (!entry.is_null()).then(|| CStr::from_ptr((*entry).pw_name).to_string_lossy().into_owned())
    };
    name.unwrap_or_else(|| format!("uid {uid}"))
}

/// Whether this user may do that with what is there.
pub fn may(right: Right, path: &Path) -> bool {
    let Ok(name) = CString::new(path.as_os_str().as_encoded_bytes()) else { return false };
    let mode = match right {
        Right::Read => libc::R_OK,
        Right::Write => libc::W_OK,
    };
    // SAFETY: the pointer is valid for the call.
    unsafe { libc::faccessat(libc::AT_FDCWD, name.as_ptr(), mode, libc::AT_EACCESS) == 0 }
}

/// Whose a file is and who may use it: `belongs to mailonce, mode 0600`; of the nearest folder above it that is shown.
pub fn owner_of(path: &Path) -> String {
    let shown = path.ancestors().find_map(|path| Some((path, std::fs::metadata(path).ok()?)));
    let Some((shown, meta)) = shown else { return "its folder is not shown".into() };
    let whose = if shown == path { "it".into() } else { shown.display().to_string() };
    format!("{whose} belongs to {}, mode {:04o}", name_of(meta.uid()), meta.mode() & 0o7777)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_a_name_or_a_number_and_a_file_an_owner() {
        assert_eq!(name_of(0), "root");
        assert_eq!(name_of(4_000_000_001), "uid 4000000001");
        assert!(owner_of(Path::new("/nowhere/at/all")).starts_with("/ belongs to root, mode 0"));
        assert!(may(Right::Read, Path::new("/")) && !may(Right::Read, Path::new("/nowhere")));
    }
}
