//! WorkOS User Management (AuthKit): authorize, authenticate, and the access token's claims.
//!
//! This is WorkOS' session token family, `/user_management/*` with the keys at `/sso/jwks/{client_id}`; the
//! tokens of WorkOS Connect come from other issuers and are not accepted here.

use http::StatusCode;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use url::Url;

use crate::idp::{
    Incoming, Outgoing, Principal, ProviderFault, Published, http as provider,
    jwt::{Audience, Expected, KeySet},
};

/// Claims of the access token that say what the person may do here.
const SESSION_CLAIMS: &[&str] =
    &["sid", "org_id", "role", "roles", "permissions", "entitlements", "feature_flags", "act"];
/// What of the user object is kept beside them.
const USER_CLAIMS: &[&str] =
    &["email", "email_verified", "first_name", "last_name", "profile_picture_url", "external_id"];

pub struct WorkOs {
    api_url: Url,
    client_id: String,
    api_key: SecretString,
    issuers: Vec<String>,
    redirect_uri: String,
    keys: KeySet,
}

#[derive(Deserialize)]
struct Authenticated {
    user: Map<String, Value>,
    access_token: String,
    refresh_token: String,
}

/// WorkOS answers with `error` where OAuth has a word and with `code` elsewhere.
#[derive(Deserialize)]
struct AuthenticateError {
    error: Option<String>,
    code: Option<String>,
}

impl WorkOs {
    /// `issuer` is a custom authentication domain's, beside the ones every environment has.
    pub fn new(
        api_url: Url,
        client_id: String,
        api_key: SecretString,
        issuer: Option<String>,
        redirect_uri: String,
    ) -> Self {
        let origin = api_url.origin().ascii_serialization();
        let mut issuers = vec![format!("{origin}/"), format!("{origin}/user_management/{client_id}"), origin];
        issuers.extend(issuer);
        Self { api_url, client_id, api_key, issuers, redirect_uri, keys: KeySet::new() }
    }

    pub fn authorization_url(&self, outgoing: &Outgoing<'_>) -> Url {
        let mut url = self.endpoint(&["user_management", "authorize"]);
        let mut query = url.query_pairs_mut();
        query
            .append_pair("response_type", "code")
            .append_pair("client_id", &self.client_id)
            .append_pair("redirect_uri", &self.redirect_uri)
            .append_pair("provider", "authkit")
            .append_pair("state", outgoing.state)
            .append_pair("code_challenge", outgoing.challenge)
            .append_pair("code_challenge_method", "S256");
        if let Some(hint) = outgoing.login_hint {
            query.append_pair("login_hint", hint);
        }
        drop(query);
        url
    }

    pub async fn redeem(&self, incoming: &Incoming<'_>) -> Result<Principal, ProviderFault> {
        let answer = self.authenticate(incoming).await?;
        let expected = Expected {
            issuers: &self.issuers,
            audience: Audience::OnlyIfNamed(&self.client_id),
            // There is no ID token and so no nonce; the code is bound by state and PKCE alone.
            nonce: None,
        };
        let keys_url = self.endpoint(&["sso", "jwks", &self.client_id]);
        let verified = self.keys.verify(&keys_url, &answer.access_token, &expected).await?;
        let text = |name: &str| verified.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let subject = text("sub");
        if answer.user.get("id").and_then(Value::as_str) != Some(&subject) {
            return Err(ProviderFault::Garbage("the user is not the token's subject".into()));
        }
        let mut claims = pick(&answer.user, USER_CLAIMS);
        if let Some(name) = full_name(&answer.user) {
            claims.insert("name".into(), name.into());
        }
        claims.extend(pick(&verified, SESSION_CLAIMS));
        let expires_at = verified
            .get("exp")
            .and_then(Value::as_i64)
            .and_then(|seconds| chrono::DateTime::from_timestamp(seconds, 0))
            .map(|instant| instant.to_rfc3339());
        let oauth_data = json!({
            "access_token": answer.access_token,
            "refresh_token": answer.refresh_token,
            "expires_at": expires_at,
        });
        Ok(Principal { issuer: text("iss"), subject, claims, oauth_data })
    }

    /// What WorkOS documents, beside `authorize`, the answer to a sign-in of this client.
    pub async fn examine(&self, authorize: StatusCode) -> Result<Published, ProviderFault> {
        Ok(Published {
            usable_keys: self.keys.usable(&self.endpoint(&["sso", "jwks", &self.client_id])).await?,
            challenge_methods: Some(vec!["S256".into()]),
            scopes: None,
            wanted_scopes: String::new(),
            response_types: Some(vec!["code".into()]),
            authorize,
        })
    }

    async fn authenticate(&self, incoming: &Incoming<'_>) -> Result<Authenticated, ProviderFault> {
        let body = json!({
            "grant_type": "authorization_code",
            "client_id": self.client_id,
            "client_secret": self.api_key.expose_secret(),
            "code": incoming.code,
            "code_verifier": incoming.verifier,
        });
        let request =
            provider::client()?.post(self.endpoint(&["user_management", "authenticate"])).json(&body);
        let (status, body) = provider::fetch(request, provider::ANSWER_LIMIT).await?;
        match status {
            StatusCode::OK => provider::json(&body),
            StatusCode::BAD_REQUEST
            | StatusCode::UNAUTHORIZED
            | StatusCode::FORBIDDEN
            | StatusCode::UNPROCESSABLE_ENTITY => {
                let AuthenticateError { error, code } = provider::json(&body)?;
                let word = error.or(code).unwrap_or_default();
                Err(match word.as_str() {
                    "invalid_grant" | "invalid_code" | "expired_code" | "invalid_code_verifier" => {
                        ProviderFault::CodeRefused(word)
                    }
                    "invalid_client" | "unauthorized" | "unauthorized_client" => {
                        ProviderFault::ClientRefused(word)
                    }
                    "" => ProviderFault::Status(status),
                    // Organization selection, MFA, e-mail verification, required SSO and their like.
                    _ => ProviderFault::SignInRefused(word),
                })
            }
            status => Err(ProviderFault::Status(status)),
        }
    }

    fn endpoint(&self, path: &[&str]) -> Url {
        let mut url = self.api_url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            // Encodes what it is given, so that an id cannot reach another path.
            segments.clear().extend(path);
        }
        url
    }
}

fn pick(from: &Map<String, Value>, names: &[&str]) -> Map<String, Value> {
    names
        .iter()
        .filter_map(|name| from.get_key_value(*name))
        .filter(|(_, value)| !value.is_null())
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

fn full_name(user: &Map<String, Value>) -> Option<String> {
    let parts: Vec<&str> =
        ["first_name", "last_name"].iter().filter_map(|name| user.get(*name)?.as_str()).collect();
    (!parts.is_empty()).then(|| parts.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provider(client_id: &str) -> WorkOs {
        WorkOs::new(
            "https://api.workos.com".parse().unwrap(),
            client_id.into(),
            "sk_hush".into(),
            Some("https://auth.example.com".into()),
            "https://h/auth/callback".into(),
        )
    }

    #[test]
    fn the_issuers_are_those_of_this_environment() {
        assert_eq!(
            provider("client_1").issuers,
            [
                "https://api.workos.com/",
                "https://api.workos.com/user_management/client_1",
                "https://api.workos.com",
                "https://auth.example.com",
            ]
        );
    }

    #[test]
    fn a_sign_in_is_bound_by_state_and_challenge() {
        let outgoing = Outgoing { state: "s", nonce: "n", challenge: "c", login_hint: None };
        let url = provider("client_1").authorization_url(&outgoing);
        let sent: std::collections::HashMap<_, _> = url.query_pairs().into_owned().collect();
        for (name, value) in [("state", "s"), ("code_challenge", "c"), ("code_challenge_method", "S256")] {
            assert_eq!(sent.get(name).map(String::as_str), Some(value), "{name}");
        }
    }

    #[test]
    fn an_id_cannot_leave_its_path_segment() {
        let url = provider("../admin?x=").endpoint(&["sso", "jwks", "../admin?x="]);
        assert_eq!(url.as_str(), "https://api.workos.com/sso/jwks/..%2Fadmin%3Fx=");
    }

    #[test]
    fn claims_are_picked_by_name() {
        let user = json!({"id": "user_1", "email": "a@example.com", "last_name": "Doe", "first_name": null,
                          "password_hash": "hush"});
        let user = user.as_object().unwrap();
        assert_eq!(pick(user, USER_CLAIMS).keys().collect::<Vec<_>>(), ["email", "last_name"]);
        assert_eq!(full_name(user), Some("Doe".into()));
        assert_eq!(full_name(&Map::new()), None);
    }
}
