//! What kind of content a message has.

use http::{HeaderMap, header};

/// The media type in `Content-Type`, without its parameters and in lower case. `None` where it is missing, or given more
/// than once: two readers could take the content for two kinds.
pub fn of(headers: &HeaderMap) -> Option<String> {
    let mut values = headers.get_all(header::CONTENT_TYPE).iter();
    let value = values.next()?.to_str().ok()?;
    let essence = value.split(';').next().unwrap_or_default().trim();
    values.next().is_none().then(|| essence.to_ascii_lowercase())
}

/// Whether that is JSON.
pub fn is_json(headers: &HeaderMap) -> bool {
    of(headers).is_some_and(|essence| essence == "application/json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_kind_is_one_kind() {
        for (values, expected) in [
            (&["application/x-www-form-urlencoded"][..], Some("application/x-www-form-urlencoded")),
            (&["Application/JSON; charset=UTF-8"][..], Some("application/json")),
            (&["application/json ; charset=utf-8"][..], Some("application/json")),
            (&["text/plain"][..], Some("text/plain")),
            (&["application/jsonx"][..], Some("application/jsonx")),
            (&[";"][..], Some("")),
            (&[""][..], Some("")),
            (&[][..], None),
            (&["application/json", "application/json"][..], None),
        ] {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::CONTENT_TYPE, value.parse().unwrap());
            }
            assert_eq!(of(&headers).as_deref(), expected, "{values:?}");
        }
    }
}
