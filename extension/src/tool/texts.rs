//! Arguments that come as texts, as those of prompts and of URIs do.

use super::catalog::Argument;
use super::result::quote;
use super::types::Kind;
use crate::jsonb::Jsonb;
use serde_json::value::RawValue;
use std::ffi::CString;

/// The arguments as the JSON that the function's types are checked and bound from.
pub(super) fn arguments<'a>(
    takes: &[Argument],
    given: impl Iterator<Item = (&'a str, &'a str)>,
) -> Result<Jsonb, String> {
    let mut object = String::from("{");
    for (name, text) in given {
        if text.contains('\0') {
            return Err(format!(
                "argument {name:?} holds the character U+0000, which PostgreSQL cannot store"
            ));
        }
        if object.len() > 1 {
            object.push(',');
        }
        object.push_str(&quote(name));
        object.push(':');
        let argument = takes.iter().find(|argument| argument.name == name);
        object.push_str(&value(argument.map(|argument| &argument.ty.kind), text));
    }
    object.push('}');
    let object = CString::new(object).map_err(|_| "the arguments hold the character U+0000".to_owned())?;
    Ok(Jsonb::from_text(&object))
}

/// The text as JSON of the kind that is wanted, where it is that; else as a string, which the check then complains about.
fn value(kind: Option<&Kind>, text: &str) -> String {
    let json = || serde_json::from_str::<&RawValue>(text).ok().map(RawValue::get);
    let first = |wanted: fn(char) -> bool| json().filter(|json| json.starts_with(wanted));
    let read = match kind {
        Some(Kind::Boolean) => first(|first| matches!(first, 't' | 'f')),
        // Numbers that no type of PostgreSQL holds are left to the check as texts.
        Some(Kind::Integer { .. } | Kind::Number) => {
            first(|first| first == '-' || first.is_ascii_digit()).filter(|json| fits_numeric(json))
        }
        Some(Kind::Array { .. }) => first(|first| first == '['),
        Some(Kind::Object(_)) => first(|first| first == '{'),
        _ => None,
    };
    read.map_or_else(|| quote(text), str::to_owned)
}

/// Whether `numeric` takes a number: its exponent is what makes it long.
fn fits_numeric(number: &str) -> bool {
    let (digits, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    digits.len() <= 10_000 && exponent.parse::<i32>().is_ok_and(|exponent| exponent.abs() <= 10_000)
}

#[cfg(test)]
mod unit {
    use super::*;
    use crate::tool::limits::Limits;
    use crate::tool::types::Type;

    #[test]
    fn texts_become_what_is_wanted() {
        let integer = Kind::Integer { min: 0, max: 9 };
        let nines = "9".repeat(10_001);
        let element = Type {
            oid: 0,
            target: String::new(),
            kind: Kind::Text,
            limits: Limits::default(),
            not_null: false,
            comment: None,
        };
        let array = Kind::Array { element: element.into(), dimensions: 1 };
        for (kind, text, expected) in [
            (Kind::Text, "7", r#""7""#),
            (integer.clone(), "7", "7"),
            (integer.clone(), "-12.50", "-12.50"),
            (integer.clone(), "seven", r#""seven""#),
            (integer.clone(), "7 ", "7"),
            (Kind::Number, "1e99999999", r#""1e99999999""#),
            (Kind::Number, "1e10000", "1e10000"),
            (Kind::Number, "1e-10000", "1e-10000"),
            (Kind::Number, "1e10001", r#""1e10001""#),
            (Kind::Number, "1e-10001", r#""1e-10001""#),
            (Kind::Number, &nines[1..], &nines[1..]),
            (Kind::Number, &nines, &format!("{nines:?}")),
            (Kind::Number, "[1]", r#""[1]""#),
            (Kind::Boolean, "true", "true"),
            (Kind::Boolean, "false", "false"),
            (Kind::Boolean, "yes", r#""yes""#),
            (Kind::Json, "{}", r#""{}""#),
            (Kind::Object(Vec::new()), r#"{"a":1}"#, r#"{"a":1}"#),
            (Kind::Object(Vec::new()), "[1]", r#""[1]""#),
            (array.clone(), "[1]", "[1]"),
            (array.clone(), "{}", r#""{}""#),
            (array.clone(), "7", r#""7""#),
            (array, "x", r#""x""#),
            (Kind::Other { foreign: false }, "a\"b", r#""a\"b""#),
        ] {
            assert_eq!(value(Some(&kind), text), expected, "{kind:?} {text}");
        }
        assert_eq!(value(None, "x"), r#""x""#);
    }
}

#[cfg(any(test, feature = "pg_test"))]
#[pgrx::pg_schema]
mod tests {
    use super::arguments;
    use pgrx::prelude::*;

    #[pg_test]
    fn a_text_that_postgresql_cannot_store_is_refused_in_words() {
        let taken = |text| arguments(&[], [("a", "b"), ("c", text)].into_iter()).map(|taken| taken.to_text());
        assert_eq!(taken("d").as_deref(), Ok(r#"{"a": "b", "c": "d"}"#));
        let words = r#"argument "c" holds the character U+0000, which PostgreSQL cannot store"#;
        assert_eq!(taken("d\0").unwrap_err(), words);
    }
}
