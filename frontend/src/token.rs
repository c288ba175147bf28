//! The session token as the frontend sees it: a shape to recognise, a public id to log, a secret to pass on.
//!
//! `mcps_` + 22 base62 characters (the session's public id) + `_` + 44 (the secret) + 6 (a checksum).
//! Only the extension can tell whether a token holds; here what cannot be one, a typing error included, is refused without
//! a query.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use uuid::Uuid;

const PREFIX: &str = "mcps_";
const SELECTOR: usize = 22;
const SECRET: usize = 44 + CHECKSUM;
const CHECKSUM: usize = 6;

/// A text of the right shape and checksum. `Debug` shows the public part alone.
#[derive(Clone)]
pub struct SessionToken(SecretString);

impl SessionToken {
    /// `None` unless `text` matches `mcps_[0-9A-Za-z]{22}_[0-9A-Za-z]{50}`, the last six of which are the CRC-32 of the rest.
    pub fn parse(text: &str) -> Option<Self> {
        let (selector, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
        let base62 = |part: &str| part.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let fits = selector.len() == SELECTOR && secret.len() == SECRET && base62(selector) && base62(secret);
        let (body, checksum) = text.split_at_checked(text.len().checked_sub(CHECKSUM)?)?;
        (fits && checksum == checksum_of(body)).then(|| Self(SecretString::from(text)))
    }

    /// The public id of the session, which may be logged; `None` where the selector is no 128-bit number.
    pub fn session_id(&self) -> Option<Uuid> {
        base62::decode(self.selector()).ok().map(Uuid::from_u128)
    }

    /// The whole token, to pass to the database or to its owner.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    fn selector(&self) -> &str {
        &self.expose()[PREFIX.len()..PREFIX.len() + SELECTOR]
    }
}

fn checksum_of(body: &str) -> String {
    format!("{:0>CHECKSUM$}", base62::encode(crc32fast::hash(body.as_bytes())))
}

impl fmt::Debug for SessionToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}_…", self.selector())
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A token of this public half, whose checksum is right.
    pub fn token(selector: &str) -> String {
        with_checksum(&format!("mcps_{selector}_{}", "s".repeat(44)))
    }

    /// What becomes a token by its checksum.
    pub fn with_checksum(body: &str) -> String {
        format!("{body}{}", checksum_of(body))
    }

    #[test]
    fn only_the_shape_of_a_session_token_is_taken() {
        let good = token("0123456789ABCDEFGHabcd");
        assert!(SessionToken::parse(&good).is_some());
        for bad in [
            "",
            "mcps_",
            "null",
            &good[1..],
            &good[..good.len() - 1],
            &format!("{good}0"),
            &format!(" {good}"),
            &good.replace("mcps_", "mcpr_"),
            &good.replace("mcps_", "MCPS_"),
            &good.replace('A', "-"),
            &good.replace('A', "é"),
            &with_checksum(&format!("mcps_{}_{}", "a".repeat(21), "s".repeat(45))),
            &with_checksum(&format!("mcps_{}_{}", "a".repeat(21), "s".repeat(44))),
            &with_checksum(&format!("mcps_{}_{}", "a".repeat(22), "s".repeat(45))),
            &with_checksum(&format!("mcps_{}-_{}", "a".repeat(21), "s".repeat(44))),
            &with_checksum(&format!("mcps_{}_{}-", "a".repeat(22), "s".repeat(43))),
            &with_checksum(&format!("mcpr_{}_{}", "a".repeat(22), "s".repeat(44))),
            &good.replacen('B', "b", 1),
        ] {
            assert!(SessionToken::parse(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn the_selector_is_the_session_id() {
        let id = Uuid::from_u128(0x0190_1234_5678_7abc_8def_0123_4567_89ab);
        let selector = format!("{:0>22}", base62::encode(id.as_u128()));
        assert_eq!(SessionToken::parse(&token(&selector)).unwrap().session_id(), Some(id));
        let nil = SessionToken::parse(&token(&"0".repeat(22))).unwrap();
        assert_eq!(nil.session_id(), Some(Uuid::nil()));
        let too_big = SessionToken::parse(&token(&"z".repeat(22))).unwrap();
        assert_eq!(too_big.session_id(), None);
    }

    #[test]
    fn the_secret_does_not_print() {
        let text = token("0123456789ABCDEFGHabcd");
        let shown = format!("{:?}", SessionToken::parse(&text).unwrap());
        assert_eq!(shown, "mcps_0123456789ABCDEFGHabcd_…");
    }
}

#[cfg(test)]
mod property {
    use proptest::prelude::*;
    use regex::Regex;

    use super::*;

    proptest! {
        /// No letter of a token can be mistyped without its being seen.
        #[test]
        fn a_typing_error_costs_no_query(
            selector in "[0-9A-Za-z]{22}",
            at: prop::sample::Index,
            letter in "[0-9A-Za-z]",
        ) {
            let good = tests::token(&selector);
            let at = at.index(good.len());
            let wrong = format!("{}{letter}{}", &good[..at], &good[at + 1..]);
            prop_assert_eq!(SessionToken::parse(&wrong).is_some(), wrong == good);
        }

        #[test]
        fn a_token_is_what_the_published_expression_says(
            text in prop_oneof![
                any::<String>(),
                "[ms]cp[src]_[0-9A-Za-z_]{20,24}_[0-9A-Za-z+/-]{48,52}",
                "mcps_[0-9A-Za-z]{22}_[0-9A-Za-z]{50}",
                "mcps_[0-9A-Za-z]{22}_[0-9A-Za-z]{44}".prop_map(|body| tests::with_checksum(&body)),
            ],
        ) {
            let published = Regex::new("^mcps_[0-9A-Za-z]{22}_[0-9A-Za-z]{50}$").unwrap();
            let parsed = SessionToken::parse(&text);
            let fits = published.is_match(&text) && !text.ends_with('\n');
            prop_assert_eq!(parsed.is_some(), fits && tests::with_checksum(&text[..72]) == text);
            if let Some(token) = parsed {
                prop_assert_eq!(token.expose(), &text);
                let shown = format!("{token:?}");
                prop_assert!(!shown.contains(&text[28..]));
            }
        }
    }
}
