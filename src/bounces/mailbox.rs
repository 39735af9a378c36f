//! Where reports lie: a Maildir, an mbox, or a pipe.
//!
//! Nothing is ever deleted, and an mbox is never changed. A mail of a Maildir that is done with moves from `new/` to
//! `cur/`, as a mail program moves what it has shown. Memory does not grow with the mailbox: names are listed in batches,
//! and of each mail the first 10 MiB are held, one at a time.

use std::collections::{BinaryHeap, VecDeque};
use std::ffi::{CString, OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::MOST_OF_A_MAIL;
use super::fields::split;
use crate::failure::{Exit, Failure};

/// So many names of a Maildir are held at a time.
const BATCH: usize = 20_000;
/// So many other names are tried for a mail whose own is taken in `cur/`.
const MOST_NAMES: usize = 100;
/// Lines of an mbox are read in pieces of so many bytes.
const PIECE: u64 = 64 * 1024;

/// One mail of a mailbox.
#[derive(Debug)]
pub struct Item {
    /// At most [`MOST_OF_A_MAIL`] bytes.
    pub mail: Vec<u8>,
    /// Where it lies, for people: a path, or `mbox, mail 3`.
    pub place: String,
    /// Its file in `new/`, and the folder `cur/`.
    unread: Option<(PathBuf, PathBuf)>,
}

impl Item {
    /// Marks the mail as read: one in `new/` moves to `cur/`, with the flag S. To be called once it is recorded for good.
    ///
    /// Another name is taken where its own is taken already; that someone else has moved it is no error.
    ///
    /// # Errors
    /// Exit 74: the file cannot be moved.
    pub fn done(self) -> Result<(), Failure> {
        let Some((from, cur)) = self.unread else { return Ok(()) };
        let name = from.file_name().unwrap_or_default().as_bytes();
        let (unique, flags) = match name.windows(3).position(|part| part == b":2,") {
            Some(at) => (&name[..at], &name[at + 3..]),
            None => (name, &b""[..]),
        };
        let mut flags = flags.to_vec();
        if !flags.contains(&b'S') {
            flags.push(b'S');
            flags.sort_unstable();
        }
        for number in 0..MOST_NAMES {
            let mut name = unique.to_vec();
            if number > 0 {
                name.extend_from_slice(format!("_{number}").as_bytes());
            }
            name.extend_from_slice(b":2,");
            name.extend_from_slice(&flags);
            match move_without_replacing(&from, &cur.join(OsString::from_vec(name))) {
                Ok(()) => return Ok(()),
                // Whether its name is taken or it is gone itself, another program may have been there.
                Err(err) if err.kind() == io::ErrorKind::AlreadyExists => {}
                Err(err) if err.kind() == io::ErrorKind::NotFound && cur.is_dir() => return Ok(()),
                Err(err) => return Err(cannot_move(&from, &cur, &err.to_string())),
            }
        }
        Err(cannot_move(&from, &cur, "all names tried are taken there"))
    }
}

fn cannot_move(from: &Path, cur: &Path, why: &str) -> Failure {
    Failure::ledger(
        format!("could not move {} to {}: {why}", from.display(), cur.display()),
        "let the user cron runs as write in both folders; a mail that is read again is counted once",
    )
    .kept("the mail, and what was recorded of it")
}

/// Renames a file unless the new name is taken.
fn move_without_replacing(from: &Path, to: &Path) -> io::Result<()> {
    let c_string = |path: &Path| CString::new(path.as_os_str().as_bytes()).map_err(io::Error::from);
    let (old, new) = (c_string(from)?, c_string(to)?);
    // SAFETY: both pointers are valid for the call.
    let renamed =
        unsafe { libc::renameat2(libc::AT_FDCWD, old.as_ptr(), libc::AT_FDCWD, new.as_ptr(), libc::RENAME_NOREPLACE) };
    if renamed == 0 {
        return Ok(());
    }
    let err = io::Error::last_os_error();
    match err.raw_os_error() {
        // Not every file system can do that (NFS): a second name, then away with the first, is what Maildir is made for.
        Some(libc::EINVAL | libc::ENOSYS | libc::ENOTSUP) => {
            std::fs::hard_link(from, to)?;
            std::fs::remove_file(from)
        }
        _ => Err(err),
    }
}

/// A Maildir's mails, one after another.
#[derive(Debug)]
pub struct Maildir {
    new: PathBuf,
    cur: PathBuf,
    /// Mails of `cur/` too.
    again: bool,
    /// How many may be listed yet.
    left: usize,
    batch: VecDeque<Listed>,
    /// The last one of the batch before.
    last: Option<Listed>,
    is_listed: bool,
    per_batch: usize,
}

/// One name, in the order that mails are read in: by the name up to its flags, which begins with the time of delivery.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Listed {
    unique: Vec<u8>,
    in_cur: bool,
    name: Vec<u8>,
}

/// Opens a Maildir for its mails in `new/`, the oldest first by name; with `again` for those in `cur/` too.
///
/// At most `most` are handed out. Only regular files are read, and no links followed.
///
/// # Errors
/// Exit 65: there is no such folder, it cannot be read, or it is no Maildir. One mail that cannot be read is an error of
/// its own, and the next call goes on after it.
pub fn maildir(dir: &Path, again: bool, most: usize) -> Result<Maildir, Failure> {
    let shown = dir.display();
    let next = "name the folder that holds new, cur and tmp";
    match std::fs::metadata(dir) {
        Ok(meta) if meta.is_dir() => {}
        Ok(_) => {
            return Err(Failure::data(
                format!("{shown} is no Maildir but a file"),
                format!("{next}; for an mbox: --mbox"),
            ));
        }
        Err(err) => return Err(Failure::data(format!("could not read the Maildir {shown}: {err}"), next)),
    }
    let missing: Vec<&str> = ["new", "cur", "tmp"].into_iter().filter(|name| !dir.join(name).is_dir()).collect();
    if !missing.is_empty() {
        return Err(Failure::data(format!("{shown} is no Maildir: it has no folder {}", missing.join(", ")), next));
    }
    Ok(Maildir {
        new: dir.join("new"),
        cur: dir.join("cur"),
        again,
        left: most,
        batch: VecDeque::new(),
        last: None,
        is_listed: false,
        per_batch: BATCH,
    })
}

impl Maildir {
    /// Lists the names that come after the last batch.
    fn list(&mut self) -> Result<(), Failure> {
        let most = self.per_batch.min(self.left);
        let mut oldest: BinaryHeap<Listed> = BinaryHeap::new();
        for (dir, in_cur) in [(&self.new, false), (&self.cur, true)] {
            if in_cur && !self.again {
                continue;
            }
            let unreadable = |err: io::Error| {
                let what = format!("could not list {}: {err}", dir.display());
                Failure::data(what, "let the user cron runs as read it")
            };
            for entry in std::fs::read_dir(dir).map_err(unreadable)? {
                let name = entry.map_err(unreadable)?.file_name().into_vec();
                if name.starts_with(b".") {
                    continue;
                }
                let end = name.windows(3).position(|part| part == b":2,").unwrap_or(name.len());
                let listed = Listed { unique: name[..end].to_vec(), in_cur, name };
                if self.last.as_ref().is_some_and(|last| listed <= *last) {
                    continue;
                }
                oldest.push(listed);
                if oldest.len() > most {
                    oldest.pop();
                }
            }
        }
        self.is_listed = oldest.len() < most;
        self.batch = oldest.into_sorted_vec().into();
        self.last = self.batch.back().cloned().or_else(|| self.last.take());
        Ok(())
    }

    fn open(&self, listed: &Listed) -> Result<Option<Item>, Failure> {
        let dir = if listed.in_cur { &self.cur } else { &self.new };
        let path = dir.join(OsStr::from_bytes(&listed.name));
        match read_regular(&path) {
            Ok(None) => Ok(None),
            Ok(Some(mail)) => {
                let place = path.display().to_string();
                Ok(Some(Item { mail, place, unread: (!listed.in_cur).then(|| (path, self.cur.clone())) }))
            }
            // Moved by another program since it was listed, or a link.
            Err(err) if err.kind() == io::ErrorKind::NotFound || err.raw_os_error() == Some(libc::ELOOP) => Ok(None),
            Err(err) => Err(Failure::data(
                format!("could not read the mail {}: {err}", path.display()),
                "let the user cron runs as read it; it is read by the next run",
            )),
        }
    }
}

impl Iterator for Maildir {
    type Item = Result<Item, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if self.left == 0 {
                return None;
            }
            let Some(listed) = self.batch.pop_front() else {
                if self.is_listed {
                    return None;
                }
                if let Err(failure) = self.list() {
                    self.left = 0;
                    return Some(Err(failure));
                }
                continue;
            };
            self.left -= 1;
            if let Some(item) = self.open(&listed).transpose() {
                return Some(item);
            }
        }
    }
}

/// The beginning of a regular file; `None` when it is none.
fn read_regular(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file =
        OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY).open(path);
    let file = match file {
        // A socket.
        Err(err) if err.raw_os_error() == Some(libc::ENXIO) => return Ok(None),
        file => file?,
    };
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Ok(None);
    }
    // With the byte more that the end is found by.
    let mut mail = Vec::with_capacity(meta.len().min(MOST_OF_A_MAIL as u64) as usize + 1);
    file.take(MOST_OF_A_MAIL as u64).read_to_end(&mut mail)?;
    Ok(Some(mail))
}

/// An mbox's mails, one after another. It is locked for reading until this is dropped.
#[derive(Debug)]
pub struct Mbox {
    reader: BufReader<File>,
    path: PathBuf,
    number: u64,
    pushed_back: Option<Vec<u8>>,
    is_over: bool,
}

/// Opens an mbox. A mail begins with a line `From `, at the beginning or after an empty line, that a field follows;
/// `>From ` lines lose one `>` (mboxrd). What a `Content-Length` says is not believed.
///
/// # Errors
/// Exit 65: it cannot be read, or is no mbox. Exit 75: it is being written to.
pub fn mbox(path: &Path) -> Result<Mbox, Failure> {
    let shown = path.display();
    let unreadable = |err: io::Error| {
        Failure::data(format!("could not read the mbox {shown}: {err}"), "name a file that this user may read")
    };
    let file =
        OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path).map_err(unreadable)?;
    let meta = file.metadata().map_err(unreadable)?;
    if meta.is_dir() {
        return Err(Failure::data(format!("{shown} is no mbox but a folder"), "for a Maildir: --maildir"));
    }
    if !meta.is_file() {
        return Err(Failure::data(format!("{shown} is no file"), "name an mbox; for a pipe: `mailonce bounces -`"));
    }
    lock_shared(&file, path)?;
    let reader = BufReader::with_capacity(1 << 16, file);
    let mut mbox = Mbox { reader, path: path.to_owned(), number: 0, pushed_back: None, is_over: false };
    let begins = loop {
        let piece = mbox.piece().map_err(unreadable)?;
        if piece.is_empty() || !piece.trim_ascii().is_empty() {
            break piece;
        }
    };
    mbox.is_over = begins.is_empty();
    if !mbox.is_over && !begins.starts_with(b"From ") {
        return Err(Failure::data(
            format!("{shown} is no mbox: it does not begin with a line `From `"),
            "name an mbox; for one mail: `mailonce bounces - < FILE`",
        ));
    }
    Ok(mbox)
}

/// Locks a file for reading, as mail servers lock it for writing: by fcntl and by flock.
fn lock_shared(file: &File, path: &Path) -> Result<(), Failure> {
    let held = || {
        Failure::new(
            Exit::AnotherRunHoldsTheLock,
            format!("the mbox {} is being written to", path.display()),
            "try again in a moment; cron does by itself",
        )
    };
    let lock = libc::flock {
        l_type: libc::F_RDLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    // SAFETY: the file is open, and the lock lives for the call.
    let locked = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLK, &raw const lock) };
    // A file system that cannot lock has no one who does.
    if locked != 0 && matches!(io::Error::last_os_error().raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) {
        return Err(held());
    }
    match fs2::FileExt::try_lock_shared(file) {
        Err(err) if err.raw_os_error() == fs2::lock_contended_error().raw_os_error() => Err(held()),
        _ => Ok(()),
    }
}

impl Mbox {
    /// Reads a line with its end, or the next piece of a long one. Empty at the end.
    fn piece(&mut self) -> io::Result<Vec<u8>> {
        if let Some(line) = self.pushed_back.take() {
            return Ok(line);
        }
        let mut piece = Vec::new();
        (&mut self.reader).take(PIECE).read_until(b'\n', &mut piece)?;
        Ok(piece)
    }

    /// The next mail, up to the end of the `From ` line that begins the one after it.
    fn mail(&mut self) -> io::Result<Vec<u8>> {
        let mut mail = Vec::new();
        let (mut begins_a_line, mut after_an_empty_line) = (true, false);
        loop {
            let piece = self.piece()?;
            if piece.is_empty() {
                self.is_over = true;
                return Ok(mail);
            }
            let ends_a_line = piece.ends_with(b"\n");
            if begins_a_line && after_an_empty_line && ends_a_line && piece.starts_with(b"From ") {
                let following = self.piece()?;
                let is_a_beginning = split(following.trim_ascii_end()).is_some();
                self.pushed_back = (!following.is_empty()).then_some(following);
                if is_a_beginning {
                    return Ok(mail);
                }
            }
            keep(&mut mail, unquoted(&piece, begins_a_line));
            after_an_empty_line = begins_a_line && matches!(&*piece, b"\n" | b"\r\n");
            begins_a_line = ends_a_line;
        }
    }
}

/// A line as it was before it came into an mbox: without one `>` of `>From `, `>>From `, ….
fn unquoted(line: &[u8], begins_a_line: bool) -> &[u8] {
    let quotes = line.iter().take_while(|byte| **byte == b'>').count();
    let is_quoted = begins_a_line && quotes > 0 && line[quotes..].starts_with(b"From ");
    &line[usize::from(is_quoted)..]
}

fn keep(mail: &mut Vec<u8>, bytes: &[u8]) {
    let room = MOST_OF_A_MAIL - mail.len().min(MOST_OF_A_MAIL);
    mail.extend_from_slice(&bytes[..bytes.len().min(room)]);
}

impl Iterator for Mbox {
    type Item = Result<Item, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        self.number += 1;
        let place = format!("{}, mail {}", self.path.display(), self.number);
        Some(match self.mail() {
            Ok(mail) => Ok(Item { mail, place, unread: None }),
            Err(err) => {
                self.is_over = true;
                let what = format!("could not read the mbox {} to its end: {err}", self.path.display());
                Err(Failure::data(what, "look at that file, then try again").kept("what was read before it"))
            }
        })
    }
}

/// Reads the one mail that a pipe holds, to its end, also when it begins with a line `From `.
///
/// # Errors
/// Exit 74: it cannot be read. Exit 65: there is nothing in it.
pub fn one(mut reader: impl Read) -> Result<Item, Failure> {
    let mut mail = Vec::new();
    let mut read = || -> io::Result<()> {
        reader.by_ref().take(MOST_OF_A_MAIL as u64).read_to_end(&mut mail)?;
        // Whoever writes it must not meet a closed pipe.
        io::copy(&mut reader, &mut io::sink()).map(drop)
    };
    read()
        .map_err(|err| Failure::ledger(format!("could not read the mail from stdin: {err}"), "hand it over again"))?;
    if mail.trim_ascii().is_empty() {
        return Err(Failure::data("there is no mail on stdin", "pipe one mail into it: `mailonce bounces - < FILE`"));
    }
    Ok(Item { mail: out_of_mbox(mail), place: "stdin".into(), unread: None })
}

/// A mail as it was before it came into an mbox: without the line `From ` that it begins with then, and without its quotes.
pub fn out_of_mbox(mail: Vec<u8>) -> Vec<u8> {
    if !mail.starts_with(b"From ") {
        return mail;
    }
    let lines = mail.split_inclusive(|byte| *byte == b'\n').skip(1);
    lines.flat_map(|line| unquoted(line, true)).copied().collect()
}

#[cfg(test)]
#[path = "mailbox_tests.rs"]
mod tests;
