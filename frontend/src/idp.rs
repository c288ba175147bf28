//! Signing in at an identity provider: where to send the browser, and who came back.

mod http;
mod jwt;
mod oidc;
mod workos;

pub use self::http::client;

use std::time::Duration;

use ::http::StatusCode;
use serde_json::{Map, Value};
use url::Url;

use crate::{
    config::{Provider, PublicUrl},
    error::Fault,
    idp::{jwt::JwtFault, oidc::Oidc, workos::WorkOs},
    random,
};

/// Where providers send browsers back to.
pub const CALLBACK_PATH: &str = "/auth/callback";

/// How long all requests of one step of a sign-in may take together, waiting for one another included.
const STEP_DEADLINE: Duration = Duration::from_secs(15);

/// What the redirect to the provider carries.
pub struct Outgoing<'a> {
    pub state: &'a str,
    pub nonce: &'a str,
    /// The S256 challenge of the PKCE verifier (RFC 7636).
    pub challenge: &'a str,
    pub login_hint: Option<&'a str>,
}

/// What the browser brought back, with what was kept meanwhile.
pub struct Incoming<'a> {
    pub code: &'a str,
    /// The `iss` parameter of the redirect (RFC 9207).
    pub iss: Option<&'a str>,
    pub nonce: &'a str,
    pub verifier: &'a str,
}

/// Whom the provider vouches for.
#[derive(Debug)]
pub struct Principal {
    pub issuer: String,
    pub subject: String,
    /// What the provider says of the person, verified.
    pub claims: Map<String, Value>,
    /// The provider's tokens, to be sealed.
    pub oauth_data: Value,
}

impl Principal {
    /// A claim that is a text.
    pub fn claim(&self, name: &str) -> Option<&str> {
        self.claims.get(name).and_then(Value::as_str)
    }
}

/// What a provider says about itself, as far as a sign-in here depends on it.
#[derive(Debug)]
pub struct Published {
    /// How PKCE challenges may be made; `None` where it does not say.
    pub challenge_methods: Option<Vec<String>>,
    pub scopes: Option<Vec<String>>,
    /// What a sign-in will ask for.
    pub wanted_scopes: String,
    pub response_types: Option<Vec<String>>,
    /// Whether one of its signing keys is of a kind that is accepted here.
    pub usable_keys: bool,
    /// The status it answers a sign-in of this client with.
    pub authorize: StatusCode,
}

/// Why a provider did not sign anybody in.
#[derive(Debug, thiserror::Error)]
pub enum ProviderFault {
    #[error("the provider cannot be reached")]
    Unreachable(#[source] reqwest::Error),
    #[error("the provider did not answer in time")]
    Timeout,
    #[error("the provider answered status {0}")]
    Status(StatusCode),
    #[error("the provider's answer cannot be read: {0}")]
    Garbage(String),
    #[error("the provider refused the code: {0}")]
    CodeRefused(String),
    #[error("the provider refused the sign-in: {0}")]
    SignInRefused(String),
    #[error("the provider refused this server as a client: {0}")]
    ClientRefused(String),
    #[error("the provider's token does not hold")]
    Token(#[from] JwtFault),
    #[error("the answer came from another issuer than the one that was asked")]
    WrongIssuer,
}

impl From<ProviderFault> for Fault {
    fn from(fault: ProviderFault) -> Self {
        use ProviderFault::{
            ClientRefused, CodeRefused, Garbage, SignInRefused, Status, Timeout, Token, Unreachable,
            WrongIssuer,
        };
        let (status, code, public) = match &fault {
            Unreachable(_) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "provider_unavailable",
                "The identity provider cannot be reached: try again in a moment.",
            ),
            Timeout => (
                StatusCode::SERVICE_UNAVAILABLE,
                "provider_timeout",
                "The identity provider did not answer in time: try again in a moment.",
            ),
            Status(StatusCode::TOO_MANY_REQUESTS) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "provider_unavailable",
                "The identity provider is busy: try again in a moment.",
            ),
            Status(_) | Garbage(_) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "provider_error",
                "The identity provider failed: start the sign-in again.",
            ),
            CodeRefused(_) => (
                StatusCode::BAD_REQUEST,
                "invalid_grant",
                "The sign-in was used already or took too long: start it again.",
            ),
            SignInRefused(_) => (
                StatusCode::FORBIDDEN,
                "access_denied",
                "The identity provider did not sign you in: finish what it asks for and start again.",
            ),
            ClientRefused(_) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "provider_error",
                "The identity provider does not accept this server's credentials: its operator has to set them.",
            ),
            Token(_) | WrongIssuer => (
                StatusCode::SERVICE_UNAVAILABLE,
                "provider_error",
                "The identity provider's answer cannot be verified: nobody was signed in.",
            ),
        };
        Fault::provider(status, code, public).because(fault)
    }
}

/// The provider that this server signs people in with.
pub enum IdentityProvider {
    Oidc(Box<Oidc>),
    WorkOs(Box<WorkOs>),
}

impl IdentityProvider {
    pub fn new(provider: Provider, public_url: &PublicUrl) -> Self {
        let redirect_uri = public_url.join(CALLBACK_PATH);
        match provider {
            Provider::Oidc { issuer, client_id, client_secret, scopes } => {
                Self::Oidc(Box::new(Oidc::new(issuer, client_id, client_secret, scopes, redirect_uri)))
            }
            Provider::WorkOs { api_url, client_id, api_key, issuer } => {
                Self::WorkOs(Box::new(WorkOs::new(api_url, client_id, api_key, issuer, redirect_uri)))
            }
        }
    }

    /// The URL to send the browser to.
    pub async fn authorization_url(&self, outgoing: &Outgoing<'_>) -> Result<Url, ProviderFault> {
        match self {
            Self::Oidc(provider) => in_time(provider.authorization_url(outgoing)).await,
            Self::WorkOs(provider) => Ok(provider.authorization_url(outgoing)),
        }
    }

    /// Asks the provider what it takes, and whether it takes this client; signs nobody in.
    pub async fn examine(&self) -> Result<Published, ProviderFault> {
        // Nobody will finish this one, so nothing in it has to be secret.
        let nobody = "mcp-frontend-doctor";
        let challenge = random::challenge(nobody);
        let outgoing = Outgoing { state: nobody, nonce: nobody, challenge: &challenge, login_hint: None };
        let url = self.authorization_url(&outgoing).await?;
        let authorize = self::http::client()?.get(url);
        let (authorize, _) = in_time(self::http::fetch(authorize, self::http::ANSWER_LIMIT)).await?;
        match self {
            Self::Oidc(provider) => in_time(provider.examine(authorize)).await,
            Self::WorkOs(provider) => in_time(provider.examine(authorize)).await,
        }
    }

    /// Whether an answer comes from the provider that was asked, as far as it says (RFC 9207): its errors too.
    pub async fn check_issuer(&self, iss: Option<&str>) -> Result<(), ProviderFault> {
        match self {
            Self::Oidc(provider) => in_time(provider.check_issuer(iss)).await,
            Self::WorkOs(_) => Ok(()),
        }
    }

    /// Exchanges the code and verifies who signed in.
    pub async fn redeem(&self, incoming: &Incoming<'_>) -> Result<Principal, ProviderFault> {
        match self {
            Self::Oidc(provider) => in_time(provider.redeem(incoming)).await,
            Self::WorkOs(provider) => in_time(provider.redeem(incoming)).await,
        }
    }
}

async fn in_time<T>(step: impl Future<Output = Result<T, ProviderFault>>) -> Result<T, ProviderFault> {
    tokio::time::timeout(STEP_DEADLINE, step).await.unwrap_or(Err(ProviderFault::Timeout))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_step_ends_however_many_requests_it_takes() {
        let begun = tokio::time::Instant::now();
        let step = in_time(std::future::pending::<Result<(), _>>());
        let ended = tokio::time::timeout(STEP_DEADLINE * 2, step).await.expect("it goes on");
        assert!(matches!(ended, Err(ProviderFault::Timeout)));
        assert_eq!(begun.elapsed(), STEP_DEADLINE);
    }
}
