//! Durations in Go's syntax: `5s`, `1m30s`, `1.5h`, `300ms`, and a bare `0`.

use std::time::Duration;

/// Maximum in nanoseconds: the range of Go's 63-bit durations, about 292 years.
const LONGEST: u128 = i64::MAX as u128;

/// Parse errors, with Go's messages.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// A number without a unit such as `s` or `ms`.
    #[error("time: missing unit in duration \"{0}\"")]
    NoUnit(String),
    /// An unknown unit such as `d` or `S`.
    #[error("time: unknown unit \"{unit}\" in duration \"{text}\"")]
    UnknownUnit {
        /// The unknown unit.
        unit: String,
        /// The whole text.
        text: String,
    },
    /// Not a number, or more than 292 years.
    #[error("time: invalid duration \"{0}\"")]
    Invalid(String),
    /// A negative duration, which no setting accepts.
    #[error("duration \"{0}\" must not be negative")]
    Negative(String),
}

/// Parses a duration. Digits below one nanosecond are dropped.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let invalid = || DurationError::Invalid(text.to_owned());
    let negative = text.starts_with('-');
    let mut rest = text.strip_prefix(['+', '-']).unwrap_or(text);
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total = 0_u128;
    while !rest.is_empty() {
        let (whole, behind) = digits(rest);
        let (fraction, behind) = behind.strip_prefix('.').map_or(("", behind), digits);
        if whole.is_empty() && fraction.is_empty() {
            return Err(invalid());
        }
        let end = behind.find(|rune: char| rune == '.' || rune.is_ascii_digit());
        let (unit, behind) = behind.split_at(end.unwrap_or(behind.len()));
        if unit.is_empty() {
            return Err(DurationError::NoUnit(text.to_owned()));
        }
        let Some(nanoseconds) = unit_length(unit) else {
            return Err(DurationError::UnknownUnit {
                unit: unit.into(),
                text: text.into(),
            });
        };
        total += amount(whole, fraction, nanoseconds).ok_or_else(invalid)?;
        if total > LONGEST {
            return Err(invalid());
        }
        rest = behind;
    }
    if negative && total > 0 {
        return Err(DurationError::Negative(text.to_owned()));
    }
    u64::try_from(total)
        .map(Duration::from_nanos)
        .map_err(|_| invalid())
}

/// Splits off the leading digits.
fn digits(text: &str) -> (&str, &str) {
    let end = text.find(|rune: char| !rune.is_ascii_digit());
    text.split_at(end.unwrap_or(text.len()))
}

/// `whole.fraction` units in nanoseconds; `None` on overflow.
fn amount(whole: &str, fraction: &str, unit: u128) -> Option<u128> {
    let whole: u128 = if whole.is_empty() {
        0
    } else {
        whole.parse().ok()?
    };
    // Eighteen decimal places are finer than a nanosecond in every unit.
    let fraction = &fraction[..fraction.len().min(18)];
    let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let fraction: u128 = if fraction.is_empty() {
        0
    } else {
        fraction.parse().ok()?
    };
    let whole = whole
        .checked_mul(unit)
        .filter(|nanoseconds| *nanoseconds <= LONGEST)?;
    Some(whole + fraction * unit / scale)
}

fn unit_length(unit: &str) -> Option<u128> {
    Some(match unit {
        "ns" => 1,
        // Micro sign or Greek letter mu.
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_durations_parse_as_in_go() {
        let cases = [
            ("0", 0),
            ("+0", 0),
            ("-0", 0),
            ("0s", 0),
            ("5s", 5_000_000_000),
            ("+5s", 5_000_000_000),
            ("30s", 30_000_000_000),
            ("1m30s", 90_000_000_000),
            ("1.5h", 5_400_000_000_000),
            (".5s", 500_000_000),
            ("5.s", 5_000_000_000),
            ("1h0.5m30s", 3_660_000_000_000),
            ("300ms", 300_000_000),
            ("1us", 1_000),
            ("1µs", 1_000),
            ("1μs", 1_000),
            ("12ns", 12),
            ("0.3ns", 0),
            ("0.100000000000000000000h", 360_000_000_000),
            ("5s5s", 10_000_000_000),
            ("007s", 7_000_000_000),
            ("9223372036854775807ns", i64::MAX as u64),
            ("2562047h47m16s", 9_223_372_036_000_000_000),
        ];
        for (text, nanoseconds) in cases {
            let expected = Ok(Duration::from_nanos(nanoseconds));
            assert_eq!(parse_duration(text), expected, "{text}");
        }
    }

    #[test]
    fn invalid_durations_are_refused_as_in_go() {
        let cases = [
            ("", "invalid"),
            ("+", "invalid"),
            ("s", "invalid"),
            (".s", "invalid"),
            ("+.s", "invalid"),
            ("--5s", "invalid"),
            (" 5s", "invalid"),
            ("five", "invalid"),
            ("30", "missing unit"),
            ("1.5", "missing unit"),
            ("1m30", "missing unit"),
            ("1d", "unknown unit \"d\""),
            ("5S", "unknown unit \"S\""),
            ("5s ", "unknown unit \"s \""),
            ("1_000s", "unknown unit \"_\""),
            ("5sec", "unknown unit \"sec\""),
            ("9223372036854775808ns", "invalid"),
            ("2562048h", "invalid"),
            ("99999999999999999999999999999999999999999999s", "invalid"),
            ("-1s", "negative"),
        ];
        for (text, expected) in cases {
            let error = parse_duration(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
