//! Results: what the extension answers, in the shape of the revision that asked.

use std::{borrow::Cow, collections::BTreeMap, sync::LazyLock};

use serde_json::{Map, Value, json, value::RawValue};

use crate::mcp::era::Era;

/// What this server calls itself.
pub const NAME: &str = "mcp-sessions";
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

const SERVER_INFO_KEY: &str = "io.modelcontextprotocol/serverInfo";

static PRIVATE: LazyLock<Box<RawValue>> = LazyLock::new(|| raw(&json!("private")));
static INPUT_REQUIRED: LazyLock<Box<RawValue>> = LazyLock::new(|| raw(&json!("input_required")));
static NOW: LazyLock<Box<RawValue>> = LazyLock::new(|| raw(&json!(0)));
static COMPLETE: LazyLock<Box<RawValue>> = LazyLock::new(|| raw(&json!("complete")));
static SERVER_META: LazyLock<Box<RawValue>> = LazyLock::new(|| raw(&Value::Object(server_meta())));

/// A result by its members, each as it came.
pub type Members<'a> = BTreeMap<Cow<'a, str>, Cow<'a, RawValue>>;

/// `_meta` with `serverInfo`: it goes with every result of the revisions that have no `initialize` to say it in.
pub fn server_meta() -> Map<String, Value> {
    let server = json!({"name": NAME, "version": VERSION});
    Map::from_iter([(SERVER_INFO_KEY.to_owned(), server)])
}

/// Adds what a revision asks for and takes out what it does not know.
pub fn shape(result: &RawValue, era: Era) -> Result<Members<'_>, serde_json::Error> {
    let members: BTreeMap<Cow<'_, str>, &RawValue> = serde_json::from_str(result.get())?;
    let mut members: Members<'_> =
        members.into_iter().map(|(name, value)| (name, Cow::Borrowed(value))).collect();
    match era {
        Era::Modern => {
            members.entry("resultType".into()).or_insert(Cow::Borrowed(&COMPLETE));
            let meta = match members.get("_meta") {
                None => Cow::Borrowed(&**SERVER_META),
                Some(theirs) => {
                    let mut meta: Map<String, Value> = serde_json::from_str(theirs.get())?;
                    meta.extend(server_meta());
                    Cow::Owned(raw(&Value::Object(meta)))
                }
            };
            members.insert("_meta".into(), meta);
        }
        Era::Legacy => {
            members.remove("resultType");
            // Before 2026-07-28 structured content is an object.
            if members.get("structuredContent").is_some_and(|content| !content.get().starts_with('{')) {
                members.remove("structuredContent");
            }
        }
    }
    Ok(members)
}

/// The hints on what a client may keep: nothing, for nobody else. What is read depends on who reads it.
pub fn private(members: &mut Members<'_>, era: Era) {
    if era == Era::Modern {
        members.insert("ttlMs".into(), Cow::Borrowed(&NOW));
        members.insert("cacheScope".into(), Cow::Borrowed(&PRIVATE));
    }
}

/// A verdict with questions, as the result that carries them.
pub fn questions(verdict: &RawValue) -> Result<Members<'_>, serde_json::Error> {
    let mut members = shape(verdict, Era::Modern)?;
    members.remove("status");
    members.insert("resultType".into(), Cow::Borrowed(&INPUT_REQUIRED));
    Ok(members)
}

/// The result of a call whose arguments PostgreSQL cannot hold.
pub fn unusable(why: &str, era: Era) -> Members<'static> {
    let text = format!("The arguments cannot be stored: {why}.");
    let mut members: Members<'static> = BTreeMap::from([
        ("content".into(), Cow::Owned(raw(&json!([{"type": "text", "text": text}])))),
        ("isError".into(), Cow::Owned(raw(&json!(true)))),
    ]);
    if era == Era::Modern {
        members.insert("resultType".into(), Cow::Borrowed(&COMPLETE));
        members.insert("_meta".into(), Cow::Borrowed(&SERVER_META));
    }
    members
}

fn raw(value: &Value) -> Box<RawValue> {
    serde_json::value::to_raw_value(value).expect("a value whose keys are texts")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shaped(result: &str, era: Era) -> String {
        let result = RawValue::from_string(result.to_owned()).unwrap();
        serde_json::to_string(&shape(&result, era).unwrap()).unwrap()
    }

    #[test]
    fn a_modern_result_says_that_it_is_complete_and_whose_it_is() {
        let plain: Value = serde_json::from_str(&shaped(r#"{"content":[]}"#, Era::Modern)).unwrap();
        assert_eq!(plain["resultType"], "complete");
        assert_eq!(plain["_meta"][SERVER_INFO_KEY]["name"], NAME);
        let full = r#"{"content":[],"resultType":"input_required","_meta":{"trace":1,
            "io.modelcontextprotocol/serverInfo":{"name":"another"}}}"#;
        let full: Value = serde_json::from_str(&shaped(full, Era::Modern)).unwrap();
        assert_eq!(full["resultType"], "input_required");
        assert_eq!(
            (&full["_meta"]["trace"], &full["_meta"][SERVER_INFO_KEY]["name"]),
            (&json!(1), &json!(NAME))
        );
    }

    #[test]
    fn questions_carry_nothing_of_the_verdict() {
        let verdict =
            RawValue::from_string(r#"{"status":"input_required","inputRequests":{}}"#.into()).unwrap();
        let members = questions(&verdict).unwrap();
        assert_eq!(members.keys().collect::<Vec<_>>(), ["_meta", "inputRequests", "resultType"]);
    }

    #[test]
    fn an_older_result_has_neither() {
        let result = r#"{"content":[],"resultType":"complete","structuredContent":[1]}"#;
        assert_eq!(shaped(result, Era::Legacy), r#"{"content":[]}"#);
        let result = r#"{"content":[],"structuredContent":{"rows":[1]}}"#;
        assert_eq!(shaped(result, Era::Legacy), result);
    }

    #[test]
    fn numbers_keep_their_digits() {
        let result = r#"{"content":[],"structuredContent":{"n":12345678901234567890.123456789}}"#;
        for era in [Era::Legacy, Era::Modern] {
            assert!(shaped(result, era).contains("12345678901234567890.123456789"));
        }
    }
}
