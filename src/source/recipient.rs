//! One row of an audience, however it is read.

use chrono_tz::Tz;
use serde_json::{Map, Value};

use super::BadRow;
use super::raw::{bad_row_key, is_absent, printable};
use crate::domain::address::{Address, AddressError};
use crate::domain::column;
use crate::failure::{Exit, Failure};

/// The name under which templates find the address, however the column is spelled.
const EMAIL: &str = "email";

/// One recipient as an audience holds it.
#[derive(Debug, Clone, PartialEq)]
pub struct RecipientRow {
    pub address: Address,
    /// All columns for the template. The address is under `email`, in whatever case its column is named.
    pub values: Map<String, Value>,
}

impl RecipientRow {
    /// Whose clock the recipient goes by, where the row says.
    pub fn timezone(&self) -> Option<Tz> {
        timezone_of(&self.values)
    }
}

/// The zone in a row of an audience, if it has one that is known.
pub fn timezone_of(values: &Map<String, Value>) -> Option<Tz> {
    values.get("timezone")?.as_str()?.trim().parse().ok()
}

/// One row of an audience.
#[derive(Debug, Clone, PartialEq)]
pub enum AudienceRow {
    Recipient(RecipientRow),
    /// Skipped; the others count.
    Bad(BadRow),
}

/// An audience that cannot be used now.
pub(super) fn not_ready(what: impl Into<String>, next: impl Into<String>) -> Failure {
    Failure::new(Exit::NeedsAPerson, what, next)
}

/// The columns of a table: which of them is the address, and what the others are called.
pub(super) struct Columns {
    names: Vec<String>,
    email: usize,
}

impl Columns {
    /// Finds the column of addresses, as [`column::place`] compares names, and the names that templates know the others by.
    ///
    /// # Errors
    /// Exit 1, with the columns there are: none holds addresses by its name, or a name is there twice.
    pub fn find(names: Vec<String>, source: &str) -> Result<Columns, Failure> {
        let mut names: Vec<String> = names.iter().map(|name| column::tidy(name).to_owned()).collect();
        let shown = names.iter().map(|name| printable(name, 40)).collect::<Vec<_>>().join(", ");
        let shown = printable(&shown, 500);
        let Some(email) = column::place(names.iter().map(String::as_str), column::ADDRESS) else {
            return Err(not_ready(
                format!("{source} has no column email; its columns are: {shown}"),
                "name the column with the addresses `email`",
            ));
        };
        names[email] = EMAIL.to_owned();
        for (at, name) in names.iter().enumerate() {
            let twice = |other: &String| if at == email { other.eq_ignore_ascii_case(EMAIL) } else { other == name };
            if !name.is_empty() && names[at + 1..].iter().any(twice) {
                let what =
                    format!("{source} has more than one column {}; its columns are: {shown}", printable(name, 40));
                return Err(not_ready(what, "give each column a name of its own"));
            }
        }
        // Spelled as a variable, unless another column has that very name.
        for at in 0..names.len() {
            let variable = column::variable(&names[at]);
            if !names.contains(&variable) {
                names[at] = variable;
            }
        }
        Ok(Columns { names, email })
    }

    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// A row as a recipient; `value` gives the value of a column, or says why there is none, as in `is not UTF-8`.
    ///
    /// Columns without a name are left out.
    pub fn recipient(&self, value: impl Fn(usize) -> Result<Value, &'static str>) -> Result<RecipientRow, String> {
        let mut values = Map::new();
        let mut address = Err(AddressError::Empty.to_string());
        for (at, name) in self.names.iter().enumerate() {
            let value = value(at).map_err(|why| format!("the column {} {why}", printable(name, 40)))?;
            if at == self.email {
                address = address_of(&value);
            }
            if !name.is_empty() {
                values.insert(name.clone(), told(value));
            }
        }
        Ok(RecipientRow { address: address?, values })
    }
}

/// A value as templates get it: what MySQL and its tools write for none is empty, so nobody is greeted with `NULL`.
fn told(value: Value) -> Value {
    match value {
        Value::String(text) if is_absent(&text) => Value::from(""),
        value => value,
    }
}

fn address_of(value: &Value) -> Result<Address, String> {
    match value {
        Value::Null => Err("no recipient".into()),
        Value::String(text) => match Address::parse(text) {
            Err(AddressError::Empty) => Err("no recipient".into()),
            other => other.map_err(|err| format!("{err}: \"{}\"", printable(text, 60))),
        },
        _ => Err("the email is not a text".into()),
    }
}

/// A JSON object as a recipient.
pub(super) fn recipient_of_object(object: Map<String, Value>) -> Result<RecipientRow, String> {
    let names: Vec<&str> = object.keys().map(String::as_str).collect();
    if names.iter().filter(|name| name.eq_ignore_ascii_case(EMAIL)).count() > 1 {
        return Err("the object has more than one email".into());
    }
    let Some(email) = column::place(names.iter().copied(), column::ADDRESS) else { return Err("no recipient".into()) };
    let variable_of = |name: &str| Some(column::variable(name)).filter(|name| !object.contains_key(name));
    let variables: Vec<Option<String>> = names.iter().map(|name| variable_of(name)).collect();
    let address = address_of(&object[names[email]])?;
    let mut values = Map::new();
    for (at, ((name, value), variable)) in object.into_iter().zip(variables).enumerate() {
        values.insert(if at == email { EMAIL.to_owned() } else { variable.unwrap_or(name) }, told(value));
    }
    Ok(RecipientRow { address, values })
}

/// The row that goes to `each`; `content` is what a bad one is known by in later readings.
pub(super) fn row(found: Result<RecipientRow, String>, source: &str, place: String, content: &[u8]) -> AudienceRow {
    match found {
        Ok(recipient) => AudienceRow::Recipient(recipient),
        Err(problem) => {
            let problem = printable(&problem, 300);
            let key = bad_row_key(source, content, &problem);
            AudienceRow::Bad(BadRow { place, problem, key, is_anonymous: false })
        }
    }
}
