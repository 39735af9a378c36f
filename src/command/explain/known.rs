//! All that is gathered before anything is said.

use anyhow::Result;

use super::asked::Asked;
use crate::command::detect::{Asking, NextLook, WeighedCart, Weighing};
use crate::domain::address::{self, Address};
use crate::domain::cart::Cart;
use crate::domain::instant::{self, Instant};
use crate::domain::state::{Reason, State};
use crate::domain::{list, message_key};
use crate::failure::{Exit, Failure};
use crate::ledger::{Memory, MessageStory, OldRow, Records, RemovedSuppression, Stories, Suppression, Whose};
use crate::run_lock::{Found, RunLock};
use crate::settings::Settings;
use crate::source::{self, Look};
use crate::wishes;

/// What the shop said.
#[derive(Debug)]
pub(super) enum Shop {
    Read(Weighing),
    /// A campaign's message has nothing to do with carts.
    NotAsked,
    /// Why it cannot be read, and what to do; a run would send nothing about carts then.
    Unreadable {
        problem: String,
        next: String,
    },
}

/// A message that is planned or begun, and what the next run does with it.
#[derive(Debug)]
pub(super) struct Open {
    /// Its row.
    pub id: i64,
    pub next: NextLook,
}

#[derive(Debug)]
pub(super) struct Known {
    pub asked: Asked,
    /// Where and how long ago that is looked from.
    pub now: Instant,
    pub ledger_born_at: Instant,
    pub held_back_at: Option<Instant>,
    /// Whose suppressions these are; never shown, unless it was asked for.
    pub address: Option<Address>,
    pub stories: Stories,
    pub old: Vec<OldRow>,
    pub suppressions: Vec<Suppression>,
    pub removed: Vec<RemovedSuppression>,
    pub shop: Shop,
    /// What is wrong with the row of the cart that was asked for.
    pub bad_row: Option<String>,
    pub open: Vec<Open>,
    /// The shop's own list has this address, or a click lies in the spool, and no run has heard of it yet.
    pub opt_out_is_new: bool,
    /// Nothing is kept of the owner of this address but that they get no mail.
    pub is_forgotten: bool,
    pub places: (String, String),
    /// What puts all of this under a reserve.
    pub notes: Vec<String>,
}

impl Known {
    /// Reads ledger and shop. `remembered` is what the lock file said before the ledger was opened.
    ///
    /// # Errors
    /// The ledger cannot be read. A shop that cannot be read is part of the answer.
    pub fn gather(
        settings: &Settings,
        ledger: &Records,
        remembered: &Found,
        asked: Asked,
        now: Instant,
    ) -> Result<Known> {
        let stories = stories_of(ledger, &asked)?;
        let cart_id = cart_of(&asked, &stories).map(str::to_owned);
        let mut known = Known {
            now,
            ledger_born_at: ledger.born_at()?,
            held_back_at: ledger.held_back_at()?,
            address: match &asked {
                Asked::Address(address) => Some(address.clone()),
                _ => stories.messages.last().and_then(|last| Address::parse(&last.folded_address).ok()),
            },
            old: match &asked {
                Asked::Address(address) => ledger.old_rows(Whose::Address(names(address)))?,
                Asked::Cart(cart_id) => ledger.old_rows(Whose::Cart(cart_id))?,
                _ => Vec::new(),
            },
            stories,
            suppressions: Vec::new(),
            removed: Vec::new(),
            shop: Shop::NotAsked,
            bad_row: None,
            open: Vec::new(),
            opt_out_is_new: false,
            is_forgotten: false,
            places: (ledger.path().display().to_string(), settings.source.kind.described()),
            notes: notes(ledger, remembered, now)?,
            asked,
        };
        if matches!(known.asked, Asked::Address(_)) || cart_id.is_some() {
            match known.ask_the_shop(settings, ledger, cart_id.as_deref()) {
                Ok(()) => {}
                Err(err) => {
                    let (problem, next) = unreadable(err)?;
                    known.shop = Shop::Unreadable { problem, next };
                }
            }
        }
        if let Some(address) = known.address.clone() {
            known.is_forgotten = ledger.memory_of(&address, None)? == Memory::Forgotten;
            known.suppressions = ledger.suppressions_of(&address)?;
            known.removed = ledger.removed_suppressions_of(&address)?;
            match wishes::opt_outs::is_new(settings, ledger, &address) {
                Ok(is_new) => known.opt_out_is_new = is_new || has_clicked(settings, ledger, &address)?,
                Err(err) => {
                    let (problem, _) = unreadable(err)?;
                    known.notes.push(format!("a run would send nothing: {problem}"));
                }
            }
        }
        if matches!(known.shop, Shop::Unreadable { .. } | Shop::NotAsked) {
            known.look_at_open_ones(ledger, |_, _| Ok(None))?;
        }
        Ok(known)
    }

    fn ask_the_shop(&mut self, settings: &Settings, ledger: &Records, cart_id: Option<&str>) -> Result<()> {
        let mut source = source::open(&settings.source)?;
        if let Some(cart_id) = cart_id
            && let Look::Bad(bad) = source.cart(cart_id)?
        {
            self.bad_row = Some(format!("{}: {}", bad.place, bad.problem));
        }
        let names = self.address.as_ref().filter(|_| cart_id.is_none()).map(names);
        let picks = |cart: &Cart| match (cart_id, names) {
            (Some(cart_id), _) => cart.cart_id == cart_id,
            (None, Some(names)) => names.contains(&cart.email.folded()),
            (None, None) => false,
        };
        let mut asking = Asking { settings, ledger, source: source.as_mut(), now: self.now };
        let weighing = asking.weigh(&picks)?;
        if cart_id.is_some()
            && let Some(weighed) = weighing.carts.first()
        {
            self.address = Some(weighed.cart.email.clone());
        }
        let due = ledger.due_carts(self.now, None, usize::MAX >> 1)?;
        let replaced = weighing.plans;
        self.look_at_open_ones(ledger, |message, ledger| {
            let (address, cart) = (&message.folded_address, message.cart_id.as_deref().unwrap_or_default());
            if replaced && let Some(by_cart) = ledger.chosen_instead(address, cart)? {
                let why = format!("by what is planned about cart {by_cart}");
                return Ok(Some(NextLook { what: "skip", reason: Some(Reason::Superseded), why, at: None }));
            }
            match due.iter().find(|due| due.id == message.id) {
                Some(due) => asking.look_ahead(due).map(Some),
                None => Ok(None),
            }
        })?;
        self.shop = Shop::Read(weighing);
        Ok(())
    }

    /// What becomes of each message that is planned or begun: by the clock and the state of its campaign, or as `ahead` says.
    fn look_at_open_ones(
        &mut self,
        ledger: &Records,
        mut ahead: impl FnMut(&MessageStory, &Records) -> Result<Option<NextLook>>,
    ) -> Result<()> {
        let now = instant::text(self.now);
        let wait = |why: &str, at: Option<&str>| NextLook {
            what: "wait",
            reason: None,
            why: why.to_owned(),
            at: at.and_then(instant::from_text),
        };
        let runs = RunLock::current_holder(ledger.path()).is_some();
        for message in &self.stories.messages {
            let paused = message.campaign.as_ref().filter(|campaign| campaign.status == "paused");
            let next = match message.state {
                State::Armed if runs => wait("a run has just begun its body", None),
                State::Armed => wait("the run that began its body died: it is in doubt from the next run on", None),
                State::Planned if paused.is_some() => wait("its campaign is paused", None),
                State::Planned if message.was_taken_over() => {
                    wait("a report shows that a mail server took it over already: it is not tried again", None)
                }
                State::Planned if message.expires_at <= now => NextLook {
                    what: "skip",
                    reason: Some(Reason::Expired),
                    why: "its time has passed".into(),
                    at: None,
                },
                State::Planned => match ahead(message, ledger)? {
                    Some(next) => next,
                    None if message.not_before > now => wait("planned, and not due yet", Some(&message.not_before)),
                    None => NextLook { what: "send", reason: None, why: String::new(), at: None },
                },
                _ => continue,
            };
            self.open.push(Open { id: message.id, next });
        }
        Ok(())
    }

    pub fn carts(&self) -> &[WeighedCart] {
        match &self.shop {
            Shop::Read(weighing) => &weighing.carts,
            Shop::NotAsked | Shop::Unreadable { .. } => &[],
        }
    }

    /// Carts in the shop that are not told about.
    pub fn more_carts(&self) -> u64 {
        match &self.shop {
            Shop::Read(weighing) => weighing.more,
            Shop::NotAsked | Shop::Unreadable { .. } => 0,
        }
    }

    pub fn story(&self, id: i64) -> Option<&MessageStory> {
        self.stories.messages.iter().find(|message| message.id == id)
    }

    /// What keeps all mail, or all mail about carts, from the address.
    pub fn suppression_of_carts(&self) -> Option<&Suppression> {
        self.suppressions.iter().find(|row| row.list.is_empty() || row.list == list::CARTS)
    }
}

fn names(address: &Address) -> [&str; 2] {
    [address.folded(), address.formerly_folded().unwrap_or(address.folded())]
}

fn stories_of(ledger: &Records, asked: &Asked) -> Result<Stories, Failure> {
    match asked {
        Asked::Address(address) => ledger.stories(Whose::Address(names(address))),
        Asked::Cart(cart_id) => ledger.stories(Whose::Cart(cart_id)),
        Asked::Message { id, .. } => ledger.stories(Whose::Message(*id)),
        Asked::NoMessage(_) => Ok(Stories::default()),
    }
}

fn cart_of<'a>(asked: &'a Asked, stories: &'a Stories) -> Option<&'a str> {
    match asked {
        Asked::Cart(cart_id) => Some(cart_id),
        Asked::Message { .. } => stories.messages.first().and_then(|message| message.cart_id.as_deref()),
        Asked::Address(_) | Asked::NoMessage(_) => None,
    }
}

/// What is to be said of a shop that cannot be read, and what to do: also where its configuration is wrong, as the ledger has an
/// answer all the same.
///
/// # Errors
/// The ledger's own failure.
fn unreadable(err: anyhow::Error) -> Result<(String, String)> {
    match err.downcast::<Failure>() {
        Ok(failure) if matches!(failure.exit, Exit::NeedsAPerson | Exit::Configuration | Exit::DataUnusable) => {
            Ok((address::masked(&failure.what), failure.next))
        }
        Ok(failure) => Err(failure.into()),
        Err(other) => Ok((address::masked(&format!("{other:#}")), "check [source], and `mailonce doctor`".into())),
    }
}

/// Whether a click of this person lies in the spool, which the next run takes them off the list for.
fn has_clicked(settings: &Settings, ledger: &Records, address: &Address) -> Result<bool> {
    let Some(listener) = wishes::Listener::of(settings) else { return Ok(false) };
    let stories = ledger.stories(Whose::Address(names(address)))?;
    let list_of = |token: &str| {
        let message = stories.messages.iter().find(|message| message_key::token_of(&message.message_id) == token)?;
        Some(message.campaign.as_ref().map_or_else(|| list::CARTS.to_owned(), |campaign| campaign.list.clone()))
    };
    Ok(listener.ends_mail_about_carts(list_of)?)
}

/// What puts every answer under a reserve.
fn notes(ledger: &Records, remembered: &Found, now: Instant) -> Result<Vec<String>, Failure> {
    let mut notes = Vec::new();
    if let Some(holder) = RunLock::current_holder(ledger.path()) {
        notes.push(format!("a run is under way ({holder}): this may be different in a moment"));
    }
    for refused in [ledger.check_clock(now), ledger.look(remembered)] {
        match refused {
            Ok(()) => {}
            Err(failure) => notes.push(format!("a run would send nothing: {}; {}", failure.what, failure.next)),
        }
    }
    Ok(notes)
}
