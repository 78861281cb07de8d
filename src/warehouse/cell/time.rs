//! Times as JSON strings: dates and instants after RFC 3339, times of day, durations and intervals
//! after ISO 8601. An instant is written in UTC; a timestamp without a time zone is taken as UTC.

use arrow_buffer::IntervalMonthDayNano;
use arrow_schema::TimeUnit;

/// What a number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Clock {
    /// Days since 1970.
    Day,
    /// Days since 1970, in milliseconds.
    DayInMillis,
    /// Since midnight.
    TimeOfDay(TimeUnit),
    /// Since 1970, in UTC.
    Instant(TimeUnit),
    /// A length of time.
    Duration(TimeUnit),
}

const DAY_SECONDS: i64 = 86_400;
const NANOS: i128 = 1_000_000_000;

/// How many units a second has, and how many digits that are.
fn fraction(unit: TimeUnit) -> (i64, usize) {
    match unit {
        TimeUnit::Second => (1, 0),
        TimeUnit::Millisecond => (1_000, 3),
        TimeUnit::Microsecond => (1_000_000, 6),
        TimeUnit::Nanosecond => (1_000_000_000, 9),
    }
}

/// Appends a string.
pub(super) fn write(count: i64, clock: Clock, into: &mut Vec<u8>) {
    into.push(b'"');
    if let Some(word) = endless(count, clock) {
        into.extend_from_slice(word);
        into.push(b'"');
        return;
    }
    match clock {
        Clock::Day => date(count, into),
        Clock::DayInMillis => date(count.div_euclid(DAY_SECONDS * 1000), into),
        Clock::TimeOfDay(unit) => {
            let (per_second, digits) = fraction(unit);
            time_of_day(count.div_euclid(per_second), into);
            point(count.rem_euclid(per_second), digits, into);
        }
        Clock::Instant(unit) => {
            let (per_second, digits) = fraction(unit);
            let seconds = count.div_euclid(per_second);
            date(seconds.div_euclid(DAY_SECONDS), into);
            into.push(b'T');
            time_of_day(seconds.rem_euclid(DAY_SECONDS), into);
            point(count.rem_euclid(per_second), digits, into);
            into.push(b'Z');
        }
        Clock::Duration(unit) => {
            let nanos = i128::from(count) * (NANOS / i128::from(fraction(unit).0));
            into.extend_from_slice(b"PT");
            seconds(nanos, into);
        }
    }
    into.push(b'"');
}

/// The two ends of time that some databases have, in PostgreSQL's words for them. Its driver counts from
/// 1970 what it gets from 2000, so that the largest numbers come out among the smallest; DuckDB has the
/// largest itself. No date of either is near these numbers.
fn endless(count: i64, clock: Clock) -> Option<&'static [u8]> {
    let (least, most, shift) = match clock {
        Clock::Day => (i64::from(i32::MIN), i64::from(i32::MAX), 10_957),
        Clock::Instant(TimeUnit::Microsecond) => (i64::MIN, i64::MAX, 946_684_800_000_000),
        _ => return None,
    };
    match count {
        _ if count == most || count == least + shift - 1 => Some(b"infinity"),
        _ if count == least + 1 || count == least + shift => Some(b"-infinity"),
        _ => None,
    }
}

/// Appends an ISO 8601 duration; its parts have signs of their own, as in the database.
pub(super) fn write_interval(interval: IntervalMonthDayNano, into: &mut Vec<u8>) {
    let IntervalMonthDayNano { months, days, nanoseconds } = interval;
    into.extend_from_slice(b"\"P");
    let mut part = |count: i32, unit: u8| {
        if count != 0 {
            into.extend_from_slice(itoa::Buffer::new().format(count).as_bytes());
            into.push(unit);
        }
    };
    part(months / 12, b'Y');
    part(months % 12, b'M');
    part(days, b'D');
    if nanoseconds != 0 || (months, days) == (0, 0) {
        into.push(b'T');
        let (hours, rest) = (nanoseconds / 3_600_000_000_000, nanoseconds % 3_600_000_000_000);
        let (minutes, rest) = (rest / 60_000_000_000, rest % 60_000_000_000);
        for (count, unit) in [(hours, b'H'), (minutes, b'M')] {
            if count != 0 {
                into.extend_from_slice(itoa::Buffer::new().format(count).as_bytes());
                into.push(unit);
            }
        }
        if rest != 0 || nanoseconds == 0 {
            seconds(rest.into(), into);
        }
    }
    into.push(b'"');
}

/// `1.5S`
fn seconds(nanos: i128, into: &mut Vec<u8>) {
    if nanos < 0 {
        into.push(b'-');
    }
    let (whole, rest) =
        (nanos.unsigned_abs() / NANOS.unsigned_abs(), nanos.unsigned_abs() % NANOS.unsigned_abs());
    into.extend_from_slice(itoa::Buffer::new().format(whole).as_bytes());
    // Less than a second of nanoseconds fits.
    point(i64::try_from(rest).unwrap_or(0), 9, into);
    into.push(b'S');
}

/// The fraction without the zeroes at its end; nothing where it is 0.
fn point(mut fraction: i64, mut digits: usize, into: &mut Vec<u8>) {
    if fraction == 0 {
        return;
    }
    while fraction % 10 == 0 {
        fraction /= 10;
        digits -= 1;
    }
    into.push(b'.');
    padded(fraction, digits, into);
}

fn time_of_day(seconds: i64, into: &mut Vec<u8>) {
    padded(seconds / 3600, 2, into);
    into.push(b':');
    padded(seconds / 60 % 60, 2, into);
    into.push(b':');
    padded(seconds % 60, 2, into);
}

fn padded(number: i64, width: usize, into: &mut Vec<u8>) {
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(number);
    for _ in digits.len()..width {
        into.push(b'0');
    }
    into.extend_from_slice(digits.as_bytes());
}

/// The Gregorian date of a day since 1970, forwards and backwards without end. Years beyond 9999 have
/// more digits, those before the year 0 a sign.
fn date(day: i64, into: &mut Vec<u8>) {
    // Howard Hinnant's civil_from_days: eras of 400 years that begin in March.
    let day = i128::from(day) + 719_468;
    let era = day.div_euclid(146_097);
    let of_era = day.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day_of_month = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year_of_era + era * 400 + i128::from(month <= 2);
    if year < 0 {
        into.push(b'-');
    }
    let small = |number: i128| i64::try_from(number).unwrap_or(i64::MAX);
    padded(small(year.abs()), 4, into);
    into.push(b'-');
    padded(small(month), 2, into);
    into.push(b'-');
    padded(small(day_of_month), 2, into);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(count: i64, clock: Clock) -> String {
        let mut text = Vec::new();
        write(count, clock, &mut text);
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn dates_agree_with_a_calendar() {
        let epoch = jiff::civil::date(1970, 1, 1);
        for day in (-719_528..2_932_896).step_by(97).chain([-719_528, -1, 0, 59, 2_932_895]) {
            let expected = epoch.checked_add(jiff::Span::new().days(day)).unwrap();
            assert_eq!(text(day.into(), Clock::Day), format!("\"{expected}\""), "{day}");
        }
        assert_eq!(text(2_932_897, Clock::Day), "\"10000-01-01\"");
        assert_eq!(text(86_400_000 * 2 + 5, Clock::DayInMillis), "\"1970-01-03\"");
        assert_eq!(text(-1, Clock::DayInMillis), "\"1969-12-31\"");
    }

    #[test]
    fn instants_agree_with_a_calendar() {
        let micro = Clock::Instant(TimeUnit::Microsecond);
        for micros in [0, 1, -1, 1_700_000_000_123_456, -62_135_596_800_000_000, 999_999, 10] {
            let expected = jiff::Timestamp::from_microsecond(micros).unwrap();
            assert_eq!(text(micros, micro), format!("\"{expected}\""));
        }
        assert_eq!(text(1, Clock::Instant(TimeUnit::Second)), "\"1970-01-01T00:00:01Z\"");
        assert_eq!(
            text(-1, Clock::Instant(TimeUnit::Nanosecond)),
            "\"1969-12-31T23:59:59.999999999Z\""
        );
        assert!(text(i64::MIN, Clock::Instant(TimeUnit::Second)).starts_with("\"-2922770"));
    }

    #[test]
    fn the_ends_of_time_are_words() {
        let micro = Clock::Instant(TimeUnit::Microsecond);
        let moved = i64::MIN + 946_684_800_000_000;
        assert_eq!([moved - 1, i64::MAX].map(|it| text(it, micro)), ["\"infinity\""; 2]);
        assert_eq!([moved, -i64::MAX].map(|it| text(it, micro)), ["\"-infinity\""; 2]);
        assert_eq!(text(i64::from(i32::MIN) + 10_956, Clock::Day), "\"infinity\"");
        assert_eq!(text(i64::from(i32::MIN) + 10_957, Clock::Day), "\"-infinity\"");
        assert!(text(moved + 1, micro).starts_with("\"-290278"));
    }

    #[test]
    fn times_of_day_durations_and_intervals() {
        assert_eq!(text(86_399, Clock::TimeOfDay(TimeUnit::Second)), "\"23:59:59\"");
        assert_eq!(text(1_500, Clock::TimeOfDay(TimeUnit::Millisecond)), "\"00:00:01.5\"");
        assert_eq!(text(86_400_000_000, Clock::TimeOfDay(TimeUnit::Microsecond)), "\"24:00:00\"");
        assert_eq!(text(-1_500, Clock::Duration(TimeUnit::Millisecond)), "\"PT-1.5S\"");
        assert_eq!(text(i64::MAX, Clock::Duration(TimeUnit::Second)), "\"PT9223372036854775807S\"");
        let interval = |months, days, nanos| {
            let mut text = Vec::new();
            write_interval(IntervalMonthDayNano::new(months, days, nanos), &mut text);
            String::from_utf8(text).unwrap()
        };
        assert_eq!(interval(14, 3, 14_706_500_000_000), "\"P1Y2M3DT4H5M6.5S\"");
        assert_eq!(interval(0, 0, 0), "\"PT0S\"");
        assert_eq!(interval(-1, 2, 0), "\"P-1M2D\"");
        assert_eq!(interval(0, 0, -60_000_000_001), "\"PT-1M-0.000000001S\"");
    }
}
