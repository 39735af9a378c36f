//! One row of an older system's `cart_abandonment_log`, whatever its columns are called and its times look like.

use std::borrow::Cow;

use chrono::{DateTime, TimeDelta};
use chrono_tz::Tz;

use super::address::{self, Address, AddressError};
use super::instant::{self, Instant, Reading};
use super::{column, identity};

/// A column that means something here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Column {
    Id,
    UserId,
    Email,
    CartId,
    CartHash,
    CartValue,
    Currency,
    CreatedAt,
    EmailSent,
    LastSentAt,
}

/// Each column, and what shops call it; the first name found counts.
const NAMES: [(Column, &[&str]); 10] = [
    (Column::Id, &["id"]),
    (Column::UserId, &["user_id"]),
    (Column::Email, &["email", "user_email", "customer_email"]),
    (Column::CartId, &["cart_id"]),
    (Column::CartHash, &["cart_hash"]),
    (Column::CartValue, &["cart_value"]),
    (Column::Currency, &["currency"]),
    (Column::CreatedAt, &["created_at"]),
    (Column::EmailSent, &["email_sent"]),
    (Column::LastSentAt, &["last_sent_at", "sent_at", "email_sent_at"]),
];

/// Where the columns stand among those of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Columns {
    names: Vec<String>,
    places: [Option<usize>; NAMES.len()],
}

impl Columns {
    /// Finds the columns by their names, as [`column::place`] compares them.
    ///
    /// # Errors
    /// Words for what is missing, as in `has no column cart_hash`.
    pub fn find(names: Vec<String>) -> Result<Columns, String> {
        let columns = Columns::of(names);
        for column in [Column::CreatedAt, Column::CartHash] {
            if columns.place(column).is_none() {
                return Err(format!("has no column {}", NAMES[column as usize].1[0]));
            }
        }
        if columns.place(Column::UserId).is_none() && columns.place(Column::Email).is_none() {
            return Err("has no column user_id or email".into());
        }
        if columns.place(Column::EmailSent).is_none() && columns.place(Column::LastSentAt).is_none() {
            return Err("has no column email_sent".into());
        }
        Ok(columns)
    }

    /// The same, whatever is missing.
    pub fn of(names: Vec<String>) -> Columns {
        let place = |aliases: &[&str]| column::place(names.iter().map(String::as_str), aliases);
        let places = NAMES.map(|(column, aliases)| match column {
            Column::Email => place(aliases).or_else(|| place(column::ADDRESS)),
            _ => place(aliases),
        });
        Columns { names, places }
    }

    pub fn place(&self, column: Column) -> Option<usize> {
        self.places[column as usize]
    }

    /// What the log calls the column.
    pub fn name(&self, column: Column) -> Option<&str> {
        self.place(column).map(|place| self.names[place].as_str())
    }

    /// All names, in the log's order.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The columns that mean nothing here, and where they stand.
    pub fn others(&self) -> impl Iterator<Item = (usize, &str)> {
        let of_ours = |place: &usize| self.places.contains(&Some(*place));
        self.names
            .iter()
            .enumerate()
            .filter(move |(place, _)| !of_ours(place))
            .map(|(place, name)| (place, name.as_str()))
    }
}

/// A field's text; `None` when it is absent or NULL; `Err` says why it is no text, as in `is not UTF-8`.
pub type Field<'a> = Result<Option<Cow<'a, str>>, &'static str>;

/// What it takes to understand a row.
#[derive(Debug, Clone, Copy)]
pub struct Reader {
    /// Of times that have no zone of their own; without it, such a time is no time.
    pub zone: Option<Tz>,
    /// When the log is read. Nothing in it is more than a day later (its zone may be declared a little wrong), and a mail
    /// whose time cannot be read counts as one of now.
    pub now: Instant,
}

/// When a row was created whose mail has no time that can be read. Fixed, so that the row is known when it comes again.
pub const CREATED_UNKNOWN: Instant = DateTime::UNIX_EPOCH;

/// What stands in for a time that cannot be read, in a row that says that its mail went out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StandIn {
    /// The mail counts as sent when the log was read: nobody gets another because of a time that nobody can tell.
    MailedNow,
    /// The row counts as created when its mail went out, which can be read.
    CreatedAsMailed,
}

/// A row, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OldRow {
    /// The row's id in the older system, where it had one.
    pub old_id: Option<String>,
    pub identity: String,
    /// `None` for a guest.
    pub user_id: Option<String>,
    pub email: Option<String>,
    pub cart_id: Option<String>,
    /// Empty when the log has none for this row: contents unknown.
    pub cart_hash: String,
    pub cart_value: Option<String>,
    pub currency: Option<String>,
    pub created_at: Instant,
    pub email_sent: bool,
    pub last_sent_at: Option<Instant>,
    pub stand_in: Option<StandIn>,
}

/// What finding duplicates needs to know of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Essence {
    pub identity: String,
    pub cart_hash: String,
    pub created_at: Instant,
    pub email_sent: bool,
    pub last_sent_at: Option<Instant>,
    pub stand_in: Option<StandIn>,
}

impl Essence {
    /// When the latest mail of this row went out, as far as the row tells.
    pub fn mailed_at(&self) -> Option<Instant> {
        self.email_sent.then(|| self.last_sent_at.unwrap_or(self.created_at))
    }
}

/// Why a row cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Flaw {
    /// Neither user nor address: nobody could ever be written to because of it. One that says it was mailed went to
    /// somebody whom it cannot keep from a second mail.
    NoShopper { mailed: bool },
    /// This time has no zone, and none was declared.
    NoZone(String),
    /// Anything else, in words.
    Unreadable(Part, String),
}

/// The part of a row that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The row as such: too few fields, no JSON.
    Whole,
    Shopper,
    CartHash,
    EmailSent,
    /// A time, of a row that does not say that it was mailed.
    Time,
}

impl Part {
    fn of(column: Column) -> Part {
        match column {
            Column::UserId | Column::Email => Part::Shopper,
            Column::CartHash => Part::CartHash,
            Column::EmailSent => Part::EmailSent,
            Column::CreatedAt | Column::LastSentAt => Part::Time,
            Column::Id | Column::CartId | Column::CartValue | Column::Currency => Part::Whole,
        }
    }
}

impl Reader {
    /// Understands one row; `field` gives the text of a column, `None` for one that is not there.
    pub fn row<'a>(&self, field: &dyn Fn(Column) -> Field<'a>) -> Result<OldRow, Flaw> {
        let essence = self.essence(field)?;
        // What nothing depends on: one that cannot be read is left out, the row counts.
        let kept = |column: Column| text(column, field).ok().flatten().map(Cow::into_owned);
        let (user_id, email) = shopper(field)?;
        Ok(OldRow {
            old_id: kept(Column::Id),
            identity: essence.identity,
            user_id: user_id.map(Cow::into_owned),
            email: email.map(|email| stored_address(&email)),
            cart_id: kept(Column::CartId),
            cart_hash: essence.cart_hash,
            cart_value: kept(Column::CartValue),
            currency: kept(Column::Currency),
            created_at: essence.created_at,
            email_sent: essence.email_sent,
            last_sent_at: essence.last_sent_at,
            stand_in: essence.stand_in,
        })
    }

    /// Understands what finding duplicates needs.
    pub fn essence<'a>(&self, field: &dyn Fn(Column) -> Field<'a>) -> Result<Essence, Flaw> {
        let identity = match identity_of(field)? {
            Some(identity) => identity,
            None => return Err(Flaw::NoShopper { mailed: self.says_mailed(field).unwrap_or(false) }),
        };
        let email_sent = self.says_mailed(field)?;
        let sent_at = self.time(Column::LastSentAt, field);
        let created_at = self.time(Column::CreatedAt, field);
        // Which instants they are would be known with a flag more.
        for time in [&sent_at, &created_at] {
            if let Err(flaw @ Flaw::NoZone(_)) = time {
                return Err(flaw.clone());
            }
        }
        let none = || Flaw::Unreadable(Part::Time, "no created_at".into());
        let created_at = created_at.and_then(|at| at.ok_or_else(none));
        let (created_at, last_sent_at, stand_in) = match (created_at, sent_at) {
            (Ok(created_at), Ok(sent_at)) => (created_at, sent_at, None),
            (Err(flaw), _) | (_, Err(flaw)) if !email_sent => return Err(flaw),
            (Err(_), Ok(Some(sent_at))) => (sent_at, Some(sent_at), Some(StandIn::CreatedAsMailed)),
            (created_at, _) => (created_at.unwrap_or(CREATED_UNKNOWN), Some(self.now), Some(StandIn::MailedNow)),
        };
        let cart_hash = text(Column::CartHash, field)?.unwrap_or_default().into_owned();
        Ok(Essence { identity, cart_hash, created_at, email_sent, last_sent_at, stand_in })
    }

    /// Whether the row says that a mail went out: by its flag, or without one by the time of its mail, readable or not.
    fn says_mailed<'a>(&self, field: &dyn Fn(Column) -> Field<'a>) -> Result<bool, Flaw> {
        match text(Column::EmailSent, field)? {
            Some(text) => flag(&text).ok_or_else(|| {
                Flaw::Unreadable(
                    Part::EmailSent,
                    format!("the email_sent {} is neither yes, no nor a number", quoted(&text)),
                )
            }),
            None => Ok(!matches!(self.time(Column::LastSentAt, field), Ok(None))),
        }
    }

    /// A time of the row; `None` when it has none.
    fn time<'a>(&self, column: Column, field: &dyn Fn(Column) -> Field<'a>) -> Result<Option<Instant>, Flaw> {
        let Some(text) = text(column, field)?.filter(|text| !instant::is_absent(text)) else { return Ok(None) };
        let name = NAMES[column as usize].1[0];
        let flaw = |what: &str| Flaw::Unreadable(Part::Time, format!("the {name} {} {what}", quoted(&text)));
        let at = match instant::read(&text) {
            Some(Reading::Instant(at)) => Some(at),
            // Of a time that came twice the later one: the window of a mail must not end an hour early.
            Some(Reading::Wall(wall)) => match self.zone {
                Some(zone) => instant::resolve_late(wall, zone),
                None => return Err(Flaw::NoZone(shown(&text))),
            },
            None => None,
        };
        let at = at.map(instant::whole_seconds).ok_or_else(|| flaw("is not a time"))?;
        if at > self.now + TimeDelta::days(1) {
            return Err(flaw("lies in the future"));
        }
        if at.timestamp() < 0 {
            return Err(flaw("lies before 1970"));
        }
        Ok(Some(at))
    }
}

/// Whose row it is; `None` when it has neither user nor address.
fn identity_of<'a>(field: &dyn Fn(Column) -> Field<'a>) -> Result<Option<String>, Flaw> {
    let email = match shopper(field)? {
        (Some(user_id), _) => return Ok(Some(format!("u:{user_id}"))),
        (None, Some(email)) => email,
        (None, None) => return Ok(None),
    };
    // One that cannot be read would match nobody, and whoever it is would be written to again.
    match Address::parse(&email) {
        Ok(address) => Ok(Some(format!("e:{}", address.folded()))),
        Err(AddressError::Empty) => Ok(None),
        Err(err) => Err(Flaw::Unreadable(Part::Shopper, format!("the email {}: {err}", quoted(&email)))),
    }
}

/// A field's text without white space around it; `None` when nothing is left.
fn text<'a>(column: Column, field: &dyn Fn(Column) -> Field<'a>) -> Result<Option<Cow<'a, str>>, Flaw> {
    let flaw = |why| Flaw::Unreadable(Part::of(column), format!("the {} {why}", NAMES[column as usize].1[0]));
    let value = field(column).map_err(flaw)?;
    Ok(value
        .map(|text| match text.trim().len() == text.len() {
            true => text,
            false => Cow::Owned(text.trim().to_owned()),
        })
        .filter(|text| !text.is_empty()))
}

type Shopper<'a> = (Option<Cow<'a, str>>, Option<Cow<'a, str>>);

/// The user id, in its one spelling, and the address. A word for a guest, such as 0, is no user.
fn shopper<'a>(field: &dyn Fn(Column) -> Field<'a>) -> Result<Shopper<'a>, Flaw> {
    let user_id = match text(Column::UserId, field)? {
        Some(Cow::Borrowed(text)) => identity::user(text).map(Cow::Borrowed),
        Some(Cow::Owned(text)) => identity::user(&text).map(|user| Cow::Owned(user.to_owned())),
        None => None,
    };
    // A user is known without an address, so one that cannot be read matters only for guests.
    let email = match text(Column::Email, field) {
        Err(_) if user_id.is_some() => None,
        email => email?,
    };
    Ok((user_id, email))
}

/// The spelling that the ledger keeps: as given, unless SQLite's own folding would not find it again.
fn stored_address(email: &str) -> String {
    let Ok(address) = Address::parse(email) else { return email.trim().to_owned() };
    let envelope = address.envelope();
    if envelope.to_ascii_lowercase() == address.folded() { envelope } else { address.folded().to_owned() }
}

fn flag(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "t" | "yes" | "y" | "\u{1}" => Some(true),
        "false" | "f" | "no" | "n" | "\0" => Some(false),
        // Some systems count the mails here.
        number => identity::without_fraction(number).parse::<u32>().ok().map(|mails| mails > 0),
    }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", shown(text))
}

/// A text that is safe to print on one line; addresses are masked, because what is printed ends in logs.
pub fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(40).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(40).is_some() {
        shown.push('…');
    }
    address::masked(&shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    const READER: Reader = Reader { zone: None, now: DateTime::from_timestamp(4_000_000_000, 0).unwrap() };

    fn row(reader: Reader, fields: &[(Column, &'static str)]) -> Result<OldRow, Flaw> {
        let field = |column: Column| -> Field<'static> {
            Ok(fields.iter().find(|(name, _)| *name == column).map(|(_, text)| Cow::Borrowed(*text)))
        };
        reader.row(&field)
    }

    fn at(time: &'static str, zone: Option<Tz>) -> Result<String, Flaw> {
        let reader = Reader { zone, ..READER };
        row(reader, &[(Column::UserId, "7"), (Column::CreatedAt, time)]).map(|row| instant::text(row.created_at))
    }

    #[test]
    fn each_usual_spelling_of_a_time_is_read() {
        for time in [
            "2026-03-01T08:00:00Z",
            "2026-03-01 09:00:00+01:00",
            "2026-03-01T08:00:00.123456Z",
            "1772352000",
            "1772352000123",
            "1772352000.5",
            "Sun, 01 Mar 2026 08:00:00 +0000",
        ] {
            assert_eq!(at(time, None).as_deref(), Ok("2026-03-01T08:00:00Z"), "{time}");
        }
        for time in ["2026-03-01 09:00:00", "2026-03-01T09:00:00.5", "2026-03-01 09:00"] {
            assert_eq!(at(time, None), Err(Flaw::NoZone(time.into())));
            assert_eq!(at(time, Some(Tz::Europe__Berlin)).as_deref(), Ok("2026-03-01T08:00:00Z"), "{time}");
        }
        for time in ["", "soon", "0000-00-00 00:00:00", "2099-01-01T00:00:00Z.", "1.2.3", "2126-01-01T00:00:00Z"] {
            assert!(matches!(at(time, Some(Tz::UTC)), Err(Flaw::Unreadable(Part::Time, _))), "{time}");
        }
    }

    #[test]
    fn a_shopper_is_a_user_or_else_an_address() {
        let of = |fields: &[(Column, &'static str)]| {
            let mut all = vec![(Column::CreatedAt, "1772352000")];
            all.extend_from_slice(fields);
            row(READER, &all).map(|row| (row.identity, row.user_id, row.email))
        };
        let (user, email) = (Column::UserId, Column::Email);
        assert_eq!(of(&[(user, " 7 "), (email, "Ada@Example.com")]).unwrap().0, "u:7");
        assert_eq!(of(&[(email, "Ada@Example.com")]).unwrap().0, "e:ada@example.com");
        assert_eq!(of(&[(user, "0"), (email, "Ada@Example.com")]).unwrap().1, None);
        assert_eq!(of(&[(user, "7.0")]).unwrap().0, "u:7");
        assert_eq!(of(&[(user, "07")]).unwrap().0, "u:07");
        for guest in ["0", "NULL", "-1", "guest", "0.0"] {
            assert_eq!(of(&[(user, guest), (email, "Ada <Ada@Example.com>")]).unwrap().0, "e:ada@example.com");
            assert_eq!(of(&[(user, guest)]), Err(Flaw::NoShopper { mailed: false }));
        }
        assert!(matches!(of(&[(email, "ada@")]), Err(Flaw::Unreadable(Part::Shopper, _))));
        assert_eq!(of(&[(user, "7"), (email, "ada@")]).unwrap().0, "u:7");
        assert_eq!(of(&[(email, "JÖRG@Bücher.example")]).unwrap().2.as_deref(), Some("jörg@xn--bcher-kva.example"));
        assert_eq!(of(&[(email, "Ada@Example.com")]).unwrap().2.as_deref(), Some("Ada@example.com"));
        assert_eq!(of(&[(user, ""), (email, " ")]), Err(Flaw::NoShopper { mailed: false }));
    }

    #[test]
    fn the_flag_is_read_in_each_spelling() {
        for (text, sent) in [
            ("1", true),
            ("TRUE", true),
            ("2", true),
            ("1.0", true),
            ("0.0", false),
            ("0", false),
            ("f", false),
            ("", false),
        ] {
            let row =
                row(READER, &[(Column::UserId, "7"), (Column::CreatedAt, "1772352000"), (Column::EmailSent, text)]);
            assert_eq!(row.unwrap().email_sent, sent, "{text}");
        }
    }

    #[test]
    fn a_mailed_row_counts_whatever_its_times_look_like() {
        let of = |created: &'static str, flag: &'static str, sent: &'static str| {
            let fields = [
                (Column::UserId, "7"),
                (Column::CreatedAt, created),
                (Column::EmailSent, flag),
                (Column::LastSentAt, sent),
            ];
            let row = row(READER, &fields)?;
            Ok((row.created_at.timestamp(), row.last_sent_at.map(|at| at.timestamp()), row.stand_in))
        };
        let now = Some(READER.now.timestamp());
        let (mailed_now, created_as_mailed) = (Some(StandIn::MailedNow), Some(StandIn::CreatedAsMailed));
        for created in ["", "soon", "0", "0000-00-00 00:00:00", "2126-01-01T00:00:00Z", "1969-01-01T00:00:00Z"] {
            assert_eq!(of(created, "1", ""), Ok((0, now, mailed_now)), "{created}");
            assert_eq!(of(created, "1", "later"), Ok((0, now, mailed_now)), "{created}");
            assert_eq!(of(created, "", "later"), Ok((0, now, mailed_now)), "{created}");
            let mailed = (1_772_352_000, Some(1_772_352_000), created_as_mailed);
            assert_eq!(of(created, "1", "1772352000"), Ok(mailed), "{created}");
            for (flag, sent) in [("0", ""), ("", ""), ("0", "later"), ("0", "1772352000")] {
                assert!(matches!(of(created, flag, sent), Err(Flaw::Unreadable(Part::Time, _))), "{created} {flag}");
            }
        }
        assert_eq!(of("1772352000", "1", "later"), Ok((1_772_352_000, now, mailed_now)));
        assert_eq!(of("1772352000", "1", "0"), Ok((1_772_352_000, None, None)));
        assert!(matches!(of("1772352000", "0", "later"), Err(Flaw::Unreadable(Part::Time, _))));
        // With a zone they could be read.
        assert!(matches!(of("soon", "1", "2026-03-01 09:00:00"), Err(Flaw::NoZone(_))));
        assert!(matches!(of("2026-03-01 09:00:00", "1", "soon"), Err(Flaw::NoZone(_))));
        let nobody = |flag| row(READER, &[(Column::CreatedAt, "1772352000"), (Column::EmailSent, flag)]);
        assert_eq!(nobody("1"), Err(Flaw::NoShopper { mailed: true }));
        assert_eq!(nobody("perhaps"), Err(Flaw::NoShopper { mailed: false }));
    }

    #[test]
    fn columns_are_found_by_name() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let columns = Columns::find(names(&["Cart_Hash", "USER_ID", "email_sent", "created_at", "browser"])).unwrap();
        assert_eq!((columns.place(Column::CartHash), columns.place(Column::Id)), (Some(0), None));
        assert_eq!(columns.others().collect::<Vec<_>>(), [(4, "browser")]);
        assert_eq!(
            Columns::find(names(&["user_id", "email_sent", "created_at"])),
            Err("has no column cart_hash".into())
        );
    }
}
