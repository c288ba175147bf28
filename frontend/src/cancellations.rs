//! Calls that their clients may cancel by a message of its own, in this process or any other.
//!
//! Revisions before 2026-07-28 cancel by `notifications/cancelled`, a POST of its own, which may reach any process. So
//! it is looked for here, and what is not here is told to the others by NOTIFY. What goes over the channel, a channel
//! that every login of the database could write to, is a code of the token and the request's id: whoever has not the
//! token can neither make one nor learn anything from one.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use aws_lc_rs::hmac;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use tokio_util::sync::CancellationToken;

use crate::token::SessionToken;

/// What a call is known by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key(String);

/// The calls that run in this process and may be cancelled.
#[derive(Debug, Clone, Default)]
pub struct Cancellations {
    running: Arc<Mutex<HashMap<Key, Vec<CancellationToken>>>>,
}

/// A call that may be cancelled, until dropped.
#[derive(Debug)]
pub struct Cancellable {
    key: Key,
    token: CancellationToken,
    all: Cancellations,
}

impl Key {
    /// `client` tells apart clients that share a token and count alike; `id` is the JSON of the request's id.
    pub fn of(token: &SessionToken, client: &str, id: &str) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, token.expose().as_bytes());
        let mut context = hmac::Context::with_key(&key);
        context.update(b"cancel\0");
        context.update(client.as_bytes());
        context.update(b"\0");
        context.update(id.as_bytes());
        Self(BASE64_URL_SAFE_NO_PAD.encode(context.sign()))
    }

    /// As it goes over the channel.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Key {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl Cancellations {
    /// Notes a call that begins.
    pub fn begin(&self, key: Key) -> Cancellable {
        let token = CancellationToken::new();
        self.with(|running| running.entry(key.clone()).or_default().push(token.clone()));
        Cancellable { key, token, all: self.clone() }
    }

    /// Cancels a call, where it runs here; whether one does.
    ///
    /// Where two calls have the same key nobody can say which is meant, and a client may not lose a call that it waits
    /// for: neither is cancelled.
    pub fn cancel(&self, key: &Key) -> bool {
        self.with(|running| match running.get(key).map(Vec::as_slice) {
            Some([one]) => {
                one.cancel();
                true
            }
            Some(_) => true,
            None => false,
        })
    }

    fn with<T>(&self, work: impl FnOnce(&mut HashMap<Key, Vec<CancellationToken>>) -> T) -> T {
        // A map is whole after any panic.
        work(&mut self.running.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Cancellable {
    /// Waits for the cancellation.
    pub async fn cancelled(&self) {
        self.token.cancelled().await;
    }
}

impl Drop for Cancellable {
    fn drop(&mut self) {
        // What was cancelled before it could be taken out is cancelled; a second message does nothing more.
        self.token.cancel();
        self.all.with(|running| {
            if let Some(calls) = running.get_mut(&self.key) {
                calls.retain(|call| !call.is_cancelled());
                if calls.is_empty() {
                    running.remove(&self.key);
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(secret: &str, id: &str) -> Key {
        key_of(secret, "client", id)
    }

    fn key_of(secret: &str, client: &str, id: &str) -> Key {
        let body = format!("mcps_{}_{}", "a".repeat(22), secret.repeat(44));
        let token = SessionToken::parse(&crate::token::tests::with_checksum(&body)).unwrap();
        Key::of(&token, client, id)
    }

    #[test]
    fn a_call_is_known_by_token_and_id() {
        assert_eq!(key("s", "1"), key("s", "1"));
        assert!(
            key("s", "1") != key("s", "2")
                && key("s", "1") != key("t", "1")
                && key("s", "1") != key("s", "\"1\"")
        );
        assert_ne!(key_of("s", "client", "11"), key_of("s", "client1", "1"));
    }

    #[test]
    fn a_call_is_forgotten_when_it_ends() {
        let all = Cancellations::default();
        assert!(!all.cancel(&key("s", "1")));
        let call = all.begin(key("s", "1"));
        assert!(all.cancel(&key("s", "1")) && call.token.is_cancelled());
        drop(call);
        assert!(!all.cancel(&key("s", "1")));
        assert_eq!(all.with(|running| running.len()), 0);
    }

    #[test]
    fn what_is_ambiguous_is_not_cancelled() {
        let all = Cancellations::default();
        let (first, second) = (all.begin(key("s", "1")), all.begin(key("s", "1")));
        assert!(all.cancel(&key("s", "1")) && !first.token.is_cancelled() && !second.token.is_cancelled());
        drop(first);
        assert!(all.cancel(&key("s", "1")) && second.token.is_cancelled());
    }
}
