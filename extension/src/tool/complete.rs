//! Complete results: what a function says of itself to be a `CallToolResult`.
//!
//! The domain has checked the outline. A block that is none would pass the server and break the client, which says nothing
//! that the tool's owner would hear of.

use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::HashMap;

type Members<'a> = HashMap<Cow<'a, str>, &'a RawValue>;

#[derive(Deserialize)]
struct Complete<'a> {
    #[serde(borrow, default)]
    content: Vec<&'a RawValue>,
    #[serde(borrow, rename = "_meta")]
    meta: Option<&'a RawValue>,
    #[serde(borrow, rename = "resultType")]
    result_type: Option<&'a RawValue>,
}

/// What is wrong with a complete result.
pub(super) fn check(result: &str) -> Result<(), String> {
    // Its text was made by the server of jsonb: what cannot be read was no array.
    let complete: Complete<'_> =
        serde_json::from_str(result).map_err(|_| "\"content\" must be an array".to_owned())?;
    // Whoever answers adds to these two.
    if complete.meta.is_some_and(|meta| serde_json::from_str::<serde_json::Map<_, _>>(meta.get()).is_err()) {
        return Err("\"_meta\" must be an object".to_owned());
    }
    if complete.result_type.is_some_and(|ty| ty.get() != "\"complete\"") {
        return Err("\"resultType\" must be \"complete\", or left out".to_owned());
    }
    let mut blocks = complete.content.iter().enumerate();
    blocks.try_for_each(|(at, block)| check_block(block).map_err(|wrong| format!("content[{at}] {wrong}")))
}

fn check_block(block: &RawValue) -> Result<(), String> {
    let block = members(block).ok_or("must be an object")?;
    let ty = block.get("type").and_then(|ty| serde_json::from_str::<String>(ty.get()).ok());
    match ty.as_deref() {
        Some("text") => string(&block, "text")?,
        Some("image" | "audio") => {
            base64(&block, "data")?;
            string(&block, "mimeType")?;
        }
        Some("resource_link") => {
            string(&block, "uri")?;
            string(&block, "name")?;
            optional(&block, &["title", "description", "mimeType"])?;
        }
        Some("resource") => {
            let resource = block.get("resource").and_then(|resource| members(resource));
            let resource = resource.ok_or("must have \"resource\", an object")?;
            check_resource(&resource).map_err(|wrong| format!("has a resource that {wrong}"))?;
        }
        Some(other) => {
            return Err(format!(
                "has the type {other:?}; MCP knows \"text\", \"image\", \"audio\", \"resource\" and \"resource_link\""
            ));
        }
        None => return Err("must have \"type\", a string".to_owned()),
    }
    match block.get("annotations") {
        Some(annotations) if members(annotations).is_none() => {
            Err("has \"annotations\" that are no object".to_owned())
        }
        _ => Ok(()),
    }
}

fn check_resource(resource: &Members<'_>) -> Result<(), String> {
    string(resource, "uri")?;
    optional(resource, &["mimeType"])?;
    match (resource.contains_key("text"), resource.contains_key("blob")) {
        (true, false) => string(resource, "text"),
        (false, true) => base64(resource, "blob"),
        _ => Err("must have either \"text\" or \"blob\"".to_owned()),
    }
}

fn members(value: &RawValue) -> Option<Members<'_>> {
    serde_json::from_str(value.get()).ok()
}

fn is_string(value: &RawValue) -> bool {
    value.get().starts_with('"')
}

fn string(members: &Members<'_>, name: &str) -> Result<(), String> {
    match members.get(name) {
        Some(value) if is_string(value) => Ok(()),
        _ => Err(format!("must have {name:?}, a string")),
    }
}

fn optional(members: &Members<'_>, names: &[&str]) -> Result<(), String> {
    match names.iter().find(|name| members.get(**name).is_some_and(|value| !is_string(value))) {
        Some(name) => Err(format!("has {name:?}, which must be a string")),
        None => Ok(()),
    }
}

/// Clients decode strictly, and `encode()` breaks lines.
fn base64(members: &Members<'_>, name: &str) -> Result<(), String> {
    string(members, name)?;
    let quoted = members.get(name).map(|value| value.get()).unwrap_or_default();
    let text = quoted.trim_matches('"');
    let digits = text.trim_end_matches('=');
    let is_digit = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    if text.len().is_multiple_of(4) && text.len() - digits.len() <= 2 && digits.bytes().all(is_digit) {
        Ok(())
    } else {
        Err(format!(
            "must have {name:?} in base64 without line breaks, as translate(encode(…, 'base64'), E'\\n', '') makes it"
        ))
    }
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn blocks_of_every_kind() {
        for block in [
            r#"{"type":"text","text":""}"#,
            r#"{"type":"text","text":"a","annotations":{"priority":1},"_meta":{}}"#,
            r#"{"type":"image","data":"AAEC","mimeType":"image/png"}"#,
            r#"{"type":"image","data":"+/+/","mimeType":"image/png"}"#,
            r#"{"type":"audio","data":"AAE=","mimeType":"audio/wav"}"#,
            r#"{"type":"resource_link","uri":"a://b","name":"b","size":1e999}"#,
            r#"{"type":"resource","resource":{"uri":"a://b","text":"t"}}"#,
            r#"{"type":"resource","resource":{"uri":"a://b","blob":"","mimeType":"x/y"}}"#,
        ] {
            assert_eq!(check(&format!("{{\"content\":[{block}]}}")), Ok(()), "{block}");
        }
        assert_eq!(check(r#"{"structuredContent":{"a":1e999}}"#), Ok(()));
        assert_eq!(check(r#"{"content":[],"resultType":"complete"}"#), Ok(()));
        for (result, words) in [
            (r#"{"content":[],"_meta":5}"#, "\"_meta\" must be an object"),
            (r#"{"content":[],"resultType":"input_required"}"#, "\"resultType\" must be"),
        ] {
            assert!(check(result).unwrap_err().contains(words), "{result}");
        }
        for (block, words) in [
            ("1", "content[0] must be an object"),
            ("{}", r#"content[0] must have "type", a string"#),
            (r#"{"type":"video"}"#, r#"content[0] has the type "video""#),
            (r#"{"type":"text"}"#, r#"content[0] must have "text", a string"#),
            (r#"{"type":"text","text":1}"#, r#"content[0] must have "text", a string"#),
            (r#"{"type":"text","text":"","annotations":[]}"#, "annotations"),
            (r#"{"type":"image","data":"AAEC"}"#, r#"must have "mimeType""#),
            (r#"{"type":"image","data":"AA\nEC","mimeType":"image/png"}"#, "without line breaks"),
            (r#"{"type":"image","data":"AA\n","mimeType":"image/png"}"#, "without line breaks"),
            (r#"{"type":"audio","data":"AAE","mimeType":"audio/wav"}"#, "in base64"),
            (r#"{"type":"audio","data":"A===","mimeType":"audio/wav"}"#, "in base64"),
            (r#"{"type":"resource_link","uri":"a://b"}"#, r#"must have "name""#),
            (
                r#"{"type":"resource_link","uri":"a://b","name":"b","title":1}"#,
                r#"has "title", which must be"#,
            ),
            (r#"{"type":"resource"}"#, r#"must have "resource""#),
            (r#"{"type":"resource","resource":{"uri":"a"}}"#, r#"either "text" or "blob""#),
            (r#"{"type":"resource","resource":{"text":"a"}}"#, r#"has a resource that must have "uri""#),
            (r#"{"type":"resource","resource":{"uri":"a","text":1}}"#, r#"must have "text", a string"#),
            (r#"{"type":"resource","resource":{"uri":"a","blob":"AAE"}}"#, "in base64"),
            (
                r#"{"type":"resource","resource":{"uri":"a","text":"","mimeType":1}}"#,
                r#"has "mimeType", which must be"#,
            ),
        ] {
            let wrong = check(&format!("{{\"content\":[{block}]}}")).unwrap_err();
            assert!(wrong.contains(words), "{block}: {wrong}");
        }
    }
}
