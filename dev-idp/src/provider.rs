//! What the provider is: its name, its one client, its key, and what it has granted.

use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

use crate::config::Client;
use crate::grants::{Grants, Scopes};
use crate::keys::SigningKey;
use crate::router::path;

pub struct Provider {
    issuer: String,
    client: Client,
    key: SigningKey,
    grants: Mutex<Grants>,
}

impl Provider {
    /// # Errors
    /// Where no signing key can be made.
    pub fn new(address: SocketAddr, client: Client) -> Result<Self, String> {
        Ok(Self::with_key(address, client, SigningKey::generate()?))
    }

    fn with_key(address: SocketAddr, client: Client, key: SigningKey) -> Self {
        Self { issuer: format!("http://{address}"), client, key, grants: Mutex::default() }
    }

    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    pub fn key(&self) -> &SigningKey {
        &self.key
    }

    pub fn grants(&self) -> MutexGuard<'_, Grants> {
        // Each change to the maps is whole in itself, so a panic elsewhere leaves nothing half done.
        self.grants.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// OpenID Connect Discovery 1.0 section 3.
    pub fn metadata(&self) -> Value {
        let at = |path: &str| format!("{}{path}", self.issuer);
        json!({
            "issuer": self.issuer,
            "authorization_endpoint": at(path::AUTHORIZE),
            "token_endpoint": at(path::TOKEN),
            "userinfo_endpoint": at(path::USERINFO),
            "jwks_uri": at(path::JWKS),
            "response_types_supported": ["code"],
            "response_modes_supported": ["query"],
            "grant_types_supported": ["authorization_code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
            "code_challenge_methods_supported": ["S256"],
            "scopes_supported": Scopes::SUPPORTED,
            "claims_supported": [
                "iss", "sub", "aud", "exp", "iat", "auth_time", "nonce", "email", "email_verified", "name"
            ],
            "authorization_response_iss_parameter_supported": true,
            "request_parameter_supported": false,
            "request_uri_parameter_supported": false,
        })
    }
}

#[cfg(test)]
pub mod fixture {
    use std::sync::LazyLock;

    use super::*;
    use crate::secret::Secret;

    // Making an RSA key takes a good part of a second without optimisation.
    static KEY: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::generate().expect("a key"));

    pub const REDIRECT_URI: &str = "http://127.0.0.1:8080/auth/callback";
    pub const CLIENT_SECRET: &str = "a secret for the tests";

    pub fn provider() -> Provider {
        let client = Client {
            id: "client".to_owned(),
            secret: Secret::new(CLIENT_SECRET.to_owned()),
            redirect_uris: vec![REDIRECT_URI.to_owned()],
        };
        Provider::with_key("127.0.0.1:8090".parse().expect("an address"), client, KEY.clone())
    }

    // The pair of RFC 7636 appendix B.
    pub const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    pub const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

    pub fn form(pairs: &[(&str, &str)]) -> String {
        form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
    }

    /// The token request for a code of [`CHALLENGE`].
    pub fn redemption(code: &str) -> Vec<(&str, &str)> {
        vec![
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", REDIRECT_URI),
            ("code_verifier", VERIFIER),
            ("client_id", "client"),
            ("client_secret", CLIENT_SECRET),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn discovery_tells_what_there_is() {
        let expected = json!({
            "issuer": "http://127.0.0.1:8090",
            "authorization_endpoint": "http://127.0.0.1:8090/authorize",
            "token_endpoint": "http://127.0.0.1:8090/token",
            "userinfo_endpoint": "http://127.0.0.1:8090/userinfo",
            "jwks_uri": "http://127.0.0.1:8090/jwks",
            "response_types_supported": ["code"],
            "response_modes_supported": ["query"],
            "grant_types_supported": ["authorization_code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
            "code_challenge_methods_supported": ["S256"],
            "scopes_supported": ["openid", "email", "profile"],
            "claims_supported": [
                "iss", "sub", "aud", "exp", "iat", "auth_time", "nonce", "email", "email_verified", "name"
            ],
            "authorization_response_iss_parameter_supported": true,
            "request_parameter_supported": false,
            "request_uri_parameter_supported": false,
        });
        assert_eq!(fixture::provider().metadata(), expected);
    }
}
