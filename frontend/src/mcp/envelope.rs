//! The JSON-RPC 2.0 envelope of a POST: which kind of message it is, without building what it carries.

use std::{borrow::Cow, collections::BTreeMap};

use serde::{Deserialize, Deserializer};
use serde_json::{error::Category, value::RawValue};

/// JSON-RPC's own error codes.
pub const PARSE_ERROR: i32 = -32700;
pub const INVALID_REQUEST: i32 = -32600;
pub const METHOD_NOT_FOUND: i32 = -32601;
pub const INVALID_PARAMS: i32 = -32602;
pub const INTERNAL_ERROR: i32 = -32603;

/// A body, borrowed from its bytes.
#[derive(Debug)]
pub enum Payload<'a> {
    One(Message<'a>),
    /// Revision 2025-03-26 alone has batches.
    Batch(Vec<&'a RawValue>),
}

/// One message.
#[derive(Debug)]
pub struct Message<'a> {
    pub kind: Kind<'a>,
    pub params: Params<'a>,
    /// The message as it came.
    pub text: &'a [u8],
}

#[derive(Debug)]
pub enum Kind<'a> {
    Request {
        id: &'a RawValue,
        method: Cow<'a, str>,
    },
    Notification {
        method: Cow<'a, str>,
    },
    /// The client's answer to a request of the server.
    Response,
}

/// `params` by name, each value as it came; empty where there are none.
pub type Params<'a> = BTreeMap<Cow<'a, str>, &'a RawValue>;

/// A body that is no message.
#[derive(Debug)]
pub struct Malformed<'a> {
    pub code: i32,
    pub message: &'static str,
    /// The id to answer to, where one can be read.
    pub id: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Raw<'a> {
    #[serde(borrow)]
    jsonrpc: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "present")]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    method: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "present")]
    params: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    result: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    error: Option<&'a RawValue>,
}

/// Tells `null` from absent.
fn present<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

impl<'a> Payload<'a> {
    pub fn parse(body: &'a [u8]) -> Result<Self, Malformed<'a>> {
        if body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[') {
            let messages: Vec<&RawValue> = serde_json::from_slice(body).map_err(|error| malformed(&error))?;
            return Ok(Self::Batch(messages));
        }
        Message::parse(body).map(Self::One)
    }
}

impl<'a> Message<'a> {
    pub fn parse(text: &'a [u8]) -> Result<Self, Malformed<'a>> {
        let raw: Raw<'a> = serde_json::from_slice(text).map_err(|error| malformed(&error))?;
        let id = raw.id.filter(|id| is_id(id));
        let invalid = |message| Malformed { id, ..invalid(message) };
        if raw.jsonrpc.as_deref() != Some("2.0") {
            return Err(invalid("jsonrpc must be \"2.0\""));
        }
        let answered = raw.result.is_some() || raw.error.is_some();
        let kind = match (raw.method, raw.id) {
            (Some(_), _) if answered => {
                return Err(invalid("a message is a request or a response, not both"));
            }
            (Some(method), Some(_)) => {
                let id = id.ok_or_else(|| invalid("id must be a string or an integer"))?;
                Kind::Request { id, method }
            }
            (Some(method), None) => Kind::Notification { method },
            (None, _) if answered => Kind::Response,
            (None, _) => return Err(invalid("method is missing")),
        };
        let params = match raw.params {
            None => Params::new(),
            Some(params) => {
                serde_json::from_str(params.get()).map_err(|_| invalid("params must be an object"))?
            }
        };
        Ok(Self { kind, params, text })
    }

    /// The id to answer to, where there is one.
    pub fn id(&self) -> Option<&'a RawValue> {
        match self.kind {
            Kind::Request { id, .. } => Some(id),
            _ => None,
        }
    }
}

/// A parameter read as a type; `None` where it is absent or of another type.
pub fn read<'a, T: Deserialize<'a>>(params: &Params<'a>, name: &str) -> Option<T> {
    serde_json::from_str(params.get(name)?.get()).ok()
}

fn is_id(id: &RawValue) -> bool {
    id.get().starts_with('"') || id.get().parse::<i64>().is_ok()
}

fn invalid(message: &'static str) -> Malformed<'static> {
    Malformed { code: INVALID_REQUEST, message, id: None }
}

fn malformed(error: &serde_json::Error) -> Malformed<'static> {
    match error.classify() {
        Category::Data => invalid("the body is not a JSON-RPC message"),
        _ => Malformed { code: PARSE_ERROR, ..invalid("the body is not JSON") },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(body: &str) -> i32 {
        match Payload::parse(body.as_bytes()) {
            Err(malformed) => malformed.code,
            Ok(payload) => panic!("{body}: {payload:?}"),
        }
    }

    #[test]
    fn what_is_no_message_is_named() {
        for body in ["", "{", "nope", "{\"jsonrpc\":\"2.0\",}", "\u{feff}{}", "{\"a\":\"\\ud800\"", "[1,"] {
            assert_eq!(code(body), PARSE_ERROR, "{body}");
        }
        for body in [
            "{}",
            "1",
            "null",
            "\"text\"",
            r#"{"id":1,"method":"ping"}"#,
            r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":1}"#,
            r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":1.5,"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":[1],"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":9223372036854775808,"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":7}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":[]}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":"x"}"#,
            r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"ping","result":{}}"#,
        ] {
            assert_eq!(code(body), INVALID_REQUEST, "{body}");
        }
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(
            code(&format!(r#"{{"jsonrpc":"2.0","id":1,"method":"x","params":{deep}}}"#)),
            INVALID_REQUEST
        );
    }

    #[test]
    fn kinds_are_told_apart() {
        let kind = |body: &'static str| match Payload::parse(body.as_bytes()) {
            Ok(Payload::One(message)) => message.kind,
            other => panic!("{body}: {other:?}"),
        };
        let request = kind(r#" {"jsonrpc":"2.0","id":"a","method":"tools/call","params":{"name":"x"}}"#);
        assert!(
            matches!(request, Kind::Request { id, method } if id.get() == "\"a\"" && method == "tools/call")
        );
        assert!(matches!(kind(r#"{"jsonrpc":"2.0","method":"notifications/x"}"#), Kind::Notification { .. }));
        assert!(matches!(kind(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#), Kind::Response));
        assert!(matches!(
            kind(r#"{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":""}}"#),
            Kind::Response
        ));
        for blanks in ["", " ", "\r\n\t"] {
            let batch = format!(r#"{blanks}[{{"jsonrpc":"2.0","id":1,"method":"ping"}}]"#);
            let parsed = Payload::parse(batch.as_bytes());
            assert!(matches!(parsed, Ok(Payload::Batch(messages)) if messages.len() == 1), "{blanks:?}");
        }
    }

    #[test]
    fn parameters_keep_their_text() {
        let body = br#"{"jsonrpc":"2.0","id":1,"method":"tools/call",
                        "params":{"name":"x","arguments":{"n":1.00000000000000000001}}}"#;
        let Ok(Payload::One(message)) = Payload::parse(body) else { panic!() };
        assert_eq!(message.params["arguments"].get(), r#"{"n":1.00000000000000000001}"#);
        assert_eq!(read::<String>(&message.params, "name").as_deref(), Some("x"));
        assert_eq!(read::<u8>(&message.params, "name"), None);
        assert_eq!(read::<String>(&message.params, "absent"), None);
    }
}

#[cfg(test)]
mod property {
    use proptest::prelude::*;
    use serde_json::{Map, Value};

    use super::*;

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(any::<String>(), inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    /// An object with some of the envelope's members, right and wrong.
    fn envelope() -> impl Strategy<Value = Value> {
        let member = |name: &'static str, right: BoxedStrategy<Value>| {
            prop::option::weighted(0.8, prop_oneof![4 => right, 1 => json()])
                .prop_map(move |value| value.map(|value| (name.to_owned(), value)))
        };
        let object = prop::collection::btree_map("[a-z]{1,4}", json(), 0..3)
            .prop_map(|map| Value::Object(map.into_iter().collect::<Map<_, _>>()));
        (
            member("jsonrpc", Just(Value::from("2.0")).boxed()),
            member(
                "id",
                prop_oneof![any::<i64>().prop_map(Value::from), ".{0,4}".prop_map(Value::from)].boxed(),
            ),
            member("method", "[a-z/]{1,8}".prop_map(Value::from).boxed()),
            member("params", object.boxed()),
            prop::option::weighted(0.1, json())
                .prop_map(|value| value.map(|value| ("result".to_owned(), value))),
        )
            .prop_map(|(a, b, c, d, e)| [a, b, c, d, e].into_iter().flatten().collect::<Map<_, _>>().into())
    }

    /// The same judgement, made on the built value.
    fn expected(value: &Value) -> &'static str {
        let Value::Object(message) = value else { return "no message" };
        let answered = message.contains_key("result") || message.contains_key("error");
        if message.get("jsonrpc") != Some(&Value::from("2.0"))
            || message.get("params").is_some_and(|p| !p.is_object())
        {
            return "no message";
        }
        match (message.get("method"), message.get("id")) {
            (Some(Value::String(_)), _) if answered => "no message",
            (Some(Value::String(_)), Some(id)) if id.is_string() || id.is_i64() => "request",
            (Some(Value::String(_)), None) => "notification",
            (None | Some(Value::Null), _) if answered => "response",
            _ => "no message",
        }
    }

    fn found(body: &[u8]) -> &'static str {
        match Message::parse(body).map(|message| message.kind) {
            Ok(Kind::Request { .. }) => "request",
            Ok(Kind::Notification { .. }) => "notification",
            Ok(Kind::Response) => "response",
            Err(_) => "no message",
        }
    }

    proptest! {
        #[test]
        fn an_envelope_means_what_its_json_means(value in envelope()) {
            prop_assert_eq!(found(value.to_string().as_bytes()), expected(&value));
        }

        #[test]
        fn no_bytes_are_too_odd(body: Vec<u8>) {
            let parsed = Payload::parse(&body);
            prop_assert!(parsed.is_err() || serde_json::from_slice::<Value>(&body).is_ok());
        }

        #[test]
        fn no_json_is_too_odd(value in json()) {
            let body = value.to_string();
            match Payload::parse(body.as_bytes()) {
                Ok(Payload::Batch(messages)) => prop_assert_eq!(messages.len(), value.as_array().unwrap().len()),
                Ok(Payload::One(_)) => prop_assert!(value.is_object()),
                Err(malformed) => prop_assert_eq!(malformed.code, INVALID_REQUEST),
            }
        }
    }
}
