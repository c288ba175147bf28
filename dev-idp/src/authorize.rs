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
    use crate::provider::fixture::{CHALLENGE, REDIRECT_URI, provider};

    const COMPLETE: [(&str, &str); 9] = [
        ("client_id", "client"),
        ("redirect_uri", REDIRECT_URI),
        ("response_type", "code"),
        ("scope", "openid email"),
        ("state", "opaque&state"),
        ("nonce", "once"),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
        ("login_hint", "alice@example.com"),
    ];

    /// The answer to a complete request in which these parameters have other values; an empty one is absent.
    fn answer_of(provider: &Provider, others: &[(&str, &str)]) -> Answer {
        let kept = COMPLETE.iter().filter(|(name, _)| others.iter().all(|(other, _)| other != name));
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(kept).extend_pairs(others);
        authorize(provider, query.finish().as_bytes(), Instant::now())
    }

    fn answer(others: &[(&str, &str)]) -> Answer {
        answer_of(&provider(), others)
    }

    /// What the browser brings back to the client.
    fn returned(answer: Answer) -> Vec<(String, String)> {
        let Answer::Redirect(mut url) = answer else { panic!("expected a redirect, got {answer:?}") };
        let pairs = url.query_pairs().into_owned().collect();
        url.set_query(None);
        assert_eq!(url.as_str(), REDIRECT_URI);
        pairs
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn fault(error: &str, description: &str) -> Vec<(String, String)> {
        pairs(&[
            ("error", error),
            ("error_description", description),
            ("state", "opaque&state"),
            ("iss", "http://127.0.0.1:8090"),
        ])
    }

    #[test]
    fn a_hint_signs_in_without_a_page() {
        let (provider, now) = (provider(), Instant::now());
        for prompt in ["", "none", "consent"] {
            let returned = returned(answer_of(&provider, &[("prompt", prompt)]));
            let code = returned[0].1.clone();
            assert_eq!(
                returned,
                pairs(&[("code", &code), ("state", "opaque&state"), ("iss", "http://127.0.0.1:8090")])
            );
            let grant = Grant {
                user: User::with_email("alice@example.com").expect("an address"),
                redirect_uri: REDIRECT_URI.to_owned(),
                code_challenge: CHALLENGE.to_owned(),
                nonce: Some("once".to_owned()),
                scopes: Scopes::parse("openid email"),
            };
            assert_eq!(provider.grants().spend_code(&code, now), Some(grant), "{prompt}");
        }
    }

    #[test]
    fn what_may_be_left_out_is_not_missed() {
        let (provider, now) = (provider(), Instant::now());
        let others = [("state", ""), ("nonce", ""), ("response_mode", "query")];
        let returned = returned(answer_of(&provider, &others));
        let code = returned[0].1.clone();
        assert_eq!(returned, pairs(&[("code", &code), ("iss", "http://127.0.0.1:8090")]));
        assert_eq!(provider.grants().spend_code(&code, now).expect("the grant").nonce, None);
    }

    #[test]
    fn nobody_is_sent_to_an_address_that_is_not_registered() {
        for (name, value, why) in [
            ("client_id", "", "The parameter client_id is missing."),
            ("client_id", "other", "There is no client other here."),
            ("redirect_uri", "", "The parameter redirect_uri is missing."),
            (
                "redirect_uri",
                "http://127.0.0.1:8080/auth/callback/",
                "The redirect URI http://127.0.0.1:8080/auth/callback/ is not registered.",
            ),
            (
                "redirect_uri",
                "http://127.0.0.1:8080/auth/callback?x=1",
                "The redirect URI http://127.0.0.1:8080/auth/callback?x=1 is not registered.",
            ),
            (
                "redirect_uri",
                "https://evil.example/",
                "The redirect URI https://evil.example/ is not registered.",
            ),
        ] {
            let answer = answer(&[(name, value)]);
            assert!(matches!(&answer, Answer::Refuse(reason) if reason == why), "{answer:?}");
        }
        let twice =
            format!("client_id=client&redirect_uri={REDIRECT_URI}&redirect_uri=https://evil.example/");
        let answer = authorize(&provider(), twice.as_bytes(), Instant::now());
        let why = "The parameter redirect_uri stands there twice.";
        assert!(matches!(&answer, Answer::Refuse(reason) if reason == why), "{answer:?}");
    }

    #[test]
    fn faults_go_back_to_the_client() {
        let challenge = ("invalid_request", "A PKCE code_challenge of 43 characters is required.");
        let method = ("invalid_request", "code_challenge_method must be S256.");
        let mode = ("invalid_request", "Only response_mode=query is supported.");
        let scope = ("invalid_scope", "The scope must contain openid.");
        for (name, value, (error, description)) in [
            ("response_type", "", ("invalid_request", "The parameter response_type is missing.")),
            ("response_type", "token", ("unsupported_response_type", "Only response_type=code is.")),
            ("response_mode", "fragment", mode),
            ("scope", "", scope),
            ("scope", "email", scope),
            ("code_challenge", "", challenge),
            ("code_challenge", &CHALLENGE[1..], challenge),
            ("code_challenge", &format!("{CHALLENGE}x"), challenge),
            ("code_challenge", &CHALLENGE.replace('-', "+"), challenge),
            ("code_challenge", &CHALLENGE.replace('M', "="), challenge),
            ("code_challenge_method", "", method),
            ("code_challenge_method", "plain", method),
            ("prompt", "none login", ("invalid_request", "prompt=none goes with no other prompt.")),
            ("request", "x.y.z", ("request_not_supported", "The parameter request is not supported.")),
            (
                "request_uri",
                "https://a/",
                ("request_uri_not_supported", "The parameter request_uri is not supported."),
            ),
        ] {
            assert_eq!(returned(answer(&[(name, value)])), fault(error, description), "{name}={value}");
        }
    }

    #[test]
    fn a_challenge_is_any_base64url() {
        for challenge in
            [CHALLENGE.to_owned(), "0".repeat(43), "_".repeat(43), "Zz-_9".repeat(9)[..43].to_owned()]
        {
            assert_eq!(returned(answer(&[("code_challenge", &challenge)]))[0].0, "code", "{challenge}");
        }
    }

    #[test]
    fn more_sign_ins_than_can_be_kept_are_put_off() {
        let provider = provider();
        provider.grants().crowd(100_000, 0, Instant::now());
        let put_off = fault("temporarily_unavailable", "Too many sign-ins are under way.");
        assert_eq!(returned(answer_of(&provider, &[])), put_off);
    }

    #[test]
    fn without_a_usable_hint_a_page_asks() {
        for others in [
            [("login_hint", "")],
            [("prompt", "login")],
            [("prompt", "select_account")],
            [("prompt", "login select_account")],
        ] {
            let Answer::Choose(choice) = answer(&others) else { panic!("expected a page: {others:?}") };
            assert!(!choice.to_html().contains("role=\"alert\""), "nothing was wrong: {others:?}");
        }
        let Answer::Choose(choice) = answer(&[("login_hint", "<nobody>")]) else { panic!("expected a page") };
        let page = choice.to_html();
        assert!(page.contains("“&#60;nobody&#62;” is not an e-mail address."), "{page}");
        assert!(page.contains(CHALLENGE), "the page carries the request on");
    }

    #[test]
    fn prompt_none_never_asks() {
        let expected = fault("login_required", "Nobody is named by login_hint.");
        for hint in ["", "nobody"] {
            assert_eq!(returned(answer(&[("prompt", "none"), ("login_hint", hint)])), expected, "{hint}");
        }
    }
}
