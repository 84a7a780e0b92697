//! Durations as people type them: a number of seconds, or a number with a unit.
//! The command line and the control variables of the environment are read with this.

use std::fmt;
use std::time::Duration;

/// The longest duration that is accepted, in seconds (some 31 years).
///
/// Sums of a few such durations stay far below what clocks and timers can represent.
const LONGEST: u64 = 1_000_000_000;

/// Reads whole or fractional seconds (`1`, `0.2`, `.5`) or numbers with units (`500ms`, `2m`, `1h 30m`).
///
/// # Errors
///
/// The text is no duration, or one that is negative or longer than 31 years.
pub fn parse_span(text: &str) -> Result<Duration, SpanError> {
    if text.strip_prefix('-').is_some_and(|rest| parse_span(rest).is_ok()) {
        return Err(SpanError::Negative);
    }
    let is_plain_number = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let span = if is_plain_number { parse_seconds(text)? } else { parse_units(text)? };
    if span > Duration::from_secs(LONGEST) { Err(SpanError::TooLong) } else { Ok(span) }
}

/// Reads `1.25`. Decimal digits are taken exactly, down to nanoseconds; a float would turn 0.2 into something else.
fn parse_seconds(text: &str) -> Result<Duration, SpanError> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return Err(SpanError::NotADuration);
    }
    // Only digits are left, so all that can go wrong with them is their number.
    let seconds = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| SpanError::TooLong)? };
    let nanoseconds = fraction
        .bytes()
        .chain(std::iter::repeat(b'0'))
        .take(9)
        .fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'));
    Ok(Duration::new(seconds, nanoseconds))
}

fn parse_units(text: &str) -> Result<Duration, SpanError> {
    humantime::parse_duration(text).map_err(|error| match error {
        humantime::DurationError::NumberOverflow => SpanError::TooLong,
        _ => SpanError::NotADuration,
    })
}

/// A duration in seconds as messages print it: `5`, `0.2`.
pub fn seconds_text(span: Duration) -> String {
    let text = format!("{}.{:09}", span.as_secs(), span.subsec_nanos());
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A duration that keeps the way it was typed, for those who are to see it unchanged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpanText(String);

impl SpanText {
    /// Takes a text that [`parse_span`] accepts.
    ///
    /// # Errors
    ///
    /// As for [`parse_span`].
    pub fn parse(text: &str) -> Result<Self, SpanError> {
        parse_span(text).map(|_| Self(text.to_owned()))
    }

    /// The duration as it was typed.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why a text is no usable duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanError {
    /// It cannot be read as a duration.
    NotADuration,
    /// It is a duration with a minus sign.
    Negative,
    /// It is longer than 31 years.
    TooLong,
}

impl fmt::Display for SpanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotADuration => "number of seconds expected, or a duration with units such as 500ms, 2m or 1h 30m",
            Self::Negative => "a duration cannot be negative; number of seconds expected, 0 or more",
            Self::TooLong => "too long; at most 1000000000 seconds, which is 31 years",
        })
    }
}

impl std::error::Error for SpanError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read() {
        for (text, expected) in [
            ("0", Ok(Duration::ZERO)),
            ("1", Ok(Duration::from_secs(1))),
            ("007", Ok(Duration::from_secs(7))),
            ("0.2", Ok(Duration::from_millis(200))),
            (".5", Ok(Duration::from_millis(500))),
            ("5.", Ok(Duration::from_secs(5))),
            ("1.5", Ok(Duration::from_millis(1500))),
            ("0.123456789999", Ok(Duration::from_nanos(123_456_789))),
            ("500ms", Ok(Duration::from_millis(500))),
            ("2m", Ok(Duration::from_secs(120))),
            ("1h 30m", Ok(Duration::from_secs(5400))),
            ("1h30m", Ok(Duration::from_secs(5400))),
            ("1000000000", Ok(Duration::from_secs(1_000_000_000))),
            ("", Err(SpanError::NotADuration)),
            (".", Err(SpanError::NotADuration)),
            ("1.2.3", Err(SpanError::NotADuration)),
            ("--", Err(SpanError::NotADuration)),
            ("--1", Err(SpanError::NotADuration)),
            ("-", Err(SpanError::NotADuration)),
            ("abc", Err(SpanError::NotADuration)),
            ("NaN", Err(SpanError::NotADuration)),
            ("inf", Err(SpanError::NotADuration)),
            ("1e3", Err(SpanError::NotADuration)),
            ("5 parsecs", Err(SpanError::NotADuration)),
            ("-1", Err(SpanError::Negative)),
            ("-0.5", Err(SpanError::Negative)),
            ("-2m", Err(SpanError::Negative)),
            ("1000000000.1", Err(SpanError::TooLong)),
            ("18446744073709551615", Err(SpanError::TooLong)),
            ("18446744073709551616", Err(SpanError::TooLong)),
            ("99999999999999 years", Err(SpanError::TooLong)),
        ] {
            assert_eq!(parse_span(text), expected, "{text:?}");
        }
    }

    #[test]
    fn seconds_are_printed_without_ballast() {
        for (span, expected) in [
            (Duration::ZERO, "0"),
            (Duration::from_secs(5), "5"),
            (Duration::from_secs(360), "360"),
            (Duration::from_millis(200), "0.2"),
            (Duration::from_millis(1500), "1.5"),
            (Duration::from_nanos(1), "0.000000001"),
        ] {
            assert_eq!(seconds_text(span), expected);
        }
    }

    #[test]
    fn a_span_text_keeps_its_spelling() {
        assert_eq!(SpanText::parse("2m").map(|span| span.as_str().to_owned()), Ok("2m".to_owned()));
        assert_eq!(SpanText::parse("-2m"), Err(SpanError::Negative));
    }
}
