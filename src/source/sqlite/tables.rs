//! The tables of carts that a shop has by default: `carts` and `cart_items`.

use std::collections::HashMap;

use anyhow::Result;
use chrono_tz::Tz;
use rusqlite::{Connection, OptionalExtension, Params, params_from_iter};

use super::super::Touched;
use super::super::cart_index::{CartIndex, no_room};
use super::super::raw::{MOST_LINES, Position, RawCart, RawHead, RawLine};
use super::schema::{Serves, has_index, is_row_id, row_id_name, select_list};
use super::times::{self, Range, any_of};
use super::{Stored, both_ways, cannot_read, field, json_of_ids};

/// Few enough that a batch, items included, takes milliseconds.
const CARTS_IN_A_BATCH: usize = 500;
/// Where each batch costs a look at a whole table, fewer and larger ones.
const CARTS_IN_A_LARGE_BATCH: usize = 5000;
/// How many rows one statement may pass over without an index on the time.
const ROWS_IN_A_STRETCH: i64 = 50_000;

const CART_COLUMNS: [(&str, bool); 11] = [
    ("cart_id", true),
    ("user_id", true),
    ("email", true),
    ("name", false),
    ("currency", true),
    ("created_at", false),
    ("updated_at", true),
    ("recovery_url", true),
    ("consent", false),
    ("locale", false),
    ("timezone", false),
];
const ITEM_COLUMNS: [(&str, bool); 8] = [
    ("cart_id", true),
    ("sku", true),
    ("name", true),
    ("quantity", true),
    ("unit_price", true),
    ("image_url", false),
    ("url", false),
    ("category", false),
];

/// How the carts are walked through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Paging {
    /// By an index on `updated_at`, and the row id by the name given.
    Time(&'static str),
    /// By the row id alone.
    RowId(&'static str),
    /// By `cart_id`: a view, or a table without row ids.
    CartId,
}

/// `carts` and `cart_items`.
pub(super) struct CartTables {
    pub(super) paging: Paging,
    /// The columns of a cart, as a SELECT has them.
    columns: String,
    item_columns: String,
    items_have_index: bool,
    /// Whether the database itself keeps a cart id from being there twice.
    ids_are_unique: bool,
    texts_only: bool,
}

/// Where the next batch begins.
struct Cursor {
    time: Option<Stored>,
    id: Option<Stored>,
    /// The last row of the stretch in hand.
    stretch_end: Option<i64>,
    finished: bool,
}

impl CartTables {
    /// Looks at which columns and indexes the tables have.
    ///
    /// # Errors
    /// Exit 78 when a table or column is missing; exit 1 when the database cannot be read.
    pub fn inspect(connection: &Connection, name: &str) -> Result<CartTables> {
        let failed = |err| cannot_read(name, &err);
        let (columns, types) = select_list(connection, name, "carts", &CART_COLUMNS, "source.carts")?;
        let (item_columns, _) = select_list(connection, name, "cart_items", &ITEM_COLUMNS, "source.carts")?;
        let row_id = row_id_name(connection).map_err(failed)?;
        let by_time = has_index(connection, "carts", "updated_at", Serves::Bytewise).map_err(failed)?;
        Ok(CartTables {
            paging: match row_id {
                Some(row_id) if by_time => Paging::Time(row_id),
                Some(row_id) => Paging::RowId(row_id),
                None => Paging::CartId,
            },
            columns,
            item_columns,
            items_have_index: has_index(connection, "cart_items", "cart_id", Serves::Bytewise).map_err(failed)?,
            ids_are_unique: has_index(connection, "carts", "cart_id", Serves::KeepsUnique).map_err(failed)?
                || is_row_id(connection, "carts", "cart_id").map_err(failed)?,
            texts_only: types.get("updated_at").is_some_and(|declared| times::holds_texts_only(declared)),
        })
    }

    /// Hands out each cart that may have been touched when wanted; nothing is open on the database meanwhile.
    pub fn read(
        &self,
        connection: &Connection,
        name: &str,
        touched: &Touched,
        zone: Tz,
        each: &mut dyn FnMut(RawCart) -> Result<()>,
    ) -> Result<()> {
        let seen = (!self.ids_are_unique).then(CartIndex::begin).transpose().map_err(no_room)?;
        let ranges = times::ranges(self.texts_only, touched.not_before, touched.fresh_until);
        // Only an index lets a range be walked through on its own.
        let walks: Vec<&[Range]> = match self.paging {
            Paging::Time(_) => ranges.chunks(1).collect(),
            Paging::RowId(_) | Paging::CartId => vec![&ranges],
        };
        for walk in walks {
            let mut cursor = Cursor { time: None, id: None, stretch_end: None, finished: false };
            while !cursor.finished {
                let batch = self
                    .batch(connection, walk, &mut cursor, &|cart| !cart.is_outside(touched, zone))
                    .map_err(|err| cannot_read(name, &err))?;
                for mut cart in batch {
                    if let (Some(seen), Some(cart_id)) = (&seen, cart.cart_id())
                        && !cart.is_outside(touched, zone)
                        && !seen.note(cart_id, Position { offset: 0, line: 0 }).map_err(no_room)?
                    {
                        cart.flaw = Some("duplicate cart_id".into());
                    }
                    each(cart)?;
                }
            }
        }
        Ok(())
    }

    /// The next carts of a walk, with the items of those that are wanted, all from one instant.
    fn batch(
        &self,
        connection: &Connection,
        walk: &[Range],
        cursor: &mut Cursor,
        wanted: &dyn Fn(&RawCart) -> bool,
    ) -> rusqlite::Result<Vec<RawCart>> {
        let transaction = connection.unchecked_transaction()?;
        let limit = if self.items_have_index { CARTS_IN_A_BATCH } else { CARTS_IN_A_LARGE_BATCH };
        let mut carts = match (&self.paging, walk) {
            (Paging::Time(row_id), [range]) => self.next_by_time(connection, row_id, range, cursor, limit)?,
            (Paging::RowId(row_id), _) => self.next_by_row_id(connection, row_id, walk, cursor, limit)?,
            _ => self.next_by_cart_id(connection, walk, cursor)?,
        };
        self.add_items(connection, &mut carts, wanted)?;
        transaction.commit()?;
        Ok(carts)
    }

    fn next_by_time(
        &self,
        connection: &Connection,
        row_id: &str,
        range: &Range,
        cursor: &mut Cursor,
        limit: usize,
    ) -> rusqlite::Result<Vec<RawCart>> {
        let columns = &self.columns;
        // First the rest of the rows with the very time that the last batch ended in: a shop that was moved has many.
        if let Some(id) = cursor.id.take() {
            let time = cursor.time.clone().unwrap_or(Stored::Null);
            let sql = format!(
                "SELECT {row_id}, {columns} FROM carts WHERE updated_at IS ?1 AND {row_id} > ?2 ORDER BY {row_id} LIMIT {limit}"
            );
            let (carts, last) = self.select(connection, &sql, [time, id])?;
            if !carts.is_empty() {
                cursor.id = last.map(|(id, _)| id);
                return Ok(carts);
            }
        }
        let mut rest = range.clone();
        let mut after = None;
        match (&mut rest, cursor.time.take()) {
            (Range::Null, Some(_)) => {
                cursor.finished = true;
                return Ok(Vec::new());
            }
            (Range::Between { from, .. }, Some(time)) => {
                *from = None;
                after = Some(time);
            }
            (_, None) => {}
        }
        let mut parameters = Vec::new();
        let mut condition = rest.condition("updated_at", &mut parameters);
        if let Some(time) = after {
            parameters.push(time);
            let and = if condition.is_empty() { "" } else { " AND " };
            condition += &format!("{and}updated_at > ?{}", parameters.len());
        }
        let order = if *range == Range::Null { row_id.to_owned() } else { format!("updated_at, {row_id}") };
        let sql = format!("SELECT {row_id}, {columns} FROM carts WHERE {condition} ORDER BY {order} LIMIT {limit}");
        let (carts, last) = self.select(connection, &sql, params_from_iter(parameters))?;
        cursor.finished = carts.len() < limit;
        if let Some((id, time)) = last {
            (cursor.id, cursor.time) = (Some(id), Some(time));
        }
        Ok(carts)
    }

    fn next_by_row_id(
        &self,
        connection: &Connection,
        row_id: &str,
        ranges: &[Range],
        cursor: &mut Cursor,
        limit: usize,
    ) -> rusqlite::Result<Vec<RawCart>> {
        let after = cursor.id.take().unwrap_or(Stored::Integer(i64::MIN));
        let end = match cursor.stretch_end.take() {
            Some(end) => end,
            // Counted in rows, not in row ids: those may be far apart.
            None => connection
                .prepare_cached(&format!(
                    "SELECT {row_id} FROM carts WHERE {row_id} > ?1 ORDER BY {row_id} LIMIT 1 OFFSET {}",
                    ROWS_IN_A_STRETCH - 1
                ))?
                .query_row([&after], |row| row.get(0))
                .optional()?
                .unwrap_or(i64::MAX),
        };
        let mut parameters = vec![after, Stored::Integer(end)];
        let near = any_of(ranges, "updated_at", &mut parameters);
        let sql = format!(
            "SELECT {row_id}, {} FROM carts WHERE {row_id} > ?1 AND {row_id} <= ?2 AND ({near}) ORDER BY {row_id} LIMIT {limit}",
            self.columns
        );
        let (carts, last) = self.select(connection, &sql, params_from_iter(parameters))?;
        match last {
            Some((id, _)) if carts.len() == limit => (cursor.id, cursor.stretch_end) = (Some(id), Some(end)),
            _ if end == i64::MAX => cursor.finished = true,
            _ => cursor.id = Some(Stored::Integer(end)),
        }
        Ok(carts)
    }

    fn next_by_cart_id(
        &self,
        connection: &Connection,
        ranges: &[Range],
        cursor: &mut Cursor,
    ) -> rusqlite::Result<Vec<RawCart>> {
        let mut parameters = Vec::new();
        let near = any_of(ranges, "updated_at", &mut parameters);
        // The first batch also holds the carts without an id: they sort before all others.
        let after = cursor.id.take().map_or(String::new(), |id| {
            parameters.push(id);
            format!("AND cart_id COLLATE BINARY > ?{}", parameters.len())
        });
        let sql = format!(
            "SELECT cart_id, {} FROM carts WHERE ({near}) {after} ORDER BY cart_id COLLATE BINARY LIMIT {CARTS_IN_A_LARGE_BATCH}",
            self.columns
        );
        let (carts, last) = self.select(connection, &sql, params_from_iter(parameters))?;
        // NULL is greater than nothing: a batch of carts that all lack an id would come again endlessly.
        cursor.finished = carts.len() < CARTS_IN_A_LARGE_BATCH || matches!(last, Some((Stored::Null, _)));
        cursor.id = last.map(|(id, _)| id);
        Ok(carts)
    }

    /// Runs a query whose first column is what it pages by. Returns that column and the time of the last row too.
    #[allow(clippy::type_complexity)]
    fn select(
        &self,
        connection: &Connection,
        sql: &str,
        parameters: impl Params,
    ) -> rusqlite::Result<(Vec<RawCart>, Option<(Stored, Stored)>)> {
        let mut statement = connection.prepare_cached(sql)?;
        let mut rows = statement.query(parameters)?;
        let (mut carts, mut last) = (Vec::new(), None);
        while let Some(row) = rows.next()? {
            last = Some((row.get(0)?, row.get(7)?));
            carts.push(raw_cart(row, 1)?);
        }
        Ok((carts, last))
    }

    fn add_items(
        &self,
        connection: &Connection,
        carts: &mut [RawCart],
        wanted: &dyn Fn(&RawCart) -> bool,
    ) -> rusqlite::Result<()> {
        let wanted: Vec<&mut RawCart> =
            carts.iter_mut().filter(|cart| cart.cart_id().is_some() && wanted(cart)).collect();
        if self.items_have_index {
            for cart in wanted {
                self.add_items_of(connection, cart)?;
            }
            return Ok(());
        }
        if wanted.is_empty() {
            return Ok(());
        }
        // Without an index one look at all items serves the whole batch.
        let ids = json_of_ids(wanted.iter().filter_map(|cart| cart.cart_id()));
        let sql = format!(
            "SELECT cart_id, {} FROM cart_items WHERE cart_id IN (SELECT value FROM json_each(?1))",
            self.item_columns
        );
        let mut statement = connection.prepare_cached(&sql)?;
        let mut rows = statement.query([ids])?;
        let mut found: HashMap<String, Vec<RawLine>> = HashMap::new();
        while let Some(row) = rows.next()? {
            let Ok(Some(cart_id)) = field(row.get_ref(0)?) else { continue };
            let lines = found.entry(cart_id).or_default();
            if lines.len() <= MOST_LINES {
                lines.push(raw_line(row)?);
            }
        }
        for cart in wanted {
            // Copied, not taken: a cart id that is there twice has its items twice.
            let lines = cart.cart_id().and_then(|cart_id| found.get(cart_id)).cloned();
            set_lines(cart, lines.unwrap_or_default());
        }
        Ok(())
    }

    fn add_items_of(&self, connection: &Connection, cart: &mut RawCart) -> rusqlite::Result<()> {
        let Some(cart_id) = cart.cart_id() else { return Ok(()) };
        let sql = format!(
            "SELECT cart_id, {} FROM cart_items WHERE cart_id IN (?1, ?2) LIMIT {}",
            self.item_columns,
            MOST_LINES + 1
        );
        let mut statement = connection.prepare_cached(&sql)?;
        let mut rows = statement.query(both_ways(cart_id))?;
        let mut lines = Vec::new();
        while let Some(row) = rows.next()? {
            // A column that ignores case also finds the items of a cart whose id differs in it.
            if field(row.get_ref(0)?) == cart.head.cart_id {
                lines.push(raw_line(row)?);
            }
        }
        set_lines(cart, lines);
        Ok(())
    }

    /// One cart with its items, as they are at one instant.
    pub fn cart(&self, connection: &Connection, cart_id: &str) -> rusqlite::Result<Option<RawCart>> {
        let transaction = connection.unchecked_transaction()?;
        let sql = format!("SELECT cart_id, {} FROM carts WHERE cart_id IN (?1, ?2) LIMIT 100", self.columns);
        let (mut carts, _) = self.select(connection, &sql, both_ways(cart_id))?;
        carts.retain(|cart| cart.cart_id() == Some(cart_id));
        let several = carts.len() > 1;
        let mut found = carts.into_iter().next();
        if let Some(cart) = &mut found {
            self.add_items_of(connection, cart)?;
            if several {
                cart.flaw = Some("duplicate cart_id".into());
            }
        }
        transaction.commit()?;
        Ok(found)
    }
}

fn set_lines(cart: &mut RawCart, lines: Vec<RawLine>) {
    if lines.len() > MOST_LINES {
        cart.flaw = Some(format!("more than {MOST_LINES} lines"));
    }
    cart.lines = lines;
}

/// A cart from [`CART_COLUMNS`], the first of which is the column number `first`.
fn raw_cart(row: &rusqlite::Row<'_>, first: usize) -> rusqlite::Result<RawCart> {
    let at = |index: usize| Ok::<_, rusqlite::Error>(field(row.get_ref(first + index)?));
    let head = RawHead {
        cart_id: at(0)?,
        user_id: at(1)?,
        email: at(2)?,
        name: at(3)?,
        currency: at(4)?,
        created_at: at(5)?,
        updated_at: at(6)?,
        recovery_url: at(7)?,
        consent: at(8)?,
        locale: at(9)?,
        timezone: at(10)?,
        ordered_at: Ok(None),
    };
    let content = match &head.cart_id {
        Ok(Some(id)) if !id.is_empty() => Vec::new(),
        _ => format!("{head:?}").into_bytes(),
    };
    Ok(RawCart { head, lines: Vec::new(), position: None, flaw: None, content })
}

/// A line from a cart id and then [`ITEM_COLUMNS`].
fn raw_line(row: &rusqlite::Row<'_>) -> rusqlite::Result<RawLine> {
    let at = |index: usize| Ok::<_, rusqlite::Error>(field(row.get_ref(index + 1)?));
    Ok(RawLine {
        sku: at(1)?,
        name: at(2)?,
        quantity: at(3)?,
        unit_price: at(4)?,
        image_url: at(5)?,
        url: at(6)?,
        category: at(7)?,
    })
}
