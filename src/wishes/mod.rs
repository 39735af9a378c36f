//! How those are heard who want no more mail: from outside into the ledger, before a run sends anything and while it does.

pub mod opt_outs;
mod spool;

use std::io;

use crate::domain::instant::Instant;
use crate::domain::state::Origin;
use crate::domain::unsubscribe::{Keys, Scope, Token};
use crate::failure::Failure;
use crate::ledger::{Ledger, Notice, Wish};
use crate::output::count;
use crate::settings::Settings;
use spool::{Clicks, MOST_AT_ONCE, Spool};

/// What `notice` calls files that no key signed, and those that cannot be honoured.
const FORGED: &str = "forged unsubscribe links";
const NOT_HONOURED: &str = "unsubscribe links not honoured";

/// Listens to the spool.
#[derive(Debug, Clone)]
pub struct Listener {
    spool: Spool,
    keys: Keys,
    scope: Scope,
}

/// What one hearing brought.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// Who gets less mail than before.
    pub new: u64,
    /// What a person is told once.
    pub news: Vec<String>,
}

impl Listener {
    /// `None` where no spool is configured.
    pub fn of(settings: &Settings) -> Option<Listener> {
        let spool = Spool::at(settings.unsubscribe.spool.as_deref()?);
        let keys = settings.mail.keys.clone()?;
        Some(Listener { spool, keys, scope: settings.unsubscribe.scope })
    }

    /// Takes every click that lies in the spool into the ledger. Each file goes once its wish is on disk.
    ///
    /// # Errors
    /// Exit 78: the folder cannot be read, or what is done with cannot be taken away; nothing may be sent then, or someone
    /// would get mail who was told they would not. Exit 74: the ledger failed.
    pub fn hear(&self, ledger: &mut Ledger, now: Instant) -> Result<Heard, Failure> {
        let (mut heard, mut unknown) = (Heard::default(), 0);
        let of_unknown_keys = loop {
            let Clicks { genuine, forged, of_unknown_keys } = self.look()?;
            let tokens: Vec<Token> = genuine.iter().map(|(_, token)| token.clone()).collect();
            let wishes = take(ledger, &tokens, Origin::OneClick, self.scope, now)?;
            let before = unknown;
            for ((name, _), wish) in genuine.iter().zip(&wishes) {
                match wish {
                    Taken::Wish(Wish::Unknown) => unknown += 1,
                    Taken::Wish(Wish::Heard { is_new, .. }) => {
                        heard.new += u64::from(*is_new);
                        self.spool.done(name).map_err(|err| self.cannot("take a file away from", &err))?;
                    }
                    Taken::Test => self.spool.done(name).map_err(|err| self.cannot("take a file away from", &err))?,
                }
            }
            if !forged.is_empty() {
                self.spool.refuse(&forged).map_err(|err| self.cannot("put a file aside in", &err))?;
            }
            // What stays would be found again.
            if genuine.len() < MOST_AT_ONCE || unknown - before == genuine.len() as u64 {
                break of_unknown_keys;
            }
            unknown = before;
        };
        heard.news = self.note(ledger, unknown, of_unknown_keys, now)?;
        Ok(heard)
    }

    /// Whether a click lies in the spool that `of` picks and that ends mail about carts, or all mail. `of` is given the token of the
    /// message, and says on which list that was. Nothing is taken.
    ///
    /// # Errors
    /// Exit 78: the folder cannot be read.
    pub fn ends_mail_about_carts(&self, of: impl Fn(&str) -> Option<String>) -> Result<bool, Failure> {
        let ends = |list: String| self.scope == Scope::All || list == crate::domain::list::CARTS;
        Ok(self.look()?.genuine.iter().any(|(_, token)| of(&token.message).is_some_and(ends)))
    }

    /// # Errors
    /// As [`Listener::hear`].
    fn look(&self) -> Result<Clicks, Failure> {
        self.spool.look(&self.keys).map_err(|err| self.cannot("read", &err))
    }

    fn note(
        &self,
        ledger: &mut Ledger,
        unknown: u64,
        of_unknown_keys: u64,
        now: Instant,
    ) -> Result<Vec<String>, Failure> {
        let folder = self.spool.folder().display();
        let mut news = Vec::new();
        let refused = self.spool.refused().map_err(|err| self.cannot("read", &err))?;
        let forged = (refused > 0).then(|| Notice {
            key: FORGED.into(),
            line: format!(
                "{folder}/refused: {} that no key signed; nobody was taken off the list",
                count(refused, "click")
            ),
        });
        let mut lines = Vec::new();
        for (files, why) in [
            (of_unknown_keys, "unsubscribe.keys has not the key that signed the link; put the newest copy of it back"),
            (unknown, "this ledger does not know the message; is it an old copy, or another shop's?"),
        ] {
            if files > 0 {
                lines.push(format!("{folder}: {} not honoured and kept: {why}", count(files, "click")));
            }
        }
        let line = lines.join("; ");
        let not_honoured = (!lines.is_empty()).then(|| Notice { key: NOT_HONOURED.into(), line });
        for (kind, notice) in [(FORGED, &forged), (NOT_HONOURED, &not_honoured)] {
            let standing: Vec<Notice> = notice.iter().cloned().collect();
            news.extend(ledger.notices().note(kind, &standing, now)?.new);
        }
        Ok(news)
    }

    fn cannot(&self, what: &str, err: &io::Error) -> Failure {
        let folder = self.spool.folder().display();
        Failure::config(
            format!("could not {what} the spool of unsubscribe links {folder}: {err}"),
            "make the folder, and let the user that cron runs as read it and remove files from it (docs/unsubscribe.md)",
        )
        .kept("nothing more is sent: someone may have asked to get no more")
    }
}

/// What became of one token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    Wish(Wish),
    /// It is of a test or a preview: no ledger knows whom it went to.
    Test,
}

impl Taken {
    /// Whether it is known whose wish it is, or that it is nobody's.
    pub fn is_heard(&self) -> bool {
        *self != Taken::Wish(Wish::Unknown)
    }

    /// Whether someone gets less mail than before.
    pub fn is_new(&self) -> bool {
        matches!(self, Taken::Wish(Wish::Heard { is_new: true, .. }))
    }
}

/// Takes the wishes of genuine tokens into the ledger, in one commit; what became of each, in order.
pub fn take(
    ledger: &mut Ledger,
    tokens: &[Token],
    origin: Origin,
    scope: Scope,
    now: Instant,
) -> Result<Vec<Taken>, Failure> {
    let of_messages: Vec<Token> = tokens.iter().filter(|token| !token.is_of_a_test()).cloned().collect();
    let mut wishes = match of_messages.is_empty() {
        true => Vec::new(),
        false => ledger.suppressions().take_wishes(&of_messages, origin, scope, now)?,
    }
    .into_iter();
    let taken = tokens.iter().map(|token| match token.is_of_a_test() {
        true => Taken::Test,
        false => Taken::Wish(wishes.next().unwrap_or(Wish::Unknown)),
    });
    Ok(taken.collect())
}
