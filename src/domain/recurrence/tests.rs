//! Against what an oracle in another language worked out, and as properties.

use proptest::prelude::*;
use serde_json::Value;

use super::*;

fn at(text: &str) -> Instant {
    instant::from_text(text).unwrap_or_else(|| panic!("{text} is no instant"))
}

fn cron(text: &str, zone: Tz) -> Schedule {
    Schedule { recurrence: Recurrence::Cron(CronRule::parse(text).unwrap()), zone }
}

fn every(days: EveryDays, time: &str, zone: Tz) -> Schedule {
    Schedule { recurrence: Recurrence::Every(Every { days, time: parse_time_of_day(time).unwrap() }), zone }
}

fn schedule(case: &Value) -> Schedule {
    let rule = &case["rule"];
    let zone: Tz = case["zone"].as_str().unwrap().parse().unwrap();
    if let Some(text) = rule["cron"].as_str() {
        return cron(text, zone);
    }
    let days = match (rule["every"].as_str().unwrap(), &rule["on"]) {
        ("day", Value::Null) => EveryDays::Day,
        ("week", Value::String(day)) => EveryDays::Week(parse_weekday(day).unwrap()),
        ("month", Value::Number(day)) => EveryDays::Month(day.as_u64().unwrap() as u32),
        ("month", Value::String(last)) if last == "last" => EveryDays::Month(31),
        other => panic!("{other:?}"),
    };
    every(days, rule["time"].as_str().unwrap(), zone)
}

#[test]
fn every_case_of_the_oracle_is_met() {
    let fixture: Value = serde_json::from_str(include_str!("../../../tests/fixtures/occurrences.json")).unwrap();
    let cases = fixture["cases"].as_array().unwrap();
    assert!(cases.len() > 150);
    for case in cases {
        let expected: Vec<&str> = case["instants"].as_array().unwrap().iter().map(|t| t.as_str().unwrap()).collect();
        let schedule = schedule(case);
        let (after, until) = (at(case["after"].as_str().unwrap()), at(case["until"].as_str().unwrap()));
        let found = schedule.occurrences(after, until).unwrap();
        let texts: Vec<String> = found.instants.iter().copied().map(instant::text).collect();
        assert_eq!(texts, expected, "{schedule} in ({after}, {until}]");
        assert!(!found.omitted);
        let mut next = after;
        for instant in found.instants {
            next = schedule.next_after(next).unwrap();
            assert_eq!(next, instant, "{schedule}: next_after");
        }
        assert!(schedule.next_after(next).unwrap() > until, "{schedule}: one more than the oracle's before {until}");
    }
}

#[test]
fn a_day_that_a_zone_skips_is_made_up_for_at_its_end() {
    let daily = every(EveryDays::Day, "09:00", Tz::Pacific__Apia);
    let found = daily.occurrences(at("2011-12-29T00:00:00Z"), at("2011-12-31T00:00:00Z")).unwrap().instants;
    let texts: Vec<String> = found.into_iter().map(instant::text).collect();
    // Of the 29th, of the 30th that never was (at the first instant of the 31st), and of the 31st.
    assert_eq!(texts, ["2011-12-29T19:00:00Z", "2011-12-30T10:00:00Z", "2011-12-30T19:00:00Z"]);
}

#[test]
fn many_missed_occurrences_are_cut_to_the_newest() {
    let minutely = cron("* * * * *", Tz::Europe__Berlin);
    let until = at("2026-03-01T00:00:00Z");
    let found = minutely.occurrences(at("1999-01-01T00:00:00Z"), until).unwrap();
    assert_eq!((found.instants.len(), found.omitted), (MOST_OCCURRENCES, true));
    assert_eq!(found.instants.last(), Some(&until));
    assert!(found.instants.windows(2).all(|pair| pair[1] - pair[0] == TimeDelta::minutes(1)));
    let exactly = until - TimeDelta::minutes(1000);
    assert!(!minutely.occurrences(exactly, until).unwrap().omitted);
}

#[test]
fn a_clock_that_went_back_yields_nothing() {
    let daily = every(EveryDays::Day, "09:00", Tz::UTC);
    let (after, until) = (at("2026-03-01T00:00:00Z"), at("2026-02-28T00:00:00Z"));
    assert!(daily.occurrences(after, until).unwrap_err().to_string().contains("2026-02-28T00:00:00Z"));
    assert_eq!(daily.occurrences(after, after), Ok(Occurrences::default()));
}

#[test]
fn no_instant_is_too_far_away() {
    for schedule in [cron("0 9 * * 1", Tz::Pacific__Apia), every(EveryDays::Month(31), "23:59", Tz::Pacific__Apia)] {
        let all = schedule.occurrences(Instant::MIN_UTC, Instant::MAX_UTC).unwrap();
        assert_eq!((all.instants.len(), all.omitted), (MOST_OCCURRENCES, true));
        assert_eq!(schedule.occurrences(Instant::MIN_UTC, Instant::MIN_UTC), Ok(Occurrences::default()));
        assert!(schedule.next_after(Instant::MIN_UTC).is_some());
        assert_eq!(schedule.next_after(Instant::MAX_UTC), None);
    }
}

#[test]
fn a_one_off_is_due_once() {
    let at_nine = parse_once("2026-03-20 09:00", Tz::Europe__Berlin).unwrap();
    let once = Schedule { recurrence: Recurrence::Once(at_nine), zone: Tz::Europe__Berlin };
    assert_eq!(instant::text(at_nine), "2026-03-20T08:00:00Z");
    let (before, later) = (at("2026-03-20T07:59:59Z"), at("2026-03-21T00:00:00Z"));
    assert_eq!(once.occurrences(before, at_nine).unwrap().instants, [at_nine]);
    assert!(once.occurrences(at_nine, later).unwrap().instants.is_empty());
    assert_eq!((once.next_after(before), once.next_after(at_nine)), (Some(at_nine), None));
    assert_eq!(once.to_string(), "once at 2026-03-20 09:00:00+01:00 Europe/Berlin");
}

#[test]
fn the_time_of_a_one_off_is_a_wall_time_or_has_an_offset() {
    let parse = |text| parse_once(text, Tz::Europe__Berlin).map(instant::text);
    assert_eq!(parse("2026-03-29 02:30").as_deref(), Some("2026-03-29T01:00:00Z"));
    assert_eq!(parse("2026-10-25 02:30").as_deref(), Some("2026-10-25T00:30:00Z"));
    assert_eq!(parse("2026-10-25T02:30:00+01:00").as_deref(), Some("2026-10-25T01:30:00Z"));
    for text in ["", "2026-03-20", "1772352000", "09:00", "tomorrow 09:00", "2026-02-30 09:00", "1960-01-01 09:00"] {
        assert_eq!(parse(text), None, "{text:?}");
    }
}

#[test]
fn expressions_that_mean_something_else_or_nothing_are_refused() {
    for (text, why) in [
        ("", "fields"),
        ("0 0 9 * * MON", "6 fields"),
        ("0 9 * *", "4 fields"),
        ("0 9 * * MON 2026", "6 fields"),
        ("0 0 9 * * MON 2026", "7 fields"),
        ("61 9 * * *", "no cron expression"),
        ("0 24 * * *", "no cron expression"),
        ("0 9 * * 8", "no cron expression"),
        ("0 9 0 * *", "no cron expression"),
        ("0 9 * 13 *", "no cron expression"),
        ("*/0 * * * *", "no cron expression"),
        ("0/10 * * * *", "no cron expression"),
        ("30-10 * * * *", "no cron expression"),
        ("0 9 * * MONDAY", "no cron expression"),
        ("0 9 * * 1#6", "no cron expression"),
        ("@reboot", "no cron expression"),
        ("0 9 31 2 *", "never fires"),
        ("0 9 31 4,6,9,11 *", "never fires"),
        ("0 9 30 2 *", "never fires"),
    ] {
        let err = CronRule::parse(text).expect_err(text);
        assert!(err.contains(why), "{text:?}: {err}");
    }
    for text in ["0 9 * * MON", "0 9 * * sun", "  0   9 * * 7 ", "@daily", "0 9 ? * 1", "0 9 29 2 +SUN", "0 9 L * *"] {
        CronRule::parse(text).unwrap_or_else(|err| panic!("{err}"));
    }
}

#[test]
fn a_schedule_is_shown_in_words_that_tell_it_from_others() {
    let zone = Tz::Europe__Berlin;
    assert_eq!(cron(" 0 9  * * MON", zone).to_string(), "cron 0 9 * * MON Europe/Berlin");
    let weekly = every(EveryDays::Week(Weekday::Mon), "9:05", zone);
    assert_eq!(weekly.to_string(), "every week on monday at 09:05 Europe/Berlin");
    assert_eq!(every(EveryDays::Month(30), "09:00", zone).to_string(), "every month on day 30 at 09:00 Europe/Berlin");
}

#[test]
fn times_of_day_and_weekdays_are_read() {
    for text in ["", "9", "24:00", "09:60", "09:0", "-1:00", "09:00:00", "9h00"] {
        assert_eq!(parse_time_of_day(text), None, "{text:?}");
    }
    assert_eq!(parse_weekday("Monday"), Some(Weekday::Mon));
    assert_eq!(parse_weekday("sun"), Some(Weekday::Sun));
    assert_eq!((parse_weekday("m"), parse_weekday("")), (None, None));
}

fn any_schedule() -> impl Strategy<Value = Schedule> {
    let zone = prop::sample::select(vec![
        Tz::UTC,
        Tz::Europe__Berlin,
        Tz::America__New_York,
        Tz::Australia__Lord_Howe,
        Tz::America__Santiago,
        Tz::Pacific__Apia,
        Tz::Africa__Casablanca,
    ]);
    let minute_of_day = (0u32..24, 0u32..60);
    let rule = prop_oneof![
        prop::sample::select(vec!["*/15 * * * *", "0 2 * * *", "30 2 * * SUN", "7 0-3 * * *", "* 2 L,15W * 1#2"])
            .prop_map(|text| Recurrence::Cron(CronRule::parse(text).unwrap())),
        (minute_of_day, 0u32..32).prop_map(|((hour, minute), day)| {
            let days = if day == 0 { EveryDays::Day } else { EveryDays::Month(day) };
            Recurrence::Every(Every { days, time: NaiveTime::from_hms_opt(hour, minute, 0).unwrap() })
        }),
    ];
    (rule, zone).prop_map(|(recurrence, zone)| Schedule { recurrence, zone })
}

/// Instants near a change of some clock, or anywhere in two decades.
fn any_instant() -> impl Strategy<Value = Instant> {
    let change = prop::sample::select(vec![
        "2026-03-29T01:00:00Z",
        "2026-10-25T01:00:00Z",
        "2026-11-01T06:00:00Z",
        "2026-04-04T15:00:00Z",
        "2026-10-03T15:30:00Z",
        "2025-04-06T03:00:00Z",
        "2011-12-30T10:00:00Z",
    ]);
    prop_oneof![
        (change, -200_000i64..200_000).prop_map(|(change, seconds)| at(change) + TimeDelta::seconds(seconds)),
        (1_300_000_000i64..1_900_000_000).prop_map(|seconds| DateTime::from_timestamp(seconds, 0).unwrap()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn two_stretches_that_meet_yield_what_the_whole_does(
        schedule in any_schedule(), start in any_instant(), first in 0i64..250_000, second in 0i64..250_000,
    ) {
        let cut = start + TimeDelta::seconds(first);
        let end = cut + TimeDelta::seconds(second);
        let whole = schedule.occurrences(start, end).unwrap();
        let mut parts = schedule.occurrences(start, cut).unwrap().instants;
        parts.extend(schedule.occurrences(cut, end).unwrap().instants);
        prop_assert!(!whole.omitted);
        prop_assert_eq!(&parts, &whole.instants);
        prop_assert!(parts.windows(2).all(|pair| pair[0] < pair[1]));
        let mut walked = Vec::new();
        let mut next = schedule.next_after(start);
        while let Some(instant) = next.filter(|&instant| instant <= end) {
            walked.push(instant);
            next = schedule.next_after(instant);
        }
        prop_assert_eq!(walked, whole.instants);
    }
}
