//! Sending into a folder: each message becomes one file, complete or not there at all.
//!
//! | step      | what it does                                                   | what a crash after it leaves               |
//! |-----------|----------------------------------------------------------------|--------------------------------------------|
//! | `open`    | writes a temporary file, fsync                                 | a temporary file; nothing is delivered     |
//! | `finish`  | links it to `<token>.eml`, which replaces nothing; fsync folder | the message; [`Outbox::holds`] finds it   |
//!
//! `link(2)` is the one instant of delivery, so here there is no doubt but about the disk itself.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::domain::fate::{Fate, Unusable};
use crate::mail::session::{InStep, Opened, Opening, Outgoing, Session};

const TEMPORARY_PREFIX: &str = ".mailonce-";
const TEMPORARY_SUFFIX: &str = ".tmp";

/// A folder that takes messages as files.
pub struct Outbox {
    folder: Arc<Folder>,
}

struct Folder {
    dir: PathBuf,
    /// Whether this process has made the folder and swept it.
    ready: Mutex<bool>,
}

/// One thread's way into the folder.
pub struct FileSession {
    folder: Arc<Folder>,
    /// The temporary file of the opened message.
    opened: Option<PathBuf>,
    /// A `Sent` was returned and not yet settled.
    unproven: bool,
}

impl Outbox {
    /// Names the folder, and touches nothing. The first `open` of any session makes it and removes the temporary files
    /// of dead runs, so sessions are for the holder of the ledger's lock only.
    pub fn new(dir: PathBuf) -> Outbox {
        Outbox { folder: Arc::new(Folder { dir, ready: Mutex::new(false) }) }
    }

    /// A session of its own. It works with files only, so none of its calls waits for anything but the disk.
    pub fn session(&self) -> FileSession {
        FileSession { folder: Arc::clone(&self.folder), opened: None, unproven: false }
    }

    /// Whether the message of this token has been written: the evidence after a crash.
    ///
    /// The run that linked it may have died before its fsync of the folder, so that is made up for here.
    ///
    /// # Errors
    /// The folder cannot be read or brought to the disk: nothing is known.
    pub fn holds(&self, token: &str) -> io::Result<bool> {
        if !is_file_name(token) || !self.folder.message(token).try_exists()? {
            return Ok(false);
        }
        self.folder.sync()?;
        Ok(true)
    }
}

impl Folder {
    fn message(&self, token: &str) -> PathBuf {
        self.dir.join(format!("{token}.eml"))
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.dir)?.sync_all()
    }

    /// Makes the folder and removes what dead runs left, once per process and before its first temporary file.
    fn make_ready(&self) -> io::Result<()> {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        if *ready {
            return Ok(());
        }
        if !self.dir.try_exists()? {
            DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
            // Else a power loss could take the folder away with everything in it.
            if let Some(parent) = self.dir.canonicalize()?.parent() {
                File::open(parent)?.sync_all()?;
            }
        }
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with(TEMPORARY_PREFIX) && name.ends_with(TEMPORARY_SUFFIX) {
                fs::remove_file(entry.path())?;
            }
        }
        *ready = true;
        Ok(())
    }

    /// Writes the message under its temporary name, on the disk when this returns.
    fn write(&self, outgoing: &Outgoing) -> io::Result<PathBuf> {
        self.make_ready()?;
        let path = self.dir.join(format!("{TEMPORARY_PREFIX}{}{TEMPORARY_SUFFIX}", outgoing.token));
        let mut create = OpenOptions::new();
        create.write(true).create_new(true).mode(0o600);
        let mut file = match create.open(&path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                fs::remove_file(&path)?;
                create.open(&path)?
            }
            opened => opened?,
        };
        if let Err(error) = file.write_all(&outgoing.bytes).and_then(|()| file.sync_all()) {
            // What cannot be removed now is swept by a later run; the error to tell is the first one.
            let _ = fs::remove_file(&path);
            return Err(error);
        }
        Ok(path)
    }

    /// Gives the temporary file its final name.
    fn link(&self, temporary: &Path, outgoing: &Outgoing) -> Fate {
        let target = self.message(&outgoing.token);
        let name = target.display();
        let already_there = match fs::hard_link(temporary, &target) {
            Ok(()) => false,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => match fs::read(&target) {
                Ok(bytes) if bytes == outgoing.bytes => true,
                // Some message has this token's name, but not this one: which of them was meant, a person must say.
                Ok(_) => return Fate::InDoubt { why: format!("{name} is already there, with other contents") },
                Err(error) => {
                    return Fate::InDoubt { why: format!("{name} is already there, but unreadable: {error}") };
                }
            },
            Err(error) => match (inode(&target), inode(temporary)) {
                // A network file system can lose the answer to a link that it made.
                (Ok(linked), Ok(written)) if linked == written => true,
                // link(2) does all or nothing, and the name is not there: nothing was delivered, so try again later.
                (Err(absent), _) if absent.kind() == ErrorKind::NotFound => {
                    return Fate::Deferred { reply: format!("could not write {name}: {error}") };
                }
                _ => return Fate::InDoubt { why: format!("could not tell whether {name} was written: {error}") },
            },
        };
        if let Err(error) = self.sync() {
            return Fate::InDoubt { why: format!("{name} was written, but perhaps not to the disk: {error}") };
        }
        let note = if already_there { " (already there)" } else { "" };
        Fate::Sent { reply: format!("written to {name}{note}") }
    }
}

impl Session for FileSession {
    async fn open(&mut self, outgoing: &Outgoing) -> Opening {
        let previous = self.close().await;
        if !is_file_name(&outgoing.token) {
            let reply = format!("not sent: {:?} cannot be a file name", outgoing.token);
            return Opening { previous, opened: Ok(Opened::Judged { fate: Fate::Refused { reply }, proven: true }) };
        }
        let opened = match self.folder.write(outgoing) {
            Ok(path) => {
                self.opened = Some(path);
                Ok(Opened::Ready)
            }
            Err(error) => {
                Err(Unusable::server(format!("could not write into the folder {}: {error}", self.folder.dir.display())))
            }
        };
        Opening { previous, opened }
    }

    async fn finish(&mut self, outgoing: &Outgoing) -> Fate {
        let Some(temporary) = self.opened.take() else {
            return Fate::Deferred { reply: "not sent: no message was opened".to_owned() };
        };
        let fate = self.folder.link(&temporary, outgoing);
        // A name too many does no harm, and a later run sweeps it.
        let _ = fs::remove_file(&temporary);
        self.unproven = matches!(fate, Fate::Sent { .. });
        fate
    }

    fn abandon(&mut self) {
        if let Some(temporary) = self.opened.take() {
            // As above.
            let _ = fs::remove_file(temporary);
        }
    }

    async fn close(&mut self) -> Option<InStep> {
        self.abandon();
        // A folder has no replies that could be late.
        std::mem::take(&mut self.unproven).then_some(InStep::Yes)
    }
}

fn inode(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|found| (found.dev(), found.ino()))
}

/// Letters, digits, `-` and `_`: no path, no hidden file.
fn is_file_name(token: &str) -> bool {
    !token.is_empty() && token.len() <= 200 && token.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::domain::address::Address;
    use crate::mail::session::Driven;

    fn driven(outbox: &Outbox) -> Driven<FileSession> {
        Driven::new(outbox.session())
    }

    fn outgoing(token: &str, body: &str) -> Outgoing {
        Outgoing {
            envelope_from: "shop@example.com".to_owned(),
            recipient: Address::parse("ada@example.com").unwrap(),
            bytes: format!("Subject: a\r\n\r\n{body}\r\n").into_bytes(),
            token: token.to_owned(),
        }
    }

    fn outbox() -> (tempfile::TempDir, PathBuf, Outbox) {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("outbox");
        (temp, dir.clone(), Outbox::new(dir))
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn ready(session: &mut Driven<FileSession>, outgoing: &Outgoing) {
        assert_eq!(session.open(outgoing).opened, Ok(Opened::Ready));
    }

    #[test]
    fn a_message_is_there_after_finish_and_not_before() {
        let (_temp, dir, outbox) = outbox();
        assert!(!outbox.holds("t1").unwrap());
        let (mut session, message) = (driven(&outbox), outgoing("t1", ".dot"));
        ready(&mut session, &message);
        assert!(!outbox.holds("t1").unwrap());
        let reply = format!("written to {}/t1.eml", dir.display());
        assert_eq!(session.finish(&message), Fate::Sent { reply });
        assert!(outbox.holds("t1").unwrap());
        assert_eq!(names(&dir), ["t1.eml"]);
        assert_eq!(fs::read(dir.join("t1.eml")).unwrap(), message.bytes);
        assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::metadata(dir.join("t1.eml")).unwrap().permissions().mode() & 0o777, 0o600);
        let next = session.open(&outgoing("t2", "b"));
        assert_eq!((next.previous, next.opened), (Some(InStep::Yes), Ok(Opened::Ready)));
        assert_eq!(session.close(), None);
        assert_eq!(names(&dir), ["t1.eml"], "closing left the opened message behind");
    }

    #[test]
    fn abandoning_leaves_nothing() {
        let (_temp, dir, outbox) = outbox();
        let mut session = driven(&outbox);
        ready(&mut session, &outgoing("t1", "a"));
        session.abandon();
        assert!(names(&dir).is_empty());
        assert!(matches!(session.finish(&outgoing("t1", "a")), Fate::Deferred { .. }));
        assert!(names(&dir).is_empty());
    }

    #[test]
    fn the_same_message_again_is_sent_already_and_another_is_in_doubt() {
        let (_temp, dir, outbox) = outbox();
        let (first, other) = (outgoing("t1", "a"), outgoing("t1", "b"));
        for (message, word) in [(&first, "sent"), (&first, "sent"), (&other, "in_doubt")] {
            let mut session = driven(&outbox);
            ready(&mut session, message);
            let fate = session.finish(message);
            assert_eq!(fate.word(), word, "{fate:?}");
        }
        assert_eq!(fs::read(dir.join("t1.eml")).unwrap(), first.bytes);
        assert_eq!(names(&dir), ["t1.eml"]);
    }

    #[test]
    fn only_the_temporary_files_of_dead_runs_are_swept() {
        let (_temp, dir, outbox) = outbox();
        fs::create_dir(&dir).unwrap();
        for name in [".mailonce-t0.tmp", ".mailonce-t1.tmp", "notes.tmp", ".mailonce-x", "t9.eml"] {
            fs::write(dir.join(name), "half a mess").unwrap();
        }
        let (mut one, mut two) = (driven(&outbox), driven(&outbox));
        ready(&mut one, &outgoing("t1", "a"));
        ready(&mut two, &outgoing("t2", "b"));
        assert_eq!(one.finish(&outgoing("t1", "a")).word(), "sent", "the second session swept the first one's file");
        assert_eq!(two.finish(&outgoing("t2", "b")).word(), "sent");
        assert_eq!(names(&dir), [".mailonce-x", "notes.tmp", "t1.eml", "t2.eml", "t9.eml"]);
    }

    #[test]
    fn a_link_that_cannot_be_made_is_tried_again_later() {
        let (_temp, dir, outbox) = outbox();
        let (mut session, message) = (driven(&outbox), outgoing("t1", "a"));
        ready(&mut session, &message);
        fs::remove_dir_all(&dir).unwrap();
        let fate = session.finish(&message);
        assert_eq!(fate.word(), "deferred", "{fate:?}");
        assert!(fate.reply().contains("t1.eml: No such file or directory (os error 2)"), "{fate:?}");
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_unusable() {
        let (_temp, dir, outbox) = outbox();
        fs::write(&dir, "a file where the folder should be").unwrap();
        let why = driven(&outbox).open(&outgoing("t1", "a")).opened.unwrap_err().why;
        assert!(why.contains("outbox: Not a directory (os error 20)"), "{why}");
    }

    #[test]
    fn a_token_cannot_lead_out_of_the_folder() {
        let (_temp, _dir, outbox) = outbox();
        for token in ["", "../t1", "a/b", ".hidden", "a.b", "a\0b"] {
            let opened = driven(&outbox).open(&outgoing(token, "a")).opened;
            assert!(
                matches!(opened, Ok(Opened::Judged { fate: Fate::Refused { .. }, proven: true })),
                "{token:?}: {opened:?}"
            );
            assert!(!outbox.holds(token).unwrap());
        }
    }
}
