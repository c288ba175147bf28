//! What can go wrong, and the SQLSTATE and hint each fault reaches the caller with. No message carries a secret.

use crate::token::shown;
use crate::tool::Refusal;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::spi;

/// A fault of the caller or of the server. A token that does not hold is neither: it is an answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{0} must not be null")]
    Null(&'static str),
    #[error("{0} must not be empty")]
    Empty(&'static str),
    #[error("{what} is too long: {got} bytes, the limit is {limit}")]
    TooLong { what: &'static str, got: usize, limit: usize },
    #[error("{what} is too short: {got} bytes, it takes at least {least}")]
    TooShort { what: &'static str, got: usize, least: usize },
    #[error("{what} is too large: {got} bytes, {setting} allows {limit}")]
    TooLarge { what: &'static str, got: usize, limit: usize, setting: &'static str },
    #[error("{0} must be a JSON object")]
    NotAnObject(&'static str),
    #[error("{what} must be between 1 second and 10 years")]
    Interval { what: &'static str },
    #[error("{what} must not be negative")]
    Negative { what: &'static str },
    #[error("{:?} is not a valid scope", shown(.0))]
    Scope(String),
    #[error("there are too many {what}: {got}, the limit is {limit}")]
    TooMany { what: &'static str, got: usize, limit: usize },
    #[error("{:?} is not an acceptable redirect URI", shown(.0))]
    RedirectUri(String),
    #[error("{:?} is not an acceptable client_id", shown(.0))]
    ClientId(String),
    #[error("code_challenge is not a challenge of method S256")]
    CodeChallenge,
    #[error("an identity is already armed in this transaction")]
    AlreadyArmed,
    #[error("the identity of this transaction was lost by ROLLBACK TO SAVEPOINT")]
    Poisoned,
    #[error("nobody is signed in in this transaction")]
    NobodyArmed,
    #[error("a tool must not sign in or call tools")]
    InsideTool,
    #[error("cannot PREPARE a transaction in which an identity is armed")]
    Prepare,
    #[error("the sealed tokens of session {0} cannot be opened")]
    Unsealable(uuid::Uuid),
    #[error("the key file {path} cannot be used: {reason}")]
    KeyFile { path: String, reason: String },
    #[error("the system's random number generator failed")]
    Random,
    #[error("the mcp_sessions extension is not installed completely: {0} is missing")]
    Incomplete(&'static str),
    #[error("{0} is nested too deep")]
    TooDeep(&'static str),
    #[error("page_size must be between 1 and {largest}")]
    PageSize { largest: i32 },
    #[error("column {0} of a statement's result is null, which its table does not allow")]
    Column(usize),
    #[error("an authorization code cannot be written: {0}")]
    Grant(serde_json::Error),
    #[error("{0} cannot be read: {1}")]
    Unreadable(&'static str, serde_json::Error),
    #[error("the catalog cannot be read: {0}")]
    Catalog(serde_json::Error),
    #[error(transparent)]
    Tool(#[from] Refusal),
    #[error(transparent)]
    Spi(#[from] spi::Error),
}

impl Error {
    fn sql_state(&self) -> PgSqlErrorCode {
        use PgSqlErrorCode::*;
        match self {
            Error::Null(_) => ERRCODE_NULL_VALUE_NOT_ALLOWED,
            Error::Empty(_)
            | Error::TooLong { .. }
            | Error::TooShort { .. }
            | Error::NotAnObject(_)
            | Error::TooDeep(_)
            | Error::PageSize { .. }
            | Error::Unreadable(..)
            | Error::Interval { .. }
            | Error::Negative { .. }
            | Error::TooMany { .. }
            | Error::RedirectUri(_)
            | Error::ClientId(_)
            | Error::CodeChallenge
            | Error::Scope(_) => ERRCODE_INVALID_PARAMETER_VALUE,
            Error::TooLarge { .. } => ERRCODE_PROGRAM_LIMIT_EXCEEDED,
            Error::AlreadyArmed | Error::Prepare | Error::Incomplete(_) => {
                ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE
            }
            Error::Poisoned => ERRCODE_INVALID_TRANSACTION_STATE,
            Error::NobodyArmed | Error::InsideTool => ERRCODE_INSUFFICIENT_PRIVILEGE,
            Error::Unsealable(_) => ERRCODE_DATA_CORRUPTED,
            Error::KeyFile { .. } => ERRCODE_CONFIG_FILE_ERROR,
            Error::Random
            | Error::Column(_)
            | Error::Grant(_)
            | Error::Catalog(_)
            | Error::Tool(_)
            | Error::Spi(_) => ERRCODE_INTERNAL_ERROR,
        }
    }

    fn hint(&self) -> Option<&'static str> {
        match self {
            Error::AlreadyArmed => {
                Some("An identity holds for one transaction: end it, then present the next token.")
            }
            Error::Poisoned => Some(
                "Roll the transaction back; present the token outside any savepoint you may roll back to.",
            ),
            Error::NobodyArmed => {
                Some("Present a session token to mcp.enter() in the same transaction first.")
            }
            Error::Unsealable(_) => Some(
                "Either mcp.key_file no longer names the key they were sealed with, or the row was tampered with.",
            ),
            Error::KeyFile { .. } => Some(
                "It holds one key a line, 64 hexadecimal digits each, readable by the server's user and nobody else.",
            ),
            Error::Interval { .. } => Some("Leave it NULL for the server's default."),
            Error::RedirectUri(_) => Some(
                "It is an absolute URI in ASCII without fragment: https://…, http:// on localhost, 127.0.0.1 or [::1], \
                 or an application's private scheme.",
            ),
            Error::ClientId(_) => Some(
                "It is printable ASCII without spaces and does not begin with https://, which names a metadata document.",
            ),
            Error::CodeChallenge => {
                Some("It is the SHA-256 of the verifier in base64url, 43 characters (RFC 7636).")
            }
            Error::Scope(_) => Some("RFC 6749 allows printable ASCII without space, quote and backslash."),
            Error::Incomplete(_) => {
                Some("Run CREATE EXTENSION mcp_sessions, or ALTER EXTENSION mcp_sessions UPDATE.")
            }
            _ => None,
        }
    }
}

impl From<Error> for ErrorReport {
    #[track_caller]
    fn from(error: Error) -> Self {
        if let Error::Tool(refusal) = error {
            return refusal.into();
        }
        let report = ErrorReport::new(error.sql_state(), error.to_string(), "");
        match error.hint() {
            Some(hint) => report.set_hint(hint),
            None => report,
        }
    }
}

impl Error {
    /// Raises the fault as a PostgreSQL ERROR.
    #[track_caller]
    pub(crate) fn raise(self) -> ! {
        ErrorReport::from(self).report(PgLogLevel::ERROR);
        unreachable!("ERROR does not return")
    }
}
