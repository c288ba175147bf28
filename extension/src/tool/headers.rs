//! Arguments that a client repeats in HTTP headers, for proxies that route by them (`x-mcp-header`).
//!
//! Whoever exposes the tool marks them in its input schema. What the header says and what the argument is must agree:
//! otherwise a proxy would have let pass one thing and the tool would do another.

use super::json::Json;
use super::schema::Misfit;
use serde_json::Value;
use std::collections::HashMap;

/// An argument with the header it is repeated in: `Mcp-Param-` and this name.
#[derive(Debug, PartialEq)]
pub(super) struct HeaderParameter {
    pub(super) header: String,
    /// Where the argument stands: its name, and the names below it where it is an object.
    pub(super) path: Vec<String>,
}

/// The arguments that a schema marks.
pub(super) fn parameters(schema: &Value) -> Result<Vec<HeaderParameter>, Misfit> {
    let mut found = Vec::new();
    collect(schema, &mut Vec::new(), &mut found)?;
    for (at, parameter) in found.iter().enumerate() {
        if found[..at].iter().any(|other| other.header.eq_ignore_ascii_case(&parameter.header)) {
            return Err(Misfit::HeaderTwice(parameter.header.clone()));
        }
    }
    Ok(found)
}

fn collect(schema: &Value, path: &mut Vec<String>, found: &mut Vec<HeaderParameter>) -> Result<(), Misfit> {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return Ok(()) };
    for (name, property) in properties {
        path.push(name.clone());
        if let Some(header) = property.get("x-mcp-header") {
            let header = header.as_str().filter(|header| is_token(header));
            let header = header.ok_or_else(|| Misfit::HeaderName(name.clone()))?;
            if !matches!(property.get("type").and_then(Value::as_str), Some("string" | "integer" | "boolean"))
            {
                return Err(Misfit::HeaderType(name.clone()));
            }
            found.push(HeaderParameter { header: header.to_owned(), path: path.clone() });
        }
        collect(property, path, found)?;
        path.pop();
    }
    Ok(())
}

/// RFC 9110 §5.6.2.
fn is_token(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(allowed)
}

/// What is wrong with the headers of a call. `given`: by header name in lower case, without its prefix.
pub(super) fn check(
    parameters: &[HeaderParameter],
    given: &HashMap<String, String>,
    arguments: &Json,
) -> Result<(), String> {
    for HeaderParameter { header, path } in parameters {
        let argument = path.iter().try_fold(arguments, |json, name| match json {
            Json::Object(members) => {
                members.iter().find(|(member, _)| member == name).map(|(_, value)| value)
            }
            _ => None,
        });
        let argument = argument.filter(|argument| **argument != Json::Null);
        match (argument, given.get(&header.to_ascii_lowercase())) {
            (None, None) => {}
            (None, Some(_)) => {
                return Err(format!("Mcp-Param-{header} is there, but argument {path:?} is not"));
            }
            (Some(_), None) => {
                return Err(format!("Mcp-Param-{header} is missing beside argument {path:?}"));
            }
            (Some(argument), Some(value)) => {
                if !argument.is_header(value) {
                    return Err(format!("Mcp-Param-{header} is not what argument {path:?} is"));
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod unit {
    use super::*;
    use serde_json::json;

    #[test]
    fn schemas_mark_arguments() {
        let mark = |schema: Value| parameters(&schema);
        let found = mark(json!({"properties": {
            "region": {"type": "string", "x-mcp-header": "Region"},
            "where": {"type": "object", "properties": {"zone": {"type": "integer", "x-mcp-header": "Zone"}}},
            "other": {"type": "string"},
        }}));
        let parameter = |header: &str, path: &[&str]| HeaderParameter {
            header: header.into(),
            path: path.iter().map(|name| (*name).to_owned()).collect(),
        };
        assert_eq!(found, Ok(vec![parameter("Region", &["region"]), parameter("Zone", &["where", "zone"])]));
        let one = |kind: &str, header: Value| {
            mark(json!({"properties": {"a": {"type": kind, "x-mcp-header": header}}}))
        };
        assert_eq!(one("string", json!("Tenant-Id_7")), Ok(vec![parameter("Tenant-Id_7", &["a"])]));
        assert_eq!(one("boolean", json!("Loud")), Ok(vec![parameter("Loud", &["a"])]));
        assert_eq!(one("string", json!("")), Err(Misfit::HeaderName("a".into())));
        assert_eq!(one("string", json!("A B")), Err(Misfit::HeaderName("a".into())));
        assert_eq!(one("string", json!(7)), Err(Misfit::HeaderName("a".into())));
        assert_eq!(one("number", json!("A")), Err(Misfit::HeaderType("a".into())));
        let twice = mark(json!({"properties": {
            "a": {"type": "string", "x-mcp-header": "X"},
            "b": {"type": "string", "x-mcp-header": "x"},
        }}));
        assert_eq!(twice, Err(Misfit::HeaderTwice("x".into())));
    }

    #[test]
    fn headers_and_arguments_agree() {
        use crate::tool::json::Number;
        let parameters = [HeaderParameter { header: "Region".into(), path: vec!["region".into()] }];
        let check = |argument: Option<Json>, header: Option<&str>| {
            let arguments =
                Json::Object(argument.map(|value| ("region".to_owned(), value)).into_iter().collect());
            let given = header.map(|value| ("region".to_owned(), value.to_owned())).into_iter().collect();
            super::check(&parameters, &given, &arguments).is_ok()
        };
        let text = || Some(Json::String("eu".into()));
        assert!(check(None, None) && check(Some(Json::Null), None) && check(text(), Some("eu")));
        assert!(!check(text(), None) && !check(None, Some("eu")) && !check(text(), Some("EU")));
        let number = || Some(Json::Number(Number::Integer(7)));
        assert!(check(number(), Some("7")) && check(number(), Some("7.0")) && !check(number(), Some("8")));
        for odd in ["+7", "007", "7.", "7.5", ".0", "-7", "7.0x", " 7", "7e0"] {
            assert!(!check(number(), Some(odd)), "{odd:?}");
        }
        let flag = || Some(Json::Boolean(true));
        assert!(check(flag(), Some("true")) && !check(flag(), Some("1")) && !check(flag(), Some("false")));
    }
}
