//! Redirect URIs: which are acceptable, which two are the same, and whom people are told they lead to.
//!
//! The same means byte for byte (RFC 9700 §2.1), with the one exception that native applications need: on loopback the
//! port is chosen when the application starts (RFC 8252 §7.3). `localhost`, `127.0.0.1` and `[::1]` are three hosts.

use url::Url;

/// What browsers and proxies carry.
const LONGEST: usize = 2048;
const LOOPBACK: &[&str] = &["localhost", "127.0.0.1", "[::1]"];

/// A redirect URI of an acceptable form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedirectUri<'a> {
    text: &'a str,
    target: Target<'a>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target<'a> {
    /// `https`, at this host (with a port, where it names one).
    Web(&'a str),
    /// `http` on this computer, under this name; and what follows the port.
    Loopback(&'a str, &'a str),
    /// An application on this device that registered this scheme with the operating system (RFC 8252 §7.1).
    Private(&'a str),
}

impl<'a> RedirectUri<'a> {
    /// `None` for what no client may be sent back to: another scheme, a fragment, a user name, an odd character.
    ///
    /// Private schemes are for the operator to allow; here they need only be none of the browser's own.
    pub fn parse(text: &'a str) -> Option<Self> {
        let printable = text.bytes().all(|byte| matches!(byte, 0x21..=0x7e));
        if text.len() > LONGEST || !printable || text.contains(['#', '\\', '"', '<', '>']) {
            return None;
        }
        let (scheme, rest) = text.split_once(':')?;
        let target = match scheme {
            "https" => web(text, rest)?,
            "http" => loopback(rest)?,
            _ => private(text, scheme, rest)?,
        };
        Some(Self { text, target })
    }

    /// The URI as it was sent.
    pub fn text(&self) -> &'a str {
        self.text
    }

    /// Where it leads, as consent is given for it and people are told: a host, or a scheme.
    pub fn host(&self) -> &'a str {
        match self.target {
            Target::Web(host) | Target::Loopback(host, _) => host,
            Target::Private(scheme) => scheme,
        }
    }

    /// Whether it leads to a program on the visitor's own computer, which any other program there can impersonate.
    pub fn is_loopback(&self) -> bool {
        matches!(self.target, Target::Loopback(..))
    }

    /// Whether it leads to a program on the visitor's own device, whichever way: another one there can be in its place.
    pub fn is_local(&self) -> bool {
        !matches!(self.target, Target::Web(_))
    }

    /// The scheme, where it is an application's own.
    pub fn private_scheme(&self) -> Option<&'a str> {
        match self.target {
            Target::Private(scheme) => Some(scheme),
            _ => None,
        }
    }

    /// Whether a client that registered `registered` may be sent here.
    pub fn is(&self, registered: &str) -> bool {
        if self.text == registered {
            return true;
        }
        match (self.target, RedirectUri::parse(registered).map(|uri| uri.target)) {
            (Target::Loopback(host, rest), Some(Target::Loopback(registered_host, registered_rest))) => {
                host == registered_host && rest == registered_rest
            }
            _ => false,
        }
    }

    /// The URI with `parameters` added to its query.
    pub fn with(&self, parameters: &[(&str, &str)]) -> String {
        let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish();
        let separator = match self.text.split_once('?') {
            None => "?",
            Some((_, "")) => "",
            Some(_) => "&",
        };
        [self.text, separator, &query].concat()
    }
}

/// Splits what follows a scheme's colon into its authority and the rest.
fn authority(rest: &str) -> Option<(&str, &str)> {
    let rest = rest.strip_prefix("//")?;
    Some(rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len())))
}

/// A host in the one spelling that browsers have for it: where people are told it leads is where it leads.
fn web<'a>(text: &str, rest: &'a str) -> Option<Target<'a>> {
    let (authority, _) = authority(rest)?;
    let url = Url::parse(text).ok()?;
    let host = url.host_str()?;
    let port = authority.get(host.len()..)?;
    let fits = authority[..host.len()].eq_ignore_ascii_case(host) && is_optional_port(port);
    fits.then_some(Target::Web(authority))
}

fn loopback(rest: &str) -> Option<Target<'_>> {
    let (authority, rest) = authority(rest)?;
    let host = LOOPBACK.iter().find_map(|host| authority.get(..host.len()).filter(|start| start == host))?;
    let port = &authority[host.len()..];
    is_optional_port(port).then_some(Target::Loopback(host, rest))
}

fn is_optional_port(text: &str) -> bool {
    let is_port = |port: &str| {
        port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0)
    };
    text.is_empty() || text.strip_prefix(':').is_some_and(is_port)
}

/// A URI that reaches the application: browsers hand on what they can read, and nothing else.
fn private<'a>(text: &str, scheme: &'a str, rest: &str) -> Option<Target<'a>> {
    /// Schemes that run in the browser, read from it, or belong to the web.
    const NEVER: &[&str] = &[
        "about",
        "blob",
        "data",
        "file",
        "filesystem",
        "ftp",
        "http",
        "https",
        "javascript",
        "mailto",
        "tel",
        "vbscript",
        "view-source",
        "ws",
        "wss",
    ];
    let plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'+' | b'-' | b'.');
    let fits = scheme.bytes().next().is_some_and(|first| first.is_ascii_lowercase())
        && scheme.bytes().all(plain)
        && !NEVER.contains(&scheme)
        && !rest.is_empty()
        && Url::parse(text).is_ok_and(|url| url.username().is_empty() && url.password().is_none());
    fits.then_some(Target::Private(scheme))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_acceptable() {
        for (text, host, loopback) in [
            ("https://app.example.com/callback", "app.example.com", false),
            ("https://app.example.com", "app.example.com", false),
            ("https://app.example.com:8443/a?b=c", "app.example.com:8443", false),
            ("http://localhost/callback", "localhost", true),
            ("http://localhost:3118/callback", "localhost", true),
            ("http://127.0.0.1:65535/", "127.0.0.1", true),
            ("http://[::1]:7?x", "[::1]", true),
            ("com.example.app:/callback", "com.example.app", false),
            ("cursor://anysphere.cursor-mcp/oauth/callback", "cursor", false),
            ("com.example.app:///callback", "com.example.app", false),
            ("a1+b-c.d:/callback", "a1+b-c.d", false),
        ] {
            let uri = RedirectUri::parse(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!((uri.text(), uri.host(), uri.is_loopback()), (text, host, loopback));
        }
        for text in [
            "",
            "https:",
            "https://",
            "https://:443/",
            "https:///path",
            "https://user@app.example.com/",
            "com.example.app://:/callback",
            "com.example.app://user@callback",
            "com.example.app://user:password@callback/",
            "com.example.app://:password@callback/",
            "com.Example.app:/callback",
            "https://app.example.com/#fragment",
            "https://app.example.com/#",
            "https://app.example.com/a b",
            "https://app.example.com/\u{202e}",
            "https://app.example.com\\@evil.example",
            "https://app.example.com/\"><script>",
            "https://app.example.com/\"",
            "https://app.example.com/<",
            "https://app.example.com/>",
            "https://app.example.com/\\",
            "https://app.example.com:65600/",
            "https://app.example.com:/",
            "https://app.exa%6dple.com/",
            "https://0x7f.1/",
            "https://127.1/",
            "https://0xC0.0xA8.1/",
            "https://[::127.0.0.1]/",
            "https://[/",
            "HTTPS://app.example.com/",
            "Https://app.example.com/",
            "http://app.example.com/",
            "http://127.0.0.1.evil.example/",
            "http://localhost.evil.example/",
            "http://localhostevil.example/",
            "http://localhost@evil.example/",
            "http://localhost:80@evil.example/",
            "http://127.0.0.1:0/",
            "http://127.0.0.1:99999/",
            "http://127.0.0.1:+80/",
            "http://127.0.0.2/",
            "http://0x7f.1/",
            "http://[::1]x/",
            "javascript:alert(1)",
            "JavaScript:alert(1)",
            "java\tscript:alert(1)",
            "data:text/html,x",
            "file:///etc/passwd",
            "blob:https://app.example.com/x",
            "vbscript:x",
            "com.example.app:",
            "*://x",
            "https",
            &format!("https://app.example.com/{}", "a".repeat(LONGEST)),
        ] {
            assert_eq!(RedirectUri::parse(text), None, "{text}");
        }
        let mut longest = "https://app.example.com/".to_owned();
        longest.push_str(&"a".repeat(LONGEST - longest.len()));
        assert!(RedirectUri::parse(&longest).is_some());
        assert_eq!(RedirectUri::parse(&format!("{longest}a")), None);
        // Web pages and programs of everybody, not of one application.
        for scheme in
            "about blob data file filesystem ftp javascript mailto tel vbscript view-source ws wss".split(' ')
        {
            for rest in ["//app.example.com/callback", "/callback", "callback"] {
                assert_eq!(RedirectUri::parse(&format!("{scheme}:{rest}")), None, "{scheme}");
            }
        }
    }

    #[test]
    fn only_a_loopback_port_may_differ() {
        let same = |one: &str, two: &str| RedirectUri::parse(one).is_some_and(|uri| uri.is(two));
        for (presented, registered) in [
            ("https://app.example.com/cb", "https://app.example.com/cb"),
            ("http://localhost:3118/callback", "http://localhost/callback"),
            ("http://127.0.0.1/callback", "http://127.0.0.1:9/callback"),
            ("http://127.0.0.1:1/callback", "http://127.0.0.1:2/callback"),
            ("http://[::1]:1/callback?a=b", "http://[::1]/callback?a=b"),
            ("com.example.app:/callback", "com.example.app:/callback"),
        ] {
            assert!(same(presented, registered), "{presented} {registered}");
        }
        for (presented, registered) in [
            ("https://app.example.com/cb", "https://app.example.com/cb/"),
            ("https://app.example.com/cb", "https://app.example.com/CB"),
            ("https://app.example.com/cb", "https://APP.example.com/cb"),
            ("https://app.example.com:443/cb", "https://app.example.com/cb"),
            ("https://app.example.com:1/cb", "https://app.example.com:2/cb"),
            ("https://app.example.com/cb?x", "https://app.example.com/cb"),
            ("https://app.example.com/a/../cb", "https://app.example.com/cb"),
            ("https://app.example.com/%63b", "https://app.example.com/cb"),
            ("https://app.example.com.evil.example/cb", "https://app.example.com/cb"),
            ("https://evil.example/cb", "https://*/cb"),
            ("http://127.0.0.1:1/cb", "http://localhost:1/cb"),
            ("http://localhost:1/cb", "http://127.0.0.1:1/cb"),
            ("http://[::1]:1/cb", "http://127.0.0.1:1/cb"),
            ("http://127.0.0.1:1/other", "http://127.0.0.1:1/cb"),
            ("http://127.0.0.1:1/", "http://127.0.0.1:1"),
            ("https://localhost:1/cb", "https://localhost:2/cb"),
            ("com.example.app:/other", "com.example.app:/callback"),
        ] {
            assert!(!same(presented, registered), "{presented} {registered}");
        }
    }

    #[test]
    fn parameters_are_added_to_what_there_is() {
        for (uri, expected) in [
            ("https://app.example.com/cb", "https://app.example.com/cb?code=a+b&iss=https%3A%2F%2Fh"),
            (
                "https://app.example.com/cb?x=%20y",
                "https://app.example.com/cb?x=%20y&code=a+b&iss=https%3A%2F%2Fh",
            ),
            ("https://app.example.com?", "https://app.example.com?code=a+b&iss=https%3A%2F%2Fh"),
            ("com.example.app:/cb", "com.example.app:/cb?code=a+b&iss=https%3A%2F%2Fh"),
        ] {
            let uri = RedirectUri::parse(uri).unwrap();
            assert_eq!(uri.with(&[("code", "a b"), ("iss", "https://h")]), expected);
        }
    }
}

#[cfg(test)]
mod property {
    use proptest::prelude::*;

    use super::*;

    /// A redirect URI, or something near one.
    fn uri() -> impl Strategy<Value = String> {
        let scheme = prop_oneof![
            4 => Just("http://"), 4 => Just("https://"), 1 => Just("http:"), 1 => Just("HTTP://"), 1 => Just("com.app:/"),
            1 => Just("javascript:"), 1 => Just("https:///"),
        ];
        let host = prop_oneof![
            3 => Just("localhost".to_owned()), 3 => Just("127.0.0.1".to_owned()), 3 => Just("[::1]".to_owned()),
            3 => Just("app.example.com".to_owned()), 1 => Just("127.1".to_owned()), 1 => Just("0x7f.1".to_owned()),
            1 => Just("LOCALHOST".to_owned()), 1 => Just("localhost.".to_owned()), 1 => Just("[::ffff:127.0.0.1]".to_owned()),
            1 => "[!-~]{0,12}",
        ];
        let port = prop_oneof![3 => Just(String::new()), 3 => "(:[0-9]{0,6})", 1 => "[:@!-~]{0,6}"];
        let rest = prop_oneof![
            3 => Just("/callback".to_owned()), 2 => Just(String::new()), 2 => Just("/".to_owned()), 1 => Just("/a/../callback".to_owned()),
            1 => Just("/%63allback".to_owned()), 1 => Just("/callback?x=1".to_owned()), 2 => "[/?#!-~]{0,12}",
        ];
        (scheme, host, port, rest)
            .prop_map(|(scheme, host, port, rest)| format!("{scheme}{host}{port}{rest}"))
    }

    /// Two that are the same but for a port, or not.
    fn pair() -> impl Strategy<Value = (String, String)> {
        prop_oneof![
            (uri(), uri()),
            (uri(), any::<prop::sample::Index>(), "[!-~]").prop_map(|(uri, at, with)| {
                let at = at.index(uri.len());
                let mut other = uri.clone();
                other.replace_range(at..=at, &with);
                (uri, other)
            }),
            (
                "(localhost|127\\.0\\.0\\.1|\\[::1\\])",
                "(:[1-9][0-9]{0,3})?",
                "(:[1-9][0-9]{0,3})?",
                "[/?][!-~]{0,8}"
            )
                .prop_map(|(host, one, two, rest)| {
                    (format!("http://{host}{one}{rest}"), format!("http://{host}{two}{rest}"))
                }),
        ]
    }

    /// The URI as the parser of browsers has it, without its port where that is free.
    fn without_port(uri: &str) -> Option<Url> {
        let mut url = Url::parse(uri).ok()?;
        let free = url.scheme() == "http" && url.host_str().is_some_and(|host| LOOPBACK.contains(&host));
        (free && url.set_port(None).is_ok()).then_some(url)
    }

    fn splice(uri: &str) -> Option<String> {
        let rest = uri.strip_prefix("http://")?;
        let host = LOOPBACK.iter().find(|host| rest.starts_with(**host))?;
        let tail = rest[host.len()..].trim_start_matches(|c: char| c == ':' || c.is_ascii_digit());
        Some(format!("{host} {tail}"))
    }

    proptest! {
        #[test]
        fn two_are_the_same_by_their_bytes_or_but_for_a_loopback_port((one, two) in pair()) {
            let (first, second) = (RedirectUri::parse(&one), RedirectUri::parse(&two));
            let same = first.as_ref().is_some_and(|uri| uri.is(&two));
            if same && one != two {
                prop_assert!(second.is_some(), "{} {}", one, two);
                let (a, b) = (without_port(&one), without_port(&two));
                prop_assert!(a.is_some() && a == b, "{} {}", one, two);
            }
            if first.is_some() && second.is_some() {
                let expected = one == two || (splice(&one).is_some() && splice(&one) == splice(&two));
                prop_assert_eq!(same, expected, "{} {}", one, two);
            }
        }

        /// Where people are told it leads, browsers go.
        #[test]
        fn the_host_is_the_one_that_browsers_read(text in uri()) {
            let Some(uri) = RedirectUri::parse(&text) else { return Ok(()) };
            let url = Url::parse(&text);
            prop_assert!(url.is_ok(), "{} is none for browsers", text);
            let url = url.unwrap();
            prop_assert!(url.username().is_empty() && url.password().is_none() && url.fragment().is_none(), "{}", text);
            match uri.private_scheme() {
                Some(scheme) => prop_assert_eq!(scheme, url.scheme()),
                None => {
                    let read = Url::parse(&format!("{}://{}/", url.scheme(), uri.host())).unwrap();
                    prop_assert_eq!(read.host_str(), url.host_str(), "{}", text);
                    let shown = uri.host().to_ascii_lowercase();
                    prop_assert!(shown.starts_with(url.host_str().unwrap()), "{} shows as {}", text, shown);
                    prop_assert_eq!(uri.is_loopback(), url.scheme() == "http", "{}", text);
                }
            }
        }

        #[test]
        fn added_parameters_are_the_last_and_change_nothing_else(text in uri(), value in any::<String>()) {
            let Some(uri) = RedirectUri::parse(&text) else { return Ok(()) };
            if uri.private_scheme().is_some() {
                return Ok(());
            }
            let (before, after) = (Url::parse(&text).unwrap(), Url::parse(&uri.with(&[("code", &value)])).unwrap());
            let last = after.query_pairs().last().unwrap();
            prop_assert_eq!(("code", value.as_str()), (&*last.0, &*last.1));
            prop_assert_eq!((before.origin(), before.path()), (after.origin(), after.path()));
            prop_assert_eq!(after.query_pairs().count(), before.query_pairs().count() + 1);
        }

        #[test]
        fn no_text_is_too_odd(text in any::<String>(), other in any::<String>()) {
            if let Some(uri) = RedirectUri::parse(&text) {
                let _ = (uri.is(&other), uri.with(&[("a", "b")]));
            }
        }
    }
}
