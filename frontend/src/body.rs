//! Reading the body of a request: bounded in size and in time.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};

use crate::error::Fault;

/// The whole body, no longer than `limit` bytes, once it has come in within `deadline`.
pub async fn read(body: Incoming, limit: usize, deadline: Duration) -> Result<Bytes, Fault> {
    let too_large = || {
        Fault::client(
            StatusCode::PAYLOAD_TOO_LARGE,
            "payload_too_large",
            format!("the body is longer than {limit} bytes"),
        )
    };
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large());
    }
    match tokio::time::timeout(deadline, Limited::new(body, limit).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(error)) => Err(Fault::invalid_request("the body broke off").because(error)),
        Err(_) => Err(Fault::client(
            StatusCode::REQUEST_TIMEOUT,
            "request_timeout",
            "the body did not come in time",
        )),
    }
}
