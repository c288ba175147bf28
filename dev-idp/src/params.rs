//! Parameters of a query or a form.

use std::collections::HashMap;

/// Parameters by name. Empty values count as absent (RFC 6749 section 3.1).
#[derive(Debug, Default)]
pub struct Params(HashMap<String, String>);

/// RFC 6749 section 3.1: a parameter must not be sent twice.
#[derive(Debug, PartialEq, Eq)]
pub struct Repeated(pub String);

impl Params {
    /// # Errors
    /// Names the parameter that stands there twice.
    pub fn parse(encoded: &[u8]) -> Result<Self, Repeated> {
        let mut params = HashMap::new();
        for (name, value) in form_urlencoded::parse(encoded) {
            if value.is_empty() {
                continue;
            }
            if params.insert(name.to_string(), value.into_owned()).is_some() {
                return Err(Repeated(name.into_owned()));
            }
        }
        Ok(Self(params))
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded_and_stand_once() {
        let params = Params::parse(b"a=1+2%263&b=&c").expect("well formed");
        assert_eq!(params.get("a"), Some("1 2&3"));
        assert_eq!((params.get("b"), params.get("c"), params.get("d")), (None, None, None));
        assert_eq!(Params::parse(b"a=1&a=2").expect_err("twice"), Repeated("a".to_owned()));
    }
}
