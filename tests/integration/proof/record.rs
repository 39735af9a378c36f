//! What a run wrote, in order: an observer that records every change of a file or folder, every fsync, and the instants at
//! which a body left.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::support::trace::{Call, Observer, Order};

/// A file, whatever its names.
pub type Inode = u64;

/// One thing that a run did to the disk, or that must be compared with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A new file got this name, below the folder.
    Created {
        name: String,
        file: Inode,
    },
    Written {
        file: Inode,
        offset: u64,
        bytes: Vec<u8>,
    },
    Cut {
        file: Inode,
        length: u64,
    },
    /// fsync or fdatasync.
    Synced {
        file: Inode,
        name: String,
    },
    /// fsync of a folder: its names are on disk.
    FolderSynced {
        folder: String,
    },
    Linked {
        name: String,
        file: Inode,
    },
    Removed {
        name: String,
    },
    Renamed {
        from: String,
        to: String,
        file: Inode,
    },
    FolderMade {
        name: String,
    },
    /// The server was seen to ask for a body (354), or the temporary file was synced.
    AskedFor,
    /// The first byte of this message's body left, or its file was linked.
    BodyOut {
        message_id: String,
    },
}

impl Step {
    /// Whether the disk is another after it.
    pub fn changes_the_disk(&self) -> bool {
        !matches!(self, Step::AskedFor | Step::BodyOut { .. })
    }
}

/// Records the steps of a run in one folder. Streams and the server's own record are left out.
pub struct Recorder {
    folder: PathBuf,
    pub steps: Vec<Step>,
    /// What a call that is under way will have done, by thread, so far as it must be seen before.
    before: HashMap<libc::pid_t, Step>,
    /// By socket: the place in `steps` of a body whose Message-ID has not been seen yet.
    asked: HashMap<PathBuf, Option<usize>>,
    /// A number that a new file got is another's when it is used again.
    files: HashMap<Inode, Inode>,
}

impl Recorder {
    pub fn new(folder: &Path) -> Recorder {
        Recorder {
            folder: fs::canonicalize(folder).expect("the folder"),
            steps: Vec::new(),
            before: HashMap::new(),
            asked: HashMap::new(),
            files: HashMap::new(),
        }
    }

    /// The name below the folder; `None` for what is not recorded.
    fn name(&self, path: &Path) -> Option<String> {
        let name = self.folder.join(path).strip_prefix(&self.folder).ok()?.to_string_lossy().into_owned();
        let left_out = ["said", "accepted"].contains(&name.as_str()) || name.ends_with("-shm");
        (!left_out).then_some(name)
    }

    fn file(&self, path: impl AsRef<Path>) -> Inode {
        let file = inode(path);
        self.files.get(&file).copied().unwrap_or(file)
    }

    fn new_file(&mut self, path: impl AsRef<Path>) -> Inode {
        let new = u64::MAX - self.files.len() as u64;
        self.files.insert(inode(path), new);
        new
    }

    fn socket_said(&mut self, call: &Call, result: i64) {
        let data = call.data(result as usize);
        if data.split(|byte| *byte == b'\n').any(|line| line.starts_with(b"354")) {
            self.steps.push(Step::AskedFor);
            self.asked.insert(call.file(), None);
        }
    }

    fn socket_sends(&mut self, call: &Call) {
        let socket = call.file();
        let Some(begun) = self.asked.get(&socket).copied() else { return };
        let begun = begun.unwrap_or_else(|| {
            self.steps.push(Step::BodyOut { message_id: String::new() });
            self.steps.len() - 1
        });
        self.asked.insert(socket.clone(), Some(begun));
        let data = String::from_utf8_lossy(&call.data(call.args[2] as usize)).into_owned();
        if let Some(id) = crate::support::smtp::header(data.as_bytes(), "Message-ID") {
            self.steps[begun] = Step::BodyOut { message_id: id };
            self.asked.remove(&socket);
        }
    }
}

pub fn inode(path: impl AsRef<Path>) -> Inode {
    fs::metadata(path).map_or(0, |meta| meta.ino())
}

fn descriptor(call: &Call, number: u64) -> PathBuf {
    PathBuf::from(format!("/proc/{}/fd/{}", call.process, number as i32))
}

/// Where the descriptor's next write goes.
fn position(call: &Call) -> u64 {
    let info = fs::read_to_string(format!("/proc/{}/fdinfo/{}", call.process, call.args[0] as i32)).unwrap_or_default();
    info.lines().find_map(|line| line.strip_prefix("pos:")?.trim().parse().ok()).unwrap_or(0)
}

impl Observer for Recorder {
    fn entry(&mut self, call: &Call) -> Order {
        let step = match call.number {
            libc::SYS_openat | libc::SYS_open => {
                let path = call.path(usize::from(call.number == libc::SYS_openat));
                let flags = call.args[usize::from(call.number == libc::SYS_openat) + 1] as i32;
                let makes = flags & libc::O_CREAT != 0 && !self.folder.join(&path).exists();
                self.name(&path).filter(|_| makes).map(|name| Step::Created { name, file: 0 })
            }
            libc::SYS_unlink => self.name(&call.path(0)).map(|name| Step::Removed { name }),
            libc::SYS_unlinkat => self.name(&call.path(1)).map(|name| Step::Removed { name }),
            libc::SYS_sendto | libc::SYS_write if call.is_on_socket() => {
                self.socket_sends(call);
                None
            }
            libc::SYS_link | libc::SYS_linkat => {
                let from = call.path(usize::from(call.number == libc::SYS_linkat));
                // A message in a file has left when it is linked; that may be seen on the disk before link(2) returns.
                let bytes = fs::read(self.folder.join(from)).unwrap_or_default();
                let message_id = crate::support::smtp::header(&bytes, "Message-ID").unwrap_or_default();
                self.steps.push(Step::BodyOut { message_id });
                None
            }
            _ => None,
        };
        if let Some(step) = step {
            self.before.insert(call.thread, step);
        }
        Order::GoOn
    }

    fn exit(&mut self, call: &Call, result: i64) {
        let begun = self.before.remove(&call.thread);
        if result < 0 {
            return;
        }
        let file = || self.file(descriptor(call, call.args[0]));
        let step = match (call.number, begun) {
            (_, Some(Step::Created { name, .. })) => {
                Some(Step::Created { name, file: self.new_file(descriptor(call, result as u64)) })
            }
            (_, Some(step)) => Some(step),
            (libc::SYS_pwrite64, _) => self.name(&call.file()).map(|_| Step::Written {
                file: file(),
                offset: call.args[3],
                bytes: call.data(result as usize),
            }),
            (libc::SYS_write, _) if call.is_on_file() => self.name(&call.file()).map(|_| Step::Written {
                file: file(),
                offset: position(call) - result as u64,
                bytes: call.data(result as usize),
            }),
            (libc::SYS_ftruncate, _) => {
                self.name(&call.file()).map(|_| Step::Cut { file: file(), length: call.args[1] })
            }
            (libc::SYS_fsync | libc::SYS_fdatasync, _) => {
                let path = call.file();
                self.name(&path).map(|name| match path.is_dir() {
                    true => Step::FolderSynced { folder: name },
                    false => Step::Synced { file: file(), name },
                })
            }
            (libc::SYS_link | libc::SYS_linkat, _) => {
                let to = self.folder.join(call.path(if call.number == libc::SYS_linkat { 3 } else { 1 }));
                self.name(&to).map(|name| Step::Linked { name, file: self.file(&to) })
            }
            (libc::SYS_rename, _) => {
                let to = self.folder.join(call.path(1));
                self.name(&call.path(0)).zip(self.name(&to)).map(|(from, to_name)| Step::Renamed {
                    from,
                    to: to_name,
                    file: self.file(&to),
                })
            }
            (libc::SYS_mkdir, _) => self.name(&call.path(0)).map(|name| Step::FolderMade { name }),
            (libc::SYS_recvfrom | libc::SYS_read, _) if result > 0 && call.is_on_socket() => {
                self.socket_said(call, result);
                None
            }
            _ => None,
        };
        let is_temporary = matches!(&step, Some(Step::Synced { name, .. }) if name.ends_with(".tmp"));
        self.steps.extend(step);
        if is_temporary {
            self.steps.push(Step::AskedFor);
        }
    }
}
