//! Where to start, as people write it.

use lockstep_client::Start;

/// From this number on a plain number is taken for milliseconds since 1970 (the year 2001), not for an LSN.
const LEAST_TIME_MS: u64 = 1_000_000_000_000;

/// Reads `earliest`, `latest`, an LSN, `ms:` and milliseconds, or an RFC 3339 time.
pub(in crate::cli) fn parse(text: &str) -> Result<Start, String> {
    let wrong = || {
        format!(
            "{text:?} is no place: use earliest, latest, an LSN from 1 on, or a time such as 2026-01-31T12:00:00Z"
        )
    };
    match text {
        "earliest" => return Ok(Start::Earliest),
        "latest" => return Ok(Start::Latest),
        _ => {}
    }
    if let Some(milliseconds) = text.strip_prefix("ms:") {
        return milliseconds.parse().map(Start::Time).map_err(|_| wrong());
    }
    match text.parse::<u64>() {
        Ok(0) => Err("records are numbered from 1: there is no LSN 0".to_owned()),
        Ok(number) if number >= LEAST_TIME_MS => i64::try_from(number).map(Start::Time).map_err(|_| wrong()),
        Ok(lsn) => Ok(Start::Lsn(lsn)),
        Err(_) => rfc3339_ms(text).map(Start::Time).ok_or_else(wrong),
    }
}

/// Milliseconds since 1970 UTC of an RFC 3339 time, such as `2026-01-31T12:00:00.5+01:00`.
fn rfc3339_ms(text: &str) -> Option<i64> {
    let (date, rest) = text.split_at_checked(10)?;
    let rest = rest.strip_prefix(['T', 't', ' '])?;
    let (clock, rest) = rest.split_at_checked(8)?;
    let (fraction_ms, zone) = match rest.strip_prefix('.') {
        None => (0, rest),
        Some(rest) => {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let (fraction, zone) = rest.split_at_checked(digits)?;
            (milliseconds(fraction)?, zone)
        }
    };
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let [hour, minute, second] = numbers(clock, ':', [2, 2, 2])?;
    let valid = (1..=12).contains(&month)
        && (1..=days_in_month(year, month)).contains(&day)
        && hour <= 23
        && minute <= 59
        && second <= 60;
    let seconds = days_since_1970(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second;
    valid.then_some((seconds - zone_seconds(zone)?) * 1_000 + fraction_ms)
}

/// Three numbers of fixed widths with a sign between them.
fn numbers(text: &str, sign: char, widths: [usize; 3]) -> Option<[i64; 3]> {
    let mut parts = text.split(sign);
    let mut all = [0; 3];
    for (number, width) in all.iter_mut().zip(widths) {
        *number = digits(parts.next()?, width)?;
    }
    parts.next().is_none().then_some(all)
}

fn digits(text: &str, width: usize) -> Option<i64> {
    let right = text.len() == width && text.bytes().all(|byte| byte.is_ascii_digit());
    if right { text.parse().ok() } else { None }
}

/// The first three digits of a fraction.
fn milliseconds(fraction: &str) -> Option<i64> {
    if fraction.is_empty() {
        return None;
    }
    let padded: String = fraction.chars().chain("00".chars()).take(3).collect();
    padded.parse().ok()
}

/// What a zone is ahead of UTC.
fn zone_seconds(zone: &str) -> Option<i64> {
    if zone.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let sign = if zone.starts_with('+') { 1 } else { -1 };
    let (hours, minutes) = zone.strip_prefix(['+', '-'])?.split_once(':')?;
    let (hours, minutes) = (digits(hours, 2)?, digits(minutes, 2)?);
    (hours <= 23 && minutes <= 59).then_some(sign * (hours * 3_600 + minutes * 60))
}

fn days_in_month(year: i64, month: i64) -> i64 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 in the Gregorian calendar; the year is counted from March, so that a leap day ends it.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let days_before_month = (153 * month + 2) / 5;
    // 719,468 days lie between 0000-03-01 and 1970-01-01.
    year * 365 + leap_days + days_before_month + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_numbers_and_times_are_understood() {
        for (text, start) in [
            ("earliest", Start::Earliest),
            ("latest", Start::Latest),
            ("1", Start::Lsn(1)),
            ("999999999999", Start::Lsn(999_999_999_999)),
            ("1700000000000", Start::Time(1_700_000_000_000)),
            ("ms:5", Start::Time(5)),
            ("1970-01-01T00:00:00Z", Start::Time(0)),
            ("1969-12-31T23:59:59.999Z", Start::Time(-1)),
            ("2000-02-29T12:34:56.7+01:30", Start::Time(951_822_296_700)),
            ("2026-11-22 18:00:00-02:00", Start::Time(1_795_377_600_000)),
        ] {
            assert_eq!(parse(text), Ok(start), "{text}");
        }
    }

    #[test]
    fn what_is_no_place_is_refused() {
        for text in [
            "",
            "0",
            "-1",
            "first",
            "ms:",
            "ms:x",
            "2026-13-01T00:00:00Z",
            "2025-02-29T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:00:00",
            "2026-01-01",
            "2026-01-01T00:00:00.Z",
            "2026-01-01T00:00:00+1:00",
            "+026-01-01T00:00:00Z",
            "2026-01-01T00:00:00é",
            "20é6-01-01T00:00:00Z",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
