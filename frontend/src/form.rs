//! Forms: `application/x-www-form-urlencoded`, read strictly, each field at most once.

use std::time::Duration;

use http::{HeaderMap, header};
use hyper::body::Incoming;

use crate::{body, error::Fault, query::Query};

/// Larger than any form of ours, whose largest field is a token of a hundred bytes.
const LIMIT: usize = 64 << 10;
/// How long a form may take to come in.
const DEADLINE: Duration = Duration::from_secs(10);

/// The fields of a form.
pub async fn read(headers: &HeaderMap, body: Incoming) -> Result<Query, Fault> {
    if !is_form(headers) {
        return Err(Fault::invalid_request("The body must be application/x-www-form-urlencoded."));
    }
    let bytes = body::read(body, LIMIT, DEADLINE).await?;
    Query::of_form(&bytes).ok_or_else(|| Fault::invalid_request("The body is not a well-formed form."))
}

fn is_form(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(header::CONTENT_TYPE).iter();
    let value = values.next().and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = value.split(';').next().unwrap_or_default().trim();
    values.next().is_none() && essence.eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_forms_are_forms() {
        for (values, expected) in [
            (&["application/x-www-form-urlencoded"][..], true),
            (&["Application/X-WWW-Form-Urlencoded; charset=UTF-8"][..], true),
            (&["application/json"][..], false),
            (&["text/plain"][..], false),
            (&["application/x-www-form-urlencodedx"][..], false),
            (&[";"][..], false),
            (&[""][..], false),
            (&[][..], false),
            (&["application/x-www-form-urlencoded", "application/json"][..], false),
        ] {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::CONTENT_TYPE, value.parse().unwrap());
            }
            assert_eq!(is_form(&headers), expected, "{values:?}");
        }
    }
}
