//! What a client carries from one round of a call to the next: the answers it has given so far.
//!
//! A call that asks for input ends, and the client calls again with the answers. Nothing of it is kept here in between;
//! what was answered before travels with the client, sealed under a key derived from the secret of its own token. So it
//! opens for that session alone, for the same tool with the same arguments, for a while, and once.

use crate::error::Error;
use crate::owner::as_owner;
use crate::seal::{self, Key};
use crate::settings;
use crate::statement::{run, sql};
use crate::token::{Kind, Token};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use pgrx::pg_sys;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

/// Answers are forms; a state of this size is none of ours.
const LARGEST: usize = 1 << 20;

/// What a state is bound to: a session's token, and one call with its arguments.
pub(super) struct Scope {
    key: Key,
    associated: Vec<u8>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct State {
    /// Microseconds since 2000.
    expires_at: i64,
    answers: Map<String, Value>,
}

impl Scope {
    /// `token` has been verified; `what` and `name` say what is called.
    pub(super) fn new(token: &str, what: &str, name: &str, arguments: &str) -> Option<Self> {
        let token = Token::parse(Kind::Access, token)?;
        let mut digest = Sha256::new();
        for part in [what, name, arguments] {
            // With its length, so that no two calls read alike.
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        Some(Scope {
            key: seal::derive(token.secret(), None, &token.selector, "request state"),
            associated: [b"mcp/v1/request state\0".as_slice(), &digest.finalize()].concat(),
        })
    }

    /// The state that carries `answers`.
    pub(super) fn seal(&self, answers: Map<String, Value>) -> Result<String, Error> {
        // SAFETY: reads the clock.
        let now = unsafe { pg_sys::GetCurrentTimestamp() };
        let lifetime = i64::try_from(settings::request_state_ttl().as_micros()).unwrap_or(i64::MAX);
        let expires_at = now.saturating_add(lifetime);
        self.write(&State { expires_at, answers })
    }

    fn write(&self, state: &State) -> Result<String, Error> {
        let plain = serde_json::to_vec(state).unwrap_or_default();
        Ok(BASE64_URL_SAFE_NO_PAD.encode(seal::seal(&self.key, &plain, &self.associated)?))
    }

    /// What was written for this call, with the hash that it is remembered by once it is used.
    fn read(&self, state: &str) -> Option<(State, [u8; 32])> {
        if state.len() > LARGEST {
            return None;
        }
        let sealed = BASE64_URL_SAFE_NO_PAD.decode(state).ok()?;
        let plain = seal::open(&self.key, &sealed, &self.associated)?;
        Some((serde_json::from_slice(&plain).ok()?, Sha256::digest(&sealed).into()))
    }

    /// The answers that a state carries, once; `None` for a state that is not of this call, too old, or used before.
    pub(super) fn open(&self, state: &str) -> Result<Option<Map<String, Value>>, Error> {
        let Some((State { expires_at, answers }, hash)) = self.read(state) else { return Ok(None) };
        // SAFETY: reads the clock.
        let now = unsafe { pg_sys::GetCurrentTimestamp() };
        if now >= expires_at {
            return Ok(None);
        }
        // Outside the sealed call, so that it stays although the call fails.
        let first = as_owner(|| {
            run(
                sql!(
                    "INSERT INTO mcp.used_request_states (state_hash, expires_at)
                     VALUES ($1, clock_timestamp() + $2 * interval '1 microsecond') ON CONFLICT DO NOTHING"
                ),
                &[hash.as_slice().into(), (expires_at - now).into()],
            )
        })?;
        Ok((first == 1).then_some(answers))
    }
}

#[cfg(test)]
mod unit {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn token() -> String {
        Token::mint(Kind::Access, [1; 16]).unwrap().encode().to_string()
    }

    fn state(text: &str) -> State {
        let Value::Object(answers) = json!({"name": {"action": "accept", "content": {"text": text}}}) else {
            unreachable!()
        };
        State { expires_at: 1, answers }
    }

    #[test]
    fn a_state_that_is_larger_than_any_form_is_not_read() {
        let scope = Scope::new(&token(), "tool", "name", "{}").unwrap();
        assert!(scope.read(&scope.write(&state(&"x".repeat(LARGEST / 2))).unwrap()).is_some());
        // Four characters for three bytes.
        let around = BASE64_URL_SAFE_NO_PAD.decode(scope.write(&state("")).unwrap()).unwrap().len();
        let largest = LARGEST / 4 * 3 - around;
        for (length, is_read) in [(largest, true), (largest + 1, false), (LARGEST, false)] {
            let written = scope.write(&state(&"x".repeat(length))).unwrap();
            assert_eq!(scope.read(&written).is_some(), is_read, "{}", written.len());
        }
    }

    proptest! {
        #[test]
        fn a_state_opens_for_its_call_alone(
            text: String,
            here in (0_u8..2, "(tool|prompt)", "[ab]{0,2}", "[ab]{0,2}"),
            there in (0_u8..2, "(tool|prompt)", "[ab]{0,2}", "[ab]{0,2}"),
        ) {
            let tokens = [token(), token()];
            let scope = |(session, what, name, arguments): &(u8, String, String, String)| {
                Scope::new(&tokens[usize::from(*session)], what, name, arguments).unwrap()
            };
            let written = scope(&here).write(&state(&text)).unwrap();
            let read = scope(&there).read(&written).map(|(state, _)| state);
            prop_assert_eq!(read, (here == there).then(|| state(&text)));
        }

        #[test]
        fn no_other_state_opens(at: prop::sample::Index, with in "[A-Za-z0-9_=+/ -]", odd: String) {
            let scope = Scope::new(&token(), "tool", "name", "{}").unwrap();
            let written = scope.write(&state("x")).unwrap();
            let at = at.index(written.len());
            let mut changed = written.clone();
            changed.replace_range(at..=at, &with);
            prop_assert!(changed == written || scope.read(&changed).is_none());
            prop_assert!(scope.read(&odd).is_none());
        }
    }
}
