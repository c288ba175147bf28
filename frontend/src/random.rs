//! Secrets of one sign-in: random texts, and the hash that PKCE sends ahead of one.

use aws_lc_rs::{digest, rand};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};

use crate::error::Fault;

/// How long a secret is as text: 32 bytes in base64url.
pub const SECRET_LENGTH: usize = 43;

/// 256 random bits as 43 characters of base64url.
pub fn secret() -> Result<String, Fault> {
    let mut bytes = [0; 32];
    rand::fill(&mut bytes).map_err(|_| Fault::internal("the system gives no random numbers"))?;
    Ok(BASE64_URL_SAFE_NO_PAD.encode(bytes))
}

/// Whether a text could be one of ours.
pub fn is_secret(text: &str) -> bool {
    text.len() == SECRET_LENGTH
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// The S256 challenge of a PKCE verifier (RFC 7636 §4.2).
pub fn challenge(verifier: &str) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, verifier.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_long_and_differ() {
        let (one, two) = (secret().unwrap(), secret().unwrap());
        assert_ne!(one, two);
        assert!(is_secret(&one) && is_secret(&two));
        assert!(is_secret(&format!("{}z", "-_Aa09Z".repeat(6))));
        for bad in ["", &one[1..], &format!("{one}a"), &one.replace(|_| true, "="), &"é".repeat(21)] {
            assert!(!is_secret(bad), "{bad}");
        }
    }

    #[test]
    fn the_challenge_is_that_of_rfc_7636_appendix_b() {
        let verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        assert_eq!(challenge(verifier), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
    }
}
