//! What the OAuth 2.1 authorization server keeps: [`client`]s, [`consent`]s, authorization [`code`]s; and
//! how a client goes on with what it was granted ([`refresh`]), and how it ends that ([`revocation`]).
//!
//! The server itself is in the frontend, which keeps nothing. A request under way travels in the payload of a sign-in
//! ([`crate::sign_in`]); what comes of it is a code here, and then a session.

pub(crate) mod client;
pub(crate) mod code;
pub(crate) mod consent;
pub(crate) mod refresh;
pub(crate) mod revocation;
