//! The suppression list: addresses that are never written to.

use super::{Durability, Records, Suppressions};
use crate::domain::address::Address;
use crate::domain::instant::{self, Instant};
use crate::failure::Failure;
use crate::ledger::Suppression;

impl Records {
    /// Whether an address is on the list.
    pub fn is_suppressed(&self, folded_address: &str) -> Result<bool, Failure> {
        self.read(|conn| {
            conn.prepare_cached("SELECT 1 FROM suppression WHERE folded_address = ?1")?.exists([folded_address])
        })
    }

    /// How many addresses are on the list.
    pub fn count_suppressed(&self) -> Result<u64, Failure> {
        self.read(|conn| conn.query_row("SELECT count(*) FROM suppression", [], |row| row.get(0)))
    }

    /// The list, in order of address.
    pub fn each_suppression(&self, mut each: impl FnMut(Suppression)) -> Result<(), Failure> {
        self.read(|conn| {
            let mut rows = conn
                .prepare("SELECT folded_address, reason, added_at, origin FROM suppression ORDER BY folded_address")?;
            let mut rows = rows.query([])?;
            while let Some(row) = rows.next()? {
                each(Suppression {
                    address: row.get("folded_address")?,
                    reason: row.get("reason")?,
                    added_at: row.get("added_at")?,
                    origin: row.get("origin")?,
                });
            }
            Ok(())
        })
    }
}

impl Suppressions<'_> {
    /// Adds addresses; says how many were new. One that is listed keeps its first reason and date.
    pub fn add(&mut self, addresses: &[(Address, String)], origin: &str, now: Instant) -> Result<u64, Failure> {
        let now = instant::text(now);
        self.0.write(Durability::Full, |tx| {
            let mut added = 0;
            for (address, reason) in addresses {
                added += tx
                    .prepare_cached(
                        "INSERT INTO suppression (folded_address, reason, added_at, origin) SELECT ?1, ?2, ?3, ?4
                         WHERE NOT EXISTS (SELECT 1 FROM suppression WHERE folded_address = ?1)",
                    )?
                    .execute((address.folded(), reason, &now, origin))?;
            }
            Ok(added as u64)
        })
    }

    /// Takes an address off the list; says whether it was on it.
    pub fn remove(&mut self, address: &Address) -> Result<bool, Failure> {
        self.0.write(Durability::Full, |tx| {
            let names = [address.folded(), address.formerly_folded().unwrap_or(address.folded())];
            Ok(tx.execute("DELETE FROM suppression WHERE folded_address IN (?1, ?2)", names)? > 0)
        })
    }
}
