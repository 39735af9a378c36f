//! A flow: the steps in which one abandonment of a cart is written about, and which of them comes next. The ledger's triggers
//! hold the same; this gives the reason.
//!
//! An episode is one shopper, one contents. It goes on while the contents stay and no touch comes later than the window after
//! its last message; a touch within that only moves the steps still to come.

use chrono::TimeDelta;
use chrono_tz::Tz;

use super::instant::Instant;
use super::send_window::SendWindow;
use super::state::{Reason, State};

/// One step, as far as its time goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Lower-case letters, digits and hyphens, at most 32; part of the message key.
    pub name: String,
    /// How long after the last touch it comes.
    pub after: TimeDelta,
    /// How long after the last touch it is too late; longer than `after`.
    pub until: TimeDelta,
    /// The pool of coupon codes that its message takes one from.
    pub coupon: Option<String>,
}

/// A message about the same contents, to the same shopper or address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Past {
    /// The key of the first message of its episode.
    pub episode: String,
    /// `None`: from before there were steps; it counts as the first.
    pub step: Option<String>,
    /// Of its step, as it was configured then.
    pub after: Option<TimeDelta>,
    pub state: State,
    pub reason: Option<Reason>,
    pub armed_at: Option<Instant>,
    /// From when the window of another episode counts; `None`: it keeps none away.
    pub blocking_at: Option<Instant>,
    pub touched_at: Instant,
    pub planned_at: Instant,
    /// When it was decided against, refused, or its outcome known.
    pub settled_at: Option<Instant>,
}

/// Where a cart is in its flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flow {
    /// The episode that goes on; `None`: what comes next begins one.
    pub episode: Option<String>,
    /// Steps whose time has passed undecided, of the configured ones: to be recorded as expired.
    pub late: Vec<usize>,
    /// When the episode that goes on was begun.
    pub begun_at: Option<Instant>,
    pub next: Next,
}

/// What comes next for a cart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// A message is planned or armed.
    Open,
    /// This one of the configured steps is due, and can go until then.
    Due { step: usize, until: Instant },
    /// This one is due at that instant.
    Waits { step: usize, at: Instant },
    /// Every step was decided about.
    Done,
    /// The flow has ended for this reason: nothing more until the cart is touched again.
    Ended { how: String },
}

impl Flow {
    fn of(next: Next) -> Flow {
        Flow { episode: None, late: Vec::new(), begun_at: None, next }
    }
}

/// A cart as the flow sees it.
#[derive(Debug, Clone, Copy)]
pub struct Clocks<'a> {
    pub now: Instant,
    /// The cart's last touch.
    pub touched_at: Instant,
    /// A touch later than this after the last message begins a new episode.
    pub window: TimeDelta,
    /// When an old copy of the ledger was put back: what went on then has lost its place.
    pub held_back_at: Option<Instant>,
    /// When mail may leave, by the shopper's clock; `None` is always.
    pub hours: Option<(&'a SendWindow, Tz)>,
}

impl Clocks<'_> {
    /// When something due at `at` can leave at the earliest.
    fn opens(&self, at: Instant) -> Instant {
        self.hours.map_or(at, |(window, zone)| window.earliest(at, zone))
    }
}

/// What comes next for a cart whose messages were `past`, oldest first. `steps` are in the order of their `after`, one at least.
pub fn next(steps: &[Step], past: &[Past], clocks: Clocks<'_>) -> Flow {
    if past.iter().any(|message| matches!(message.state, State::Planned | State::Armed)) {
        return Flow::of(Next::Open);
    }
    let Some(newest) = past.last() else { return of_episode(steps, None, &[], clocks) };
    let episode: Vec<&Past> = past.iter().filter(|message| message.episode == newest.episode).collect();
    if clocks.held_back_at.is_some_and(|at| newest.planned_at <= at) {
        return of_episode(steps, None, &[], clocks);
    }
    if let Some(ending) = episode.iter().find(|message| ends_it(message)) {
        // Away for a moment, and as it was again: nothing was ever begun, so that it simply begins anew.
        let was_begun = episode.iter().any(|message| message.armed_at.is_some());
        let was_away = matches!(ending.reason, Some(Reason::Empty | Reason::Changed)) && !was_begun;
        return match clocks.touched_at > ending.touched_at || was_away {
            true => of_episode(steps, None, &[], clocks),
            false => Flow::of(Next::Ended { how: ending.reason.map_or(ending.state.word(), Reason::word).to_owned() }),
        };
    }
    let last = episode.iter().filter_map(|message| message.armed_at.or(message.settled_at)).max();
    match last.is_some_and(|at| clocks.touched_at > at + clocks.window) {
        true => of_episode(steps, None, &[], clocks),
        false => of_episode(steps, Some(newest.episode.clone()), &episode, clocks),
    }
}

/// Whether nothing follows it. What came too late, would have been one too many, or was taken out of the configuration, is passed over.
fn ends_it(message: &Past) -> bool {
    match message.state {
        State::Refused => true,
        State::Skipped => !matches!(message.reason, Some(Reason::Expired | Reason::Capped | Reason::Cancelled)),
        State::Planned | State::Armed | State::Sent | State::InDoubt => false,
    }
}

fn of_episode(steps: &[Step], episode: Option<String>, decided: &[&Past], clocks: Clocks<'_>) -> Flow {
    let first_after = steps.first().map_or(TimeDelta::zero(), |step| step.after);
    let after_of = |message: &Past| message.after.unwrap_or(first_after);
    let furthest = decided.iter().map(|message| after_of(message)).max();
    let last_armed = decided.iter().filter_map(|message| Some((message.armed_at?, after_of(message)))).max();
    let begun_at = decided.first().map(|message| message.planned_at);
    let mut flow = Flow { episode, late: Vec::new(), begun_at, next: Next::Done };
    for (index, step) in steps.iter().enumerate() {
        let is_decided = decided.iter().any(|message| message.step.as_deref() == Some(&step.name));
        if is_decided || furthest.is_some_and(|furthest| step.after <= furthest) {
            continue;
        }
        // Late runs keep the whole distance, so that two steps never leave together.
        let keeps_distance = last_armed.map_or(Instant::MIN_UTC, |(at, after)| at + (step.after - after));
        let by_itself = clocks.touched_at + step.after;
        let (at, until) = (by_itself.max(keeps_distance), clocks.touched_at + step.until);
        if clocks.now >= by_itself && clocks.opens(at.max(clocks.now)) >= until {
            flow.late.push(index);
            continue;
        }
        flow.next = if at <= clocks.now { Next::Due { step: index, until } } else { Next::Waits { step: index, at } };
        break;
    }
    flow
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hours: i64) -> Instant {
        Instant::UNIX_EPOCH + TimeDelta::hours(hours)
    }

    /// Reminder after 1 h, second after 24 h until 48 h, last after 72 h; all by 120 h.
    fn steps() -> Vec<Step> {
        [("reminder", 1, 120), ("second", 24, 48), ("last", 72, 120)]
            .map(|(name, after, until)| Step {
                name: name.into(),
                after: TimeDelta::hours(after),
                until: TimeDelta::hours(until),
                coupon: None,
            })
            .into()
    }

    fn past(step: &str, after: i64, state: State, armed_at: Option<i64>) -> Past {
        Past {
            episode: "e".into(),
            step: Some(step.into()),
            after: Some(TimeDelta::hours(after)),
            state,
            reason: None,
            armed_at: armed_at.map(at),
            blocking_at: armed_at.map(at),
            touched_at: at(0),
            planned_at: at(after),
            settled_at: (state != State::Planned && state != State::Armed).then_some(at(armed_at.unwrap_or(after))),
        }
    }

    fn skipped(step: &str, after: i64, reason: Reason) -> Past {
        Past { reason: Some(reason), ..past(step, after, State::Skipped, None) }
    }

    fn next_at(now: i64, touched: i64, past: &[Past]) -> Flow {
        let clocks = Clocks {
            now: at(now),
            touched_at: at(touched),
            window: TimeDelta::hours(24),
            held_back_at: None,
            hours: None,
        };
        Flow { begun_at: None, ..next(&steps(), past, clocks) }
    }

    fn flow(next: Next, episode: Option<&str>, late: &[usize]) -> Flow {
        Flow { episode: episode.map(str::to_owned), late: late.to_vec(), begun_at: None, next }
    }

    fn due(step: usize, episode: Option<&str>, late: &[usize], until: i64) -> Flow {
        flow(Next::Due { step, until: at(until) }, episode, late)
    }

    fn waits(step: usize, hours: i64, episode: Option<&str>, late: &[usize]) -> Flow {
        flow(Next::Waits { step, at: at(hours) }, episode, late)
    }

    fn ended(how: &str) -> Flow {
        flow(Next::Ended { how: how.into() }, None, &[])
    }

    #[test]
    fn steps_come_in_their_order_each_in_its_time() {
        assert_eq!(next_at(0, 0, &[]), waits(0, 1, None, &[]));
        assert_eq!(next_at(1, 0, &[]), due(0, None, &[], 120));
        let first = past("reminder", 1, State::Sent, Some(1));
        assert_eq!(next_at(23, 0, std::slice::from_ref(&first)), waits(1, 24, Some("e"), &[]));
        assert_eq!(next_at(24, 0, std::slice::from_ref(&first)), due(1, Some("e"), &[], 48));
        let second = past("second", 24, State::InDoubt, Some(24));
        assert_eq!(next_at(72, 0, &[first.clone(), second.clone()]), due(2, Some("e"), &[], 120));
        let last = past("last", 72, State::Sent, Some(72));
        assert_eq!(next_at(90, 0, &[first, second, last]), flow(Next::Done, Some("e"), &[]));
    }

    #[test]
    fn late_runs_keep_the_distance_and_what_is_too_late_is_passed_over() {
        // The first left at 30 h: the second is due 23 h later, which is past its 48 h.
        let first = past("reminder", 1, State::Sent, Some(30));
        let later = past("reminder", 1, State::Sent, Some(20));
        assert_eq!(next_at(42, 0, std::slice::from_ref(&later)), waits(1, 43, Some("e"), &[]));
        assert_eq!(next_at(48, 0, &[later]), waits(2, 91, Some("e"), &[1]));
        assert_eq!(next_at(30, 0, std::slice::from_ref(&first)), waits(2, 101, Some("e"), &[1]));
        let second = skipped("second", 24, Reason::Expired);
        assert_eq!(next_at(101, 0, &[first, second]), due(2, Some("e"), &[], 120));
        // None was ever looked at in time.
        assert_eq!(next_at(80, 0, &[]), due(0, None, &[], 120));
        assert_eq!(next_at(120, 0, &[]), flow(Next::Done, None, &[0, 1, 2]));
    }

    #[test]
    fn a_touch_moves_what_is_to_come_and_a_late_one_begins_anew() {
        let first = past("reminder", 1, State::Sent, Some(1));
        assert_eq!(next_at(26, 25, std::slice::from_ref(&first)), waits(1, 49, Some("e"), &[]));
        assert_eq!(next_at(27, 26, std::slice::from_ref(&first)), due(0, None, &[], 146));
        // From before there were steps: it was the first.
        let stepless = Past { step: None, after: None, ..first };
        assert_eq!(next_at(24, 0, &[stepless]), due(1, Some("e"), &[], 48));
    }

    #[test]
    fn a_flow_of_an_old_copy_has_lost_its_place() {
        let first = past("reminder", 1, State::Sent, Some(1));
        let clocks = Clocks {
            now: at(30),
            touched_at: at(6),
            window: TimeDelta::hours(24),
            held_back_at: Some(at(5)),
            hours: None,
        };
        assert_eq!(next(&steps(), std::slice::from_ref(&first), clocks), due(0, None, &[], 126));
        let before = Clocks { held_back_at: Some(at(0)), ..clocks };
        assert_eq!(next(&steps(), &[first], before).next, due(1, Some("e"), &[], 54).next);
    }

    #[test]
    fn what_ends_a_flow_ends_it_until_a_touch() {
        let first = past("reminder", 1, State::Sent, Some(1));
        for reason in [Reason::Ordered, Reason::Changed, Reason::Empty, Reason::Superseded, Reason::HeldBack] {
            let second = skipped("second", 24, reason);
            assert_eq!(next_at(90, 0, &[first.clone(), second.clone()]), ended(reason.word()));
            assert_eq!(next_at(90, 20, &[first.clone(), second]), due(0, None, &[], 140));
        }
        let refused = past("reminder", 1, State::Refused, None);
        assert_eq!(next_at(90, 0, &[refused]), ended("refused"));
        for reason in [Reason::Expired, Reason::Capped, Reason::Cancelled] {
            let second = skipped("second", 24, reason);
            assert_eq!(next_at(90, 0, &[first.clone(), second]), due(2, Some("e"), &[], 120));
        }
        // Nothing was begun yet, and the cart is back as it was.
        assert_eq!(next_at(2, 0, &[skipped("reminder", 1, Reason::Empty)]), due(0, None, &[], 120));
    }

    #[test]
    fn one_is_open_at_a_time() {
        assert_eq!(next_at(90, 0, &[past("reminder", 1, State::Planned, None)]).next, Next::Open);
        assert_eq!(next_at(90, 0, &[past("reminder", 1, State::Armed, Some(1))]).next, Next::Open);
    }
}
