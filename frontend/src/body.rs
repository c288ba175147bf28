//! Reading bodies: those of requests, and those of answers to ours; bounded in size and in time.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};

use crate::error::Fault;

/// Why the body of an answer cannot be read.
#[derive(Debug)]
pub enum Unread {
    TooLong,
    Broken(reqwest::Error),
}

/// The whole body of an answer to us, no longer than `limit` bytes. How long that may take is the client's to say.
pub async fn answer(response: &mut reqwest::Response, limit: usize) -> Result<Vec<u8>, Unread> {
    if response.content_length().is_some_and(|length| length > limit as u64) {
        return Err(Unread::TooLong);
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(Unread::Broken)? {
        if body.len() + chunk.len() > limit {
            return Err(Unread::TooLong);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

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
