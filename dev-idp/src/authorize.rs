//! The authorization endpoint: who signs in, and with what code the browser goes back.
//!
//! OpenID Connect Core 1.0 section 3.1.2, RFC 7636 (PKCE, S256 alone), RFC 9207 (`iss` in the answer).

use std::time::Instant;

use url::Url;

use crate::grants::{Grant, Scopes};
use crate::pages::Choice;
use crate::params::{Params, Repeated};
use crate::provider::Provider;
use crate::user::User;

#[derive(Debug)]
pub enum Answer {
    /// Back to the client, with a code or with an error.
    Redirect(Url),
    /// Ask the person at the browser who they are.
    Choose(Choice),
    /// The request names no client to go back to; the text says why.
    Refuse(String),
}

pub fn authorize(provider: &Provider, query: &[u8], now: Instant) -> Answer {
    let params = match Params::parse(query) {
        Ok(params) => params,
        Err(Repeated(name)) => return Answer::Refuse(format!("The parameter {name} stands there twice.")),
    };
    let client = provider.client();
    match params.get("client_id") {
        None => return Answer::Refuse("The parameter client_id is missing.".to_owned()),
        Some(id) if id != client.id => return Answer::Refuse(format!("There is no client {id} here.")),
        Some(_) => {}
    }
    let Some(redirect_uri) = params.get("redirect_uri") else {
        return Answer::Refuse("The parameter redirect_uri is missing.".to_owned());
    };
    let registered = client.redirect_uris.iter().any(|uri| uri == redirect_uri);
    let Some(back) = registered.then(|| Url::parse(redirect_uri).ok()).flatten() else {
        return Answer::Refuse(format!("The redirect URI {redirect_uri} is not registered."));
    };
    let back = Return { to: back, state: params.get("state"), issuer: provider.issuer() };

    match request(&params) {
        Err(fault) => back.with_error(&fault),
        Ok(Request::Ask { problem }) => Answer::Choose(Choice::new(&params, problem)),
        Ok(Request::SignIn { user, code_challenge }) => {
            let grant = Grant {
                user,
                redirect_uri: redirect_uri.to_owned(),
                code_challenge,
                nonce: params.get("nonce").map(str::to_owned),
                scopes: Scopes::parse(params.get("scope").unwrap_or_default()),
            };
            match provider.grants().issue_code(grant, now) {
                Some(code) => back.with(&[("code", &code)]),
                None => back.with_error(&Fault(
                    "temporarily_unavailable",
                    "Too many sign-ins are under way.".to_owned(),
                )),
            }
        }
    }
}

/// An error code of RFC 6749 section 4.1.2.1 or OpenID Connect Core 1.0 section 3.1.2.6, and a sentence.
struct Fault(&'static str, String);

enum Request {
    SignIn { user: User, code_challenge: String },
    Ask { problem: Option<String> },
}

fn request(params: &Params) -> Result<Request, Fault> {
    for (name, code) in [("request", "request_not_supported"), ("request_uri", "request_uri_not_supported")] {
        if params.get(name).is_some() {
            return Err(Fault(code, format!("The parameter {name} is not supported.")));
        }
    }
    match params.get("response_type") {
        Some("code") => {}
        Some(_) => return Err(Fault("unsupported_response_type", "Only response_type=code is.".to_owned())),
        None => return Err(Fault("invalid_request", "The parameter response_type is missing.".to_owned())),
    }
    if !matches!(params.get("response_mode"), None | Some("query")) {
        return Err(Fault("invalid_request", "Only response_mode=query is supported.".to_owned()));
    }
    if !Scopes::parse(params.get("scope").unwrap_or_default()).openid {
        return Err(Fault("invalid_scope", "The scope must contain openid.".to_owned()));
    }
    let Some(code_challenge) = params.get("code_challenge").filter(|value| is_s256_challenge(value)) else {
        return Err(Fault(
            "invalid_request",
            "A PKCE code_challenge of 43 characters is required.".to_owned(),
        ));
    };
    if params.get("code_challenge_method") != Some("S256") {
        return Err(Fault("invalid_request", "code_challenge_method must be S256.".to_owned()));
    }

    let prompts: Vec<_> = params.get("prompt").unwrap_or_default().split(' ').collect();
    let silent = prompts.contains(&"none");
    if silent && prompts.len() > 1 {
        return Err(Fault("invalid_request", "prompt=none goes with no other prompt.".to_owned()));
    }
    let must_ask = prompts.iter().any(|prompt| matches!(*prompt, "login" | "select_account"));
    let hint = params.get("login_hint");
    match hint.map(User::with_email) {
        Some(Some(user)) if !must_ask => {
            Ok(Request::SignIn { user, code_challenge: code_challenge.to_owned() })
        }
        _ if silent => Err(Fault("login_required", "Nobody is named by login_hint.".to_owned())),
        Some(None) => {
            let problem = format!("“{}” is not an e-mail address.", hint.unwrap_or_default());
            Ok(Request::Ask { problem: Some(problem) })
        }
        _ => Ok(Request::Ask { problem: None }),
    }
}

/// A SHA-256 in base64url without padding (RFC 7636 section 4.2).
fn is_s256_challenge(value: &str) -> bool {
    value.len() == 43 && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

struct Return<'a> {
    to: Url,
    state: Option<&'a str>,
    issuer: &'a str,
}

impl Return<'_> {
    fn with(mut self, answer: &[(&str, &str)]) -> Answer {
        {
            let mut query = self.to.query_pairs_mut();
            query.extend_pairs(answer);
            if let Some(state) = self.state {
                query.append_pair("state", state);
            }
            query.append_pair("iss", self.issuer);
        }
        Answer::Redirect(self.to)
    }

    fn with_error(self, Fault(code, description): &Fault) -> Answer {
        self.with(&[("error", code), ("error_description", description)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::fixture::{REDIRECT_URI, provider};

    const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

    fn complete() -> Vec<(&'static str, &'static str)> {
        vec![
            ("client_id", "client"),
            ("redirect_uri", REDIRECT_URI),
            ("response_type", "code"),
            ("scope", "openid email"),
            ("state", "opaque&state"),
            ("code_challenge", CHALLENGE),
            ("code_challenge_method", "S256"),
            ("login_hint", "alice@example.com"),
        ]
    }

    /// The answer to a complete request in which one parameter has another value, or none.
    fn answer(name: &str, value: Option<&str>) -> Answer {
        let mut query = form_urlencoded::Serializer::new(String::new());
        for (key, kept) in complete() {
            if key != name {
                query.append_pair(key, kept);
            }
        }
        if let Some(value) = value {
            query.append_pair(name, value);
        }
        authorize(&provider(), query.finish().as_bytes(), Instant::now())
    }

    fn returned(answer: Answer, name: &str) -> Option<String> {
        let Answer::Redirect(url) = answer else { panic!("expected a redirect, got {answer:?}") };
        assert!(url.as_str().starts_with(REDIRECT_URI));
        let parameter = |wanted: &str| {
            url.query_pairs().find(|(key, _)| key == wanted).map(|(_, value)| value.into_owned())
        };
        assert_eq!(parameter("iss").as_deref(), Some("http://127.0.0.1:8090"));
        parameter(name)
    }

    #[test]
    fn a_hint_signs_in_without_a_page() {
        assert_eq!(returned(answer("", None), "code").expect("a code").len(), 43);
        assert_eq!(returned(answer("", None), "state").as_deref(), Some("opaque&state"));
    }

    #[test]
    fn nobody_is_sent_to_an_address_that_is_not_registered() {
        for (name, value) in [
            ("client_id", None),
            ("client_id", Some("other")),
            ("redirect_uri", None),
            ("redirect_uri", Some("http://127.0.0.1:8080/auth/callback/")),
            ("redirect_uri", Some("http://127.0.0.1:8080/auth/callback?x=1")),
            ("redirect_uri", Some("https://evil.example/")),
        ] {
            assert!(matches!(answer(name, value), Answer::Refuse(_)), "{name}={value:?}");
        }
        let twice =
            format!("client_id=client&redirect_uri={REDIRECT_URI}&redirect_uri=https://evil.example/");
        assert!(matches!(authorize(&provider(), twice.as_bytes(), Instant::now()), Answer::Refuse(_)));
    }

    #[test]
    fn faults_go_back_to_the_client() {
        for (name, value, error) in [
            ("response_type", None, "invalid_request"),
            ("response_type", Some("token"), "unsupported_response_type"),
            ("response_mode", Some("fragment"), "invalid_request"),
            ("scope", Some("email"), "invalid_scope"),
            ("code_challenge", None, "invalid_request"),
            ("code_challenge", Some("too-short"), "invalid_request"),
            ("code_challenge_method", None, "invalid_request"),
            ("code_challenge_method", Some("plain"), "invalid_request"),
            ("prompt", Some("none login"), "invalid_request"),
            ("request", Some("x.y.z"), "request_not_supported"),
            ("request_uri", Some("https://a/"), "request_uri_not_supported"),
        ] {
            assert_eq!(returned(answer(name, value), "error").as_deref(), Some(error), "{name}={value:?}");
        }
    }

    #[test]
    fn without_a_usable_hint_a_page_asks() {
        assert!(matches!(answer("login_hint", None), Answer::Choose(_)));
        assert!(matches!(answer("prompt", Some("select_account")), Answer::Choose(_)));
        let Answer::Choose(choice) = answer("login_hint", Some("<nobody>")) else {
            panic!("expected a page")
        };
        let page = choice.to_html();
        assert!(page.contains("“&#60;nobody&#62;” is not an e-mail address."), "{page}");
        assert!(page.contains(CHALLENGE), "the page carries the request on");
    }

    #[test]
    fn prompt_none_never_asks() {
        let mut query = form_urlencoded::Serializer::new("prompt=none".to_owned());
        query.extend_pairs(complete().iter().filter(|(name, _)| *name != "login_hint"));
        let answer = authorize(&provider(), query.finish().as_bytes(), Instant::now());
        assert_eq!(returned(answer, "error").as_deref(), Some("login_required"));
    }
}
