//! The campaigns file: definitions as written, and the checks that turn each into a [`Campaign`].

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use chrono_tz::Tz;
use serde::{Deserialize, Serialize};
use toml::Spanned;

use super::CampaignSettings;
use super::bounds::SendWindowTable;
use super::checker::{nearest_key, not_read};
use crate::domain::address::Mailbox;
use crate::domain::campaign::{Audience, Campaign, is_id};
use crate::domain::list;
use crate::domain::recurrence::{self, CronRule, Every, EveryDays, Recurrence, Schedule};
use crate::domain::send_window::SendWindow;
use crate::domain::span;
use crate::domain::subject::Subject;
use crate::failure::Failure;

/// What a campaigns file defines.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Definitions {
    /// In the file's order.
    pub campaigns: Vec<Campaign>,
    /// In the file's order. They are there, so their campaigns have not vanished; they only cannot be used.
    pub broken: Vec<BrokenDefinition>,
}

/// A definition that cannot be used. The others can.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokenDefinition {
    /// `None` when that is what is broken: then it cannot be told which campaign it was.
    pub id: Option<String>,
    /// File, line, campaign, key, and what would be right.
    pub problem: String,
}

/// One `[[campaign]]` as written, nothing checked. Paths are relative to the file's folder.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Definition {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<Subject>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sql: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cron: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_gap: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_lateness: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub send_until: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub send_window: Option<SendWindowTable>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub coupon: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub list: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    campaign: Vec<Spanned<toml::Table>>,
}

/// Reads and checks a campaigns file; `zone` is for campaigns that name none.
///
/// # Errors
/// Exit 78: the file is missing, unreadable, not TOML, or holds something else than `[[campaign]]` tables. A campaign
/// that is wrong in itself is no error; it is among the broken ones. Two with the same id are both broken.
pub fn read(path: &Path, defaults: &CampaignSettings, zone: Tz) -> Result<Definitions, Failure> {
    let text = std::fs::read_to_string(path).map_err(|err| {
        Failure::config(
            format!("could not read the campaigns file {}: {err}", path.display()),
            "make it readable for the user cron runs as, or correct `file` in [campaigns]",
        )
    })?;
    parse(path, &text, defaults, zone)
}

/// Checks the text of a campaigns file; `path` is what it is called, and where its relative paths start.
///
/// # Errors
/// As [`read`].
pub fn parse(path: &Path, text: &str, defaults: &CampaignSettings, zone: Tz) -> Result<Definitions, Failure> {
    let file: File = toml::from_str(text).map_err(|err| {
        Failure::config(
            not_read(path, text, &err),
            "correct the line shown; each campaign begins with a line [[campaign]]",
        )
    })?;
    let mut lines_of: HashMap<String, Vec<usize>> = HashMap::new();
    let mut tables = Vec::new();
    let (mut line, mut counted) = (1, 0);
    for table in file.campaign {
        // Counted on from the table before: a file of a thousand campaigns is walked over once.
        let begins = table.span().start;
        let between = text.as_bytes().get(counted..begins).unwrap_or_default();
        line += between.iter().filter(|&&byte| byte == b'\n').count();
        counted = begins;
        let table = table.into_inner();
        let id = table.get("id").and_then(toml::Value::as_str).map(str::to_owned);
        if let Some(id) = &id {
            lines_of.entry(id.clone()).or_default().push(line);
        }
        tables.push((line, id, table));
    }
    let mut definitions = Definitions::default();
    for (line, id, table) in tables {
        let lines = id.as_ref().and_then(|id| lines_of.get(id)).map_or(&[][..], Vec::as_slice);
        let found = if lines.len() > 1 {
            let lines: Vec<String> = lines.iter().map(usize::to_string).collect();
            Err(format!("id: is there more than once (lines {}); give each campaign its own", lines.join(", ")))
        } else {
            definition(table)
                .and_then(|definition| definition.check(path.parent().unwrap_or(Path::new("")), defaults, zone))
        };
        match found {
            Ok(campaign) => definitions.campaigns.push(campaign),
            Err(problem) => {
                let name = id.as_ref().map_or_else(|| "campaign without an id".into(), |id| format!("campaign {id:?}"));
                let problem = format!("{}:{line}: {name}: {problem}", path.display());
                definitions.broken.push(BrokenDefinition { id, problem });
            }
        }
    }
    Ok(definitions)
}

fn definition(mut table: toml::Table) -> Result<Definition, String> {
    // `on = 31` and `at = 2026-03-20T09:00:00` mean the same with and without quotes.
    for key in ["at", "on", "time"] {
        if let Some(value) = table.get_mut(key).filter(|value| !value.is_str()) {
            *value = toml::Value::String(unquoted(value));
        }
    }
    if let Some(subject) = table.get("subject") {
        subject.clone().try_into::<Subject>().map_err(|err| format!("subject: {}", err.message()))?;
    }
    toml::Value::Table(table).try_into().map_err(|err: toml::de::Error| match nearest_key(err.message()) {
        Some(nearest) => {
            let unknown = err.message().split('`').nth(1).unwrap_or_default();
            format!("{unknown}: is no key of a campaign; the nearest is `{nearest}`")
        }
        None => err.to_string().split_whitespace().collect::<Vec<_>>().join(" "),
    })
}

fn unquoted(value: &toml::Value) -> String {
    match value {
        // A time of day alone is shown with seconds, which a schedule does not have.
        toml::Value::Datetime(toml::value::Datetime { date: None, time: Some(time), .. })
            if time.second.unwrap_or(0) == 0 && time.nanosecond.unwrap_or(0) == 0 =>
        {
            format!("{:02}:{:02}", time.hour, time.minute)
        }
        other => other.to_string(),
    }
}

/// Writes a definition as a `[[campaign]]` block that can be added to the end of a campaigns file.
///
/// # Errors
/// A text that TOML cannot hold; none is known.
pub fn definition_toml(definition: &Definition) -> Result<String, toml::ser::Error> {
    Ok(format!("[[campaign]]\n{}", toml::to_string(definition)?))
}

impl Definition {
    /// Checks the definition; `folder` is where its relative paths start.
    ///
    /// # Errors
    /// What is wrong, as `key: problem; what would be right`.
    pub fn check(&self, folder: &Path, defaults: &CampaignSettings, zone: Tz) -> Result<Campaign, String> {
        let zone = match &self.timezone {
            None => zone,
            Some(name) => name
                .parse()
                .map_err(|_| format!("timezone: {name:?} is no IANA zone; write for example \"Europe/Berlin\""))?,
        };
        let spans = CampaignSettings {
            file: None,
            min_gap: span("min_gap", &self.min_gap, defaults.min_gap)?,
            max_lateness: span("max_lateness", &self.max_lateness, defaults.max_lateness)?,
            send_until: span("send_until", &self.send_until, defaults.send_until)?,
        };
        spans.check_spans().map_err(|(key, problem)| format!("{key}: {problem}"))?;
        let id = required("id", &self.id, "write for example id = \"spring\"")?;
        if !is_id(id) {
            return Err("id: is not 1 to 64 letters, digits, dots, underscores or hyphens; choose a plain name".into());
        }
        let subject = self.subject.clone().ok_or("subject: is missing or empty; write the subject line")?;
        let template = required("template", &self.template, "name the file with the text of the mail")?;
        Ok(Campaign {
            id: id.to_owned(),
            subject,
            template: folder.join(template),
            audience: self.audience(folder)?,
            schedule: Schedule { recurrence: self.recurrence(zone)?, zone },
            min_gap: spans.min_gap,
            max_lateness: spans.max_lateness,
            send_until: spans.send_until,
            send_window: self.send_window()?,
            coupon: self.coupon.clone(),
            list: self.list()?,
            from: self.from.as_deref().map(sender).transpose()?,
            enabled: self.enabled.unwrap_or(true),
        })
    }

    fn send_window(&self) -> Result<Option<SendWindow>, String> {
        let wrong = |(key, problem, next): (&str, String, &str)| format!("send_window.{key}: {problem}; {next}");
        self.send_window.as_ref().map(|table| table.check().map_err(wrong)).transpose()
    }

    fn list(&self) -> Result<String, String> {
        match self.list.as_deref().unwrap_or(list::CAMPAIGNS) {
            list::CARTS => Err("list: \"cart\" is that of the carts; choose another name".into()),
            name if list::is_name(name) => Ok(name.to_owned()),
            name => {
                Err(format!("list: {name:?} is not 1 to 63 small letters, digits and hyphens; choose a plain name"))
            }
        }
    }

    fn audience(&self, folder: &Path) -> Result<Audience, String> {
        match (&self.audience, &self.sql) {
            (Some(_), Some(_)) => Err("audience: there is also `sql`; keep one of the two".into()),
            (None, None) => Err("audience: is missing; name a .csv or .jsonl file, or write sql = \"SELECT …\"".into()),
            (None, Some(sql)) if sql.trim().is_empty() => Err("sql: is empty; write one SELECT".into()),
            (None, Some(sql)) => Ok(Audience::Sql(sql.clone())),
            (Some(file), None) => {
                let path = folder.join(file);
                let extension = path.extension().map(|end| end.to_string_lossy().to_ascii_lowercase());
                match extension.as_deref() {
                    Some("csv" | "tsv" | "txt") => Ok(Audience::Csv(path)),
                    Some("jsonl" | "ndjson") => Ok(Audience::JsonLines(path)),
                    _ => Err(format!("audience: {file:?} ends neither in .csv nor in .jsonl; name one that does")),
                }
            }
        }
    }

    fn recurrence(&self, zone: Tz) -> Result<Recurrence, String> {
        let stray = |key: &str, value: &Option<String>, belongs: &str| match value {
            Some(_) => Err(format!("{key}: belongs to {belongs}; remove it")),
            None => Ok(()),
        };
        let rule = match (&self.at, &self.cron, &self.every) {
            (Some(at), None, None) => recurrence::parse_once(at, zone)
                .map(Recurrence::Once)
                .ok_or_else(|| format!("at: {at:?} is no day and time; write for example \"2026-03-20 09:00\""))?,
            (None, Some(cron), None) => CronRule::parse(cron)
                .map(Recurrence::Cron)
                .map_err(|problem| format!("cron: {problem}; write for example \"0 9 * * MON\""))?,
            (None, None, Some(every)) => return self.every(every).map(Recurrence::Every),
            (None, None, None) => {
                return Err("at: is missing; write one of `at`, `cron` and `every`".into());
            }
            _ => return Err("at: there is more than one of `at`, `cron` and `every`; keep one".into()),
        };
        stray("on", &self.on, "`every`")?;
        stray("time", &self.time, "`every`")?;
        Ok(rule)
    }

    fn every(&self, every: &str) -> Result<Every, String> {
        let on = self.on.as_deref().map(str::trim);
        let days = match (every, on) {
            ("day", None) => EveryDays::Day,
            ("day", Some(_)) => return Err("on: belongs to every = \"week\" or \"month\"; remove it".into()),
            ("week", on) => EveryDays::Week(
                on.and_then(recurrence::parse_weekday)
                    .ok_or("on: is missing or no weekday; write for example on = \"monday\"")?,
            ),
            ("month", Some("last")) => EveryDays::Month(31),
            ("month", on) => {
                let day = on.and_then(|on| on.parse().ok()).filter(|day| (1..=31).contains(day));
                EveryDays::Month(day.ok_or("on: is missing or no day of a month; write 1 to 31, or \"last\"")?)
            }
            (other, _) => {
                return Err(format!("every: {other:?} is not known; write \"day\", \"week\" or \"month\""));
            }
        };
        let time = self.time.as_deref().and_then(recurrence::parse_time_of_day);
        Ok(Every { days, time: time.ok_or("time: is missing or no time of day; write for example time = \"09:00\"")? })
    }
}

fn required<'a>(key: &str, value: &'a Option<String>, right: &str) -> Result<&'a str, String> {
    let text = value.as_deref().filter(|text| !text.trim().is_empty());
    text.ok_or_else(|| format!("{key}: is missing or empty; {right}"))
}

fn span(key: &str, value: &Option<String>, default: Duration) -> Result<Duration, String> {
    value.as_deref().map_or(Ok(default), span::parse).map_err(|problem| format!("{key}: {problem}"))
}

fn sender(text: &str) -> Result<Mailbox, String> {
    let mailbox =
        Mailbox::parse(text).map_err(|err| format!("from: {text:?}: {err}; write \"Name <address@domain>\""))?;
    if mailbox.address.needs_smtputf8() {
        return Err("from: the part before the @ must be ASCII; use an address that every server takes".into());
    }
    Ok(mailbox)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Exit;

    const SPRING: &str = "[[campaign]]\nid = \"spring\"\nsubject = \"Spring, {{ name }}\"\ntemplate = \"t/spring.html\"\n\
                          audience = \"audience.csv\"\nat = \"2026-03-20 09:00\"\ntimezone = \"Europe/Berlin\"\n";

    fn read_text(text: &str) -> Result<Definitions, Failure> {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("campaigns.toml");
        std::fs::write(&path, text).unwrap();
        read(&path, &CampaignSettings::default(), Tz::UTC)
    }

    fn problem(text: &str) -> String {
        let definitions = read_text(text).unwrap();
        assert!(definitions.campaigns.is_empty(), "{text}");
        definitions.broken.into_iter().map(|broken| broken.problem).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_definition_becomes_a_campaign() {
        let definitions = read_text(SPRING).unwrap();
        assert_eq!(definitions.broken, []);
        let campaign = &definitions.campaigns[0];
        assert_eq!((campaign.id.as_str(), campaign.enabled), ("spring", true));
        assert!(campaign.template.ends_with("t/spring.html") && campaign.template.is_absolute());
        assert!(matches!(&campaign.audience, Audience::Csv(path) if path.ends_with("audience.csv")));
        assert_eq!(campaign.schedule.to_string(), "once at 2026-03-20 09:00:00+01:00 Europe/Berlin");
        assert_eq!(campaign.send_until, Duration::from_secs(72 * 3600));
    }

    #[test]
    fn each_kind_of_schedule_is_read() {
        for (keys, shown) in [
            ("cron = \"0 9 * * MON\"", "cron 0 9 * * MON Europe/Berlin"),
            ("every = \"day\"\ntime = \"9:00\"", "every day at 09:00 Europe/Berlin"),
            ("every = \"week\"\non = \"Monday\"\ntime = 09:00:00", "every week on monday at 09:00 Europe/Berlin"),
            ("every = \"month\"\non = 31\ntime = \"09:00\"", "every month on its last day at 09:00 Europe/Berlin"),
            (
                "every = \"month\"\non = \"last\"\ntime = \"09:00\"",
                "every month on its last day at 09:00 Europe/Berlin",
            ),
            ("every = \"month\"\non = 30\ntime = \"09:00\"", "every month on day 30 at 09:00 Europe/Berlin"),
            ("at = 2026-03-20T09:00:00", "once at 2026-03-20 09:00:00+01:00 Europe/Berlin"),
            ("at = 2026-03-20T09:00:00Z", "once at 2026-03-20 10:00:00+01:00 Europe/Berlin"),
        ] {
            let definitions = read_text(&SPRING.replace("at = \"2026-03-20 09:00\"", keys)).unwrap();
            assert_eq!(definitions.broken, [], "{keys}");
            assert_eq!(definitions.campaigns[0].schedule.to_string(), shown);
        }
    }

    #[test]
    fn what_is_wrong_is_named_by_line_campaign_and_key() {
        for (from, to, expected) in [
            ("subject =", "subjet =", "subjet: is no key of a campaign; the nearest is `subject`"),
            ("id = \"spring\"", "", "campaign without an id: id: is missing"),
            ("id = \"spring\"", "id = \"spring sale\"", "id: is not 1 to 64"),
            ("id = \"spring\"", "id = 5", "expected a string"),
            ("\"Spring, {{ name }}\"", "\"a\\nBcc: x\"", "subject: holds a line break"),
            ("template =", "#", "template: is missing"),
            ("audience.csv", "audience.xlsx", "ends neither in .csv nor in .jsonl"),
            ("audience =", "sql = \"SELECT 1\"\naudience =", "keep one of the two"),
            ("audience =", "#", "audience: is missing"),
            ("at = \"2026-03-20 09:00\"", "", "at: is missing"),
            ("at = \"2026-03-20 09:00\"", "at = 2026-03-20", "is no day and time"),
            ("at =", "cron = \"0 9 * * *\"\nat =", "more than one of `at`, `cron` and `every`"),
            ("at =", "time = \"09:00\"\nat =", "time: belongs to `every`"),
            ("at = \"2026-03-20 09:00\"", "cron = \"0 9 31 2 *\"", "never fires"),
            ("at = \"2026-03-20 09:00\"", "cron = \"0 0 9 * * MON\"", "has 6 fields, not 5"),
            ("at = \"2026-03-20 09:00\"", "every = \"week\"\ntime = \"09:00\"", "on: is missing or no weekday"),
            ("at = \"2026-03-20 09:00\"", "every = \"month\"\non = 32\ntime = \"09:00\"", "no day of a month"),
            ("at = \"2026-03-20 09:00\"", "every = \"day\"", "time: is missing"),
            ("at = \"2026-03-20 09:00\"", "every = \"year\"\ntime = \"09:00\"", "every: \"year\" is not known"),
            ("Europe/Berlin", "Berlin", "is no IANA zone"),
            ("at =", "min_gap = \"soon\"\nat =", "min_gap: \"soon\" is no length of time"),
            ("at =", "send_until = \"1h\"\nat =", "send_until: must be longer than max_lateness"),
            ("at =", "from = \"Shop\"\nat =", "from: \"Shop\""),
        ] {
            let text = format!("# one\n{SPRING}").replace(from, to);
            let problem = problem(&text);
            assert!(problem.contains(expected), "{to}: {problem}");
            assert!(problem.contains("campaigns.toml:2: campaign "), "{problem}");
            assert_eq!(problem.lines().count(), 1, "{problem}");
        }
    }

    #[test]
    fn one_broken_campaign_leaves_the_others() {
        let other = SPRING.replace("spring\"", "autumn\"").replace("2026-03-20 09:00", "soon");
        let definitions = read_text(&format!("{SPRING}{other}")).unwrap();
        assert_eq!((definitions.campaigns.len(), definitions.broken.len()), (1, 1));
        assert_eq!(definitions.broken[0].id.as_deref(), Some("autumn"));
        assert!(definitions.broken[0].problem.contains("campaigns.toml:8:"), "{definitions:?}");
    }

    #[test]
    fn an_id_that_is_there_twice_breaks_both() {
        let broken_twin = SPRING.replace("at =", "att =");
        for second in [SPRING, broken_twin.as_str()] {
            let definitions = read_text(&format!("{SPRING}{second}")).unwrap();
            assert_eq!((definitions.campaigns.len(), definitions.broken.len()), (0, 2));
            assert!(definitions.broken[1].problem.contains("lines 1, 8"), "{definitions:?}");
        }
    }

    #[test]
    fn a_file_of_something_else_is_the_configurations_fault() {
        for text in
            ["[[campaign]\n", "[campaign]\nid = \"x\"\n", "[[campaigns]]\nid = \"x\"\n", "campaign = 5\n", "\u{1}"]
        {
            let err = read_text(text).unwrap_err();
            assert_eq!(err.exit, Exit::Configuration, "{text}");
        }
        assert!(read_text("[[campaigns]]\n").unwrap_err().what.contains("`campaign`"));
        let missing = read(Path::new("/nonexistent/campaigns.toml"), &CampaignSettings::default(), Tz::UTC);
        assert_eq!(missing.unwrap_err().exit, Exit::Configuration);
        assert_eq!(read_text("").unwrap(), Definitions::default());
    }

    #[test]
    fn what_is_written_is_read_back_whatever_it_holds() {
        let definition = Definition {
            id: Some("spring".into()),
            subject: Some("\"Quotes\", back\\slashes and {{ name }} 'ü' # no comment".into()),
            template: Some("t/a \"b\".html".into()),
            sql: Some("SELECT email\nFROM \"users\"\nWHERE x = '''' -- \"\"\"".into()),
            every: Some("month".into()),
            on: Some("31".into()),
            time: Some("09:00".into()),
            from: Some("\"Müller, Jörg\" <jm@shop.example>".into()),
            enabled: Some(false),
            ..Definition::default()
        };
        let block = definition_toml(&definition).unwrap();
        let definitions = read_text(&format!("{SPRING}\n{}", block.replace("\"spring\"", "\"second\""))).unwrap();
        assert_eq!(definitions.broken, []);
        let read = &definitions.campaigns[1];
        assert_eq!((Some(&read.subject), read.enabled), (definition.subject.as_ref(), false));
        assert_eq!(read.audience, Audience::Sql(definition.sql.clone().unwrap()));
        let back: Definition = toml::from_str(block.strip_prefix("[[campaign]]\n").unwrap()).unwrap();
        assert_eq!(back, definition);
    }
}
