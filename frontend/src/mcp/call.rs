//! A request that runs a function, as it came, and what answers it.

use std::{borrow::Cow, collections::HashMap, sync::LazyLock};

use http::{Response, StatusCode};
use serde_json::{Value, json, value::RawValue};

use crate::{
    error::Fault,
    mcp::{
        envelope::{INTERNAL_ERROR, INVALID_PARAMS, Kind, Message, read},
        era::{CAPABILITIES_KEY, Era, HEADER_MISMATCH, LOG_LEVEL_KEY, Meta},
        result, rpc_error, rpc_result,
    },
    notices::Level,
    respond::Body,
    sessions::{Answer, Request, Target},
};

const MISSING_CAPABILITY: i32 = -32021;
/// What the revisions before 2026-07-28 have for a resource that is not there.
const RESOURCE_NOT_FOUND: i32 = -32002;

static NO_ARGUMENTS: LazyLock<Box<RawValue>> =
    LazyLock::new(|| serde_json::from_str("{}").expect("an empty object is JSON"));

/// What kind of function it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Tool,
    Resource,
    Prompt,
    Completion,
}

/// A request that runs a function.
#[derive(Debug)]
pub struct Call<'a> {
    pub era: Era,
    pub id: Option<Cow<'a, RawValue>>,
    what: What,
    /// The name of the tool or prompt, or the URI of the resource.
    name: String,
    parameters: HashMap<&'static str, Cow<'a, RawValue>>,
    headers: Option<HashMap<String, String>>,
    capabilities: Option<Value>,
    log_level: Option<String>,
    /// What to tell progress by, if the client wants to know.
    pub progress_token: Option<Value>,
}

impl<'a> Call<'a> {
    /// Reads a message that [`super::era::judge`] has found to be a call, with these headers and this `_meta`.
    pub fn of(
        message: &Message<'a>,
        era: Era,
        headers: Option<HashMap<String, String>>,
        mut meta: Meta,
    ) -> Self {
        let (what, name) = match &message.kind {
            Kind::Request { method, .. } => match method.as_ref() {
                "resources/read" => (What::Resource, "uri"),
                "prompts/get" => (What::Prompt, "name"),
                "completion/complete" => (What::Completion, ""),
                _ => (What::Tool, "name"),
            },
            _ => (What::Tool, "name"),
        };
        let mut wanted = vec!["arguments", "ref", "argument", "context"];
        let log_level = match era {
            // The revisions before tell a client what happens; there is nothing here to remember that it objected.
            Era::Legacy => Some("info".to_owned()),
            Era::Modern => {
                wanted.extend(["inputResponses", "requestState"]);
                meta.get(LOG_LEVEL_KEY).and_then(Value::as_str).map(ToOwned::to_owned)
            }
        };
        let parameter = |name: &'static str| Some((name, Cow::Borrowed(*message.params.get(name)?)));
        Self {
            era,
            id: message.id().map(Cow::Borrowed),
            what,
            name: read::<String>(&message.params, name).unwrap_or_default(),
            parameters: wanted.into_iter().filter_map(parameter).collect(),
            headers,
            capabilities: meta.remove(CAPABILITIES_KEY).filter(|_| era == Era::Modern),
            log_level,
            progress_token: meta.remove("progressToken").filter(|token| token.is_string() || token.is_i64()),
        }
    }

    /// The same, which may outlive its message.
    pub fn into_owned(self) -> Call<'static> {
        let owned = |value: Cow<'_, RawValue>| Cow::Owned(value.into_owned());
        Call {
            id: self.id.map(owned),
            parameters: self.parameters.into_iter().map(|(name, value)| (name, owned(value))).collect(),
            ..self
        }
    }

    /// The same without anything before its answer.
    pub fn unfollowed(self) -> Self {
        Self { progress_token: None, log_level: None, ..self }
    }

    fn parameter(&self, name: &str) -> Option<&RawValue> {
        self.parameters.get(name).map(|value| &**value)
    }

    /// What the extension is to call.
    pub fn target(&self) -> Target<'_> {
        let name = self.name.as_str();
        let arguments = self.parameter("arguments").unwrap_or(&NO_ARGUMENTS);
        match self.what {
            What::Tool => Target::Tool { name, arguments },
            What::Resource => Target::Resource { uri: name },
            What::Prompt => Target::Prompt { name, arguments },
            What::Completion => Target::Completion {
                reference: self.parameter("ref").unwrap_or(&NO_ARGUMENTS),
                argument: self.parameter("argument").unwrap_or(&NO_ARGUMENTS),
                context: self.parameter("context"),
            },
        }
    }

    /// What the extension is told beside.
    pub fn request(&self) -> Request<'_> {
        Request {
            progress: self.progress_token.is_some(),
            headers: self.headers.as_ref(),
            capabilities: self.capabilities.as_ref(),
            input_responses: self.parameter("inputResponses"),
            request_state: self.parameter("requestState"),
            log_level: self.log_level.as_deref(),
            notices: None,
        }
    }

    /// The least level of log messages that the client wants, where PostgreSQL has any of that level.
    pub fn level(&self) -> Option<Level> {
        Level::parse(self.log_level.as_deref()?)
    }

    /// Whether the client wants to hear anything of the call before its answer.
    pub fn is_followed(&self) -> bool {
        self.what != What::Completion && (self.progress_token.is_some() || self.level().is_some())
    }

    /// The answer for the client: one message of JSON.
    pub fn respond(&self, answer: &Answer) -> Result<Response<Body>, Fault> {
        let id = self.id.as_deref();
        let error = |status, code, message: &str, data| Ok(rpc_error(status, id, code, message, data));
        let invalid = |message: &str| error(StatusCode::OK, INVALID_PARAMS, message, None);
        match answer {
            Answer::Result(result) => {
                let mut result = result::shape(result, self.era).map_err(Fault::internal)?;
                if self.what == What::Resource {
                    result::private(&mut result, self.era);
                }
                Ok(rpc_result(id, &result))
            }
            Answer::InputRequired(verdict) => {
                Ok(rpc_result(id, &result::questions(verdict).map_err(Fault::internal)?))
            }
            Answer::MissingCapability(required) => {
                let data = json!({"requiredCapabilities": required});
                error(
                    StatusCode::BAD_REQUEST,
                    MISSING_CAPABILITY,
                    "Missing required client capability",
                    Some(data),
                )
            }
            Answer::HeaderMismatch(why) => {
                error(StatusCode::BAD_REQUEST, HEADER_MISMATCH, &format!("Header mismatch: {why}"), None)
            }
            Answer::Invalid(why) => invalid(why),
            Answer::Failed(why) => error(StatusCode::OK, INTERNAL_ERROR, why, None),
            Answer::Unknown => match self.what {
                What::Tool => invalid(&format!("Unknown tool: {}", self.name)),
                What::Prompt => invalid(&format!("Unknown prompt: {}", self.name)),
                What::Completion => invalid("Unknown prompt or resource template"),
                What::Resource => {
                    let code = if self.era == Era::Modern { INVALID_PARAMS } else { RESOURCE_NOT_FOUND };
                    error(StatusCode::OK, code, "Resource not found", Some(json!({"uri": self.name})))
                }
            },
            Answer::Unusable(why) if self.what == What::Tool => {
                Ok(rpc_result(id, &result::unusable(why, self.era)))
            }
            Answer::Unusable(why) => invalid(&format!("The arguments cannot be stored: {why}.")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp::envelope::Payload;

    #[test]
    fn what_came_goes_on_as_it_came() {
        let body = br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x","arguments":{"n":1e400},
            "inputResponses":{"a":1},"requestState":"s","_meta":{"progressToken":7,
            "io.modelcontextprotocol/clientCapabilities":{"elicitation":{}},"io.modelcontextprotocol/logLevel":"warning"}}}"#;
        let Ok(Payload::One(message)) = Payload::parse(body) else { panic!() };
        let meta = || read::<Meta>(&message.params, "_meta").unwrap();
        let call = Call::of(&message, Era::Modern, Some(HashMap::new()), meta());
        assert!(
            matches!(call.target(), Target::Tool { name: "x", arguments } if arguments.get() == r#"{"n":1e400}"#)
        );
        assert_eq!((call.level(), call.is_followed()), (Some(Level::Warning), true));
        assert_eq!(
            serde_json::to_string(&call.request()).unwrap(),
            r#"{"progress":true,"logLevel":"warning","headers":{},"capabilities":{"elicitation":{}},"inputResponses":{"a":1},"requestState":"s"}"#
        );
        let call = Call::of(&message, Era::Legacy, None, meta());
        assert_eq!(
            serde_json::to_value(call.request()).unwrap(),
            json!({"progress": true, "logLevel": "info"})
        );
        // What progress is told by is a text or an integer.
        for (token, known) in
            [(json!("t"), true), (json!(1.5), false), (json!([7]), false), (json!(null), false)]
        {
            let mut meta = meta();
            meta.insert("progressToken".into(), token.clone());
            let call = Call::of(&message, Era::Modern, None, meta);
            assert_eq!(call.progress_token.is_some(), known, "{token}");
        }
    }
}
