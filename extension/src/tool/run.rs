//! One call of something exposed, from the permission to the answer.

use super::callable::{self, Callable};
use super::catalog::Argument;
use super::dialogue::Dialogue;
use super::input_state::Scope;
use super::notice::Notice;
use super::registry::Exposed;
use super::request::Request;
use super::result::Output;
use super::sandbox::{self, Seal};
use super::{Failure, arguments, binding, json, result, user};
use crate::audit;
use crate::error::Error;
use crate::identity;
use crate::jsonb::Jsonb;
use crate::settings;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use std::rc::Rc;
use std::time::Duration;

/// A call of something exposed.
pub(super) struct Call<'a> {
    /// What kind of thing: "tool", "resource", "prompt".
    pub(super) what: &'static str,
    pub(super) name: &'a str,
    /// The token it is called with, which has been verified.
    pub(super) token: &'a str,
    pub(super) request: Request,
}

/// How a call ended.
pub(super) enum Outcome {
    Done(Jsonb),
    /// It came to no call, or not to its end: why, as an object with a `status`.
    Verdict(Jsonb),
    /// What went wrong, in words for the client.
    Failed(String),
}

/// Why something exposed is not called.
pub(super) enum Denied {
    /// Its function is gone, or is not what was exposed any more.
    Gone,
    /// The scopes it takes.
    Scope(String),
}

/// The function behind something exposed, if the session may call it.
pub(super) fn permitted(
    what: &str,
    name: &str,
    exposed: &Exposed,
) -> Result<Result<Rc<Callable>, Denied>, Error> {
    let Some(callable) = callable::find(&exposed.function)? else { return Ok(Err(Denied::Gone)) };
    if callable.function.owner != exposed.owner {
        report_changed_owner(what, name, exposed, &callable.function.owner)?;
        return Ok(Err(Denied::Gone));
    }
    if let Some(scope) = &exposed.scope {
        let held = identity::scopes()?;
        if !scope.split(' ').all(|scope| held.iter().any(|held| held == scope)) {
            return Ok(Err(Denied::Scope(scope.clone())));
        }
    }
    Ok(Ok(callable))
}

/// The arguments, if they are what the function takes; otherwise what is wrong with them.
pub(super) fn checked(callable: &Callable, given: Option<Jsonb>) -> Result<Jsonb, String> {
    let given = given.ok_or("the arguments must be a JSON object, not null")?;
    let (size, limit) = (given.size(), settings::max_argument_bytes());
    if size > limit {
        return Err(format!("the arguments are too large: {size} bytes, the limit is {limit}"));
    }
    if !given.is_object() {
        return Err("the arguments must be a JSON object".to_owned());
    }
    arguments::check(&callable.function.arguments, &json::read(given))?;
    Ok(given)
}

impl Call<'_> {
    /// Calls the function, sealed, with arguments that have been checked. `shape` makes the answer's JSON of what it
    /// returns.
    pub(super) fn run(
        mut self,
        exposed: &Exposed,
        callable: &Callable,
        arguments: Jsonb,
        shape: impl FnOnce(Output) -> String,
    ) -> Result<Outcome, Error> {
        // Only a client that can be asked carries anything from round to round.
        let asks = self.request.capabilities.is_some() || self.request.request_state.is_some();
        let scope =
            asks.then(|| Scope::new(self.token, self.what, self.name, &arguments.to_text())).flatten();
        let dialogue = match Dialogue::begin(&mut self.request, scope.as_ref())? {
            Ok(dialogue) => dialogue,
            Err(verdict) => return Ok(Outcome::Verdict(verdict)),
        };
        let seal = Seal {
            user: user::checked()?,
            search_path: callable.search_path.clone(),
            read_only: callable.function.read_only,
            restricted: exposed.restricted,
            timeout: exposed.timeout.or_else(settings::tool_timeout),
            messages: self.request.message_level(),
        };
        if let Some(id) = &self.request.notices {
            Notice::Begin.send(id);
        }
        let (done, question) = dialogue.during(scope.as_ref(), || {
            sandbox::run(&seal, |sealed| {
                let values = binding::bind(sealed, callable, arguments)?;
                let plan = callable.call_plan(sealed)?;
                let output = result::read(sealed, &callable.function.returns, plan, &values)?;
                result::json(sealed, &shape(output))
            })
        })?;
        Ok(match (done, question) {
            (Ok(done), _) => Outcome::Done(done),
            // It failed because it asked.
            (Err(failure), Some(question)) if failure.is_question() => Outcome::Verdict(question),
            (Err(failure), _) => {
                Outcome::Failed(message(self.what, failure, seal.timeout, &callable.function.arguments))
            }
        })
    }
}

/// What the client is told of a call that failed; faults of the server and of the request as a whole are raised again.
fn message(what: &str, failure: Failure, timeout: Option<Duration>, arguments: &[Argument]) -> String {
    match failure {
        Failure::Raised(raised) | Failure::Argument(_, raised) if raised.is_fault() => raised.raise(),
        Failure::Raised(raised) if raised.constraint().as_deref() == Some("tool_result_check") => {
            "the tool returned what is no result: it must be an object with \"content\", an array, or \"structuredContent\", an \
             object, or both; \"isError\" is true or false"
                .to_owned()
        }
        Failure::Raised(raised) => raised.message(),
        Failure::Argument(name, raised) => {
            let constraint = raised.constraint();
            let argument = arguments.iter().find(|argument| argument.name == name);
            let definition =
                argument.zip(constraint).and_then(|(argument, name)| argument.ty.definition_of(&name));
            match definition {
                Some(definition) => format!("argument {name:?}: {}: {definition}", raised.message()),
                None => format!("argument {name:?}: {}", raised.message()),
            }
        }
        Failure::TimedOut => format!("the {what} timed out after {:?}", timeout.unwrap_or_default()),
        Failure::TooLarge { limit } => {
            format!("the result is too large: it is over the limit of {limit} bytes; ask for less")
        }
        Failure::Malformed(wrong) => format!("the {what} returned what is no result: {wrong}"),
        Failure::Changed => format!("the {what} was changed during the call; try again"),
    }
}

/// To the server's log, for its operator, and to the audit log.
fn report_changed_owner(what: &str, name: &str, exposed: &Exposed, owner: &str) -> Result<(), Error> {
    let message = format!(
        "{what} {name:?} is disabled: function {} belonged to {} when it was exposed and belongs to {owner} now",
        exposed.function, exposed.owner
    );
    audit::call_refused(&message)?;
    ErrorReport::new(PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE, message, "")
        .set_hint(format!(
            "Withdraw the {what}, and have the owner expose the function again, also where the role was but renamed."
        ))
        .report(PgLogLevel::LOG);
    Ok(())
}
