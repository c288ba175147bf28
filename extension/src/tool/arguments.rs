//! Checking a call's arguments against the function's signature.
//!
//! What passes here can still be refused by a type's own input function: that a date is one, that a domain's check
//! holds. Both answers name the argument.

use super::catalog::Argument;
use super::json::{Json, Number};
use super::types::{Field, Kind, Type};
use std::fmt::Write;

/// Names that clients make up are quoted no longer than this.
const MAX_QUOTED: usize = 64;

/// Says what is wrong with the arguments of a call, in words for whoever made it.
pub(super) fn check(arguments: &[Argument], given: &Json) -> Result<(), String> {
    let Json::Object(given) = given else { return Err("the arguments must be a JSON object".to_owned()) };
    if let Some((name, _)) =
        given.iter().find(|(name, _)| !arguments.iter().any(|argument| &argument.name == name))
    {
        return Err(unknown("argument", name, arguments.iter().map(|argument| argument.name.as_str())));
    }
    let find =
        |argument: &Argument| given.iter().find(|(name, _)| name == &argument.name).map(|(_, value)| value);
    let missing = |argument: &&Argument| !argument.is_optional() && find(argument).is_none();
    let missing: Vec<_> = arguments.iter().filter(missing).map(|argument| argument.name.as_str()).collect();
    if !missing.is_empty() {
        let plural = if missing.len() > 1 { "s" } else { "" };
        return Err(format!("missing argument{plural} {}", list(missing.into_iter())));
    }
    for argument in arguments {
        match find(argument) {
            None => {}
            Some(Json::Null) if argument.nullable => {}
            Some(value) => check_value(&argument.ty, value, &mut argument.name.clone())?,
        }
    }
    Ok(())
}

/// `path` says where the value stands, and is the same again on return.
fn check_value(ty: &Type, value: &Json, path: &mut String) -> Result<(), String> {
    let wrong =
        |path: &str| Err(format!("argument {path:?} must be {}, not {}", ty.kind.expected(), value.name()));
    let limits = &ty.limits;
    let within = |path: &str| limits.check(value).map_err(|wrong| format!("argument {path:?} {wrong}"));
    match (&ty.kind, value) {
        (Kind::Json, _) => match &limits.json_type {
            Some(ty) if !value.is_a(ty) => {
                let article = if ty.starts_with(['a', 'o']) { "an" } else { "a" };
                Err(format!("argument {path:?} must be {article} {ty}, not {}", value.name()))
            }
            _ => Ok(()),
        },
        (_, Json::Null) => wrong(path),
        (Kind::Boolean, Json::Boolean(_)) => Ok(()),
        (Kind::Number, Json::Number(_)) => within(path),
        (Kind::Integer { min, max }, Json::Number(number)) => match number {
            Number::Integer(number) if (min..=max).contains(&number) => within(path),
            Number::Integer(_) | Number::Huge(_) => {
                Err(format!("argument {path:?} must be between {min} and {max}"))
            }
            Number::Fraction(_) => Err(format!("argument {path:?} must be an integer, not a fraction")),
        },
        (Kind::Enum(labels), Json::String(label)) => {
            if labels.contains(label) {
                return within(path);
            }
            let labels = list(labels.iter().map(String::as_str));
            Err(format!("argument {path:?} must be one of {labels}, not {:?}", shorten(label)))
        }
        (Kind::Array { element, dimensions }, Json::Array(values)) => {
            limits
                .check_length(values.len(), "elements")
                .map_err(|wrong| format!("argument {path:?} {wrong}"))?;
            check_elements(element, *dimensions, values, path)
        }
        (Kind::Object(fields), Json::Object(members)) => {
            let length = path.len();
            for (name, value) in members {
                let Some(field) = fields.iter().find(|field| &field.name == name) else {
                    let known = fields.iter().map(|field| field.name.as_str());
                    return Err(format!("argument {path:?}: {}", unknown("field", name, known)));
                };
                path.push('.');
                path.push_str(name);
                check_nested(&field.ty, value, path)?;
                path.truncate(length);
            }
            let is_missing =
                |field: &&Field| field.ty.not_null && !members.iter().any(|(name, _)| name == &field.name);
            match fields.iter().find(is_missing) {
                Some(field) => Err(format!("argument {path:?}: missing field {:?}", field.name)),
                None => Ok(()),
            }
        }
        (Kind::Formatted(format), Json::String(text)) => {
            if format.is_match(text) {
                return within(path);
            }
            let like = format.example.map(|example| format!(" like {example:?}")).unwrap_or_default();
            Err(format!("argument {path:?} must be {}{like}, not {:?}", format.expected, shorten(text)))
        }
        (Kind::Text | Kind::Other { .. }, Json::String(_)) => within(path),
        _ => wrong(path),
    }
}

/// Checks the elements of an array, and of the arrays in it where it has more dimensions. Those must be of one length.
fn check_elements(element: &Type, dimensions: u32, values: &[Json], path: &mut String) -> Result<(), String> {
    let length = path.len();
    let mut first = None;
    for (at, value) in values.iter().enumerate() {
        let _ = write!(path, "[{at}]");
        if dimensions > 1 {
            let Json::Array(inner) = value else {
                return Err(format!("argument {path:?} must be an array, not {}", value.name()));
            };
            let wanted = *first.get_or_insert(inner.len());
            if inner.len() != wanted {
                return Err(format!(
                    "argument {path:?} must have {wanted} elements like the first, not {}",
                    inner.len()
                ));
            }
            check_elements(element, dimensions - 1, inner, path)?;
        } else {
            check_nested(element, value, path)?;
        }
        path.truncate(length);
    }
    Ok(())
}

/// Elements and fields may be null, unless their domain forbids it.
fn check_nested(ty: &Type, value: &Json, path: &mut String) -> Result<(), String> {
    if *value == Json::Null && !ty.not_null { Ok(()) } else { check_value(ty, value, path) }
}

fn unknown<'a>(what: &str, name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let known = list(known);
    if known.is_empty() {
        format!("unknown {what} {:?}: there are none", shorten(name))
    } else {
        format!("unknown {what} {:?}; known: {known}", shorten(name))
    }
}

fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ")
}

fn shorten(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_QUOTED)]
}

// In a server: comparing numbers is PostgreSQL's.
#[cfg(any(test, feature = "pg_test"))]
#[pgrx::pg_schema]
mod tests {
    use super::super::json::Exact;
    use super::super::limits::Limits;
    use super::*;
    use pgrx::prelude::*;
    use proptest::prelude::*;
    use proptest::test_runner::{Config, TestRunner};
    use std::rc::Rc;

    fn named(kind: Kind, not_null: bool) -> Type {
        Type { oid: 0, target: String::new(), kind, limits: Limits::default(), not_null, comment: None }
    }

    fn types() -> impl Strategy<Value = Type> {
        let leaf = prop_oneof![
            Just(Kind::Boolean),
            (any::<i16>(), any::<i16>())
                .prop_map(|(a, b)| Kind::Integer { min: a.min(b).into(), max: a.max(b).into() }),
            Just(Kind::Number),
            Just(Kind::Text),
            Just(Kind::Enum(vec!["a".into(), "b".into()])),
            Just(Kind::Json),
            Just(Kind::Other { foreign: false }),
        ];
        (leaf, any::<bool>()).prop_map(|(kind, not_null)| named(kind, not_null)).prop_recursive(
            3,
            8,
            3,
            |inner| {
                prop_oneof![
                    (inner.clone(), 1..=2_u32).prop_map(|(ty, dimensions)| {
                        named(Kind::Array { element: Rc::new(ty), dimensions }, false)
                    }),
                    prop::collection::vec(inner, 0..3).prop_map(|types| {
                        let fields = ["a", "b", "c"].into_iter().zip(types).map(|(name, ty)| {
                            super::super::types::Field { name: name.into(), ty: Rc::new(ty), comment: None }
                        });
                        named(Kind::Object(fields.collect()), false)
                    }),
                ]
            },
        )
    }

    fn json() -> impl Strategy<Value = Json> {
        let leaf = prop_oneof![
            Just(Json::Null),
            any::<bool>().prop_map(Json::Boolean),
            any::<i64>().prop_map(|number| Json::Number(Number::Integer(number))),
            any::<i8>().prop_map(|number| Json::Number(Number::Integer(number.into()))),
            Just(Json::Number(Number::Huge(Exact::UNREAD))),
            Just(Json::Number(Number::Fraction(Exact::UNREAD))),
            prop_oneof![Just("a".to_owned()), any::<String>()].prop_map(Json::String),
            Just(Json::Deep),
        ];
        leaf.prop_recursive(3, 12, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Json::Array),
                prop::collection::btree_map(prop_oneof!["[a-d]", ".{0,80}"], inner, 0..4)
                    .prop_map(|members| Json::Object(members.into_iter().collect())),
            ]
        })
    }

    /// The same judgement in one line a type.
    fn fits(ty: &Type, value: &Json, nullable: bool) -> bool {
        match (&ty.kind, value) {
            (_, Json::Null) if nullable => true,
            (Kind::Json, _) => true,
            (Kind::Boolean, Json::Boolean(_)) | (Kind::Number, Json::Number(_)) => true,
            (Kind::Integer { min, max }, Json::Number(Number::Integer(n))) => n >= min && n <= max,
            (Kind::Enum(labels), Json::String(text)) => labels.contains(text),
            (Kind::Text | Kind::Other { .. }, Json::String(_)) => true,
            (Kind::Array { element, dimensions: 1 }, Json::Array(values)) => {
                values.iter().all(|value| fits(element, value, !element.not_null))
            }
            (Kind::Array { element, .. }, Json::Array(rows)) => {
                let length = |row: &Json| if let Json::Array(row) = row { Some(row.len()) } else { None };
                rows.iter().all(|row| match row {
                    Json::Array(values) => {
                        length(&rows[0]) == Some(values.len())
                            && values.iter().all(|value| fits(element, value, !element.not_null))
                    }
                    _ => false,
                })
            }
            (Kind::Object(fields), Json::Object(members)) => {
                members.iter().all(|(name, value)| {
                    let field = fields.iter().find(|field| &field.name == name);
                    field.is_some_and(|field| fits(&field.ty, value, !field.ty.not_null))
                }) && fields
                    .iter()
                    .all(|field| !field.ty.not_null || members.iter().any(|(name, _)| name == &field.name))
            }
            _ => false,
        }
    }

    #[pg_test]
    fn what_passes_fits_the_signature() {
        let signature = prop::collection::vec((types(), any::<bool>(), any::<bool>()), 0..4);
        let config = Config { failure_persistence: None, ..Config::default() };
        let tried = TestRunner::new(config).run(&(signature, json()), |(signature, given)| {
            let arguments: Vec<Argument> = ["a", "b", "c", "d"]
                .into_iter()
                .zip(signature)
                .map(|(name, (ty, optional, nullable))| Argument {
                    name: name.into(),
                    ty: Rc::new(ty),
                    default: optional.then_some(0),
                    default_value: None,
                    variadic: false,
                    nullable,
                })
                .collect();
            let expected = match &given {
                Json::Object(members) => {
                    members.iter().all(|(name, value)| {
                        let argument = arguments.iter().find(|argument| &argument.name == name);
                        argument.is_some_and(|argument| fits(&argument.ty, value, argument.nullable))
                    }) && arguments.iter().all(|argument| {
                        argument.is_optional() || members.iter().any(|(name, _)| name == &argument.name)
                    })
                }
                _ => false,
            };
            let checked = check(&arguments, &given);
            prop_assert_eq!(checked.is_ok(), expected, "{:?}", checked);
            if let Err(told) = checked {
                // Names and labels that a client makes up are cut.
                prop_assert!(told.len() < 2000, "{}", told);
            }
            Ok(())
        });
        if let Err(failure) = tried {
            panic!("{failure}");
        }
    }
}
