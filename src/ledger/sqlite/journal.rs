//! What is added to the suppression list and taken off it, written down beside the ledger too: when an old copy of the ledger
//! is put back, nobody's wish is lost with what the copy does not know.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use fs2::FileExt;
use serde::{Deserialize, Serialize};

use super::open::folder_of;
use super::suppressions::TAKE_BACK;
use super::{Durability, Ledger, Suppressions};
use crate::failure::Failure;

/// One line of the file.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    at: String,
    address: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    added: Option<Added>,
    /// Why it was taken off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    removed: Option<String>,
    /// Whoever had this address is forgotten, and it is a pseudonym.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    forgotten: bool,
    /// Only what was of this origin was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    only: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Added {
    list: String,
    reason: String,
    origin: String,
}

/// Beside the ledger's real path, links followed.
fn path_of(ledger: &Path) -> PathBuf {
    let mut name = ledger.canonicalize().unwrap_or_else(|_| ledger.to_owned()).into_os_string();
    name.push(".wishes");
    PathBuf::from(name)
}

impl Ledger {
    /// Does what may add to the suppression list, and writes down what it added: on disk when this returns.
    pub(super) fn journaled<T>(&mut self, work: impl FnOnce(&mut Ledger) -> Result<T, Failure>) -> Result<T, Failure> {
        let newest = |ledger: &Ledger| {
            ledger.read(|conn| {
                conn.prepare_cached("SELECT coalesce(max(rowid), 0) FROM suppression")?
                    .query_row([], |row| row.get::<_, i64>(0))
            })
        };
        let before = newest(self)?;
        let done = work(self)?;
        if newest(self)? > before {
            let added = self.read(|conn| {
                let mut rows = conn.prepare_cached(
                    "SELECT folded_address, list, reason, added_at, origin FROM suppression WHERE rowid > ?1 ORDER BY rowid",
                )?;
                rows.query_map([before], |row| {
                    let added =
                        Added { list: row.get("list")?, reason: row.get("reason")?, origin: row.get("origin")? };
                    Ok(Line {
                        at: row.get("added_at")?,
                        address: row.get("folded_address")?,
                        added: Some(added),
                        removed: None,
                        forgotten: false,
                        only: None,
                    })
                })?
                .collect::<rusqlite::Result<Vec<_>>>()
            })?;
            self.write_down(&added)?;
        }
        Ok(done)
    }

    fn write_down(&self, lines: &[Line]) -> Result<(), Failure> {
        let path = path_of(self.path());
        let write = || -> std::io::Result<()> {
            let mut text = Vec::new();
            for line in lines {
                serde_json::to_writer(&mut text, line)?;
                text.push(b'\n');
            }
            // Written anew meanwhile, it is another file.
            let mut file = loop {
                let file = OpenOptions::new().append(true).create(true).mode(0o600).open(&path)?;
                file.lock_exclusive()?;
                if fs::metadata(&path).is_ok_and(|now| file.metadata().is_ok_and(|mine| mine.ino() == now.ino())) {
                    break file;
                }
            };
            file.write_all(&text)?;
            file.sync_all()
        };
        write().map_err(|err| {
            Failure::ledger(
                format!("could not write {}: {err}", path.display()),
                "make room, or let this user write there",
            )
            .kept("who is off the list is off it")
        })
    }
}

impl Suppressions<'_> {
    /// Writes down that addresses were taken off the list.
    pub(super) fn write_down_removal(
        &mut self,
        address: &str,
        only: Option<&str>,
        why: &str,
        at: &str,
    ) -> Result<(), Failure> {
        self.0.write_down(&[Line {
            at: at.to_owned(),
            address: address.to_owned(),
            added: None,
            removed: Some(why.to_owned()),
            forgotten: false,
            only: only.map(str::to_owned),
        }])
    }

    /// Has what is written down name a pseudonym in the place of an address, and say that its owner is forgotten.
    pub(super) fn forget_in_journal(&mut self, names: [&str; 2], pseudonym: &str, at: &str) -> Result<(), Failure> {
        self.0.write_down(&[Line {
            at: at.to_owned(),
            address: pseudonym.to_owned(),
            added: None,
            removed: None,
            forgotten: true,
            only: None,
        }])?;
        let path = path_of(self.0.path());
        let failed = |err: std::io::Error| {
            Failure::ledger(
                format!("could not write {} anew: {err}", path.display()),
                "make room, or let this user write there; then start the same command again",
            )
            .kept("the ledger itself has forgotten; this file still names the address")
        };
        let rewrite = || -> std::io::Result<()> {
            let file = match File::open(&path) {
                Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(()),
                file => file?,
            };
            file.lock_exclusive()?;
            let mut anew = tempfile::Builder::new()
                .permissions(fs::Permissions::from_mode(0o600))
                .tempfile_in(folder_of(&path))?;
            for line in BufReader::new(&file).lines() {
                let line = line?;
                let Ok(mut known) = serde_json::from_str::<Line>(&line) else { continue };
                if names.contains(&known.address.as_str()) {
                    known.address = pseudonym.to_owned();
                    known.added.iter_mut().for_each(|added| added.reason = "forgotten".into());
                    known.removed.iter_mut().for_each(|why| *why = "forgotten".into());
                }
                serde_json::to_writer(&mut anew, &known)?;
                anew.write_all(b"\n")?;
            }
            anew.as_file().sync_all()?;
            anew.persist(&path)?;
            File::open(folder_of(&path))?.sync_all()
        };
        rewrite().map_err(failed)
    }

    /// Does again what was written down and this ledger, an old copy, does not know. Says how many it added and took off.
    pub fn replay(&mut self) -> Result<u64, Failure> {
        let path = path_of(self.0.path());
        let unreadable = |err: std::io::Error| {
            Failure::ledger(
                format!("could not read {}: {err}", path.display()),
                "let this user read it, or move it away: then wishes since the copy was made are lost",
            )
        };
        let file = match File::open(&path) {
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(0),
            file => file.map_err(unreadable)?,
        };
        let lines = BufReader::new(file).lines().collect::<std::io::Result<Vec<String>>>().map_err(unreadable)?;
        // A line that was cut off by a loss of power was never answered for.
        let lines: Vec<Line> = lines.iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let hidden: Vec<String> = lines.iter().map(|line| self.0.pseudonym_of(&line.address)).collect();
        let changed = self.0.write(Durability::Full, |tx| {
            let mut changed = 0;
            for (Line { at, address, added, removed, forgotten, only }, hidden) in lines.iter().zip(&hidden) {
                if *forgotten {
                    tx.execute(
                        "INSERT INTO forgotten (pseudonym, forgotten_at) VALUES (?1, ?2)
                         ON CONFLICT DO UPDATE SET forgotten_at = excluded.forgotten_at, taken_back_at = NULL
                         WHERE coalesce(taken_back_at, '') < excluded.forgotten_at",
                        (address, at),
                    )?;
                }
                if let Some(Added { list, reason, origin }) = added {
                    changed += tx
                        .prepare_cached(
                            "INSERT INTO suppression (folded_address, list, reason, added_at, origin) SELECT ?1, ?2, ?3, ?4, ?5
                             WHERE NOT EXISTS (SELECT 1 FROM suppression WHERE folded_address = ?1 AND list = ?2 AND origin = ?5)
                                 AND NOT EXISTS (SELECT 1 FROM removed_suppression WHERE folded_address = ?1 AND removed_at >= ?4)",
                        )?
                        .execute((address, list, reason, at, origin))?;
                }
                if let Some(why) = removed {
                    let taken_off = tx
                        .prepare_cached(
                            "INSERT INTO removed_suppression (folded_address, reason, added_at, origin, list, removed_at, removed_why)
                             SELECT folded_address, reason, added_at, origin, list, ?2, ?3 FROM suppression
                             WHERE folded_address = ?1 AND added_at <= ?2 AND (?4 IS NULL OR origin = ?4)",
                        )?
                        .execute((address, at, why, only))?;
                    tx.execute(
                        "DELETE FROM suppression WHERE folded_address = ?1 AND added_at <= ?2 AND (?3 IS NULL OR origin = ?3)",
                        (address, at, only),
                    )?;
                    changed += taken_off;
                    if only.is_none() {
                        tx.execute(&format!("{TAKE_BACK} AND forgotten_at <= ?3"), (hidden, hidden, at))?;
                    }
                }
            }
            Ok(changed as u64)
        })?;
        self.0.erasures().forget_again()?;
        Ok(changed)
    }
}
