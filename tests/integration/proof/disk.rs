//! A disk that loses power: what was fsynced is there, of everything else any part may be missing.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::Chance;
use super::record::{Inode, Step};

/// A change that has reached the page cache and perhaps not the disk.
#[derive(Debug, Clone)]
enum Change {
    Write {
        file: Inode,
        offset: u64,
        bytes: Vec<u8>,
    },
    Cut {
        file: Inode,
        length: u64,
    },
    /// A name stands for a file from here on, or for none.
    Name {
        name: String,
        file: Option<Inode>,
    },
    Folder {
        name: String,
    },
}

/// What the disk holds for certain, and what it may hold beyond that.
#[derive(Debug, Clone, Default)]
pub struct Disk {
    files: BTreeMap<Inode, Vec<u8>>,
    names: BTreeMap<String, Inode>,
    folders: Vec<String>,
    pending: Vec<Change>,
}

/// Above this many pending changes, only this many are lost or kept singly.
const MOST_SINGLY: usize = 16;

/// What of the pending changes did not reach the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Loss {
    Everything,
    Nothing,
    AllBut(usize),
    Only(usize),
    From(usize),
    /// By chance; `true` for what reached it.
    Some(Vec<bool>),
    /// Of this write only this part reached it, and all else did.
    Torn {
        write: usize,
        part: std::ops::Range<usize>,
    },
}

/// The files that a machine finds after the power came back.
pub type Image = BTreeMap<String, Vec<u8>>;

impl Disk {
    /// A disk that holds these files for certain; `inodes` says which file each is.
    pub fn holding(files: &[(String, Vec<u8>)], inode: impl Fn(&str) -> Inode) -> Disk {
        let mut disk = Disk::default();
        for (name, bytes) in files {
            let file = inode(name);
            disk.files.insert(file, bytes.clone());
            disk.names.insert(name.clone(), file);
            if let Some((folder, _)) = name.rsplit_once('/') {
                disk.folders.push(folder.to_owned());
            }
        }
        disk
    }

    pub fn take(&mut self, step: &Step) {
        match step {
            Step::Created { name, file } | Step::Linked { name, file } => {
                self.pending.push(Change::Name { name: name.clone(), file: Some(*file) });
            }
            Step::Removed { name } => self.pending.push(Change::Name { name: name.clone(), file: None }),
            Step::Renamed { from, to, file } => {
                self.pending.push(Change::Name { name: to.clone(), file: Some(*file) });
                self.pending.push(Change::Name { name: from.clone(), file: None });
            }
            Step::FolderMade { name } => self.pending.push(Change::Folder { name: name.clone() }),
            Step::Written { file, offset, bytes } => {
                self.pending.push(Change::Write { file: *file, offset: *offset, bytes: bytes.clone() });
            }
            Step::Cut { file, length } => self.pending.push(Change::Cut { file: *file, length: *length }),
            Step::Synced { file, .. } => self.settle(|change| match change {
                Change::Write { file: of, .. } | Change::Cut { file: of, .. } => of == file,
                _ => false,
            }),
            Step::FolderSynced { folder } => self.settle(|change| match change {
                Change::Name { name, .. } | Change::Folder { name } => parent(name) == folder,
                _ => false,
            }),
            Step::AskedFor | Step::BodyOut { .. } => {}
        }
    }

    fn settle(&mut self, is_on_disk: impl Fn(&Change) -> bool) {
        let (on_disk, pending) = std::mem::take(&mut self.pending).into_iter().partition(|change| is_on_disk(change));
        self.pending = pending;
        let on_disk: Vec<Change> = on_disk;
        for change in on_disk {
            self.apply(&change);
        }
    }

    fn apply(&mut self, change: &Change) {
        match change {
            Change::Write { file, offset, bytes } => {
                let held = self.files.entry(*file).or_default();
                let (from, until) = (*offset as usize, *offset as usize + bytes.len());
                if held.len() < until {
                    held.resize(until, 0);
                }
                held[from..until].copy_from_slice(bytes);
            }
            Change::Cut { file, length } => self.files.entry(*file).or_default().resize(*length as usize, 0),
            Change::Name { name, file: Some(file) } => {
                self.names.insert(name.clone(), *file);
            }
            Change::Name { name, file: None } => {
                self.names.remove(name);
            }
            Change::Folder { name } => self.folders.push(name.clone()),
        }
    }

    /// The files that are there when this was lost.
    pub fn image(&self, loss: &Loss) -> Image {
        let mut disk = Disk { pending: Vec::new(), ..self.clone() };
        for (n, change) in self.pending.iter().enumerate() {
            let reached = match loss {
                Loss::Everything => false,
                Loss::Nothing | Loss::Torn { .. } => true,
                Loss::AllBut(one) => n == *one,
                Loss::Only(one) => n != *one,
                Loss::From(first) => n < *first,
                Loss::Some(kept) => kept[n],
            };
            match (loss, change) {
                (Loss::Torn { write, part }, Change::Write { file, offset, bytes }) if n == *write => {
                    disk.apply(&Change::Write {
                        file: *file,
                        offset: offset + part.start as u64,
                        bytes: bytes[part.clone()].to_vec(),
                    });
                }
                _ if reached => disk.apply(change),
                _ => {}
            }
        }
        disk.files_by_name()
    }

    fn files_by_name(&self) -> Image {
        let lies = |name: &str| parent(name).is_empty() || self.folders.iter().any(|folder| folder == parent(name));
        let named = self.names.iter().filter(|(name, _)| lies(name));
        named.map(|(name, file)| (name.clone(), self.files.get(file).cloned().unwrap_or_default())).collect()
    }

    /// The kinds of loss at this instant: all that is pending, nothing, all but one, only one, from one on, some by chance,
    /// and the last write torn at a sector of 512 and of 4096 bytes. Of very many pending ones a part is taken.
    pub fn losses(&self, chance: &mut Chance) -> Vec<Loss> {
        let pending = self.pending.len();
        let mut losses = vec![Loss::Everything];
        if pending > 0 {
            losses.push(Loss::Nothing);
        }
        if pending > 1 {
            let ones: Vec<usize> = match pending {
                0..=MOST_SINGLY => (0..pending).collect(),
                _ => (pending - MOST_SINGLY / 2..pending)
                    .chain((0..MOST_SINGLY / 2).map(|_| chance.below(pending)))
                    .collect(),
            };
            for one in ones {
                losses.extend([Loss::AllBut(one), Loss::Only(one), Loss::From(one)]);
            }
            for _ in 0..4 {
                losses.push(Loss::Some((0..pending).map(|_| chance.one_in(2)).collect()));
            }
        }
        let last = self.pending.iter().enumerate().rev().find_map(|(n, change)| match change {
            Change::Write { bytes, .. } => Some((n, bytes.len())),
            _ => None,
        });
        if let Some((write, length)) = last {
            for sector in [512, 4096] {
                let at = length / 2 / sector * sector;
                if at > 0 {
                    losses.extend([Loss::Torn { write, part: 0..at }, Loss::Torn { write, part: at..length }]);
                }
            }
        }
        losses
    }
}

fn parent(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// Writes an image into an empty folder.
pub fn write(image: &Image, folder: &Path) {
    for (name, bytes) in image {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap_or(folder)).expect("a folder of the image");
        fs::write(path, bytes).expect("a file of the image");
    }
}
