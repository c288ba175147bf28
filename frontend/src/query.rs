//! Query parameters, each at most once: a repeated one is an attempt to be read in two ways (RFC 6749 §3.1).

use http::Uri;
use url::form_urlencoded;

/// The decoded parameters of a request.
#[derive(Debug)]
pub struct Query(Vec<(String, String)>);

/// A parameter that appears twice, or is none that any client or provider sends.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryFault {
    #[error("the parameter {0:?} is repeated")]
    Repeated(&'static str),
    #[error("the parameter {0:?} is too long")]
    TooLong(&'static str),
    /// PostgreSQL keeps no NUL, and a browser that posts a form changes line ends.
    #[error("the parameter {0:?} has control characters in it")]
    Control(&'static str),
}

/// Longer than any code, state or address that providers and clients send, in bytes.
const LONGEST: usize = 4096;

impl Query {
    /// The parameters of `uri`; percent-encoding that is no UTF-8 is replaced, and so matches nothing.
    pub fn of(uri: &Uri) -> Self {
        Self(form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()).into_owned().collect())
    }

    /// The fields of a form; `None` where it is not encoded as one, to the letter.
    pub fn of_form(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        while let Some(at) = rest.iter().position(|byte| *byte == b'%') {
            if !rest.get(at + 1..at + 3)?.iter().all(u8::is_ascii_hexdigit) {
                return None;
            }
            rest = &rest[at + 3..];
        }
        let fields: Vec<(String, String)> = form_urlencoded::parse(bytes).into_owned().collect();
        // What is not UTF-8 has been replaced by now.
        let broken =
            fields.iter().any(|(name, value)| name.contains('\u{fffd}') || value.contains('\u{fffd}'));
        (!broken && bytes.is_ascii()).then_some(Self(fields))
    }

    /// The value of `name`; `None` where it is absent or empty (RFC 6749 §3.1 treats both alike).
    pub fn get(&self, name: &'static str) -> Result<Option<&str>, QueryFault> {
        let mut values = self.0.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let value = values.next();
        if values.next().is_some() {
            return Err(QueryFault::Repeated(name));
        }
        if value.is_some_and(|value| value.len() > LONGEST) {
            return Err(QueryFault::TooLong(name));
        }
        if value.is_some_and(|value| value.contains(char::is_control)) {
            return Err(QueryFault::Control(name));
        }
        Ok(value.filter(|value| !value.is_empty()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_is_read_once_or_refused() {
        let query = Query::of(&"/auth/callback?code=a%20b&state=&code2=x&twice=1&twice=1".parse().unwrap());
        assert_eq!(query.get("code"), Ok(Some("a b")));
        assert_eq!(query.get("state"), Ok(None));
        assert_eq!(query.get("absent"), Ok(None));
        assert_eq!(query.get("twice"), Err(QueryFault::Repeated("twice")));
        let long = format!("/?x={}", "a".repeat(LONGEST + 1));
        assert_eq!(Query::of(&long.parse().unwrap()).get("x"), Err(QueryFault::TooLong("x")));
        for control in ["%00", "a%0Ab", "%7f", "%C2%85"] {
            let query = Query::of(&format!("/?x={control}").parse().unwrap());
            assert_eq!(query.get("x"), Err(QueryFault::Control("x")), "{control}");
        }
        assert_eq!(Query::of(&"/".parse().unwrap()).get("x"), Ok(None));
    }

    #[test]
    fn a_form_is_read_to_the_letter() {
        let form =
            Query::of_form(b"grant_type=refresh_token&scope=a+b%20c&x=%C3%A4&twice=1&twice=1").unwrap();
        assert_eq!(form.get("grant_type"), Ok(Some("refresh_token")));
        assert_eq!(form.get("scope"), Ok(Some("a b c")));
        assert_eq!(form.get("x"), Ok(Some("ä")));
        assert_eq!(form.get("twice"), Err(QueryFault::Repeated("twice")));
        assert!(Query::of_form(b"").is_some());
        for bad in [
            &b"a=%"[..],
            b"a=%2",
            b"a=%zz",
            b"a=%g1",
            b"a=%1g",
            b"a=%ff",
            b"%ff=a",
            b"\xff=1",
            "a=\u{e4}".as_bytes(),
            b"a=b%",
        ] {
            assert!(Query::of_form(bad).is_none(), "{bad:?}");
        }
    }
}

#[cfg(test)]
mod property {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_encoded_is_read_back_once(
            value in "\\PC*",
            others in prop::collection::vec(("[a-z]{1,3}", ".{0,8}"), 0..6),
        ) {
            let mut encoder = form_urlencoded::Serializer::new(String::new());
            encoder.append_pair("state", &value).extend_pairs(&others);
            let uri: Uri = format!("/auth/callback?{}", encoder.finish()).parse().unwrap();
            let query = Query::of(&uri);
            prop_assert_eq!(query.get("state"), Ok(Some(value.as_str()).filter(|value| !value.is_empty())));
            let query = Query::of(&format!("{uri}&state=").parse().unwrap());
            prop_assert_eq!(query.get("state"), Err(QueryFault::Repeated("state")));
        }

        #[test]
        fn a_form_is_read_back_to_the_letter(
            fields in prop::collection::vec(("[a-z]{1,3}", "[^\u{fffd}]{0,12}"), 0..6),
        ) {
            let mut encoder = form_urlencoded::Serializer::new(String::new());
            encoder.extend_pairs(&fields);
            let form = Query::of_form(encoder.finish().as_bytes()).unwrap();
            prop_assert_eq!(&form.0, &fields);
            for name in ["a", "bc"] {
                let mut values = fields.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str());
                let (first, second) = (values.next(), values.next());
                let expected = match (first, second) {
                    (_, Some(_)) => Err(QueryFault::Repeated(name)),
                    (Some(value), None) if value.contains(char::is_control) => Err(QueryFault::Control(name)),
                    (first, None) => Ok(first.filter(|value| !value.is_empty())),
                };
                prop_assert_eq!(form.get(name), expected);
            }
        }

        /// A form that is taken has one reading: encoded anew and read again, it is the same.
        #[test]
        fn no_form_is_too_odd(bytes in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..40),
            "[a-c=&%+;0-9A-F]{0,40}".prop_map(String::into_bytes),
        ]) {
            if let Some(form) = Query::of_form(&bytes) {
                let mut encoder = form_urlencoded::Serializer::new(String::new());
                encoder.extend_pairs(&form.0);
                prop_assert_eq!(Query::of_form(encoder.finish().as_bytes()).unwrap().0, form.0);
            }
        }

        #[test]
        fn no_query_is_too_odd(text in "[!-~]{0,64}") {
            if let Ok(uri) = format!("/?{text}").parse() {
                let _ = Query::of(&uri).get("state");
            }
        }
    }
}
