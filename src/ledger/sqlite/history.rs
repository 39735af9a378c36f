//! What is known of one person, cart or message: for `explain`.

use rusqlite::params_from_iter;

use super::resolve::{attempts, resolutions};
use super::suppressions::names_of;
use super::{Reading, Records};
use crate::domain::address::Address;
use crate::failure::Failure;
use crate::ledger::{
    MOST_TOLD, MessageStory, OfCampaign, OldRow, OrderStory, RemovedSuppression, ReportStory, Stories, Whose,
};

impl Records {
    /// The newest [`MOST_TOLD`] messages of a history, oldest first, each with what came of it.
    pub fn stories(&self, whose: Whose<'_>) -> Result<Stories, Failure> {
        self.read(|conn| {
            let (ids, values) = ids_of(whose);
            let all: u64 =
                conn.query_row(&format!("SELECT count(*) FROM ({ids})"), params_from_iter(&values), |row| row.get(0))?;
            let mut rows = conn.prepare(&format!(
                "SELECT m.id, message_id, folded_address, m.state, reason, cart_id, step, m.planned_at, not_before,
                        m.expires_at, armed_at, settled_at, missing_since, epoch, last_reply,
                        o.campaign_id, o.planned_at AS occurrence_at, coalesce(o.list, 'news') AS list, c.status
                 FROM ({ids}) AS known JOIN message AS m ON m.id = known.id
                 LEFT JOIN campaign_occurrence AS o ON o.id = m.occurrence
                 LEFT JOIN scheduled_campaign AS c ON c.campaign_id = o.campaign_id
                 ORDER BY m.id DESC LIMIT {MOST_TOLD}"
            ))?;
            let messages = rows.query_map(params_from_iter(&values), story_from)?;
            let mut messages = messages.collect::<rusqlite::Result<Vec<_>>>()?;
            messages.reverse();
            for message in &mut messages {
                message.attempts = attempts(conn, message.id)?;
                message.resolutions = resolutions(conn, message.id)?;
                message.reports = reports(conn, message.id)?;
            }
            add_orders(conn, &mut messages)?;
            let left_out = all.saturating_sub(messages.len() as u64);
            Ok(Stories { messages, left_out })
        })
    }

    /// The rows of an older system's log of a history, oldest first; of a message there is none.
    pub fn old_rows(&self, whose: Whose<'_>) -> Result<Vec<OldRow>, Failure> {
        let (condition, values): (_, Vec<&str>) = match whose {
            Whose::Address(names) => ("lower(trim(email)) IN (?1, ?2)", names.into()),
            Whose::Cart(cart_id) => ("cart_id = ?1", vec![cart_id]),
            Whose::Message(_) => return Ok(Vec::new()),
        };
        self.read(|conn| {
            let mut rows = conn.prepare(&format!(
                "SELECT coalesce(last_sent_at, created_at) AS at, cart_id, email_sent, 0 AS moved_aside
                 FROM cart_abandonment_log WHERE {condition} AND +message_key IS NULL
                 UNION ALL
                 SELECT coalesce(last_sent_at, created_at) AS at, cart_id, email_sent, 1
                 FROM removed_duplicate WHERE {condition}
                 ORDER BY at DESC LIMIT {MOST_TOLD}"
            ))?;
            let found = rows.query_map(params_from_iter(&values), |row| {
                Ok(OldRow {
                    at: row.get("at")?,
                    cart_id: row.get("cart_id")?,
                    sent: row.get("email_sent")?,
                    moved_aside: row.get("moved_aside")?,
                })
            })?;
            let mut found = found.collect::<rusqlite::Result<Vec<_>>>()?;
            found.reverse();
            Ok(found)
        })
    }

    /// What was taken off the suppression list of an address, oldest first.
    pub fn removed_suppressions_of(&self, address: &Address) -> Result<Vec<RemovedSuppression>, Failure> {
        self.read(|conn| {
            let mut rows = conn.prepare(
                "SELECT list, reason, origin, added_at, removed_at, removed_why FROM removed_suppression
                 WHERE folded_address IN (?1, ?2) ORDER BY removed_at",
            )?;
            rows.query_map(names_of(address), |row| {
                Ok(RemovedSuppression {
                    list: row.get("list")?,
                    reason: row.get("reason")?,
                    origin: row.get("origin")?,
                    added_at: row.get("added_at")?,
                    removed_at: row.get("removed_at")?,
                    removed_why: row.get("removed_why")?,
                })
            })?
            .collect()
        })
    }
}

/// A query of the ids of the messages, by indexes, with its values.
fn ids_of(whose: Whose<'_>) -> (&'static str, Vec<String>) {
    match whose {
        Whose::Address([name, former]) => (
            "SELECT id FROM message WHERE cart_hash IS NOT NULL AND folded_address IN (?1, ?2)
             UNION
             SELECT m.id FROM campaign_occurrence AS o
             CROSS JOIN message AS m ON m.kind = 'campaign' AND m.occurrence = o.id AND m.folded_address IN (?1, ?2)",
            vec![name.to_owned(), former.to_owned()],
        ),
        Whose::Cart(cart_id) => ("SELECT id FROM message WHERE cart_id = ?1", vec![cart_id.to_owned()]),
        Whose::Message(id) => ("SELECT id FROM message WHERE id = CAST(?1 AS INTEGER)", vec![id.to_string()]),
    }
}

fn story_from(row: &rusqlite::Row<'_>) -> rusqlite::Result<MessageStory> {
    let campaign_id: Option<String> = row.get("campaign_id")?;
    let campaign = campaign_id.map(|campaign_id| {
        Ok::<_, rusqlite::Error>(OfCampaign {
            campaign_id,
            occurrence: row.get("occurrence_at")?,
            status: row.get("status")?,
            list: row.get("list")?,
        })
    });
    Ok(MessageStory {
        id: row.get("id")?,
        message_id: row.get("message_id")?,
        folded_address: row.get("folded_address")?,
        state: row.get("state")?,
        reason: row.get("reason")?,
        cart_id: row.get("cart_id")?,
        step: row.get("step")?,
        campaign: campaign.transpose()?,
        planned_at: row.get("planned_at")?,
        not_before: row.get("not_before")?,
        expires_at: row.get("expires_at")?,
        armed_at: row.get("armed_at")?,
        settled_at: row.get("settled_at")?,
        missing_since: row.get("missing_since")?,
        run: row.get("epoch")?,
        last_reply: row.get("last_reply")?,
        attempts: Vec::new(),
        resolutions: Vec::new(),
        reports: Vec::new(),
        orders: Vec::new(),
    })
}

fn reports(conn: &Reading<'_>, message: i64) -> rusqlite::Result<Vec<ReportStory>> {
    let mut rows = conn.prepare_cached(
        "SELECT received_at, class, status, diagnostic, proves FROM report WHERE message = ?1 ORDER BY id",
    )?;
    rows.query_map([message], |row| {
        Ok(ReportStory {
            received_at: row.get("received_at")?,
            class: row.get("class")?,
            status: row.get("status")?,
            diagnostic: row.get("diagnostic")?,
            proves: row.get("proves")?,
        })
    })?
    .collect()
}

/// The orders that followed these messages, in one walk: no index leads from a message to its orders.
fn add_orders(conn: &Reading<'_>, messages: &mut [MessageStory]) -> rusqlite::Result<()> {
    let ids: Vec<String> = messages.iter().map(|message| message.id.to_string()).collect();
    let mut rows = conn.prepare(&format!(
        "SELECT message, ordered_at, order_id, value, currency, status, how FROM recovery
         WHERE message IN ({}) ORDER BY ordered_at",
        ids.join(", ")
    ))?;
    let mut rows = rows.query([])?;
    while let Some(row) = rows.next()? {
        let id: i64 = row.get("message")?;
        let order = OrderStory {
            ordered_at: row.get("ordered_at")?,
            order_id: row.get("order_id")?,
            value: row.get("value")?,
            currency: row.get("currency")?,
            status: row.get("status")?,
            how: row.get("how")?,
        };
        if let Some(message) = messages.iter_mut().find(|message| message.id == id) {
            message.orders.push(order);
        }
    }
    Ok(())
}
