//! A file as a source: one pass in memory that does not grow, then single carts read again where they stand.

pub(super) mod csv;
pub(super) mod jsonl;
pub(super) mod table;
pub mod text;

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::Result;
use chrono_tz::Tz;

use super::cart_index::{CartIndex, no_room};
use super::raw::{Position, RawCart};
use super::{Look, OrdersRead, ReadSummary, Row, Source, Touched, orders, orders_since};
use crate::domain::cart::Cart;
use crate::domain::instant::Instant;
use crate::domain::recovery::Order;
use crate::failure::{Exit, Failure};

/// A longer line is skipped without being held in memory.
pub(super) const LONGEST_LINE_IN_BYTES: usize = 1024 * 1024;
/// How often a file that changes meanwhile is read again before the last look gives up.
const PASSES: usize = 3;

/// How carts stand in a file.
pub(super) trait Format {
    /// Hands each cart, in the file's order, to `each`.
    fn carts(&self, file: &File, name: &str, each: &mut dyn FnMut(RawCart) -> Result<()>) -> Result<()>;

    /// The cart that stands at a position, if any.
    fn cart_at(&self, file: &File, name: &str, position: Position) -> Result<Option<RawCart>>;

    /// What is wrong with a cart that stands in two places.
    const TWICE: &'static str = "duplicate cart_id";

    /// Whether the file has what every cart needs.
    fn check(&self, file: &File, name: &str) -> Result<()>;
}

/// What tells that a file is still the same, unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified_at: (i64, i64),
}

impl Stamp {
    pub fn of(metadata: &Metadata) -> Stamp {
        Stamp {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified_at: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

/// A file as it was when its stamp was taken, and what the pass over it found.
struct Indexed {
    /// In UTF-8. Kept open, so that the carts can be read again where they stood.
    file: File,
    stamp: Stamp,
    carts: CartIndex,
}

/// A file of carts.
pub(super) struct FileSource<F> {
    path: PathBuf,
    /// The file's name, for places.
    name: String,
    timezone: Tz,
    format: F,
    indexed: Option<Indexed>,
}

impl<F: Format> FileSource<F> {
    /// Opens a file and checks its head.
    ///
    /// # Errors
    /// Exit 78 when there is no such file or it lacks a column; exit 1 when it cannot be read.
    pub fn open(path: PathBuf, timezone: Tz, format: F) -> Result<FileSource<F>> {
        require_file(&path)?;
        let name = file_name(&path);
        let file = File::open(&path).map_err(|err| unreadable(&path.display().to_string(), &err))?;
        let content = text::as_utf8(&file).map_err(|err| unreadable(&path.display().to_string(), &err))?;
        format.check(&content, &name)?;
        Ok(FileSource { path, name, timezone, format, indexed: None })
    }

    fn stamp_of_path(&self) -> Result<Stamp> {
        let metadata = fs::metadata(&self.path).map_err(|err| unreadable(&self.path.display().to_string(), &err))?;
        Ok(Stamp::of(&metadata))
    }

    /// Reads the whole file once and keeps its index. Returns `None`, and keeps none, when the file changed meanwhile.
    fn pass(&mut self, each: &mut dyn FnMut(RawCart) -> Result<()>) -> Result<Option<()>> {
        self.indexed = None;
        let cannot_read = |err: io::Error| unreadable(&self.path.display().to_string(), &err);
        let file = File::open(&self.path).map_err(cannot_read)?;
        let stamp = Stamp::of(&file.metadata().map_err(cannot_read)?);
        let content = text::as_utf8(&file).map_err(cannot_read)?;
        let carts = CartIndex::begin().map_err(no_room)?;
        self.format.carts(&content, &self.name, &mut |mut cart| {
            if let Some((folded, at)) = cart.order(self.timezone) {
                carts.note_order(&folded, at).map_err(no_room)?;
            }
            if let (Some(cart_id), Some(position)) = (cart.cart_id(), cart.position)
                && !carts.note(cart_id, position).map_err(no_room)?
            {
                cart.flaw = Some(F::TWICE.into());
            }
            each(cart)
        })?;
        carts.finish().map_err(no_room)?;
        // A file that was replaced as a whole was still read as a whole; the last look sees the new one.
        if Stamp::of(&file.metadata().map_err(cannot_read)?) != stamp {
            return Ok(None);
        }
        self.indexed = Some(Indexed { file: content, stamp, carts });
        Ok(Some(()))
    }

    /// The index of the file as it is now, made anew when the file has changed since.
    fn fresh_index(&mut self) -> Result<&Indexed> {
        let mut passes = 0;
        while self.indexed.is_none()
            || self.indexed.as_ref().map(|indexed| indexed.stamp) != Some(self.stamp_of_path()?)
        {
            if passes == PASSES {
                return Err(self.changed().into());
            }
            passes += 1;
            self.pass(&mut |_| Ok(()))?;
        }
        self.indexed.as_ref().ok_or_else(|| self.changed().into())
    }

    fn changed(&self) -> Failure {
        Failure::new(
            Exit::NeedsAPerson,
            format!("{} changed while it was read; nothing is sent", self.path.display()),
            "let the shop write a new file beside it and rename that over it; the next run reads it again",
        )
    }
}

impl<F: Format> Source for FileSource<F> {
    fn read_carts(&mut self, touched: &Touched, each: &mut dyn FnMut(Row) -> Result<()>) -> Result<ReadSummary> {
        let mut summary = ReadSummary::default();
        let (timezone, name) = (self.timezone, self.name.clone());
        let whole = self.pass(&mut |cart| {
            summary.carts_seen += 1;
            match cart.into_row(touched, timezone, &name) {
                Some(row) => each(row),
                None => {
                    summary.outside += 1;
                    Ok(())
                }
            }
        })?;
        whole.ok_or_else(|| self.changed())?;
        Ok(summary)
    }

    fn cart(&mut self, cart_id: &str) -> Result<Look> {
        for _ in 0..PASSES {
            self.fresh_index()?;
            let Some(indexed) = &self.indexed else { continue };
            let stamp = indexed.stamp;
            let Some((position, twice)) = indexed.carts.position(cart_id).map_err(no_room)? else {
                return Ok(Look::Gone);
            };
            let mut found = self.format.cart_at(&indexed.file, &self.name, position)?;
            // Half of what stands in two places would be written to as if it were all.
            if let (Some(cart), true) = (&mut found, twice) {
                cart.flaw = Some(F::TWICE.into());
            }
            // Looked at again afterwards: the bytes just read may be of a newer file than the index.
            if self.stamp_of_path()? == stamp {
                let found = found.filter(|cart| cart.cart_id() == Some(cart_id));
                return Ok(found.map_or(Look::Gone, |cart| cart.into_look(self.timezone, &self.name)));
            }
        }
        Err(self.changed().into())
    }

    fn ordered(&mut self, cart: &Cart) -> Result<bool> {
        if cart.ordered_at.is_some() {
            return Ok(true);
        }
        let index = self.fresh_index()?;
        Ok(index.carts.ordered_since(cart.email.folded(), orders_since(cart)).map_err(no_room)?)
    }

    /// The carts that say when they were ordered; each is its own order, worth what is in it.
    fn orders(&mut self, since: Instant, each: &mut dyn FnMut(Order) -> Result<()>) -> Result<OrdersRead> {
        let mut read = OrdersRead::default();
        let (timezone, name) = (self.timezone, self.name.clone());
        let whole = self.pass(&mut |cart| {
            if cart.order(timezone).is_none_or(|(_, at)| at < since) {
                return Ok(());
            }
            let order = match cart.into_look(timezone, &name) {
                Look::Cart(cart) => match cart.ordered_at {
                    Some(at) => Ok(orders::of_cart(&cart, at)),
                    None => return Ok(()),
                },
                Look::Bad(bad) => Err(format!("{}: {}", bad.place, bad.problem)),
                Look::Gone => return Ok(()),
            };
            read.take(order, since, each)
        })?;
        whole.ok_or_else(|| self.changed())?;
        Ok(read)
    }
}

/// The last part of a path.
pub(super) fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// Demands that there is a file at the path, before anything tries to open it.
///
/// # Errors
/// Exit 78 when there is none or it is something else (a pipe would wait endlessly); exit 1 when that cannot be told.
pub(super) fn require_file(path: &Path) -> Result<()> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => Ok(()),
        Ok(_) => Err(Failure::config(
            format!("the source {} is not a file", path.display()),
            "set `source.path` to the shop's file",
        )
        .into()),
        Err(err) if matches!(err.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Err(Failure::config(
                format!("there is no source {}", path.display()),
                "set `source.path` to the shop's file; a relative path starts at the configuration file's folder",
            )
            .into())
        }
        Err(err) => Err(unreadable(&path.display().to_string(), &err).into()),
    }
}

/// A source that is there and cannot be read.
pub(super) fn unreadable(name: &str, err: &io::Error) -> Failure {
    Failure::new(
        Exit::NeedsAPerson,
        format!("could not read the source {name}: {err}; nothing is sent"),
        "check that the file is there and that the user who runs mailonce may read it; the next run tries again",
    )
}
