//! Whether a form that is posted came from a page of this server's that this very browser was shown.
//!
//! The page carries a token made with a secret that the browser keeps in a cookie: a page of somebody else's cannot know it,
//! and what it is made over says what it may be used for.

use aws_lc_rs::hmac;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderName};

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// What a form is for; no token of one purpose holds for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    Consent,
    Sessions,
}

impl Purpose {
    fn label(self) -> &'static [u8] {
        match self {
            Self::Consent => b"mcp/v1/consent\0",
            Self::Sessions => b"mcp/v1/sessions\0",
        }
    }
}

/// What the page carries in the browser that keeps `secret`, where its form is about `subject`.
pub fn token(purpose: Purpose, secret: &str, subject: &str) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(hmac::sign(&key(secret), &message(purpose, subject)))
}

/// Whether `token` came from the page that the browser with this secret was shown.
pub fn holds(purpose: Purpose, secret: &str, subject: &str, token: &str) -> bool {
    let Ok(token) = BASE64_URL_SAFE_NO_PAD.decode(token) else { return false };
    hmac::verify(&key(secret), &message(purpose, subject), &token).is_ok()
}

/// Whether the browser, where it says so, posted from a page of this server's.
pub fn is_of_this_server(headers: &HeaderMap) -> bool {
    headers.get(FETCH_SITE).is_none_or(|site| site == "same-origin")
}

fn key(secret: &str) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes())
}

fn message(purpose: Purpose, subject: &str) -> Vec<u8> {
    [purpose.label(), subject.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::random;

    #[test]
    fn a_token_is_of_one_purpose_one_browser_and_one_subject() {
        let (one, two) = (random::secret().unwrap(), random::secret().unwrap());
        let made = token(Purpose::Consent, &one, "client_id=a");
        assert!(holds(Purpose::Consent, &one, "client_id=a", &made));
        assert!(!holds(Purpose::Sessions, &one, "client_id=a", &made));
        assert!(!holds(Purpose::Consent, &two, "client_id=a", &made));
        assert!(!holds(Purpose::Consent, &one, "client_id=b", &made));
        assert!(!holds(Purpose::Consent, &one, "client_id=a&client_id=b", &made));
        for bad in ["", "x", &made[1..], &format!("{made}A"), &one] {
            assert!(!holds(Purpose::Consent, &one, "client_id=a", bad), "{bad}");
        }
    }

    #[test]
    fn a_page_of_another_site_is_not_ours() {
        for (site, expected) in [
            (None, true),
            (Some("same-origin"), true),
            (Some("same-site"), false),
            (Some("cross-site"), false),
            (Some("none"), false),
        ] {
            let headers = site.map(|site| (FETCH_SITE, HeaderValue::from_static(site))).into_iter().collect();
            assert_eq!(is_of_this_server(&headers), expected, "{site:?}");
        }
    }
}
