//! What a client's metadata must say, whether it registers itself or publishes a document (RFC 7591 §2).

use crate::authorization_server::redirect::RedirectUri;

/// As the extension has it.
const MOST_REDIRECT_URIS: usize = 32;

/// Why a client with this metadata cannot be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unacceptable {
    /// Its grants are without the authorization code's.
    Grants,
    /// Its response types are without `code`.
    Responses,
    /// It has no redirect URI, or more than [`MOST_REDIRECT_URIS`].
    Number,
    /// A redirect URI is none, or leads where codes are not sent.
    RedirectUri,
    /// A redirect URI has a private scheme that the operator has not allowed.
    PrivateScheme,
}

/// Judges the members that decide whether a client can be served; lists that are not there stand for their defaults.
pub fn check(
    grants: Option<&[String]>,
    responses: Option<&[String]>,
    redirect_uris: &[String],
    private_schemes: &[String],
) -> Result<(), Unacceptable> {
    let names =
        |list: Option<&[String]>, name: &str| list.is_none_or(|list| list.iter().any(|entry| entry == name));
    if !names(grants, "authorization_code") {
        return Err(Unacceptable::Grants);
    }
    if !names(responses, "code") {
        return Err(Unacceptable::Responses);
    }
    if redirect_uris.is_empty() || redirect_uris.len() > MOST_REDIRECT_URIS {
        return Err(Unacceptable::Number);
    }
    for uri in redirect_uris {
        let uri = RedirectUri::parse(uri).ok_or(Unacceptable::RedirectUri)?;
        if uri.private_scheme().is_some_and(|scheme| !private_schemes.iter().any(|known| known == scheme)) {
            return Err(Unacceptable::PrivateScheme);
        }
    }
    Ok(())
}
