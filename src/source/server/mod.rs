//! The shop's database on a server: MySQL, MariaDB or PostgreSQL; its tables, or queries that were configured.
//!
//! Each question is one query in a transaction of its own that only reads, has a time limit, and is over before anything is
//! done with the answer. Many rows are copied into a temporary file as they come, so memory stays flat and the server waits for
//! no one. A connection that died while it lay idle is made anew, once; any other fault is told, and the question stays without
//! an answer.

pub(super) mod audience;
mod built_in;
mod items;
#[cfg(feature = "mysql")]
mod mysql;
pub(super) mod old_log;
pub(super) mod opt_outs;
mod parameters;
mod php;
#[cfg(feature = "postgres")]
mod postgres;
mod preset;
mod queries;
mod survey;
#[cfg(feature = "postgres")]
mod unchecked;

use std::time::Duration;

use anyhow::Result;
use chrono_tz::Tz;

use self::parameters::Query;
use self::preset::Finishing;
use self::queries::Queries;
use super::copied::Copied;
use super::orders::{KEY, OrderColumns, cannot_be_read};
use super::query::{EARLIEST_UNIX, LATEST_UNIX, OF_ORDERS};
use super::raw::{RawCart, RawField, printable};
use super::rows::Gathering;
use super::stored::{Stored, field};
use super::{
    Advice, Look, OrdersRead, ReadSummary, Row, Source, Touched, WALL_TIME, as_the_earliest_text, orders_since,
};
use crate::domain::cart::Cart;
use crate::domain::engine::Engine;
use crate::domain::instant::Instant;
use crate::domain::recovery::Order;
use crate::failure::{Exit, Failure};
use crate::settings::{ServerSettings, SourceSettings};

/// How long a server may take to let one in.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// A server that is slower than its own time limit by more than this is not there any more.
const GRACE: Duration = Duration::from_secs(5);

/// A connection that can only read.
trait Server {
    /// The columns that a query would give; it does not run.
    fn describe(&mut self, query: &Query) -> Result<Vec<Column>, Fault>;

    /// Runs a query, and hands each row to `each`, with a value for each column.
    fn read(&mut self, question: &Question<'_>, each: &mut dyn FnMut(Vec<Stored>) -> Result<()>)
    -> Result<(), Trouble>;

    /// How far a replica lags behind; `None` for a server that is none, or may not tell.
    fn replica_lag(&mut self) -> Result<Option<Duration>, Fault>;
}

/// A column of a query.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Column {
    name: String,
    kind: Kind,
}

/// What a column holds, as far as it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Integer,
    Real,
    Boolean,
    /// A day, or a time of one.
    Time,
    Binary,
    /// Texts, exact numbers, and what is shown as a text.
    Text,
}

/// A query that is about to run.
struct Question<'a> {
    query: &'a Query,
    columns: &'a [Column],
    /// By the name of the parameter; one that is not here is NULL.
    values: &'a [(&'a str, String)],
}

impl Question<'_> {
    fn value(&self, name: &str) -> Option<String> {
        self.values.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone())
    }
}

/// Why a question has no answer.
enum Trouble {
    Fault(Fault),
    /// Whoever takes the rows wants no more.
    Caller(anyhow::Error),
}

impl From<Fault> for Trouble {
    fn from(fault: Fault) -> Trouble {
        Trouble::Fault(fault)
    }
}

/// A fault, in the words of the server or the network.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Fault {
    kind: FaultKind,
    said: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FaultKind {
    /// No connection came about.
    Unreachable,
    /// The connection ended.
    Lost,
    /// It is there, and nothing comes.
    Silent,
    /// User, password or database.
    Denied,
    Tls,
    /// Too many connections, a deadlock: later it may work.
    Busy,
    /// Longer than `source.timeout`.
    Slow,
    /// The user may not read what a query names.
    Forbidden,
    /// A value that no row can have, such as a word for a number.
    Value,
    /// The query is wrong, or does not fit the tables any more.
    Query,
}

/// The connection to one server.
struct Link {
    settings: ServerSettings,
    connection: Option<Box<dyn Server>>,
}

impl Link {
    fn to(settings: &ServerSettings) -> Link {
        Link { settings: settings.clone(), connection: None }
    }

    /// The name for places.
    fn name(&self) -> &str {
        &self.settings.database
    }

    /// Puts a question. One whose first row has come says so in its second argument.
    fn ask<T>(
        &mut self,
        mut question: impl FnMut(&mut dyn Server, &mut bool) -> Result<T, Trouble>,
    ) -> Result<T, Trouble> {
        let mut lay_idle = self.connection.is_some();
        loop {
            let mut connection = match self.connection.take() {
                Some(connection) => connection,
                None => connect(&self.settings)?,
            };
            let mut begun = false;
            match question(connection.as_mut(), &mut begun) {
                Err(Trouble::Fault(Fault { kind: FaultKind::Lost, .. })) if lay_idle && !begun => lay_idle = false,
                Ok(answer) => {
                    self.connection = Some(connection);
                    return Ok(answer);
                }
                // The connection goes: what is still on its way might be taken for the next answer.
                Err(trouble) => return Err(trouble),
            }
        }
    }

    fn describe(&mut self, key: &str, query: &Query) -> Result<Vec<Column>> {
        self.ask(|server, _| Ok(server.describe(query)?)).map_err(|trouble| self.told(key, trouble, true))
    }

    fn read(
        &mut self,
        question: &Question<'_>,
        each: &mut dyn FnMut(Vec<Stored>) -> Result<()>,
    ) -> Result<(), Trouble> {
        self.ask(|server, begun| {
            server.read(question, &mut |row| {
                *begun = true;
                each(row)
            })
        })
    }

    /// All rows of the answer, once the last has come.
    fn copy(&mut self, question: &Question<'_>) -> Result<Copied, Trouble> {
        let copied = Copied::begin(question.columns.len()).map_err(Trouble::Caller)?;
        self.read(question, &mut |row| copied.push(&row))?;
        copied.end().map_err(Trouble::Caller)
    }

    /// What a person is told. A query that is refused when it is checked is the configuration's fault; one that was fine and
    /// is refused later is not.
    fn told(&self, key: &str, trouble: Trouble, is_checked: bool) -> anyhow::Error {
        let fault = match trouble {
            Trouble::Fault(fault) => fault,
            Trouble::Caller(err) => return err,
        };
        let shop = format!("the shop's database {}", self.settings.described());
        // A server may repeat a value.
        let said = printable(&fault.said, 500);
        let needs_a_person = |what: String, next: String| Failure::new(Exit::NeedsAPerson, what, next);
        let failure = match fault.kind {
            FaultKind::Unreachable => needs_a_person(
                format!("could not reach {shop}: {said}; nothing is sent"),
                "check that the server is up and lets this machine in (`source.url`); the next run tries again".into(),
            ),
            FaultKind::Lost => needs_a_person(
                format!("the connection to {shop} was lost: {said}; nothing more is sent"),
                "the next run tries again; if this stays, look into the server's log".into(),
            ),
            FaultKind::Silent => needs_a_person(
                format!("{shop} does not answer: {said}; nothing more is sent"),
                "the next run tries again; if this stays, look at the server: it is there, but hangs".into(),
            ),
            FaultKind::Denied => Failure::config(
                format!("{shop} does not let the user {} in: {said}", printable(&self.settings.user, 80)),
                "check `source.url`, and the password in `source.password_file` or `source.password_env`",
            ),
            FaultKind::Forbidden => {
                let next = "let the user read what the query names (`GRANT SELECT`); for a preset, `mailonce init --shop NAME` \
                            prints every right it needs";
                let what = format!("{shop} does not let the user read what the query `{key}` names: {said}");
                if is_checked { Failure::config(what, next) } else { needs_a_person(format!("{what}; nothing more is sent"), next.into()) }
            }
            FaultKind::Tls => needs_a_person(
                format!("no TLS with {shop}: {said}; nothing is sent"),
                "set `source.ca_file` to the authority that signed the server's certificate, and `source.url` to the name \
                 in it; `source.tls` says what is asked for"
                    .into(),
            ),
            FaultKind::Busy => needs_a_person(
                format!("{shop} is busy: {said}; nothing more is sent"),
                "the next run tries again; if this stays, look at the server".into(),
            ),
            FaultKind::Slow => needs_a_person(
                format!(
                    "{shop} took longer than {} for the query `{key}`: {said}; nothing more is sent",
                    humantime::format_duration(self.settings.timeout)
                ),
                "give its tables the indexes that the query needs (EXPLAIN shows which), or `source.timeout` a longer \
                 time; the next run tries again"
                    .into(),
            ),
            FaultKind::Value | FaultKind::Query if is_checked => Failure::config(
                format!("the query `{key}` cannot be used on {}: {said}", self.settings.described()),
                match self.settings.engine {
                    Engine::MySql => "try it in the `mysql` shell as the same user, and correct it in the configuration",
                    Engine::Postgres => "try it in `psql` as the same user, and correct it in the configuration",
                },
            ),
            FaultKind::Value | FaultKind::Query => needs_a_person(
                format!("{shop} refused the query `{key}`, which it took before: {said}; nothing more is sent"),
                "were its tables changed? `mailonce doctor` checks the queries; the next run tries again".into(),
            ),
        };
        failure.into()
    }
}

fn connect(settings: &ServerSettings) -> Result<Box<dyn Server>, Trouble> {
    match settings.engine {
        #[cfg(feature = "mysql")]
        Engine::MySql => Ok(Box::new(mysql::MySql::connect(settings)?)),
        #[cfg(feature = "postgres")]
        Engine::Postgres => Ok(Box::new(postgres::Postgres::connect(settings)?)),
        #[cfg(not(all(feature = "mysql", feature = "postgres")))]
        engine => {
            let what = format!("this mailonce was built without the feature for {}", engine.name());
            let next = "install it with its default features, or set source.kind to another kind";
            Err(Trouble::Caller(Failure::config(what, next).into()))
        }
    }
}

/// A shop's database on a server.
pub(super) struct ShopServer {
    link: Link,
    queries: Queries,
    zone: Tz,
    finishing: Option<Finishing>,
    /// `source.orders`, looked at only when orders are read.
    orders: Option<String>,
}

impl ShopServer {
    /// Connects and checks the queries, or the tables that stand for them.
    ///
    /// # Errors
    /// Exit 78 for a user that is not let in, a missing table or column and a query that cannot be used; exit 1 when the
    /// server cannot be reached or does not answer.
    pub fn open(server: &ServerSettings, settings: &SourceSettings) -> Result<ShopServer> {
        let mut link = Link::to(server);
        let queries = Queries::check(&mut link, settings)?;
        let finishing = settings.preset.as_ref().map(|preset| Finishing::check(&mut link, preset)).transpose()?;
        Ok(ShopServer { link, queries, zone: settings.timezone, finishing, orders: settings.orders.clone() })
    }
}

/// A cart as the preset finishes it, if there is one.
fn finished(finishing: &mut Option<Finishing>, link: &mut Link, cart: RawCart, items: &RawField) -> Result<RawCart> {
    match finishing {
        Some(finishing) => finishing.finish(link, cart, items),
        None => Ok(cart),
    }
}

impl Source for ShopServer {
    fn read_carts(&mut self, touched: &Touched, each: &mut dyn FnMut(Row) -> Result<()>) -> Result<ReadSummary> {
        let ShopServer { link, queries, zone, finishing, .. } = self;
        let name = link.name().to_owned();
        let carts = &queries.carts;
        let values = [
            (":not_before", as_the_earliest_text(touched.not_before, *zone)),
            (":idle_before", as_the_latest_text(touched.fresh_until, *zone)),
            (":not_before_unix", touched.not_before.timestamp().to_string()),
            (":idle_before_unix", touched.fresh_until.timestamp().to_string()),
        ];
        let copied = link.copy(&carts.question(&values));
        let copied = copied.map_err(|trouble| link.told(carts.key, trouble, false))?;
        let mut summary = ReadSummary::default();
        let mut take = |cart: RawCart, items: &RawField| {
            summary.carts_seen += 1;
            match finished(finishing, link, cart, items)?.into_row(touched, *zone, &name) {
                Some(row) => each(row),
                None => {
                    summary.outside += 1;
                    Ok(())
                }
            }
        };
        let mut gathering = Gathering::default();
        copied.rows(Some(carts.columns.cart_id()), &mut |row| {
            let field = |at| row.get_ref(at).map_or(Ok(None), field);
            let before = gathering.push(carts.columns.read(field), None, None);
            match carts.items {
                None => before.map_or(Ok(()), |cart| take(cart, &Ok(None))),
                // Each row is a whole cart.
                Some(at) => gathering.finish().map_or(Ok(()), |cart| take(cart, &field(at))),
            }
        })?;
        gathering.finish().map_or(Ok(()), |cart| take(cart, &Ok(None)))?;
        Ok(summary)
    }

    fn cart(&mut self, cart_id: &str) -> Result<Look> {
        let ShopServer { link, queries, zone, finishing, .. } = self;
        let cart = &queries.cart;
        let values = [
            (":cart_id", cart_id.to_owned()),
            (":not_before", EARLIEST.to_owned()),
            (":idle_before", LATEST.to_owned()),
            (":not_before_unix", EARLIEST_UNIX.to_string()),
            (":idle_before_unix", LATEST_UNIX.to_string()),
        ];
        let (mut gathering, mut items) = (Gathering::default(), Ok(None));
        let read = link.read(&cart.question(&values), &mut |row| {
            let (head, line) = cart.columns.read(|at| row[at].field());
            // A server that compares without case, or as numbers, finds others too.
            if matches!(&head.cart_id, Ok(Some(id)) if id == cart_id) {
                gathering.push((head, line), None, None);
                items = cart.items.map_or(Ok(None), |at| row[at].field());
            }
            Ok(())
        });
        match read {
            Ok(()) => {}
            Err(Trouble::Fault(Fault { kind: FaultKind::Value, .. })) => return Ok(Look::Gone),
            Err(trouble) => return Err(link.told(cart.key, trouble, false)),
        }
        match gathering.finish() {
            None => Ok(Look::Gone),
            Some(cart) => Ok(finished(finishing, link, cart, &items)?.into_look(*zone, link.name())),
        }
    }

    fn ordered(&mut self, cart: &Cart) -> Result<bool> {
        if cart.ordered_at.is_some() {
            return Ok(true);
        }
        let ShopServer { link, queries, zone, .. } = self;
        let ordered = &queries.ordered;
        let mut values = vec![
            (":cart_id", cart.cart_id.clone()),
            (":email", cart.email.folded().to_owned()),
            (":since", as_the_earliest_text(orders_since(cart), *zone)),
            (":since_unix", orders_since(cart).timestamp().to_string()),
        ];
        values.extend(cart.user_id.clone().map(|user_id| (":user_id", user_id)));
        let mut found = false;
        let read = link.read(&ordered.question(&values), &mut |row| {
            found |= ordered.counts(&row, cart, *zone);
            Ok(())
        });
        read.map_err(|trouble| link.told(ordered.key, trouble, false))?;
        Ok(found)
    }

    fn orders(&mut self, since: Instant, each: &mut dyn FnMut(Order) -> Result<()>) -> Result<OrdersRead> {
        let ShopServer { link, zone, orders, .. } = self;
        let (text, from) = match orders {
            // It may find orders that were placed before and have changed since.
            Some(text) => (text.clone(), Instant::MIN_UTC),
            None => (built_in::orders(link)?, since),
        };
        let (query, found) = queries::checked(link, KEY, &text, &OF_ORDERS)?;
        let columns = OrderColumns::find(found.iter().map(|column| column.name.as_str()));
        let columns = columns.map_err(|what| cannot_be_read(format!("the query `{KEY}` on {} {what}", link.name())))?;
        let values = [(":since", as_the_earliest_text(since, *zone)), (":since_unix", since.timestamp().to_string())];
        let rows = link.copy(&Question { query: &query, columns: &found, values: &values });
        columns.hand_out(&rows.map_err(|trouble| link.told(KEY, trouble, false))?, from, *zone, each)
    }

    fn advice(&mut self) -> Result<Vec<Advice>> {
        let mut advice = survey::advice(&mut self.link, &self.queries)?;
        if let Some(finishing) = &self.finishing {
            advice.extend(survey::unserved(&mut self.link, finishing.preset())?);
            advice.extend(preset::doubts(finishing.preset(), self.zone));
        }
        Ok(advice)
    }
}

/// The first and the last instant that every kind of time of every server can hold.
const EARLIEST: &str = "1000-01-01 00:00:00";
const LATEST: &str = "9999-12-31 23:59:59";

/// An instant as a text that is not before any wall time, of UTC or of the zone, that an earlier instant may have had. What
/// a query finds beyond that is left out later, by the instant.
fn as_the_latest_text(at: Instant, zone: Tz) -> String {
    let wall = at.with_timezone(&zone).naive_local();
    let latest = if wall == at.naive_utc() {
        wall
    } else {
        at.naive_utc().max(wall.checked_add_signed(super::LONGEST_WAY_BACK).unwrap_or(wall))
    };
    let text = latest.format(WALL_TIME).to_string();
    // A year of five digits is no time to a server.
    if text.len() > LATEST.len() { LATEST.to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::tests::at;

    #[test]
    fn bounds_hold_every_wall_time_that_may_be_meant() {
        let both = |text: &str, zone| (as_the_earliest_text(at(text), zone), as_the_latest_text(at(text), zone));
        let pair = |earliest: &str, latest: &str| (earliest.to_owned(), latest.to_owned());
        let noon = "2026-03-01T12:00:00Z";
        assert_eq!(both(noon, Tz::UTC), pair("2026-03-01 12:00:00", "2026-03-01 12:00:00"));
        assert_eq!(both(noon, Tz::Europe__Berlin), pair("2026-03-01 11:00:00", "2026-03-01 15:00:00"));
        assert_eq!(both(noon, Tz::America__New_York), pair("2026-03-01 05:00:00", "2026-03-01 12:00:00"));
        // 01:10 for the second time that night; 01:50 was forty minutes before, or twenty after.
        let (earliest, latest) = both("2026-11-01T06:10:00Z", Tz::America__New_York);
        assert!(earliest.as_str() <= "2026-11-01 01:10:00" && latest.as_str() >= "2026-11-01 01:50:00");
        assert_eq!(as_the_latest_text(Instant::MAX_UTC, Tz::UTC), LATEST);
    }
}
