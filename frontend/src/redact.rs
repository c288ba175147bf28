//! The last line of defence for logs: whatever a library logs, secrets leave no trace of themselves.
//!
//! Nothing here is meant to find anything. Tokens are kept in types that do not print; this is for the
//! debug output of libraries, which do not know what is secret.

use std::{
    borrow::Cow,
    io::{self, Write},
    sync::LazyLock,
};

use regex::{Captures, Regex};
use tracing_subscriber::fmt::MakeWriter;

/// What takes the place of a secret.
const HIDDEN: &str = "…";

/// One alternative for each way a secret shows up; what is captured stays.
static SECRETS: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r#"(?x)
          (?<ours>mcp[src]_[0-9A-Za-z]{22}_) [0-9A-Za-z]{44,}
        | \b eyJ[\w-]{4,}\.[\w-]+\.[\w-]*
        | (?<url>://[^/\s:@"]*:) [^/\s@"]+ (?<at>@)
        | (?<scheme>(?i:\b(?:bearer|basic))\s+) [\w.~+/=-]{8,}
        | (?<query>[?&](?:code|state|nonce|login_hint|code_challenge|iss)=) [^&\s"\\]+
        | (?<key>(?i:access_token|refresh_token|id_token|session_id|client_secret|api_key|code_verifier|verifier
                    |nonce|password|authorization|x-mcp-session-id|set-cookie|cookie|mcp_signin\w*|mcp_browser|mcp_account|mcp_session_id)
             (?:\\?["'])?\s*[=:]\s*(?:\\?["'])?(?:Some\(\\?["'])?) (?<value>[^\s"'\\&;,)}\]]{8,})
        "#,
    )
    .expect("a constant expression")
});

/// `text` with every secret replaced; borrowed where there is none.
pub fn redact(text: &str) -> Cow<'_, str> {
    SECRETS.replace_all(text, |found: &Captures<'_>| {
        // A public session id is a UUID, and belongs into logs.
        if found.name("value").is_some_and(|value| is_uuid(value.as_str())) {
            return found[0].to_owned();
        }
        let kept = |name| found.name(name).map_or("", |kept| kept.as_str());
        let before = ["ours", "url", "scheme", "query", "key"].map(kept).concat();
        format!("{before}{HIDDEN}{}", kept("at"))
    })
}

fn is_uuid(text: &str) -> bool {
    uuid::Uuid::try_parse(text).is_ok()
}

/// A writer of logs, redacted. The formatter writes each event whole, so that no secret is cut in two.
#[derive(Clone)]
pub struct Redacted<W>(pub W);

impl<W: Write> Write for Redacted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        self.0.write_all(redact(&text).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl<W: Write + Clone> MakeWriter<'_> for Redacted<W> {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_replaced() {
        let token = format!("mcps_{}_{}", "0123456789ABCDEFGHabcd", "s".repeat(50));
        let jwt = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ1In0.c2lnbmF0dXJl";
        for (line, secret) in [
            (format!("got {token} here"), "ssss"),
            (format!("{{\"session_id\":\"{token}\"}}"), "ssss"),
            (format!("Authorization: Bearer {token}"), "ssss"),
            (format!("refresh {}", token.replace("mcps", "mcpr")), "ssss"),
            (format!("claims of {jwt}"), "c2lnbmF0dXJl"),
            ("authorization: \"Basic bWNwOmh1c2gtaHVzaA==\"".into(), "bWNwOmh1c2gtaHVzaA"),
            ("GET /auth/callback?code=hush-hush&state=hush-hush-2 HTTP/1.1".into(), "hush"),
            ("url=http://id/authorize?x=1&state=hush-hush&nonce=hush-hush".into(), "hush"),
            (r#"{"access_token":"hush-hush-hush","expires_in":1}"#.into(), "hush"),
            (r#"body = "{\"refresh_token\":\"hush-hush-hush\"}""#.into(), "hush"),
            ("client_secret=hush-hush-hush&grant_type=x".into(), "hush"),
            ("code_verifier: Some(\"hush-hush-hush\")".into(), "hush"),
            ("set-cookie: mcp_signin=hush-hush-hush; Path=/".into(), "hush"),
            ("cookie: mcp_session_id=hush-hush-hush".into(), "hush"),
            (
                "cookie: theme=1; mcp_browser=hush-hush-hush; mcp_signin_abcdefgh=hush-hush-hush".into(),
                "hush",
            ),
            ("__Host-mcp_account=hush-hush-hush".into(), "hush"),
            ("connecting to postgresql://mcp:hush-hush@127.0.0.1/db".into(), "hush"),
            ("PASSWORD='hush-hush-hush'".into(), "hush"),
            ("/authorize?login_hint=hush@example.com&code_challenge=hush&iss=hush&nonce=hush".into(), "hush"),
            (r#"{"id_token":"hush-hush-hush","nonce":"hush-hush-hush"}"#.into(), "hush"),
            ("api_key = hush-hush-hush".into(), "hush"),
            ("verifier: \"hush-hush-hush\"".into(), "hush"),
            ("x-mcp-session-id: hush-hush-hush".into(), "hush"),
            ("session_id=hush-hush-hush".into(), "hush"),
            ("authorization: hush-hush-hush".into(), "hush"),
            ("cookie: hush-hush-hush".into(), "hush"),
        ] {
            let shown = redact(&line);
            assert!(!shown.contains(secret), "{line} gives {shown}");
        }
    }

    #[test]
    fn what_is_written_is_redacted() {
        let mut written = Redacted(Vec::new());
        written.write_all(b"password=hush-hush-hush\n").unwrap();
        assert_eq!(String::from_utf8(written.0).unwrap(), "password=…\n");
    }

    #[test]
    fn what_is_public_stays() {
        for line in [
            "method=POST path=/mcp/v1 status=200",
            "session_id=0190f0d4-1111-7abc-8def-0123456789ab ended",
            "connecting to postgresql://mcp@127.0.0.1/db",
            "state changed, code 57014",
            "mcps_0123456789ABCDEFGHabcd_…",
            "the bearer of bad news",
        ] {
            assert_eq!(redact(line), line);
        }
        let token = format!("mcps_{}_{}", "0123456789ABCDEFGHabcd", "s".repeat(50));
        assert_eq!(redact(&token), "mcps_0123456789ABCDEFGHabcd_…");
    }
}

#[cfg(test)]
mod property {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_token_survives_wherever_it_stands(
            before in ".{0,12}",
            kind in "[src]",
            selector in "[0-9A-Za-z]{22}",
            secret in "[0-9A-Za-z]{50}",
            after in ".{0,12}",
        ) {
            let line = format!("{before}mcp{kind}_{selector}_{secret}{after}");
            prop_assert!(!redact(&line).contains(&secret), "{}", redact(&line));
        }
    }
}
