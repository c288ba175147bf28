//! Authorization codes and access tokens: short-lived, in memory, bounded.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::secret;
use crate::user::User;

/// Enough for a redirect and a token request on one machine.
const CODE_LIFETIME: Duration = Duration::from_secs(60);
pub const ACCESS_TOKEN_LIFETIME: Duration = Duration::from_secs(3600);
/// A script that signs in without end must not fill the memory.
const MAX_LIVE: usize = 100_000;

/// What the user agreed to in one authorization request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    pub user: User,
    pub redirect_uri: String,
    pub code_challenge: String,
    pub nonce: Option<String>,
    pub scopes: Scopes,
}

/// The scopes that were asked for and are known here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scopes {
    pub openid: bool,
    pub email: bool,
    pub profile: bool,
}

impl Scopes {
    pub const SUPPORTED: [&str; 3] = ["openid", "email", "profile"];

    /// Unknown scopes are left out, as OpenID Connect Core 1.0 section 3.1.2.1 asks.
    pub fn parse(scope: &str) -> Self {
        let asked = |name| scope.split(' ').any(|word| word == name);
        Self { openid: asked("openid"), email: asked("email"), profile: asked("profile") }
    }

    pub fn granted(self) -> String {
        let held = [self.openid, self.email, self.profile];
        let names: Vec<_> = Self::SUPPORTED.into_iter().zip(held).filter(|(_, held)| *held).collect();
        names.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(" ")
    }
}

struct Code {
    grant: Grant,
    expires: Instant,
    spent: Option<Spent>,
}

/// What a code that was used once led to.
struct Spent {
    access_token: Option<String>,
}

struct AccessToken {
    user: User,
    scopes: Scopes,
    expires: Instant,
}

#[derive(Default)]
pub struct Grants {
    codes: HashMap<String, Code>,
    access_tokens: HashMap<String, AccessToken>,
}

impl Grants {
    /// A code for the grant; `None` while too many are open.
    pub fn issue_code(&mut self, grant: Grant, now: Instant) -> Option<String> {
        self.codes.retain(|_, code| code.expires > now);
        if self.codes.len() >= MAX_LIVE {
            return None;
        }
        let value = secret::random();
        self.codes.insert(value.clone(), Code { grant, expires: now + CODE_LIFETIME, spent: None });
        Some(value)
    }

    /// The grant behind a code, once. Whoever presents it again ends the access token that the first use
    /// gave (RFC 6749 section 4.1.2).
    pub fn spend_code(&mut self, value: &str, now: Instant) -> Option<Grant> {
        let code = self.codes.get_mut(value).filter(|code| code.expires > now)?;
        if let Some(spent) = &mut code.spent {
            if let Some(token) = spent.access_token.take() {
                self.access_tokens.remove(&token);
            }
            return None;
        }
        code.spent = Some(Spent { access_token: None });
        Some(code.grant.clone())
    }

    /// An access token for the grant that `code` stood for; `None` while too many are live.
    pub fn issue_access_token(&mut self, code: &str, grant: &Grant, now: Instant) -> Option<String> {
        self.access_tokens.retain(|_, token| token.expires > now);
        if self.access_tokens.len() >= MAX_LIVE {
            return None;
        }
        let value = secret::random();
        let expires = now + ACCESS_TOKEN_LIFETIME;
        self.access_tokens
            .insert(value.clone(), AccessToken { user: grant.user.clone(), scopes: grant.scopes, expires });
        if let Some(spent) = self.codes.get_mut(code).and_then(|code| code.spent.as_mut()) {
            spent.access_token = Some(value.clone());
        }
        Some(value)
    }

    pub fn user_of(&self, access_token: &str, now: Instant) -> Option<(&User, Scopes)> {
        let token = self.access_tokens.get(access_token).filter(|token| token.expires > now)?;
        Some((&token.user, token.scopes))
    }
}

#[cfg(test)]
pub mod fixture {
    use super::*;

    pub fn grant() -> Grant {
        Grant {
            user: User::with_email("alice@example.com").expect("an address"),
            redirect_uri: "http://127.0.0.1:8080/auth/callback".to_owned(),
            code_challenge: "x".repeat(43),
            nonce: None,
            scopes: Scopes::parse("openid email"),
        }
    }

    impl Grants {
        /// As many live codes and access tokens as given. Issued one by one, they would take minutes.
        pub fn crowd(&mut self, codes: usize, access_tokens: usize, now: Instant) {
            let Grant { user, scopes, .. } = grant();
            self.codes.extend((0..codes).map(|number| {
                (number.to_string(), Code { grant: grant(), expires: now + CODE_LIFETIME, spent: None })
            }));
            self.access_tokens.extend((0..access_tokens).map(|number| {
                let expires = now + ACCESS_TOKEN_LIFETIME;
                (number.to_string(), AccessToken { user: user.clone(), scopes, expires })
            }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::fixture::grant;
    use super::*;

    const INSTANT: Duration = Duration::from_nanos(1);
    const MINUTE: Duration = Duration::from_secs(60);
    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_code_works_once() {
        let (mut grants, now) = (Grants::default(), Instant::now());
        let code = grants.issue_code(grant(), now).expect("a code");
        assert_eq!(grants.spend_code(&code, now), Some(grant()));
        assert_eq!(grants.spend_code(&code, now), None);
        assert_eq!(grants.spend_code("unheard of", now), None);
    }

    #[test]
    fn a_code_dies_after_a_minute_and_is_forgotten() {
        let (mut grants, now) = (Grants::default(), Instant::now());
        let [early, late] = [(); 2].map(|()| grants.issue_code(grant(), now).expect("a code"));
        grants.issue_code(grant(), now + MINUTE - INSTANT).expect("a code");
        assert_eq!(grants.spend_code(&early, now + MINUTE - INSTANT), Some(grant()));
        assert_eq!(grants.spend_code(&late, now + MINUTE), None);
        assert_eq!(grants.codes.len(), 3);
        grants.issue_code(grant(), now + MINUTE).expect("a code");
        assert_eq!(grants.codes.len(), 2);
    }

    #[test]
    fn a_replayed_code_ends_the_access_token_it_gave() {
        let (mut grants, now) = (Grants::default(), Instant::now());
        let code = grants.issue_code(grant(), now).expect("a code");
        let granted = grants.spend_code(&code, now).expect("the grant");
        let token = grants.issue_access_token(&code, &granted, now).expect("a token");
        assert_eq!(grants.user_of(&token, now), Some((&grant().user, grant().scopes)));
        assert_eq!(grants.spend_code(&code, now), None);
        assert!(grants.user_of(&token, now).is_none());
    }

    #[test]
    fn an_access_token_dies_after_an_hour_and_is_forgotten() {
        let (mut grants, now) = (Grants::default(), Instant::now());
        let first = grants.issue_access_token("", &grant(), now).expect("a token");
        grants.issue_access_token("", &grant(), now + HOUR - INSTANT).expect("a token");
        assert!(grants.user_of(&first, now + HOUR - INSTANT).is_some());
        assert!(grants.user_of(&first, now + HOUR).is_none());
        grants.issue_access_token("", &grant(), now + HOUR).expect("a token");
        assert_eq!(grants.access_tokens.len(), 2);
    }

    #[test]
    fn there_are_100000_codes_and_as_many_access_tokens_at_most() {
        let (mut grants, now) = (Grants::default(), Instant::now());
        grants.crowd(99_999, 99_999, now);
        let code = grants.issue_code(grant(), now).expect("the last code");
        let granted = grants.spend_code(&code, now).expect("the grant");
        assert!(grants.issue_access_token(&code, &granted, now).is_some());
        assert_eq!(grants.issue_code(grant(), now), None);
        assert_eq!(grants.issue_access_token(&code, &granted, now), None);
        // Until the others have died.
        assert!(grants.issue_code(grant(), now + MINUTE).is_some());
        assert!(grants.issue_access_token("", &granted, now + HOUR).is_some());
    }

    #[test]
    fn scopes_that_nobody_knows_are_left_out() {
        assert_eq!(Scopes::parse("openid offline_access profile").granted(), "openid profile");
        assert_eq!(Scopes::parse("profile email openid").granted(), "openid email profile");
        assert_eq!(Scopes::parse("openidx").granted(), "");
    }
}
