//! What a call and its client say to each other while it runs: progress, and questions.
//!
//! A tool that asks for what it was not yet told ends there and then, and nothing it wrote stays: the client puts the
//! question to its user, or its model, and calls again with the answer ([`super::input_state`]).

use super::input_state::Scope;
use super::notice::Notice;
use super::request::Request;
use super::result;
use crate::error::Error;
use crate::jsonb::Jsonb;
use pgrx::JsonB;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use serde_json::{Map, Value, json};
use std::cell::RefCell;

/// More questions at once are a form that nobody fills in.
const MOST_QUESTIONS: usize = 32;

/// The part of a call's client.
pub(super) struct Dialogue {
    wants_progress: bool,
    /// The last progress told: what follows must be more.
    progress: f64,
    capabilities: Option<Map<String, Value>>,
    /// What was answered in this round and before.
    answers: Map<String, Value>,
    /// What is asked for now.
    questions: Map<String, Value>,
    /// What the client would have to be able to, to be asked that.
    missing: Map<String, Value>,
}

thread_local! {
    /// The dialogue of the call that runs. Calls do not nest.
    static CURRENT: RefCell<Option<Dialogue>> = const { RefCell::new(None) };
}

/// Ends the dialogue, whichever way the call ends.
struct Ending;

impl Drop for Ending {
    fn drop(&mut self) {
        CURRENT.take();
    }
}

impl Dialogue {
    /// Begins the dialogue of a call: `Err` with a verdict where what the client brought along does not hold.
    pub(super) fn begin(request: &mut Request, scope: Option<&Scope>) -> Result<Result<Self, Jsonb>, Error> {
        let mut answers = Map::new();
        if let Some(state) = request.request_state.take() {
            let state = serde_json::from_str::<String>(state.get()).ok();
            match scope.zip(state).map(|(scope, state)| scope.open(&state)).transpose()?.flatten() {
                Some(earlier) => answers = earlier,
                None => return Ok(Err(result::verdict("invalid_request_state"))),
            }
        }
        if let Some(responses) = request.input_responses.take() {
            match serde_json::from_str::<Map<String, Value>>(responses.get()) {
                Ok(responses) => answers.extend(responses),
                Err(_) => return Ok(Err(result::verdict("invalid_input_responses"))),
            }
        }
        Ok(Ok(Dialogue {
            wants_progress: request.progress && request.notices.is_some(),
            progress: f64::NEG_INFINITY,
            capabilities: request.capabilities.take(),
            answers,
            questions: Map::new(),
            missing: Map::new(),
        }))
    }

    /// Runs `call` with this dialogue. What comes second is the verdict on a call that asked for input.
    pub(super) fn during<T>(
        self,
        scope: Option<&Scope>,
        call: impl FnOnce() -> T,
    ) -> Result<(T, Option<Jsonb>), Error> {
        let ending = Ending;
        CURRENT.set(Some(self));
        let done = call();
        let dialogue = CURRENT.take();
        drop(ending);
        Ok((done, dialogue.map(|dialogue| dialogue.verdict(scope)).transpose()?.flatten()))
    }

    fn verdict(self, scope: Option<&Scope>) -> Result<Option<Jsonb>, Error> {
        if !self.missing.is_empty() {
            let verdict = json!({"status": "missing_capability", "requiredCapabilities": self.missing});
            return Ok(Some(result::object(&verdict)));
        }
        if self.questions.is_empty() {
            return Ok(None);
        }
        let mut verdict = json!({"status": "input_required", "inputRequests": self.questions});
        if let Some(scope) = scope {
            verdict["requestState"] = scope.seal(self.answers)?.into();
        }
        Ok(Some(result::object(&verdict)))
    }

    /// The answers to all of `questions`, if they were given; otherwise notes what is to be asked for.
    fn answered(
        &mut self,
        questions: &Map<String, Value>,
    ) -> Result<Option<Map<String, Value>>, &'static str> {
        let mut answers = Map::new();
        for (key, question) in questions {
            match self.answers.get(key).filter(|answer| fits(question, answer)) {
                Some(answer) => {
                    answers.insert(key.clone(), answer.clone());
                }
                None => {
                    self.questions.insert(key.clone(), question.clone());
                }
            }
        }
        if self.questions.is_empty() {
            return Ok(Some(answers));
        }
        let capabilities =
            self.capabilities.as_ref().ok_or("this client cannot be asked for input during a call")?;
        for question in self.questions.values() {
            let needed = capability(question);
            if !capabilities.contains_key(needed) {
                self.missing.insert(needed.to_owned(), json!({}));
            }
        }
        // What is asked again is not answered.
        self.answers.retain(|key, _| !self.questions.contains_key(key));
        Ok(None)
    }
}

/// What a client must be able to, to be asked this.
fn capability(question: &Value) -> &'static str {
    match question["method"].as_str() {
        Some("sampling/createMessage") => "sampling",
        Some("roots/list") => "roots",
        _ => "elicitation",
    }
}

/// Whether an answer has the shape that the protocol gives it. One that has not is asked for again.
fn fits(question: &Value, answer: &Value) -> bool {
    match question["method"].as_str() {
        Some("sampling/createMessage") => answer["role"].is_string() && !answer["content"].is_null(),
        Some("roots/list") => answer["roots"].is_array(),
        _ => match answer["action"].as_str() {
            Some("decline" | "cancel") => true,
            Some("accept") => {
                let schema = &question["params"]["requestedSchema"];
                schema.is_null() || fits_schema(schema, &answer["content"])
            }
            _ => false,
        },
    }
}

/// Whether the content of a form is what its schema asks for: a flat object of plain values.
fn fits_schema(schema: &Value, content: &Value) -> bool {
    let Some(content) = content.as_object() else { return false };
    let required = schema["required"].as_array().map(Vec::as_slice).unwrap_or_default();
    if !required.iter().filter_map(Value::as_str).all(|name| content.contains_key(name)) {
        return false;
    }
    let none = Map::new();
    schema["properties"].as_object().unwrap_or(&none).iter().all(|(name, property)| {
        let Some(value) = content.get(name) else { return true };
        let labels = property["enum"].as_array();
        let type_fits = match property["type"].as_str() {
            Some("string") => value.is_string(),
            Some("boolean") => value.is_boolean(),
            Some("number") => value.is_number(),
            Some("integer") => value.as_f64().is_some_and(|number| number.fract() == 0.0),
            Some("array") => value.is_array(),
            _ => true,
        };
        type_fits && labels.is_none_or(|labels| labels.contains(value))
    })
}

/// Asks the client for input: an object of requests by keys of the caller's choice, each with `method` and `params`.
/// Returns the answers by the same keys, once all are there; until then it ends the call.
#[pg_extern(schema = "mcp")]
fn request_input(requests: JsonB) -> Result<JsonB, ErrorReport> {
    let refuse = |message: &'static str| {
        Err(ErrorReport::new(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, message, ""))
    };
    let Value::Object(questions) = requests.0 else { return refuse("requests must be a JSON object") };
    if questions.is_empty() || questions.len() > MOST_QUESTIONS {
        return refuse("requests must be 1 to 32 requests by their keys");
    }
    let known = |question: &Value| {
        matches!(
            question["method"].as_str(),
            Some("elicitation/create" | "sampling/createMessage" | "roots/list")
        )
    };
    if !questions.values().all(known) {
        return refuse(
            "the method of each request must be elicitation/create, sampling/createMessage or roots/list",
        );
    }
    let answered = CURRENT.with_borrow_mut(|current| match current {
        Some(dialogue) => dialogue.answered(&questions),
        None => Err("no client is calling: this is for tools, resources and prompts"),
    });
    match answered {
        Ok(Some(answers)) => Ok(JsonB(answers.into())),
        // Handlers for WHEN OTHERS do not catch this code, so that a tool does not go on without its answer.
        Ok(None) => Err(ErrorReport::new(
            PgSqlErrorCode::ERRCODE_QUERY_CANCELED,
            "the call asks its client for input",
            "",
        )),
        Err(message) => Err(ErrorReport::new(PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED, message, "")),
    }
}

/// Tells the client how far the call is, if it wants to know. Does nothing anywhere else.
#[pg_extern(schema = "mcp")]
fn progress(
    done: Option<f64>,
    total: default!(Option<f64>, "NULL"),
    message: default!(Option<&str>, "NULL"),
) -> Result<(), ErrorReport> {
    let done = done.ok_or(Error::Null("done"))?;
    let wanted = CURRENT.with_borrow_mut(|current| match current {
        // The protocol wants it to grow.
        Some(dialogue) if dialogue.wants_progress && done.is_finite() && done > dialogue.progress => {
            dialogue.progress = done;
            true
        }
        _ => false,
    });
    if wanted {
        let total = total.filter(|total| total.is_finite());
        Notice::Progress.send(&json!({"progress": done, "total": total, "message": message}).to_string());
    }
    Ok(())
}

/// What the client of the call can be asked for, as it says itself; NULL where it cannot be asked.
#[pg_extern(schema = "mcp", stable, parallel_restricted)]
fn client_capabilities() -> Option<JsonB> {
    CURRENT.with_borrow(|current| {
        let capabilities = current.as_ref()?.capabilities.clone()?;
        Some(JsonB(capabilities.into()))
    })
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn answers_have_the_shape_of_their_question() {
        let form = json!({"method": "elicitation/create", "params": {"requestedSchema": {
            "type": "object", "required": ["name"],
            "properties": {"name": {"type": "string"}, "age": {"type": "integer"}, "size": {"enum": ["s", "l"]},
                           "sure": {"type": "boolean"}, "weight": {"type": "number"}, "tags": {"type": "array"}}}}});
        let accept = |content: Value| json!({"action": "accept", "content": content});
        for (answer, expected) in [
            (accept(json!({"name": "a"})), true),
            (accept(json!({"name": "a", "age": 7.0, "size": "l", "more": 1})), true),
            (accept(json!({"name": 7})), false),
            (accept(json!({"name": "a", "age": 7.5})), false),
            (accept(json!({"name": "a", "size": "m"})), false),
            (accept(json!({"name": "a", "sure": true, "weight": 7.5, "tags": ["a"]})), true),
            (accept(json!({"name": "a", "sure": "yes"})), false),
            (accept(json!({"name": "a", "weight": "7"})), false),
            (accept(json!({"name": "a", "tags": "a"})), false),
            (accept(json!({})), false),
            (accept(json!(null)), false),
            (json!({"action": "decline"}), true),
            (json!({"action": "cancel"}), true),
            (json!({"action": "other"}), false),
            (json!(12345), false),
            (json!(null), false),
        ] {
            assert_eq!(fits(&form, &answer), expected, "{answer}");
        }
        let no_form = json!({"method": "elicitation/create", "params": {"mode": "url"}});
        assert!(fits(&no_form, &json!({"action": "accept"})) && !fits(&no_form, &json!({})));
        let sampling = json!({"method": "sampling/createMessage"});
        assert!(fits(&sampling, &json!({"role": "assistant", "content": {"type": "text", "text": ""}})));
        for answer in
            [json!({"role": "assistant"}), json!({"content": {"type": "text", "text": ""}}), json!([])]
        {
            assert!(!fits(&sampling, &answer), "{answer}");
        }
        let roots = json!({"method": "roots/list"});
        assert!(fits(&roots, &json!({"roots": []})) && !fits(&roots, &json!({})));
    }
}
