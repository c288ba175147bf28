//! Forms: `application/x-www-form-urlencoded`, read strictly, each field at most once.

use std::time::Duration;

use http::HeaderMap;
use hyper::body::Incoming;

use crate::{body, error::Fault, media_type, query::Query};

/// Larger than any form of ours, whose largest field is a token of a hundred bytes.
const LIMIT: usize = 64 << 10;
/// How long a form may take to come in.
const DEADLINE: Duration = Duration::from_secs(10);

/// The fields of a form.
pub async fn read(headers: &HeaderMap, body: Incoming) -> Result<Query, Fault> {
    if media_type::of(headers).as_deref() != Some("application/x-www-form-urlencoded") {
        return Err(Fault::invalid_request("The body must be application/x-www-form-urlencoded."));
    }
    let bytes = body::read(body, LIMIT, DEADLINE).await?;
    Query::of_form(&bytes).ok_or_else(|| Fault::invalid_request("The body is not a well-formed form."))
}
