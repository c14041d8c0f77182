//! Days to the next birthday.

use std::time::Duration;

use api::domain::{LeapDay, day_in, days_to_birthday, parse_date};
use jiff::ToSpan as _;
use jiff::civil::date;
use jiff::tz::TimeZone;
use proptest::prelude::*;

#[test]
fn birthday_passed_then_counted_to_next_year() {
    let on = |born, today| days_to_birthday(born, today, LeapDay::February28);
    let born = date(1990, 6, 15);

    assert_eq!(on(born, date(2025, 6, 15)), 0);
    assert_eq!(on(born, date(2025, 6, 14)), 1);
    assert_eq!(on(born, date(2025, 6, 16)), 364);
    assert_eq!(on(born, date(2023, 6, 16)), 365);
    assert_eq!(on(date(1990, 1, 1), date(9999, 12, 31)), 1);
}

#[test]
fn leap_day_in_common_year_then_as_configured() {
    let born = date(2000, 2, 29);
    let feb28 = |today| days_to_birthday(born, today, LeapDay::February28);
    let mar1 = |today| days_to_birthday(born, today, LeapDay::March1);

    assert_eq!((feb28(date(2025, 2, 28)), mar1(date(2025, 2, 28))), (0, 1));
    assert_eq!((feb28(date(2025, 3, 1)), mar1(date(2025, 3, 1))), (364, 0));
    assert_eq!((feb28(date(2024, 2, 28)), mar1(date(2024, 2, 28))), (1, 1));
    assert_eq!((feb28(date(2024, 2, 29)), mar1(date(2024, 2, 29))), (0, 0));
    assert_eq!(feb28(date(2023, 3, 1)), 365);
    assert_eq!(mar1(date(2023, 3, 2)), 364);
}

#[test]
fn time_zone_then_its_day() {
    let late = Duration::from_mins(29_167_170); // 2025-06-15T23:30:00Z
    let utc = TimeZone::UTC;
    let tokyo = TimeZone::fixed(jiff::tz::offset(9));

    assert_eq!(day_in(&utc, late), date(2025, 6, 15));
    assert_eq!(day_in(&tokyo, late), date(2025, 6, 16));
}

proptest! {
    /// For any two dates, the birthday is as many days away as counted.
    #[test]
    fn days_to_birthday_passed_then_birthday(
        born in (1_i16..=9999, 1_i16..=365), today in (1_i16..=9990, 1_i16..=365),
    ) {
        let day = |(year, day): (i16, i16)| date(year, 1, 1) + i64::from(day - 1).days();
        let (born, today) = (day(born), day(today));
        let days = days_to_birthday(born, today, LeapDay::February28);
        let then = today + i64::from(days).days();

        prop_assert!((0..=366).contains(&days));
        let kept = then.month() == born.month() && then.day() == born.day();
        let moved = born.month() == 2 && born.day() == 29
            && then.month() == 2 && then.day() == 28 && !then.in_leap_year();
        prop_assert!(kept || moved, "{born} {today} {then}");
    }

    #[test]
    fn date_printed_then_parsed_back(year in 1_i16..=9999, day in 1_i16..=365) {
        let day = date(year, 1, 1) + i64::from(day - 1).days();
        prop_assert_eq!(parse_date(&day.to_string()), Some(day));
    }
}
