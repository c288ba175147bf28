//! The client behind an authorization request, whichever way it is known.

use http::StatusCode;
use icu_properties::{CodePointSetData, props::DefaultIgnorableCodePoint};

use crate::{
    app::App,
    authorization_server::{document::DocumentFault, redirect::RedirectUri},
    error::Fault,
    scope,
};

/// What makes an id the address of a metadata document.
const DOCUMENT: &str = "https://";
/// As much of a name as a consent page shows.
const LONGEST_NAME: usize = 60;

/// A client, and what it may have without anybody being asked again.
pub struct Client {
    pub id: String,
    /// What it calls itself, fit to be shown; empty where it says nothing.
    pub name: String,
    /// The host that publishes its document, where it has one: all that is known for certain of who it is.
    pub publisher: Option<String>,
    /// Whether others know its id: all do, but for one that registered itself and got an id of its own.
    is_well_known: bool,
    redirect_uris: Vec<String>,
    consented: Option<Vec<String>>,
    offered: Vec<String>,
}

impl Client {
    /// The client of this id, as it may be sent to `redirect`; a fault that is shown and never redirected.
    pub async fn find(
        app: &App,
        id: &str,
        redirect: &RedirectUri<'_>,
        browser: Option<&str>,
    ) -> Result<Self, Fault> {
        let oauth = &app.authorization_server;
        let document = if id.starts_with(DOCUMENT) {
            Some(oauth.documents.get(id, &oauth.private_schemes).await?)
        } else {
            None
        };
        let known = app.sessions.find_client(id, browser, redirect.host()).await?;
        let (name, redirect_uris) = match document {
            Some(document) => (Some(document.client_name.clone()), Some(document.redirect_uris.clone())),
            None => (known.name, known.redirect_uris),
        };
        let client = Self {
            id: id.to_owned(),
            name: shown(name.as_deref().unwrap_or_default()),
            publisher: id
                .strip_prefix(DOCUMENT)
                .and_then(|rest| rest.split(['/', '?']).next())
                .map(str::to_owned),
            is_well_known: !known.dynamic,
            redirect_uris: redirect_uris.ok_or_else(unknown)?,
            consented: known.consented,
            offered: known.offered,
        };
        if client.redirect_uris.iter().any(|registered| redirect.is(registered)) {
            Ok(client)
        } else {
            Err(unregistered_redirect())
        }
    }

    /// What it gets of the scopes it asks for: those that any tool needs, and the one that every session has. Clients ask
    /// for scopes of servers they know, and are told in the answer what they got (RFC 6749 §3.3).
    pub fn granted(&self, mut scopes: Vec<String>) -> Vec<String> {
        scopes.retain(|scope| self.offered.contains(scope));
        scope::with_base(scopes)
    }

    /// Whether somebody in this browser has let it have all of these scopes at this place already.
    ///
    /// Not where anybody on the visitor's device could be this client: its id is public, and so is the way back to it
    /// (RFC 8252 §8.6).
    pub fn may_pass(&self, redirect: &RedirectUri<'_>, scopes: &[String]) -> bool {
        let impersonable = self.is_well_known && redirect.is_local();
        !impersonable
            && self.consented.as_ref().is_some_and(|given| scopes.iter().all(|scope| given.contains(scope)))
    }
}

/// A name that a stranger chose, fit to be shown: one line, no character that hides or reorders others, not too long.
pub fn shown(name: &str) -> String {
    let invisible = CodePointSetData::new::<DefaultIgnorableCodePoint>();
    // Beside what Unicode says is ignored: the blank of Braille, and annotations between lines.
    let hidden = |letter: char| {
        letter.is_control()
            || invisible.contains(letter)
            || matches!(letter, '\u{2800}' | '\u{FFF9}'..='\u{FFFB}')
    };
    let spaced = name.replace(char::is_whitespace, " ");
    let clean: String = spaced.chars().filter(|letter| !hidden(*letter)).collect();
    let words = clean.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    if words.chars().count() <= LONGEST_NAME {
        return words;
    }
    let mut short: String = words.chars().take(LONGEST_NAME - 1).collect();
    short.push('…');
    short
}

fn unknown() -> Fault {
    Fault::client(
        StatusCode::BAD_REQUEST,
        "invalid_client",
        "The application that sent you here is not registered, or not any more: let it connect anew.",
    )
}

/// The redirect URI is not one of the client's, or none that any client may have.
pub fn unregistered_redirect() -> Fault {
    Fault::client(
        StatusCode::BAD_REQUEST,
        "invalid_redirect_uri",
        "The application that sent you here asks for an answer at an address that it has not registered.",
    )
}

impl From<DocumentFault> for Fault {
    fn from(fault: DocumentFault) -> Self {
        Fault::client(
            StatusCode::BAD_REQUEST,
            "invalid_client_metadata",
            format!(
                "The document that describes the application which sent you here cannot be used: {fault}."
            ),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_hide_anything() {
        for (name, expected) in [
            ("Claude Code", "Claude Code"),
            ("  a \t\r\n b  ", "a b"),
            ("Müller & Söhne <b>", "Müller & Söhne <b>"),
            ("evil\u{202e}gpj.exe", "evilgpj.exe"),
            ("a\u{200b}\u{200d}\u{feff}b\u{0}", "ab"),
            ("a\u{2066}b\u{2069}", "ab"),
            ("\u{e0041}x", "x"),
            ("\u{200b}", ""),
            ("\u{3164}\u{115f}\u{1160}\u{ffa0}\u{34f}\u{2800}", ""),
            ("a\u{3164}b", "ab"),
            ("\u{17b4}\u{17b5}\u{180b}\u{180f}\u{1bca0}\u{1d173}\u{e01ef}", ""),
            ("a\u{fff9}b\u{fffb}c", "abc"),
            ("", ""),
        ] {
            assert_eq!(shown(name), expected, "{name:?}");
        }
        let long = shown(&"Ω".repeat(1000));
        assert_eq!(long.chars().count(), LONGEST_NAME);
        assert!(long.ends_with('…'));
        let longest = "Ω".repeat(LONGEST_NAME);
        assert_eq!(shown(&longest), longest);
    }

    #[test]
    fn consent_is_asked_again_where_anybody_could_be_the_client() {
        let client = |is_well_known: bool, consented: Option<&[&str]>| Client {
            id: String::new(),
            name: String::new(),
            publisher: None,
            is_well_known,
            redirect_uris: Vec::new(),
            consented: consented.map(|scopes| scopes.iter().map(|scope| (*scope).to_owned()).collect()),
            offered: vec!["notes:write".into()],
        };
        let web = RedirectUri::parse("https://app.example.com/cb").unwrap();
        let local = RedirectUri::parse("http://127.0.0.1:1/cb").unwrap();
        let scopes = ["mcp".to_owned()];
        let private = RedirectUri::parse("com.example.app:/cb").unwrap();
        for uri in [&web, &local, &private] {
            assert!(client(false, Some(&["mcp", "a"])).may_pass(uri, &scopes));
            assert!(!client(false, Some(&["a"])).may_pass(uri, &scopes));
            assert!(!client(false, Some(&[])).may_pass(uri, &scopes));
            assert!(!client(false, None).may_pass(uri, &scopes));
        }
        assert!(client(true, Some(&["mcp"])).may_pass(&web, &scopes));
        assert!(!client(true, Some(&["mcp"])).may_pass(&local, &scopes));
        assert!(!client(true, Some(&["mcp"])).may_pass(&private, &scopes));
        let asked = ["openid", "notes:write", "mcp", "offline_access"].map(str::to_owned).to_vec();
        assert_eq!(client(false, None).granted(asked), ["mcp", "notes:write"]);
    }
}
