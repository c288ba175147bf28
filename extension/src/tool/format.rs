//! Types that JSON has only strings for: how such a string is written.
//!
//! Input is stricter than PostgreSQL's own: what a schema promises is what is checked, and whoever reads the schema is
//! not surprised by "01/02/2026" or "yesterday". Output may go beyond a format of JSON Schema, and then its schema says so.

use regex_lite::Regex;
use std::cell::RefCell;
use std::collections::HashMap;

/// How values of a type are written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Format {
    /// What a value must be, for messages.
    pub(super) expected: &'static str,
    /// The format of JSON Schema; without one, the schema has the pattern.
    pub(super) name: Option<&'static str>,
    /// What is accepted, in what ECMA-262 and this library's expressions have in common.
    pub(super) pattern: &'static str,
    /// What PostgreSQL returns beside that.
    pub(super) odd: Option<&'static str>,
    pub(super) example: Option<&'static str>,
}

thread_local! {
    /// The patterns that were of use so far.
    static COMPILED: RefCell<HashMap<&'static str, Regex>> = RefCell::default();
}

impl Format {
    const fn new(expected: &'static str, pattern: &'static str) -> Self {
        Format { expected, name: None, pattern, odd: None, example: None }
    }

    const fn named(self, name: &'static str) -> Self {
        Format { name: Some(name), ..self }
    }

    const fn like(self, example: &'static str) -> Self {
        Format { example: Some(example), ..self }
    }

    const fn or_odd(self, odd: &'static str) -> Self {
        Format { odd: Some(odd), ..self }
    }

    /// Whether a text is written that way.
    pub(super) fn is_match(&self, text: &str) -> bool {
        COMPILED.with_borrow_mut(|compiled| {
            let regex = compiled.entry(self.pattern);
            regex.or_insert_with(|| Regex::new(self.pattern).expect("a pattern of ours")).is_match(text)
        })
    }
}

macro_rules! date {
    () => {
        "[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
    };
}
macro_rules! time {
    () => {
        r"([01][0-9]|2[0-3]):[0-5][0-9]:([0-5][0-9]|60)(\.[0-9]+)?"
    };
}
macro_rules! zone {
    () => {
        "([Zz]|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
    };
}

pub(super) static DATE: Format =
    Format::new("a date", concat!("^", date!(), "$")).named("date").like("2026-01-31").or_odd(DATES);

pub(super) static TIMESTAMPTZ: Format =
    Format::new("a date and time with its zone", concat!("^", date!(), "[Tt]", time!(), zone!(), "$"))
        .named("date-time")
        .like("2026-01-31T12:00:00Z")
        // Zones of the nineteenth century have seconds.
        .or_odd("^-?infinity$| BC$|^[0-9]{5,}-|[+-][0-9]{2}:[0-9]{2}:[0-9]{2}( BC)?$");

// RFC 3339, which the formats of JSON Schema stand on, has neither date nor time of day without a zone.
pub(super) static TIMESTAMP: Format =
    Format::new("a date and time without a zone", concat!("^", date!(), "[T ]", time!(), "$"))
        .like("2026-01-31T12:00:00")
        .or_odd(DATES);

pub(super) static TIME: Format =
    Format::new("a time of day", r"^(([01][0-9]|2[0-3]):[0-5][0-9](:([0-5][0-9]|60)(\.[0-9]+)?)?|24:00:00)$")
        .like("12:00:00");

pub(super) static TIMETZ: Format =
    Format::new("a time of day with its zone", concat!("^", time!(), zone!(), "$"))
        .named("time")
        .like("12:00:00Z")
        // PostgreSQL leaves out the minutes of a zone that has none.
        .or_odd("[+-][0-9]{2}(:[0-9]{2}:[0-9]{2})?$|^24:");

// Not the format `duration`: RFC 3339 has no fractions, and nothing that lasts less than nothing.
pub(super) static INTERVAL: Format = Format::new(
    "an ISO 8601 duration",
    r"^P((-?[0-9]+(\.[0-9]+)?[YMWD])+(T(-?[0-9]+(\.[0-9]+)?[HMS])+)?|T(-?[0-9]+(\.[0-9]+)?[HMS])+)$",
)
.like("P1DT2H30M")
.or_odd("^-?infinity$");

pub(super) static UUID: Format =
    Format::new("a UUID", "^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$")
        .named("uuid")
        .like("0f8fad5b-d9cb-469f-a165-70867728950e");

/// JSON has no number of it, says `to_json`.
pub(super) static OID: Format = Format::new("an object identifier", "^[0-9]{1,10}$").like("16384");

pub(super) static BYTES: Format =
    Format::new("bytes in hexadecimal", r"^\\x([0-9A-Fa-f]{2})*$").like(r"\x48656c6c6f");

/// Bit strings; their lengths are limits.
pub(super) static BITS: Format = Format::new("a string of bits", "^[01]*$").like("101");

const RANGE: &str = r"^(empty|[\[(][\s\S]*,[\s\S]*[\])])$";
const MULTIRANGE: &str = r"^\{[\s\S]*\}$";

pub(super) static RANGE_OF_NUMBERS: Format = Format::new("a range", RANGE).like("[1,10)");
pub(super) static RANGE_OF_DATES: Format = Format::new("a range", RANGE).like("[2026-01-01,2026-02-01)");
pub(super) static RANGE_OF_TIMESTAMPS: Format =
    Format::new("a range", RANGE).like("[2026-01-01T00:00:00,2026-02-01T00:00:00)");
pub(super) static RANGE_OF_TIMESTAMPTZ: Format =
    Format::new("a range", RANGE).like("[2026-01-01T00:00:00Z,2026-02-01T00:00:00Z)");
pub(super) static RANGE_OF_OTHERS: Format = Format::new("a range", RANGE);
pub(super) static MULTIRANGE_OF_NUMBERS: Format =
    Format::new("a multirange", MULTIRANGE).like("{[1,3),[7,10)}");
pub(super) static MULTIRANGE_OF_DATES: Format =
    Format::new("a multirange", MULTIRANGE).like("{[2026-01-01,2026-02-01)}");
pub(super) static MULTIRANGE_OF_OTHERS: Format = Format::new("a multirange", MULTIRANGE);

const DATES: &str = "^-?infinity$| BC$|^[0-9]{5,}-";

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn examples_and_what_is_none() {
        let all = [
            &DATE,
            &TIMESTAMPTZ,
            &TIMESTAMP,
            &TIME,
            &TIMETZ,
            &INTERVAL,
            &UUID,
            &OID,
            &BYTES,
            &BITS,
            &RANGE_OF_NUMBERS,
            &RANGE_OF_DATES,
            &RANGE_OF_TIMESTAMPS,
            &RANGE_OF_TIMESTAMPTZ,
            &MULTIRANGE_OF_NUMBERS,
            &MULTIRANGE_OF_DATES,
        ];
        for format in all {
            let example = format.example.unwrap();
            assert!(format.is_match(example), "{example}");
            for other in ["now", " ", "1 day", "01/02/2026", "2026-01-31 12:00:00+01", "yes"] {
                assert!(!format.is_match(other), "{other} is {}", format.expected);
            }
        }
        for duration in ["PT0S", "P1Y2M3W4DT5H6M7.8S", "PT-0.5S", "P-1D"] {
            assert!(INTERVAL.is_match(duration), "{duration}");
        }
        for none in ["P", "PT", "P1", "P1DT", "1D", "PT1D"] {
            assert!(!INTERVAL.is_match(none), "{none}");
        }
    }
}
