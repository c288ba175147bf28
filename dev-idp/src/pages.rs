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

#[cfg(test)]
mod tests {
    use super::*;

    /// The tags with these names, as they stand in the page.
    fn tags<'a>(html: &'a str, names: &[&str]) -> Vec<&'a str> {
        let named = |tag: &&str| tag.split_once(' ').is_some_and(|(name, _)| names.contains(&name));
        html.split('<').filter_map(|rest| rest.split('>').next()).filter(named).collect()
    }

    /// The text of what is the page's own: each piece between two tags that says something.
    fn text(html: &str) -> Vec<&str> {
        let main = html.split("<main>").nth(1).expect("a main part");
        let pieces = main.split('<').filter_map(|rest| rest.split('>').nth(1));
        pieces.map(str::trim).filter(|piece| !piece.is_empty()).collect()
    }

    const ASIDE: &str =
        "This provider is for development: it asks for no password and answers only on this machine.";

    #[test]
    fn whoever_is_chosen_the_request_goes_on_as_it_was() {
        let query = "client_id=client&redirect_uri=http://a/&response_type=code&response_mode=query&scope=openid\
                     &state=%22%3E%3Cb%3E%26&nonce=once&code_challenge=x&code_challenge_method=S256\
                     &login_hint=me&prompt=login&display=page";
        let params = Params::parse(query.as_bytes()).expect("well formed");
        let page = Choice::new(&params, Some("It is <b>.".to_owned())).to_html();

        let form = r#"form action="/authorize" method="get""#;
        let carried = [
            r#"input type="hidden" name="client_id" value="client""#,
            r#"input type="hidden" name="redirect_uri" value="http://a/""#,
            r#"input type="hidden" name="response_type" value="code""#,
            r#"input type="hidden" name="response_mode" value="query""#,
            r#"input type="hidden" name="scope" value="openid""#,
            r#"input type="hidden" name="state" value="&#34;&#62;&#60;b&#62;&#38;""#,
            r#"input type="hidden" name="nonce" value="once""#,
            r#"input type="hidden" name="code_challenge" value="x""#,
            r#"input type="hidden" name="code_challenge_method" value="S256""#,
        ];
        let people = [
            r#"button name="login_hint" value="alice@example.com""#,
            r#"button name="login_hint" value="bob@example.com""#,
        ];
        let typed = r#"input id="email" name="login_hint" type="email" required autocomplete="email" maxlength="254""#;
        let expected = [&[form], &carried[..], &people[..], &[form], &carried[..], &[typed]].concat();
        assert_eq!(tags(&page, &["form", "input", "button"]), expected);
        let expected = [
            "Who are you?",
            "You are signing in to",
            "client",
            ".",
            "It is &#60;b&#62;.",
            "alice@example.com",
            "bob@example.com",
            "Somebody else, by e-mail address",
            "Sign in",
            ASIDE,
        ];
        assert_eq!(text(&page), expected);
    }

    #[test]
    fn nothing_is_carried_that_was_not_sent() {
        let params = Params::parse(b"client_id=client&login_hint=me").expect("well formed");
        let page = Choice::new(&params, None).to_html();
        let hidden: Vec<_> =
            tags(&page, &["input"]).into_iter().filter(|tag| tag.contains("hidden")).collect();
        assert_eq!(hidden, [r#"input type="hidden" name="client_id" value="client""#; 2]);
        assert!(!page.contains("role=\"alert\""), "{page}");
    }

    #[test]
    fn a_refusal_says_why() {
        let page = Refused { reason: "No <b> here.".to_owned() }.to_html();
        let expected = [
            "This sign-in cannot go on",
            "No &#60;b&#62; here.",
            "The application that sent you here has to correct its request.",
            ASIDE,
        ];
        assert_eq!(text(&page), expected);
        assert_eq!(tags(&page, &["form", "input", "button"]), [""; 0]);
    }
}
