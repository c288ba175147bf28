//! URI templates of level 1 (RFC 6570): literals and `{variable}`.

/// More are no address any more.
const MOST_VARIABLES: usize = 32;
const LONGEST: usize = 2048;

#[derive(Debug, PartialEq)]
enum Part {
    Literal(String),
    Variable(String),
}

/// A URI, or a template of one.
#[derive(Debug, PartialEq)]
pub(super) struct UriTemplate(Vec<Part>);

impl UriTemplate {
    /// Reads a template; a URI without variables is one.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        if text.len() > LONGEST {
            return Err("it is too long");
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("it has characters that must be percent-encoded");
        }
        let scheme = text.split_once(':').map_or("", |(scheme, _)| scheme);
        let is_scheme = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
        if !scheme.starts_with(|first: char| first.is_ascii_alphabetic()) || !scheme.bytes().all(is_scheme) {
            return Err("it does not begin with a scheme");
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let (literal, tail) = rest.split_at(rest.find(['{', '}']).unwrap_or(rest.len()));
            if !literal.is_empty() {
                parts.push(Part::Literal(literal.to_owned()));
            }
            if tail.is_empty() {
                break;
            }
            let (name, tail) = tail
                .strip_prefix('{')
                .and_then(|tail| tail.split_once('}'))
                .ok_or("its braces do not match")?;
            if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
                return Err("its variables must be plain names: {name}");
            }
            if matches!(parts.last(), Some(Part::Variable(_))) {
                return Err("nothing stands between two of its variables");
            }
            if parts.contains(&Part::Variable(name.to_owned())) {
                return Err("a variable stands in it twice");
            }
            parts.push(Part::Variable(name.to_owned()));
            rest = tail;
        }
        let template = UriTemplate(parts);
        if template.variables().count() > MOST_VARIABLES {
            return Err("it has too many variables");
        }
        Ok(template)
    }

    pub(super) fn variables(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| match part {
            Part::Variable(name) => Some(name.as_str()),
            Part::Literal(_) => None,
        })
    }

    /// How many characters it fixes: of two templates that match, the one that fixes more is meant.
    pub(super) fn fixed(&self) -> usize {
        let length = |part: &Part| if let Part::Literal(literal) = part { literal.len() } else { 0 };
        self.0.iter().map(length).sum()
    }

    /// The values of the variables in a URI that the template expands to.
    ///
    /// A variable takes what level 1 expands a value to: unreserved characters and percent-encoded ones, at least one.
    /// Where a literal occurs more than once, the first occurrence ends the variable before it: if a later one could, so
    /// can this one.
    pub(super) fn matches(&self, uri: &str) -> Option<Vec<(String, String)>> {
        let mut values = Vec::new();
        let mut rest = uri;
        for (at, part) in self.0.iter().enumerate() {
            match part {
                Part::Literal(literal) => rest = rest.strip_prefix(literal.as_str())?,
                Part::Variable(name) => {
                    let end = match self.0.get(at + 1) {
                        // The last literal ends the URI.
                        Some(Part::Literal(literal)) if at + 2 == self.0.len() => {
                            rest.len().checked_sub(literal.len())?
                        }
                        Some(Part::Literal(literal)) => 1 + rest.get(1..)?.find(literal.as_str())?,
                        _ => rest.len(),
                    };
                    values.push((name.clone(), decode(rest.get(..end)?)?));
                    rest = &rest[end..];
                }
            }
        }
        rest.is_empty().then_some(values)
    }
}

/// What a value was before it was expanded.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        rest = match first {
            b'%' => {
                let (digits, tail) = tail.split_at_checked(2)?;
                let digits = digits.iter().all(u8::is_ascii_hexdigit).then_some(digits)?;
                bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
                tail
            }
            b'-' | b'.' | b'_' | b'~' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => {
                bytes.push(first);
                tail
            }
            _ => return None,
        };
    }
    // PostgreSQL's text holds no NUL.
    String::from_utf8(bytes).ok().filter(|text| !text.is_empty() && !text.contains('\0'))
}

#[cfg(test)]
mod unit {
    use super::*;
    use proptest::prelude::*;

    fn matches(template: &str, uri: &str) -> Option<Vec<String>> {
        let values = UriTemplate::parse(template).unwrap().matches(uri)?;
        Some(values.into_iter().map(|(_, value)| value).collect())
    }

    #[test]
    fn templates_match_what_they_expand_to() {
        for (template, uri, expected) in [
            ("note://{id}", "note://7", Some(vec!["7"])),
            ("test://template/{id}/data", "test://template/123/data", Some(vec!["123"])),
            ("test://template/{id}/data", "test://template//data", None),
            ("test://template/{id}/data", "test://template/1/2/data", None),
            ("test://template/{id}/data", "test://template/1/data/data", None),
            ("a://{x}.{y}", "a://1.2.3", Some(vec!["1", "2.3"])),
            ("a://{x}.json", "a://b.json.json", Some(vec!["b.json"])),
            ("a://{x}-{y}.txt", "a://q-r.txt", Some(vec!["q", "r"])),
            ("a://{x}", "a://%C3%A9%2Fb", Some(vec!["é/b"])),
            ("a://{x}", "a://%C3", None),
            ("a://{x}", "a://%00", None),
            ("a://{x}", "a://%+1", None),
            ("a://{x}", "a://b?c", None),
            ("a://{x}", "a://é", None),
            ("a://b", "a://b", Some(vec![])),
            ("a://b", "a://bc", None),
        ] {
            let expected = expected.map(|values| values.into_iter().map(str::to_owned).collect());
            assert_eq!(matches(template, uri), expected, "{template} {uri}");
        }
    }

    #[test]
    fn what_is_a_template_is_taken() {
        for text in [
            "git+ssh://x",
            "x-y.z://a",
            "a://{book_id}",
            &format!("a://{}", "b".repeat(LONGEST - "a://".len())),
            &format!("a:{}", (0..MOST_VARIABLES).map(|at| format!("/{{v{at}}}")).collect::<String>()),
        ] {
            assert_eq!(UriTemplate::parse(text).err(), None, "{text}");
        }
    }

    #[test]
    fn what_is_no_template_is_refused() {
        for text in [
            "",
            "note",
            "{x}://a",
            "a://{}",
            "a://{+x}",
            "a://{x",
            "a://x}",
            "a://{x}{y}",
            "a://{x}/{x}",
            "a://b c",
            "1a://b",
            "a_b://c",
            &format!("a://{}", "b".repeat(LONGEST + 1 - "a://".len())),
            &format!("a:{}", (0..=MOST_VARIABLES).map(|at| format!("/{{v{at}}}")).collect::<String>()),
        ] {
            assert!(UriTemplate::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_value_comes_back(value in "[^\\x00]{1,40}") {
            let expanded: String = value.bytes().map(|byte| format!("%{byte:02X}")).collect();
            prop_assert_eq!(matches("x://a/{v}/b", &format!("x://a/{expanded}/b")), Some(vec![value]));
        }

        #[test]
        fn no_uri_panics(template in "[a:/{}xy.]{0,20}", uri in ".{0,40}") {
            if let Ok(template) = UriTemplate::parse(&template) {
                template.matches(&uri);
            }
        }
    }
}
