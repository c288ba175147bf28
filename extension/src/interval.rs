//! Durations as callers give them and as the tables keep them.

use crate::error::Error;
use pgrx::datum::Interval;
use std::time::Duration;

const DAY: i128 = 24 * 3600 * 1_000_000;
const LONGEST: i128 = 3650 * DAY;

fn length(interval: &Interval) -> i128 {
    i128::from(interval.months()) * 30 * DAY
        + i128::from(interval.days()) * DAY
        + i128::from(interval.micros())
}

/// A lifetime in microseconds; a month counts as 30 days. Refuses what is shorter than a second or longer than ten
/// years.
pub(crate) fn lifetime(what: &'static str, given: Option<Interval>, default: Duration) -> Result<i64, Error> {
    let length = match given {
        Some(interval) => self::length(&interval),
        None => i128::try_from(default.as_micros()).unwrap_or(LONGEST),
    };
    match i64::try_from(length) {
        Ok(length) if (1_000_000..=LONGEST).contains(&length.into()) => Ok(length),
        _ => Err(Error::Interval { what }),
    }
}

/// An age in microseconds: anything that is not negative.
pub(crate) fn age(what: &'static str, given: Option<Interval>) -> Result<i64, Error> {
    let length = given.map_or(0, |interval| self::length(&interval));
    if length < 0 {
        return Err(Error::Negative { what });
    }
    // Longer than the calendar is as good as the calendar.
    Ok(i64::try_from(length.min(100 * LONGEST)).unwrap_or(i64::MAX))
}

/// A setting in microseconds, as statements take it.
pub(crate) fn microseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// A timeout in milliseconds: from one to a day.
pub(crate) fn timeout(given: &Interval) -> Option<i32> {
    let length = length(given);
    (1000..=DAY).contains(&length).then(|| i32::try_from(length / 1000).unwrap_or(i32::MAX))
}
