//! From the shop's carts to a verdict on each: written to, or left out and why.

use std::collections::BTreeMap;

use anyhow::Result;
use chrono::TimeDelta;

use super::cart_rules::{CartRule, Terms};
use super::last_look::{QUIET, is_quiet_after_order};
use crate::domain::cart::{Cart, short_hash};
use crate::domain::flow::{Flow, Next};
use crate::domain::instant::{self, Instant};
use crate::domain::span;
use crate::domain::standing::Standing;
use crate::failure::Failure;
use crate::ledger::{Candidate, Judged, Ledger, MOST_KEPT, Memory, NOT_IDLE_YET, Notice, PlanRules, Records};
use crate::output::Output;
use crate::settings::Settings;
use crate::source::{self, Row, Source, Touched};
use crate::stop::{Stop, StopCause};

/// So many carts are decided about at once.
const PAGE: usize = 500;

/// One look at the shop.
pub(super) struct Look<'a> {
    pub settings: &'a Settings,
    pub now: Instant,
    pub output: Output,
    /// Keep every cart that is left out with its reason, instead of only counting (for `--dry-run`).
    pub record_left_out: bool,
    /// Which carts a person asks about: they are kept, whenever they were touched. Nothing else is done otherwise.
    pub asked: Option<&'a dyn Fn(&Cart) -> bool>,
    pub stop: Option<&'a Stop>,
}

/// What the look found, besides the candidates it put into the ledger's temporary table.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub carts_seen: u64,
    pub left_out: BTreeMap<String, u64>,
    pub bad_rows: u64,
    /// The bad rows, at most [`MOST_KEPT`].
    pub notices: Vec<Notice>,
    /// The first cart without an address; they are counted under [`NO_ADDRESS`], not among the bad rows.
    pub first_anonymous: Option<Notice>,
    /// The first cart whose language cannot be read.
    pub first_odd_locale: Option<Notice>,
    /// The first cart whose zone is not known.
    pub first_odd_timezone: Option<Notice>,
    /// The carts that a person asks about, at most [`MOST_ASKED`], each with what stood against it at once.
    pub asked: Vec<(Box<Cart>, Option<Verdict>)>,
    /// How many more there were.
    pub more_asked: u64,
}

/// So many carts of one person are told about.
pub(super) const MOST_ASKED: usize = 100;

/// Why an anonymous shopper's cart is left out.
pub(super) const NO_ADDRESS: &str = "no address";
/// What `status` lists a language under that cannot be read.
pub(super) const ODD_LOCALE: &str = "unknown language";
/// The same of a zone that is none.
pub(super) const ODD_TIMEZONE: &str = "unknown zone";

impl Found {
    /// Of more than can be kept, those touched last are.
    fn keep_asked(&mut self, cart: &Cart, against: &Option<Verdict>) {
        self.asked.push((Box::new(cart.clone()), against.clone()));
        if self.asked.len() > MOST_ASKED {
            let oldest = (0..self.asked.len()).min_by_key(|at| self.asked[*at].0.updated_at).unwrap_or_default();
            self.asked.swap_remove(oldest);
            self.more_asked += 1;
        }
    }
}

impl Look<'_> {
    /// Reads the carts; those that could be written to become candidates.
    pub fn read(&self, source: &mut dyn Source, ledger: &Records) -> Result<Found> {
        let detect = &self.settings.detect;
        let since = ledger.carts_count_from(detect.since)?;
        let oldest = self.now - span::delta(detect.max_age) + TimeDelta::seconds(1);
        let idle_before = self.now - span::delta(detect.idle);
        // Also what is not idle yet: another cart of that shopper waits for it. A day more for clocks that are ahead.
        let in_reach =
            Touched { not_before: oldest.max(since), idle_before, fresh_until: self.now + TimeDelta::days(1) };
        let touched = match self.record_left_out || self.asked.is_some() {
            // For a reason for every cart left out, every cart is read.
            true => {
                let end = Instant::UNIX_EPOCH + TimeDelta::days(365 * 1000);
                Touched { not_before: Instant::UNIX_EPOCH, idle_before: end, fresh_until: end }
            }
            false => in_reach,
        };
        let terms = self.terms(since);
        let mut found = Found::default();
        let forgets = ledger.forgets_someone()?;
        ledger.begin_candidates()?;
        let read = source.read_carts(&touched, &mut |row| {
            match row {
                Row::Bad(bad) if bad.is_anonymous => {
                    *found.left_out.entry(NO_ADDRESS.to_owned()).or_default() += 1;
                    found.first_anonymous.get_or_insert(Notice { key: bad.key, line: bad.place });
                }
                Row::Bad(bad) => {
                    found.bad_rows += 1;
                    if found.notices.len() < MOST_KEPT {
                        let line = format!("{}: {}", bad.place, bad.problem);
                        found.notices.push(Notice { key: bad.key, line });
                    }
                }
                Row::Cart(cart) => {
                    if let Some(odd) = &cart.odd_locale {
                        found.first_odd_locale.get_or_insert_with(|| odd_locale(&cart.cart_id, odd));
                    }
                    if let Some(odd) = &cart.odd_timezone {
                        found.first_odd_timezone.get_or_insert_with(|| odd_timezone(&cart.cart_id, odd));
                    }
                    let reach = first(&CartRule::BY_TIME, &terms, &cart);
                    let itself = match first(&CartRule::BY_ITSELF, &terms, &cart) {
                        None if forgets => forgotten(ledger, &cart)?,
                        found => found,
                    };
                    // Another cart of that shopper waits for one that is not idle yet, unless that gets no mail anyway.
                    let is_waited_for = itself.is_none()
                        && matches!(reach, Some((NOT_IDLE_YET, _)))
                        && (self.record_left_out || in_reach.holds(cart.updated_at));
                    let against = reach.or(itself);
                    if self.asked.is_some_and(|asked| asked(&cart)) {
                        found.keep_asked(&cart, &against);
                    }
                    match against {
                        None => ledger.add_candidate(&candidate(&cart), None)?,
                        Some((verdict, detail)) => {
                            *found.left_out.entry(verdict.to_owned()).or_default() += 1;
                            if self.record_left_out || is_waited_for {
                                ledger.add_candidate(&candidate(&cart), Some((verdict, &detail)))?;
                            }
                            self.say_left_out(&cart.cart_id, || cart.hash(), verdict);
                        }
                    }
                }
            }
            Ok(())
        });
        ledger.end_candidates(!detect.steps.is_empty())?;
        let read = read?;
        found.carts_seen = read.carts_seen;
        if read.outside > 0 {
            *found.left_out.entry("out of reach".to_owned()).or_default() += read.outside;
        }
        Ok(found)
    }

    fn terms(&self, since: Instant) -> Terms<'_> {
        Terms { detect: &self.settings.detect, now: self.now, since }
    }

    /// Decides about the candidates, those touched last first. `None`: stopped by a signal, and nothing is to be planned.
    ///
    /// More than `most` are not decided about: none will be planned then, and a look at every cart may take minutes. A time
    /// budget that is spent ends it, once it has looked at some and not even all that is left could exceed `most`: what was
    /// decided is kept, and each run gets further.
    pub fn decide(
        &self,
        source: &mut dyn Source,
        ledger: &Records,
        rules: &PlanRules,
        most: u64,
    ) -> Result<Option<Decided>> {
        let mut decided = Decided { undecided: ledger.undecided_candidates()?, ..Decided::default() };
        let mut last = None;
        while decided.to_plan <= most {
            let page = ledger.standings(last.as_ref(), PAGE, rules, self.now)?;
            let Some(judged) = page.last() else { break };
            last = Some(judged.cart.clone());
            for judged in page {
                self.decide_one(source, ledger, rules, judged, &mut decided)?;
                if decided.to_plan > most {
                    break;
                }
            }
            match self.stop.and_then(Stop::cause) {
                Some(StopCause::Signal) => return Ok(None),
                Some(StopCause::TimeBudget)
                    if decided.looked_at >= PAGE && decided.to_plan + decided.undecided <= most =>
                {
                    break;
                }
                _ => {}
            }
        }
        if decided.to_plan <= most {
            self.leave_out_without_code(ledger, rules, &mut decided)?;
        }
        for Planning { cart_id, cart_hash, step } in decided.planning.values() {
            self.output.decision(format!("Planning cart {}...{step} (cart {cart_id})", short_hash(cart_hash)));
        }
        Ok(Some(decided))
    }

    /// Leaves out whom the pool of a step has no code for, which is known once all are decided about.
    fn leave_out_without_code(&self, ledger: &Records, rules: &PlanRules, decided: &mut Decided) -> Result<()> {
        for id in ledger.without_code(rules, self.now)? {
            ledger.leave_out_candidate(id, NO_CODE)?;
            decided.without_code += 1;
            *decided.left_out.entry(NO_CODE.to_owned()).or_default() += 1;
            if let Some(Planning { cart_id, cart_hash, .. }) = decided.planning.remove(&id) {
                self.say_left_out(&cart_id, || cart_hash, NO_CODE);
            }
        }
        Ok(())
    }

    fn decide_one(
        &self,
        source: &mut dyn Source,
        ledger: &Records,
        rules: &PlanRules,
        judged: Judged,
        decided: &mut Decided,
    ) -> Result<()> {
        let (verdict, detail) = self.verdict_on(source, ledger, rules, &judged, decided)?;
        let Judged { cart, flow, .. } = &judged;
        // Of a cart that gets nothing for another reason, nothing came too late.
        let has_late = flow.as_ref().is_some_and(|flow| !flow.late.is_empty())
            && matches!(verdict, PLAN | HELD_OUT | SUPERSEDED | WAITS | DONE);
        decided.undecided -= 1;
        decided.has_late |= has_late;
        match verdict {
            PLAN => {
                decided.to_plan += 1;
                if self.is_told() {
                    let step = flow.as_ref().map_or_else(String::new, |flow| named_step(flow, rules));
                    decided.planning.insert(
                        cart.id,
                        Planning { cart_id: cart.cart_id.clone(), cart_hash: cart.cart_hash.clone(), step },
                    );
                }
            }
            _ => {
                *decided.left_out.entry(verdict.to_owned()).or_default() += 1;
                self.say_left_out(&cart.cart_id, || cart.cart_hash.clone(), verdict);
            }
        }
        if self.record_left_out || self.asked.is_some() || has_late || matches!(verdict, PLAN | SUPERSEDED | HELD_OUT) {
            ledger.decide_candidate(cart.id, verdict, &detail, has_late)?;
        }
        Ok(())
    }

    /// What is to become of a candidate: by the ledger, by the others of this look, and by one more look at the shop.
    fn verdict_on(
        &self,
        source: &mut dyn Source,
        ledger: &Records,
        rules: &PlanRules,
        judged: &Judged,
        decided: &mut Decided,
    ) -> Result<Verdict> {
        let Judged { cart, standing, flow } = judged;
        let may_go = matches!(standing, Standing::Free | Standing::Superseded { .. });
        let has_late = flow.as_ref().is_some_and(|flow| !flow.late.is_empty());
        if flow.is_some() && (may_go || has_late) && ledger.has_later_twin(cart)? {
            return Ok(against(Standing::InProgress).unwrap_or_default());
        }
        let among_others = if may_go { ledger.standing_among_candidates(cart, rules)? } else { Standing::Free };
        let stands = if among_others == Standing::Free { standing.clone() } else { among_others };
        if let Some(found) = against(stands) {
            // What came too late is recorded only of a cart that still waits in the shop.
            let is_looked_at = has_late && matches!(found.0, WAITS | DONE);
            return Ok(match is_looked_at {
                true => self.look_again(source, cart, flow.as_ref())?.err().unwrap_or(found),
                false => found,
            });
        }
        decided.looked_at += 1;
        let now = match self.look_again(source, cart, flow.as_ref())? {
            Err(found) => return Ok(found),
            Ok(now) => now,
        };
        if let Some(found) = against_formerly(ledger, rules, self.now, cart, &now)? {
            return Ok(found);
        }
        let is_held_out = ledger.is_held_out(cart, rules, flow.as_ref())?;
        Ok((if is_held_out { HELD_OUT } else { PLAN }, String::new()))
    }

    /// Whether each decision is said, as `-v` asks of a run.
    fn is_told(&self) -> bool {
        self.output.verbose && !self.record_left_out && self.asked.is_none()
    }

    fn say_left_out(&self, cart_id: &str, cart_hash: impl FnOnce() -> String, verdict: &str) {
        if self.is_told() {
            self.output.decision(format!("Skipping cart {}... - {verdict} (cart {cart_id})", short_hash(&cart_hash())));
        }
    }

    /// The cart as it is now, unless it was ordered or changed since the batch it was in was read.
    fn look_again(
        &self,
        source: &mut dyn Source,
        cart: &Candidate,
        flow: Option<&Flow>,
    ) -> Result<Result<Box<Cart>, Verdict>> {
        let mut look = source.cart(&cart.cart_id)?;
        if let (source::Look::Cart(now), Some(begun_at)) = (&mut look, flow.and_then(|flow| flow.begun_at)) {
            now.counts_orders_from(begun_at - span::delta(self.settings.detect.idle));
        }
        Ok(match look {
            source::Look::Gone => Err(("empty", "gone".into())),
            source::Look::Bad(bad) => Err(("bad row", bad.problem)),
            source::Look::Cart(now) if (Candidate { id: cart.id, ..candidate(&now) }) != *cart => {
                Err(("changed while it was read", String::new()))
            }
            source::Look::Cart(now) if now.ordered_at.is_some() || source.ordered(&now)? => {
                Err(("ordered", String::new()))
            }
            source::Look::Cart(now) if is_quiet_after_order(source, self.settings, &now, self.now)? => {
                Err((QUIET, String::new()))
            }
            source::Look::Cart(now) => Ok(now),
        })
    }
}

fn odd_locale(cart_id: &str, odd: &str) -> Notice {
    let line = format!("cart {cart_id}: the locale {odd} is no language tag such as de or pt-BR");
    Notice { key: ODD_LOCALE.into(), line }
}

fn odd_timezone(cart_id: &str, odd: &str) -> Notice {
    let line = format!("cart {cart_id}: the timezone {odd} is no IANA zone such as Europe/Berlin");
    Notice { key: ODD_TIMEZONE.into(), line }
}

/// What stands against a cart by the first of some rules.
fn first(rules: &[CartRule], terms: &Terms<'_>, cart: &Cart) -> Option<Verdict> {
    rules.iter().find_map(|rule| rule.against(terms, cart))
}

/// Why a cart is not written to, as far as it and the clock tell.
pub(in super::super) fn by_itself(settings: &Settings, now: Instant, cart: &Cart) -> Option<Verdict> {
    let output = Output::default();
    let look = Look { settings, now, output, record_left_out: true, asked: None, stop: None };
    let terms = look.terms(settings.detect.since.unwrap_or(Instant::MIN_UTC));
    first(&CartRule::BY_TIME, &terms, cart).or_else(|| first(&CartRule::BY_ITSELF, &terms, cart))
}

/// What became of the candidates.
#[derive(Debug, Default)]
pub(super) struct Decided {
    /// How many nothing stands against; also those whose pool has no code for them.
    pub to_plan: u64,
    pub without_code: u64,
    /// How many are left out, by verdict.
    pub left_out: BTreeMap<String, u64>,
    pub undecided: u64,
    /// Steps of some came too late, which is to be recorded.
    pub has_late: bool,
    /// How many had nothing against them in the ledger, so that the shop was asked.
    looked_at: usize,
    /// What is to be said, with `-v`, of each that is to be planned.
    planning: BTreeMap<i64, Planning>,
}

#[derive(Debug)]
struct Planning {
    cart_id: String,
    cart_hash: String,
    step: String,
}

/// The verdicts that the ledger acts on.
pub(super) const PLAN: &str = "plan";
const SUPERSEDED: &str = "superseded";

/// The verdict on a cart whose owner is held out of mail about it.
pub(super) const HELD_OUT: &str = "held out";

/// The verdict on a cart whose next step is not due yet.
pub(super) const WAITS: &str = "waiting for the next step";

/// The verdict on a cart whose next step needs a coupon code, when there is none.
pub(super) const NO_CODE: &str = "no coupon code left";

/// The verdict on a cart whose flow has no step left.
const DONE: &str = "every step decided";

/// What was decided about a cart, and the detail that people read.
pub(in super::super) type Verdict = (&'static str, String);

/// What stands against writing to a cart's owner.
pub(super) fn against(standing: Standing) -> Option<Verdict> {
    Some(match standing {
        Standing::Free => return None,
        Standing::AlreadySent { at } => ("email already sent", at),
        Standing::InProgress => ("processing already in progress", String::new()),
        Standing::InDoubt => ("in doubt", "held; `mailonce resolve` lists it".into()),
        Standing::Settled { how, at } => ("decided within the window", format!("{how} {at}")),
        Standing::Untouched { reason } => ("not touched since it was skipped", reason),
        Standing::Enough { messages } => ("max_per_cart reached", messages.to_string()),
        Standing::Suppressed => ("suppressed", String::new()),
        Standing::Busy { with_cart } => ("busy with another cart", format!("cart {with_cart}, not idle yet")),
        Standing::Superseded { by_cart } => (SUPERSEDED, format!("by cart {by_cart}")),
        Standing::Waits { step, at } => (WAITS, format!("{step}, due {}", instant::text(at))),
        Standing::Done => (DONE, String::new()),
    })
}

/// The step that is due, as logs name it behind a cart.
fn named_step(flow: &Flow, rules: &PlanRules) -> String {
    match &flow.next {
        Next::Due { step, .. } => format!(" {}", rules.steps[*step].name),
        _ => String::new(),
    }
}

/// Whether its owner is forgotten, or was when the cart was touched.
pub(super) fn forgotten(ledger: &Records, cart: &Cart) -> Result<Option<Verdict>, Failure> {
    Ok(match ledger.memory_of(&cart.email, Some(&cart.identity()))? {
        Memory::Known => None,
        Memory::Since(at) if cart.updated_at > at => None,
        Memory::Forgotten | Memory::Since(_) => Some(("suppressed", "forgotten".into())),
    })
}

/// The same by the names under which an older version knew the shopper.
pub(super) fn against_formerly(
    ledger: &Records,
    rules: &PlanRules,
    now: Instant,
    cart: &Candidate,
    read: &Cart,
) -> Result<Option<Verdict>> {
    let Some((identity, folded_address)) = read.formerly() else { return Ok(None) };
    let formerly = Candidate { identity, folded_address, ..cart.clone() };
    Ok(against(ledger.standing(&formerly, rules, now)?.standing))
}

/// The step that comes next for a cart of the shop.
pub(in super::super) struct NextStep {
    pub step: String,
    /// Which and when, for people.
    pub spoken: String,
}

/// Asks the ledger which step comes next for a cart; `None` without steps, without a ledger, or where none comes.
pub(in super::super) fn next_step(settings: &Settings, cart: &Cart, now: Instant) -> Result<Option<NextStep>> {
    if settings.detect.steps.is_empty() || !Ledger::exists(&settings.ledger) {
        return Ok(None);
    }
    let ledger = Records::open(settings.place())?;
    let rules = super::plan_rules(settings, &ledger)?;
    let flow = ledger.standing(&candidate(cart), &rules, now)?.flow;
    let name = |step: usize| rules.steps[step].name.clone();
    Ok(flow.and_then(|flow| match flow.next {
        Next::Due { step, .. } => Some(NextStep { step: name(step), spoken: format!("{}, due now", name(step)) }),
        Next::Waits { step, at } => {
            Some(NextStep { step: name(step), spoken: format!("{}, due {}", name(step), instant::text(at)) })
        }
        Next::Open | Next::Done | Next::Ended { .. } => None,
    }))
}

pub(super) fn candidate(cart: &Cart) -> Candidate {
    Candidate {
        id: 0,
        cart_id: cart.cart_id.clone(),
        identity: cart.identity(),
        user_id: cart.user_id.clone(),
        recipient: cart.email.envelope(),
        folded_address: cart.email.folded().to_owned(),
        cart_hash: cart.hash(),
        cart_value: cart.value().map_or_else(String::new, |value| value.decimal()),
        currency: cart.currency.code().to_owned(),
        touched_at: cart.updated_at,
        timezone: cart.timezone,
        locale: cart.locale,
    }
}
