//! Whether a token holds.

use crate::error::Error;
use crate::session::record::{Column, Record};
use crate::token::{self, Kind, Token};
use pgrx::pg_sys;

/// What a presented token is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Active,
    /// No such session, or not its secret: one answer for both, so that nobody learns which ids exist.
    Unknown,
    Expired,
    Revoked,
    /// The session is for another resource (RFC 8707).
    WrongResource,
}

impl Status {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Status::Active => "active",
            Status::Unknown => "unknown",
            Status::Expired => "expired",
            Status::Revoked => "revoked",
            Status::WrongResource => "wrong_resource",
        }
    }
}

/// A verdict, with the session it is about where there is one.
pub(crate) struct Verdict {
    pub(crate) status: Status,
    /// Present also where the secret was wrong: the session somebody tried to enter.
    pub(crate) record: Option<Record>,
    /// Whether the presenter proved to hold the session's secret.
    pub(crate) proven: bool,
    /// When the presented token stops working, however long its session lives.
    pub(crate) token_ends_at: pg_sys::TimestampTz,
}

/// Judges an access token. Writes nothing.
pub(crate) fn judge(token: Option<&str>, resource: Option<&str>) -> Result<Verdict, Error> {
    let unknown = |record| Verdict { status: Status::Unknown, record, proven: false, token_ends_at: 0 };
    let Some(token) = token.and_then(|text| Token::parse(Kind::Access, text)) else {
        return Ok(unknown(None));
    };
    let verifier = token.verifier();
    let Some(record) = Record::find(&token.selector)? else {
        // As much work as for a session that exists.
        token::matches(&[0; 32], &verifier);
        return Ok(unknown(None));
    };
    // SAFETY: reads the clock.
    let now = unsafe { pg_sys::GetCurrentTimestamp() };
    let holds = |column| record.verifier(column).is_some_and(|stored| token::matches(stored, &verifier));
    let current = holds(Column::Verifier);
    // The access token before the last refresh, for requests that were on their way.
    let previous = holds(Column::PreviousVerifier);
    if !current && !previous {
        return Ok(unknown(Some(record)));
    }
    let token_ends_at = if current {
        // A handle lives as long as its session.
        record.time(Column::AccessExpiresAt).unwrap_or(pg_sys::TimestampTz::MAX)
    } else {
        record.time(Column::PreviousExpiresAt).unwrap_or(0)
    };
    let elsewhere =
        || record.text(Column::Resource).zip(resource).is_some_and(|(stored, presented)| stored != presented);
    let status = if record.time(Column::RevokedAt).is_some() {
        Status::Revoked
    } else if now >= record.expires_at().min(token_ends_at) {
        Status::Expired
    } else if elsewhere() {
        Status::WrongResource
    } else {
        Status::Active
    };
    Ok(Verdict { status, record: Some(record), proven: true, token_ends_at })
}
