//! Server faults one by one: every stage and every fault, in the clear and under TLS. (`exactly_once` has more of them that
//! hang or are killed, and says for each how many messages must end in doubt.)

use super::place::Place;
use super::scene::{Prepared, Way};
use super::{Tally, try_all};
use crate::support::{Act, Stage};

const STAGES: [Stage; 13] = [
    Stage::Connect,
    Stage::Banner,
    Stage::Ehlo,
    Stage::Starttls,
    Stage::Auth,
    Stage::Mail,
    Stage::Rcpt,
    Stage::Data,
    Stage::Body,
    Stage::Dot,
    Stage::Taken,
    Stage::AfterDot,
    Stage::Quit,
];

const ACTS: [Act; 32] = [
    Act::Code(421),
    Act::Code(451),
    Act::Code(550),
    Act::Reply("250-a reply\r\n250-of several lines\r\n250 2.0.0 that was not asked for"),
    Act::Close,
    Act::Reset,
    Act::Garbage,
    Act::StrayBefore("250 2.0.0 stray"),
    Act::StrayBefore("451 4.3.0 stray"),
    Act::StrayAfter("250 2.0.0 stray"),
    Act::StrayAfter("354 stray"),
    Act::StrayAfter("451 4.3.0 stray"),
    Act::SplitReply,
    Act::WrongCode,
    // At the body these are single stray lines of each class.
    Act::Code(354),
    Act::Code(554),
    Act::StrayBefore("354 stray"),
    Act::StrayBefore("421 4.3.2 stray"),
    Act::StrayBefore("554 5.7.1 stray"),
    Act::StrayAfter("421 4.3.2 stray"),
    Act::StrayAfter("554 5.7.1 stray"),
    // The right code, spelt otherwise.
    Act::Latin1,
    Act::LineFeeds,
    Act::Bare,
    // Refusals in Latin-1 and in GBK.
    Act::Bytes(b"550 5.1.1 Empf\xe4nger unbekannt\r\n"),
    Act::Bytes(b"451 4.7.1 \xc7\xeb\xc9\xd4\xba\xf3\r\n"),
    Act::HalfThenClose(b"25"),
    Act::HalfThenClose(b"250-half a reply\r\n"),
    Act::HalfThenClose(b"55"),
    Act::SayAndClose("421 4.3.2 going down"),
    Act::EndlessLine,
    Act::TearTls,
];

fn says_no(act: Act) -> bool {
    match act {
        Act::Code(code) => (400..600).contains(&code),
        Act::Bytes(octets) => octets.starts_with(b"4") || octets.starts_with(b"5"),
        _ => false,
    }
}

/// Tries every fault at the first two arrivals at each stage, on which `wanted` says yes.
pub fn faults(prepared: &Prepared, wanted: impl Fn(Stage, Act) -> bool) -> Tally {
    let mut cases = Vec::new();
    for stage in STAGES {
        for act in ACTS {
            let protected = prepared.scene.way == Way::Protected;
            // A server that takes a message and says that it does not lies: no client can help it.
            let lie = stage == Stage::Taken && says_no(act);
            let nothing = !protected && (matches!(stage, Stage::Starttls | Stage::Auth) || act == Act::TearTls);
            if !lie && !nothing && wanted(stage, act) {
                cases.extend([(stage, act, 1), (stage, act, 2)]);
            }
        }
    }
    try_all(&cases, |(stage, act, nth)| {
        let place = Place::with(prepared, prepared.scene.plan().nth(*stage, *nth, *act));
        let code = place.run(prepared.scene.starts_at());
        let mut tally = place.until_quiet();
        if ![0, 1].contains(&code) {
            tally.broken.push(format!("the run ended with exit code {code}"));
        }
        if let (false, Some(server)) = (tally.broken.is_empty(), place.server()) {
            tally.broken.push(server.transcript());
        }
        tally
    })
}

#[test]
fn tls_torn_down_at_any_stage_no_message_goes_twice_and_none_is_lost() {
    let prepared = super::scene::Scene::named("detect, SMTP with STARTTLS and AUTH").prepare();
    let tally = faults(&prepared, |stage, act| act == Act::TearTls || matches!(stage, Stage::Starttls | Stage::Auth));
    tally.must_hold();
    println!("{} faults under TLS, {} in doubt", tally.tried, tally.in_doubt);
}

#[test]
fn faults_from_the_body_on_no_message_goes_twice_and_none_is_lost() {
    let prepared = super::scene::Scene::named("detect, SMTP").prepare();
    let tally = faults(&prepared, |stage, _| matches!(stage, Stage::Body | Stage::Dot | Stage::Taken));
    tally.must_hold();
    println!("{} faults from the body on, {} in doubt", tally.tried, tally.in_doubt);
}
