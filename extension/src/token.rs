//! The secrets clients hold: their text form, and what of them is stored.
//!
//! `mcps_` + selector + `_` + secret + checksum, all in base62 (digits and letters): a 16-byte selector in 22
//! characters, a 32-byte secret in 44, a CRC-32 of everything before it in 6. The selector is public and finds the
//! row; the secret is compared, as a hash, in constant time. The prefix types the token and, with the checksum, lets
//! scanners find leaks and lets typing errors cost no query.

use crate::error::Error;
use hkdf::Hkdf;
use sha2::{Digest, Sha256};
use std::fmt;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Half a secret, or a selector: 16 bytes as one number below 2^128.
const HALF: usize = 22;
const CHECKSUM: usize = 6;
const PREFIX: usize = 5;
const LENGTH: usize = PREFIX + HALF + 1 + 2 * HALF + CHECKSUM;

/// What a token is for. A token of one kind never passes for another: the prefix differs, and so does the hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The handle or access token that authenticates requests. Its selector is the session's id.
    Access,
    /// The single-use token that gets the next access token (RFC 6749 §1.5).
    Refresh,
    /// An authorization code (RFC 6749 §1.3.1).
    Code,
}

impl Kind {
    fn prefix(self) -> &'static str {
        match self {
            Kind::Access => "mcps_",
            Kind::Refresh => "mcpr_",
            Kind::Code => "mcpc_",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Kind::Access => "access",
            Kind::Refresh => "refresh",
            Kind::Code => "code",
        }
    }
}

/// What is stored of a token: SHA-256 over its kind, selector and secret.
pub(crate) type Verifier = [u8; 32];

/// A token in full. Wiped from memory when dropped, and never printed.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub(crate) struct Token {
    #[zeroize(skip)]
    pub(crate) kind: Kind,
    #[zeroize(skip)]
    pub(crate) selector: [u8; 16],
    secret: [u8; 32],
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}_…", self.kind.prefix(), base62(self.selector))
    }
}

impl Token {
    /// A new token with a secret from the operating system's generator.
    pub(crate) fn mint(kind: Kind, selector: [u8; 16]) -> Result<Self, Error> {
        Ok(Token { kind, selector, secret: random()? })
    }

    /// The token that replaces this one, computed from its secret and a random `seed`. Whoever presents the old token
    /// again gets the very same successor while the seed exists, and no successor is ever stored.
    pub(crate) fn successor(&self, kind: Kind, seed: &[u8], selector: Option<[u8; 16]>) -> Self {
        let derive = |purpose: &str, out: &mut [u8]| {
            let info = [b"mcp/v1/successor/", kind.name().as_bytes(), b"/", purpose.as_bytes()].concat();
            Hkdf::<Sha256>::new(Some(seed), &self.secret)
                .expand(&info, out)
                .expect("HKDF-SHA-256 expands to 32 bytes");
        };
        let mut token = Token { kind, selector: [0; 16], secret: [0; 32] };
        derive("secret", &mut token.secret);
        match selector {
            Some(selector) => token.selector = selector,
            None => derive("selector", &mut token.selector),
        }
        token
    }

    /// Reads a token of `kind`. `None` for anything else: another kind, a wrong checksum, another spelling.
    pub(crate) fn parse(kind: Kind, text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        if bytes.len() != LENGTH || !text.starts_with(kind.prefix()) {
            return None;
        }
        let (body, checksum) = bytes.split_at(LENGTH - CHECKSUM);
        if checksum != checksum_of(body).as_bytes() {
            return None;
        }
        let (selector, secret) = body[PREFIX..].split_at(HALF);
        let secret = secret.strip_prefix(b"_")?;
        let mut token = Token { kind, selector: number(selector)?, secret: [0; 32] };
        token.secret[..16].copy_from_slice(&number(&secret[..HALF])?);
        token.secret[16..].copy_from_slice(&number(&secret[HALF..])?);
        Some(token)
    }

    /// The text form, for the one answer that hands it out.
    pub(crate) fn encode(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(LENGTH));
        text.push_str(self.kind.prefix());
        text.push_str(&base62(self.selector));
        text.push('_');
        for half in self.secret.chunks_exact(16) {
            text.push_str(&base62(half.try_into().expect("32 bytes are two halves of 16")));
        }
        let checksum = checksum_of(text.as_bytes());
        text.push_str(&checksum);
        text
    }

    /// The hash under which the token is stored, separated by kind.
    pub(crate) fn verifier(&self) -> Verifier {
        Sha256::new()
            .chain_update(b"mcp/v1/")
            .chain_update(self.kind.name())
            .chain_update([0])
            .chain_update(self.selector)
            .chain_update(self.secret)
            .finalize()
            .into()
    }

    /// The key material sealing draws on; see [`crate::seal`].
    pub(crate) fn secret(&self) -> &[u8; 32] {
        &self.secret
    }
}

/// Whether two verifiers are equal, in time that does not depend on where they differ.
pub(crate) fn matches(stored: &[u8], presented: &Verifier) -> bool {
    stored.ct_eq(presented).into()
}

/// Random bytes from the operating system.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| Error::Random)?;
    Ok(bytes)
}

fn base62(bytes: [u8; 16]) -> String {
    format!("{:0>HALF$}", base62::encode(u128::from_be_bytes(bytes)))
}

/// 22 digits below 2^128. Every value has exactly one spelling, so two texts never name the same token.
fn number(digits: &[u8]) -> Option<[u8; 16]> {
    base62::decode(digits).ok().map(u128::to_be_bytes)
}

fn checksum_of(body: &[u8]) -> String {
    format!("{:0>CHECKSUM$}", base62::encode(crc32fast::hash(body)))
}

/// A caller's text as messages may quote it: up to the first token in it, which was meant for another parameter.
pub(crate) fn shown(text: &str) -> String {
    let prefixes = [Kind::Access, Kind::Refresh, Kind::Code].map(Kind::prefix);
    match prefixes.iter().filter_map(|prefix| Some(text.find(prefix)? + prefix.len())).min() {
        Some(end) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod unit {
    use super::*;
    use proptest::prelude::*;

    const KINDS: [Kind; 3] = [Kind::Access, Kind::Refresh, Kind::Code];

    #[test]
    fn no_message_quotes_a_token() {
        let token = Token { kind: Kind::Access, selector: [1; 16], secret: [2; 32] }.encode();
        for (text, expected) in [
            (token.to_string(), "mcps_…"),
            (format!("https://app.test/?t={}", token.as_str()), "https://app.test/?t=mcps_…"),
            ("https://app.test/".to_owned(), "https://app.test/"),
            ("é mcpr_".to_owned(), "é mcpr_…"),
        ] {
            assert_eq!(shown(&text), expected);
        }
    }

    #[test]
    fn the_form_is_fixed() {
        let token = Token { kind: Kind::Access, selector: [0; 16], secret: [0xff; 32] };
        let text = token.encode();
        assert_eq!(text.len(), LENGTH);
        assert_eq!(
            text.as_str(),
            "mcps_0000000000000000000000_7n42DGM5Tflk9n8mt7Fhc77n42DGM5Tflk9n8mt7Fhc709wiBa"
        );
        assert_eq!(format!("{token:?}"), "mcps_0000000000000000000000_…");
    }

    #[test]
    fn a_successor_is_reproducible_and_bound_to_seed_and_kind() {
        let token = Token::mint(Kind::Refresh, [7; 16]).unwrap();
        let next = token.successor(Kind::Refresh, b"seed", None);
        assert_eq!(next.encode(), token.successor(Kind::Refresh, b"seed", None).encode());
        assert_ne!(next.encode(), token.successor(Kind::Refresh, b"other", None).encode());
        assert_ne!(next.secret(), token.successor(Kind::Access, b"seed", None).secret());
        let other = Token::mint(Kind::Refresh, [7; 16]).unwrap();
        assert_ne!(next.secret(), other.successor(Kind::Refresh, b"seed", None).secret());
        // The selector is public.
        assert_ne!(next.selector, next.secret()[..16]);
        assert_eq!(token.successor(Kind::Access, b"seed", Some([9; 16])).selector, [9; 16]);
    }

    proptest! {
        #[test]
        fn round_trip(selector: [u8; 16], secret: [u8; 32], kind in 0usize..3) {
            let token = Token { kind: KINDS[kind], selector, secret };
            let read = Token::parse(KINDS[kind], &token.encode()).unwrap();
            prop_assert_eq!(read.selector, selector);
            prop_assert_eq!(read.secret(), &secret);
            let elsewhere = Token { kind: KINDS[kind], selector: selector.map(|byte| !byte), secret };
            prop_assert_ne!(elsewhere.verifier(), token.verifier());
            for other in KINDS.into_iter().filter(|other| *other != KINDS[kind]) {
                prop_assert!(Token::parse(other, &token.encode()).is_none());
                let read = Token { kind: other, selector, secret };
                prop_assert_ne!(read.verifier(), token.verifier());
            }
        }

        #[test]
        fn only_one_text_names_a_token(secret: [u8; 32], at in 0usize..LENGTH, with: char) {
            let text = Token { kind: Kind::Access, selector: [3; 16], secret }.encode();
            let mut changed: Vec<char> = text.chars().collect();
            changed[at] = with;
            let changed: String = changed.into_iter().collect();
            prop_assert!(changed == *text || Token::parse(Kind::Access, &changed).is_none());
        }

        #[test]
        fn nothing_else_parses(text: String) {
            for kind in KINDS {
                prop_assert!(Token::parse(kind, &text).is_none());
            }
        }
    }
}
