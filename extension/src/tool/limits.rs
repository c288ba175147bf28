//! What a type's modifier and a domain's checks allow, as far as JSON Schema can say it.

use super::json::{Json, Number};
use regex_lite::Regex;
use serde_json::{Map, Value};
use std::cmp::Ordering;

/// What is allowed within a kind of value.
#[derive(Debug, Clone, Default)]
pub(super) struct Limits {
    pub(super) minimum: Option<Bound>,
    pub(super) maximum: Option<Bound>,
    /// Of a text in characters, of an array in elements.
    pub(super) min_length: Option<u32>,
    pub(super) max_length: Option<u32>,
    pub(super) patterns: Vec<Pattern>,
    /// The integers that there are.
    pub(super) integers: Option<Vec<i64>>,
    /// What a `jsonb` must be: "object", "array", …
    pub(super) json_type: Option<String>,
    /// Checks that JSON Schema cannot say, or not wholly.
    pub(super) unsaid: Vec<Unsaid>,
}

/// A bound of a number.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Bound {
    at: serde_json::Number,
    exclusive: bool,
}

/// A regular expression of JSON Schema.
#[derive(Debug, Clone)]
pub(super) struct Pattern {
    text: String,
    regex: Regex,
}

/// A check that only PostgreSQL makes.
#[derive(Debug, Clone)]
pub(super) struct Unsaid {
    /// The name of its constraint.
    pub(super) constraint: String,
    /// As SQL.
    pub(super) definition: String,
}

impl Bound {
    /// A bound at a decimal number; none where doubles, which most read JSON's numbers as, cannot tell it.
    pub(super) fn read(text: &str, exclusive: bool) -> Option<Self> {
        if let Ok(integer) = text.parse::<i64>() {
            return Some(Bound { at: integer.into(), exclusive });
        }
        let digits = text.split(['e', 'E']).next().unwrap_or_default().replace(['-', '+', '.'], "");
        let significant = digits.trim_matches('0').len();
        let at = text.parse::<f64>().ok().filter(|_| significant <= 15);
        Some(Bound { at: serde_json::Number::from_f64(at?)?, exclusive })
    }

    pub(super) fn as_f64(&self) -> f64 {
        self.at.as_f64().unwrap_or(f64::NAN)
    }

    fn compare(&self, other: &Bound) -> Ordering {
        match (self.at.as_i64(), other.at.as_i64()) {
            (Some(one), Some(other)) => one.cmp(&other),
            _ => self.as_f64().total_cmp(&other.as_f64()),
        }
    }

    /// The least integer a lower bound lets pass, the greatest an upper one does.
    pub(super) fn as_integer(&self, lower: bool) -> i64 {
        let beyond = i64::from(self.exclusive);
        if let Some(at) = self.at.as_i64() {
            return if lower { at.saturating_add(beyond) } else { at.saturating_sub(beyond) };
        }
        // A fraction, or beyond every integer: the conversion saturates.
        if lower { self.as_f64().ceil() as i64 } else { self.as_f64().floor() as i64 }
    }
}

impl Pattern {
    /// Nothing where the expression is too large.
    pub(super) fn new(text: String) -> Option<Self> {
        Regex::new(&text).ok().map(|regex| Pattern { text, regex })
    }
}

impl Limits {
    /// Both lower bounds hold.
    pub(super) fn raise_minimum(&mut self, bound: Bound) {
        let is_tighter = |held: &Bound| match bound.compare(held) {
            Ordering::Equal => bound.exclusive,
            order => order.is_gt(),
        };
        if self.minimum.as_ref().is_none_or(is_tighter) {
            self.minimum = Some(bound);
        }
    }

    /// Both upper bounds hold.
    pub(super) fn lower_maximum(&mut self, bound: Bound) {
        let is_tighter = |held: &Bound| match bound.compare(held) {
            Ordering::Equal => bound.exclusive,
            order => order.is_lt(),
        };
        if self.maximum.as_ref().is_none_or(is_tighter) {
            self.maximum = Some(bound);
        }
    }

    pub(super) fn raise_min_length(&mut self, length: u32) {
        self.min_length = Some(self.min_length.map_or(length, |held| held.max(length)));
    }

    pub(super) fn lower_max_length(&mut self, length: u32) {
        self.max_length = Some(self.max_length.map_or(length, |held| held.min(length)));
    }

    /// Says it in a schema whose type is there already.
    pub(super) fn describe(&self, schema: &mut Map<String, Value>) {
        let mut bound = |bound: &Option<Bound>, inclusive: &str, exclusive: &str| {
            if let Some(bound) = bound {
                let keyword = if bound.exclusive { exclusive } else { inclusive };
                schema.insert(keyword.into(), bound.at.clone().into());
            }
        };
        bound(&self.minimum, "minimum", "exclusiveMinimum");
        bound(&self.maximum, "maximum", "exclusiveMaximum");
        let is_array = schema.get("type").is_some_and(|ty| ty == "array");
        let (least, most) = if is_array { ("minItems", "maxItems") } else { ("minLength", "maxLength") };
        if let Some(length) = self.min_length {
            schema.insert(least.into(), length.into());
        }
        if let Some(length) = self.max_length {
            schema.insert(most.into(), length.into());
        }
        let mut patterns = self.patterns.iter().map(|pattern| Value::from(pattern.text.clone()));
        if !schema.contains_key("pattern")
            && let Some(first) = patterns.next()
        {
            schema.insert("pattern".into(), first);
        }
        let others: Vec<Value> = patterns.map(|pattern| serde_json::json!({ "pattern": pattern })).collect();
        if !others.is_empty() {
            schema.insert("allOf".into(), others.into());
        }
        if let Some(ty) = &self.json_type {
            schema.insert("type".into(), ty.clone().into());
        }
        if let Some(integers) = &self.integers {
            schema.insert("enum".into(), integers.clone().into());
        }
    }

    /// What is to be said in words.
    pub(super) fn note(&self) -> Option<String> {
        let checks: Vec<_> = self.unsaid.iter().map(|unsaid| unsaid.definition.as_str()).collect();
        (!checks.is_empty()).then(|| format!("Must fulfil {}.", checks.join(" and ")))
    }

    /// What a value is that is not allowed: "must be at least 1". Arrays' lengths are for [`Limits::check_length`].
    pub(super) fn check(&self, value: &Json) -> Result<(), String> {
        match value {
            Json::Number(number) => self.check_number(number),
            Json::String(text) => {
                self.check_length(text.chars().count(), "characters")?;
                match self.patterns.iter().find(|pattern| !pattern.regex.is_match(text)) {
                    Some(pattern) => Err(format!("must match {}", pattern.text)),
                    None => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    fn check_number(&self, number: &Number) -> Result<(), String> {
        if let Some(bound) = &self.minimum {
            let order = number.compare(&bound.at);
            if order.is_lt() || bound.exclusive && order.is_eq() {
                let words = if bound.exclusive { "greater than" } else { "at least" };
                return Err(format!("must be {words} {}", bound.at));
            }
        }
        if let Some(bound) = &self.maximum {
            let order = number.compare(&bound.at);
            if order.is_gt() || bound.exclusive && order.is_eq() {
                let words = if bound.exclusive { "less than" } else { "at most" };
                return Err(format!("must be {words} {}", bound.at));
            }
        }
        match (&self.integers, number) {
            (Some(integers), Number::Integer(number)) if !integers.contains(number) => {
                let integers: Vec<_> = integers.iter().map(i64::to_string).collect();
                Err(format!("must be one of {}, not {number}", integers.join(", ")))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn check_length(&self, length: usize, of: &str) -> Result<(), String> {
        if let Some(least) = self.min_length.filter(|least| length < *least as usize) {
            return Err(format!("must have at least {least} {of}, not {length}"));
        }
        if let Some(most) = self.max_length.filter(|most| length > *most as usize) {
            return Err(format!("must have at most {most} {of}, not {length}"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn bounds_that_doubles_can_tell() {
        for text in
            ["0", "-5", "9223372036854775807", "0.1", "-99999999.99", "1e28", "1000000000000000000000"]
        {
            assert!(Bound::read(text, false).is_some(), "{text}");
        }
        for text in ["NaN", "Infinity", "0.12345678901234567", "99999999999999999999.9", "1e999", ""] {
            assert!(Bound::read(text, false).is_none(), "{text}");
        }
        let integer = |text, exclusive, lower| Bound::read(text, exclusive).unwrap().as_integer(lower);
        assert_eq!(integer("0", true, true), 1);
        assert_eq!(integer("0", false, true), 0);
        assert_eq!(integer("10", true, false), 9);
        assert_eq!(integer("0.5", true, true), 1);
        assert_eq!(integer("-0.5", false, false), -1);
        assert_eq!(integer("1e30", false, false), i64::MAX);
    }

    #[test]
    fn the_tighter_bound_holds() {
        let bound = |text, exclusive| Bound::read(text, exclusive).unwrap();
        let mut limits = Limits::default();
        limits.raise_minimum(bound("0", false));
        limits.raise_minimum(bound("-1", false));
        assert_eq!(limits.minimum, Some(bound("0", false)));
        limits.raise_minimum(bound("0", true));
        limits.raise_minimum(bound("0", false));
        assert_eq!(limits.minimum, Some(bound("0", true)));
        limits.lower_maximum(bound("10", false));
        limits.lower_maximum(bound("9.5", false));
        limits.lower_maximum(bound("11", true));
        assert_eq!(limits.maximum, Some(bound("9.5", false)));
        [2, 3, 1].into_iter().for_each(|length| limits.raise_min_length(length));
        [8, 7, 9].into_iter().for_each(|length| limits.lower_max_length(length));
        assert_eq!((limits.min_length, limits.max_length), (Some(3), Some(7)));
    }
}
