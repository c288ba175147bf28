//! The two pages people see: whom to sign in, and why a request was refused.

use askama::Template;

use crate::params::Params;

/// Offered for one click; anybody else can be typed.
const PEOPLE: [&str; 2] = ["alice@example.com", "bob@example.com"];

/// The parameters of the authorization request that the page carries on. `login_hint` and `prompt` are what
/// the page itself answers.
const CARRIED: [&str; 9] = [
    "client_id",
    "redirect_uri",
    "response_type",
    "response_mode",
    "scope",
    "state",
    "nonce",
    "code_challenge",
    "code_challenge_method",
];

#[derive(Debug, Template)]
#[template(path = "choose.html")]
pub struct Choice {
    client_id: String,
    carried: Vec<(&'static str, String)>,
    people: [&'static str; 2],
    problem: Option<String>,
}

impl Choice {
    pub fn new(params: &Params, problem: Option<String>) -> Self {
        let carried = CARRIED
            .into_iter()
            .filter_map(|name| params.get(name).map(|value| (name, value.to_owned())))
            .collect();
        let client_id = params.get("client_id").unwrap_or_default().to_owned();
        Self { client_id, carried, people: PEOPLE, problem }
    }

    pub fn to_html(&self) -> String {
        self.render().expect("a template over strings renders")
    }
}

#[derive(Debug, Template)]
#[template(path = "refused.html")]
pub struct Refused {
    pub reason: String,
}

impl Refused {
    pub fn to_html(&self) -> String {
        self.render().expect("a template over strings renders")
    }
}
