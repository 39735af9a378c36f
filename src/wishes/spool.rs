//! The folder where a shop's page leaves a file for each click on an unsubscribe link, named by its token.
//!
//! It belongs to the web server's user, so nothing in it is opened or trusted: names are looked at, those that a key signed
//! count, and a file goes only once its wish is on disk.

use std::ffi::CString;
use std::fs::{self, DirEntry};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::domain::unsubscribe::{Keys, NotGenuine, Token, is_token};

/// Where files go whose names no key signed, within the folder.
const REFUSED: &str = "refused";
/// More of those are not kept.
const MOST_REFUSED: usize = 1000;
/// So many wishes are taken at once; the next look takes the next ones.
pub(super) const MOST_AT_ONCE: usize = 10_000;
/// A page writes a file under a name that begins with a dot and then renames it. One this old was left by a page that did not
/// come to that: whoever clicked was told to try again, and need not.
const UNFINISHED_FOR: Duration = Duration::from_secs(60);

/// The folder.
#[derive(Debug, Clone)]
pub(super) struct Spool {
    folder: PathBuf,
}

/// What a look into it found.
#[derive(Debug, Default)]
pub(super) struct Clicks {
    /// Names of files, and what they say.
    pub genuine: Vec<(String, Token)>,
    pub forged: Vec<String>,
    /// Files that name a key which is not here.
    pub of_unknown_keys: u64,
}

impl Spool {
    pub fn at(folder: &Path) -> Spool {
        Spool { folder: folder.to_owned() }
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Looks at every name in the folder; what has not the form of a token is not meant for us.
    pub fn look(&self, keys: &Keys) -> io::Result<Clicks> {
        let mut clicks = Clicks::default();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let token = name.strip_prefix('.').unwrap_or(name);
            if !is_token(token) || !entry.file_type()?.is_file() {
                continue;
            }
            if token.len() < name.len() && !was_left_unfinished(&entry) {
                continue;
            }
            match keys.verify(token) {
                Ok(token) if clicks.genuine.len() < MOST_AT_ONCE => clicks.genuine.push((name.to_owned(), token)),
                Ok(_) => {}
                Err(NotGenuine::UnknownKey) => clicks.of_unknown_keys += 1,
                Err(NotGenuine::Forged | NotGenuine::NoToken) if clicks.forged.len() < MOST_AT_ONCE => {
                    clicks.forged.push(name.to_owned());
                }
                Err(_) => {}
            }
        }
        Ok(clicks)
    }

    /// Takes a file away whose wish is on disk.
    pub fn done(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.folder.join(name)) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => Err(err),
            _ => Ok(()),
        }
    }

    /// Puts files aside that no key signed, as far as there is room. Through handles, and only into a folder of our own: whoever
    /// owns the spool could make `refused` a link to anywhere.
    pub fn refuse(&self, names: &[String]) -> io::Result<()> {
        let refused = self.folder.join(REFUSED);
        match fs::create_dir(&refused) {
            Err(err) if err.kind() != io::ErrorKind::AlreadyExists => return Err(err),
            _ => {}
        }
        let open = |path: &Path| {
            fs::OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW).open(path)
        };
        let (from, to) = (open(&self.folder)?, open(&refused)?);
        // SAFETY: geteuid has no preconditions.
        if to.metadata()?.uid() != unsafe { libc::geteuid() } {
            return Err(io::Error::other(format!("{} belongs to another user", refused.display())));
        }
        let mut room = MOST_REFUSED.saturating_sub(self.refused()? as usize);
        for name in names {
            if room == 0 {
                self.done(name)?;
                continue;
            }
            room -= 1;
            let name = CString::new(name.as_str())?;
            // SAFETY: both handles are open, and the name is a string that ends in NUL.
            let moved = unsafe { libc::renameat(from.as_raw_fd(), name.as_ptr(), to.as_raw_fd(), name.as_ptr()) };
            if moved != 0 {
                let err = io::Error::last_os_error();
                if err.kind() != io::ErrorKind::NotFound {
                    return Err(err);
                }
            }
        }
        Ok(())
    }

    /// How many were put aside.
    pub fn refused(&self) -> io::Result<u64> {
        match fs::read_dir(self.folder.join(REFUSED)) {
            Ok(entries) => Ok(entries.take(MOST_REFUSED).count() as u64),
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(err) => Err(err),
        }
    }
}

fn was_left_unfinished(entry: &DirEntry) -> bool {
    let modified = entry.metadata().and_then(|meta| meta.modified());
    let age = modified.ok().and_then(|at| SystemTime::now().duration_since(at).ok());
    age.is_some_and(|age| age >= UNFINISHED_FOR)
}
