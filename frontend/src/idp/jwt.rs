//! Verifying tokens that identity providers signed: which keys, which algorithms, which claims.
//!
//! The cryptography is jsonwebtoken's. What is here is what to insist on: an algorithm from a fixed list
//! that fits the key's own type, a key named by the provider's own key set (never by the token), an exact
//! issuer, one audience, a lifetime, a subject, and the nonce of this sign-in.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use aws_lc_rs::constant_time;
use jsonwebtoken::{
    Algorithm, DecodingKey, Validation,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, PublicKeyUse},
};
use serde_json::{Map, Value};
use tokio::sync::Mutex;
use url::Url;

use crate::idp::{ProviderFault, http};

/// How far the provider's clock may be off, in seconds.
const LEEWAY: u64 = 60;
/// An unknown key fetches the key set again, but no more often than this.
const REFETCH: Duration = Duration::from_secs(60);
/// A key that the provider withdrew stops being trusted after this, at the latest.
const KEEP: Duration = Duration::from_secs(3600);
/// The longest subject (OpenID Connect Core §2).
const LONGEST_SUBJECT: usize = 255;

/// Why a token does not hold.
#[derive(Debug, thiserror::Error)]
pub enum JwtFault {
    #[error("it is malformed, or signed with an algorithm that is not accepted")]
    Header(#[source] jsonwebtoken::errors::Error),
    #[error("its header has critical extensions")]
    Critical,
    #[error("no key of the provider fits it")]
    UnknownKey,
    #[error("its signature or its claims do not hold")]
    Invalid(#[source] jsonwebtoken::errors::Error),
    #[error("its claim {0:?} is missing or wrong")]
    Claim(&'static str),
}

/// What a token has to say to be believed.
pub struct Expected<'a> {
    /// Compared as text, without normalisation.
    pub issuers: &'a [String],
    pub audience: Audience<'a>,
    pub nonce: Option<&'a str>,
}

/// Whom a token has to be for.
pub enum Audience<'a> {
    /// This client and nobody else.
    Only(&'a str),
    /// This client where it names anybody: providers exist whose access tokens do not.
    OnlyIfNamed(&'a str),
}

/// A provider's key set, fetched when needed and kept for a while.
pub struct KeySet {
    cached: Mutex<Option<(JwkSet, Instant)>>,
}

impl KeySet {
    pub fn new() -> Self {
        Self { cached: Mutex::new(None) }
    }

    /// The claims of `token` where it holds against the keys at `url`.
    pub async fn verify(
        &self,
        url: &Url,
        token: &str,
        expected: &Expected<'_>,
    ) -> Result<Map<String, Value>, ProviderFault> {
        let mut cached = self.cached.lock().await;
        if let Some((keys, fetched)) = &*cached {
            let age = fetched.elapsed();
            match verify(keys, token, expected) {
                // Perhaps the provider has new keys.
                Err(JwtFault::UnknownKey) if age >= REFETCH => {}
                _ if age >= KEEP => {}
                verdict => return Ok(verdict?),
            }
        }
        let keys = http::fetch_json(http::client()?.get(url.clone()), http::ANSWER_LIMIT).await?;
        let (keys, _) = cached.insert((keys, Instant::now()));
        Ok(verify(keys, token, expected)?)
    }

    /// Whether a key at `url` could verify anything.
    pub async fn usable(&self, url: &Url) -> Result<bool, ProviderFault> {
        let keys: JwkSet = http::fetch_json(http::client()?.get(url.clone()), http::ANSWER_LIMIT).await?;
        Ok(keys.keys.iter().any(|key| ALGORITHMS.into_iter().any(|algorithm| fits(key, algorithm))))
    }
}

const ALGORITHMS: [Algorithm; 4] = [Algorithm::RS256, Algorithm::PS256, Algorithm::ES256, Algorithm::EdDSA];

fn verify(keys: &JwkSet, token: &str, expected: &Expected<'_>) -> Result<Map<String, Value>, JwtFault> {
    let header = jsonwebtoken::decode_header(token).map_err(JwtFault::Header)?;
    if header.crit.is_some() {
        return Err(JwtFault::Critical);
    }
    let key = select(keys, header.kid.as_deref(), header.alg).ok_or(JwtFault::UnknownKey)?;
    let key = DecodingKey::from_jwk(key).map_err(JwtFault::Invalid)?;

    let mut validation = Validation::new(header.alg);
    validation.leeway = LEEWAY;
    validation.validate_nbf = true;
    // Ours is stricter: it counts the entries.
    validation.validate_aud = false;
    validation.set_issuer(expected.issuers);
    validation.set_required_spec_claims(&["exp", "iss", "sub"]);
    let claims = jsonwebtoken::decode::<Map<String, Value>>(token, &key, &validation)
        .map_err(JwtFault::Invalid)?
        .claims;
    check_claims(&claims, expected)?;
    Ok(claims)
}

/// The one key that may have signed: of the algorithm's own type, for signatures, and of that id if the
/// token names one. Keys without ids are usable only where there is no choice.
fn select<'a>(keys: &'a JwkSet, kid: Option<&str>, algorithm: Algorithm) -> Option<&'a Jwk> {
    let mut fitting = keys.keys.iter().filter(|key| fits(key, algorithm)).filter(|key| match kid {
        Some(kid) => key.common.key_id.as_deref() == Some(kid),
        None => true,
    });
    let key = fitting.next()?;
    fitting.next().is_none().then_some(key)
}

fn fits(key: &Jwk, algorithm: Algorithm) -> bool {
    let for_signatures = matches!(key.common.public_key_use, None | Some(PublicKeyUse::Signature));
    let named = key.common.key_algorithm;
    let right_algorithm = named.is_none_or(|named| named.to_string() == format!("{algorithm:?}"));
    let right_type = match (algorithm, &key.algorithm) {
        (Algorithm::RS256 | Algorithm::PS256, AlgorithmParameters::RSA(_)) => true,
        (Algorithm::ES256, AlgorithmParameters::EllipticCurve(key)) => key.curve == EllipticCurve::P256,
        (Algorithm::EdDSA, AlgorithmParameters::OctetKeyPair(key)) => key.curve == EllipticCurve::Ed25519,
        _ => false,
    };
    for_signatures && right_algorithm && right_type
}

fn check_claims(claims: &Map<String, Value>, expected: &Expected<'_>) -> Result<(), JwtFault> {
    let text = |name| claims.get(name).and_then(Value::as_str);
    if !text("iss").is_some_and(|iss| expected.issuers.iter().any(|issuer| issuer == iss)) {
        return Err(JwtFault::Claim("iss"));
    }
    let subject = text("sub").unwrap_or_default();
    if subject.is_empty() || subject.len() > LONGEST_SUBJECT {
        return Err(JwtFault::Claim("sub"));
    }
    let (client, named) = match expected.audience {
        Audience::Only(client) => (client, true),
        Audience::OnlyIfNamed(client) => (client, claims.contains_key("aud")),
    };
    if named && !is_only_audience(claims.get("aud"), client) {
        return Err(JwtFault::Claim("aud"));
    }
    if claims.get("azp").is_some_and(|azp| azp.as_str() != Some(client)) {
        return Err(JwtFault::Claim("azp"));
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
    match claims.get("iat").map(Value::as_f64) {
        Some(Some(issued)) if issued <= (now + LEEWAY) as f64 => {}
        _ => return Err(JwtFault::Claim("iat")),
    }
    match (expected.nonce, text("nonce")) {
        (None, _) => Ok(()),
        (Some(nonce), Some(found))
            if constant_time::verify_slices_are_equal(nonce.as_bytes(), found.as_bytes()).is_ok() =>
        {
            Ok(())
        }
        _ => Err(JwtFault::Claim("nonce")),
    }
}

/// `aud` as a text or as an array of one. A second audience could be somebody who may replay the token.
fn is_only_audience(audience: Option<&Value>, client: &str) -> bool {
    match audience {
        Some(Value::String(one)) => one == client,
        Some(Value::Array(many)) => matches!(&many[..], [Value::String(one)] if one == client),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::{
        rand::SystemRandom,
        signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
    };
    use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
    use serde_json::json;

    use super::*;

    /// A provider with one P-256 key.
    struct Signer {
        key: EcdsaKeyPair,
        keys: JwkSet,
    }

    impl Signer {
        fn new() -> Self {
            let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
            let point = key.public_key().as_ref();
            let encode = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
            let keys = serde_json::from_value(json!({"keys": [{
                "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": "k1",
                "x": encode(&point[1..33]), "y": encode(&point[33..]),
            }]}))
            .unwrap();
            Self { key, keys }
        }

        fn sign(&self, header: &Value, claims: &Value) -> String {
            let encode = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
            let input = format!("{}.{}", encode(header), encode(claims));
            let signature = self.key.sign(&SystemRandom::new(), input.as_bytes()).unwrap();
            format!("{input}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
        }
    }

    fn now() -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
    }

    fn header() -> Value {
        json!({"alg": "ES256", "kid": "k1", "typ": "JWT"})
    }

    fn claims() -> Value {
        json!({"iss": "https://id.example.com/", "sub": "user_1", "aud": "mcp", "nonce": "n-1",
               "iat": now(), "exp": now() + 300, "email": "a@example.com"})
    }

    fn check(signer: &Signer, header: &Value, claims: &Value) -> Result<Map<String, Value>, JwtFault> {
        let issuers = ["https://id.example.com/".to_owned()];
        let expected = Expected { issuers: &issuers, audience: Audience::Only("mcp"), nonce: Some("n-1") };
        verify(&signer.keys, &signer.sign(header, claims), &expected)
    }

    #[test]
    fn a_good_token_holds() {
        let signer = Signer::new();
        assert_eq!(check(&signer, &header(), &claims()).unwrap()["email"], "a@example.com");
        let mut in_array = claims();
        in_array["aud"] = json!(["mcp"]);
        assert!(check(&signer, &header(), &in_array).is_ok());
        assert!(check(&signer, &json!({"alg": "ES256"}), &claims()).is_ok(), "no kid, one key");
        for (name, value) in [("sub", "s".repeat(LONGEST_SUBJECT)), ("azp", "mcp".to_owned())] {
            let mut claims = claims();
            claims[name] = json!(value);
            assert!(check(&signer, &header(), &claims).is_ok(), "{name} = {value}");
        }
    }

    #[test]
    fn each_claim_is_insisted_on() {
        let signer = Signer::new();
        let cases = [
            ("iss", json!("https://id.example.com")),
            ("iss", json!("https://id.example.com/x")),
            ("iss", json!(["https://id.example.com/"])),
            ("iss", Value::Null),
            ("sub", json!("")),
            ("sub", json!("s".repeat(256))),
            ("sub", json!(7)),
            ("sub", Value::Null),
            ("aud", json!("other")),
            ("aud", json!(["mcp", "other"])),
            ("aud", json!([])),
            ("aud", Value::Null),
            ("azp", json!("other")),
            ("nonce", json!("n-2")),
            ("nonce", Value::Null),
            ("exp", json!(now() - 120)),
            ("exp", json!((now() + 300).to_string())),
            ("exp", Value::Null),
            ("nbf", json!(now() + 300)),
            ("iat", json!(now() + 300)),
            ("iat", json!("now")),
            ("iat", Value::Null),
        ];
        for (name, value) in cases {
            let mut claims = claims();
            match &value {
                Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
                value => claims[name] = value.clone(),
            }
            assert!(check(&signer, &header(), &claims).is_err(), "{name} = {value}");
        }
    }

    /// Checks a token with `claim` set from the present second, in that same second.
    fn check_at(signer: &Signer, claim: &str, of: impl Fn(u64) -> u64) -> bool {
        loop {
            let mut claims = claims();
            let second = now();
            claims[claim] = json!(of(second));
            let holds = check(signer, &header(), &claims).is_ok();
            if now() == second {
                return holds;
            }
        }
    }

    #[test]
    fn clocks_may_differ_by_the_leeway_to_the_second() {
        let signer = Signer::new();
        assert!(check_at(&signer, "exp", |now| now - LEEWAY));
        assert!(!check_at(&signer, "exp", |now| now - LEEWAY - 1));
        for claim in ["nbf", "iat"] {
            assert!(check_at(&signer, claim, |now| now + LEEWAY), "{claim}");
            assert!(!check_at(&signer, claim, |now| now + LEEWAY + 1), "{claim}");
        }
        assert_eq!(LEEWAY, 60);
    }

    #[test]
    fn the_header_cannot_choose_its_own_verification() {
        let signer = Signer::new();
        for header in [
            json!({"alg": "none"}),
            json!({"alg": "HS256", "kid": "k1"}),
            json!({"alg": "RS256", "kid": "k1"}),
            json!({"alg": "ES384", "kid": "k1"}),
            json!({"alg": "ES256", "kid": "k2"}),
            json!({"alg": "ES256", "kid": "k1", "crit": ["b64"], "b64": false}),
            json!({"kid": "k1"}),
        ] {
            assert!(check(&signer, &header, &claims()).is_err(), "{header}");
        }
        // A key in the token itself is not looked at.
        let other = Signer::new();
        let mut header = header();
        header["jwk"] = serde_json::to_value(&other.keys.keys[0]).unwrap();
        header["jku"] = json!("https://evil.example.com/keys");
        let token = other.sign(&header, &claims());
        let issuers = ["https://id.example.com/".to_owned()];
        let expected = Expected { issuers: &issuers, audience: Audience::Only("mcp"), nonce: Some("n-1") };
        assert!(matches!(verify(&signer.keys, &token, &expected), Err(JwtFault::Invalid(_))));
    }

    #[test]
    fn a_key_is_used_for_what_it_says_alone() {
        let with = |change: &dyn Fn(&mut Value)| {
            let mut signer = Signer::new();
            let mut keys = serde_json::to_value(&signer.keys).unwrap();
            change(&mut keys["keys"]);
            signer.keys = serde_json::from_value(keys).unwrap();
            check(&signer, &header(), &claims()).is_ok()
        };
        assert!(with(&|_| {}));
        assert!(with(&|keys| drop(keys[0].as_object_mut().unwrap().remove("alg"))));
        assert!(!with(&|keys| keys[0]["use"] = json!("enc")));
        assert!(!with(&|keys| keys[0]["alg"] = json!("ES384")));
        assert!(!with(&|keys| keys[0]["crv"] = json!("P-384")));
        assert!(!with(&|keys| *keys = json!([])));
        // One that names no algorithm is not used for whatever a token names.
        let any: Jwk = serde_json::from_value(json!({"kty": "RSA", "n": "AQAB", "e": "AQAB"})).unwrap();
        for (algorithm, fitting) in [
            (Algorithm::RS256, true),
            (Algorithm::PS256, true),
            (Algorithm::RS384, false),
            (Algorithm::PS512, false),
            (Algorithm::HS256, false),
        ] {
            assert_eq!(fits(&any, algorithm), fitting, "{algorithm:?}");
        }
    }

    #[test]
    fn a_key_without_an_id_is_used_where_there_is_no_choice() {
        let (one, two) = (Signer::new(), Signer::new());
        let keys = [&one, &two].map(|signer| serde_json::to_value(&signer.keys.keys[0]).unwrap());
        let signer = Signer { key: one.key, keys: serde_json::from_value(json!({ "keys": keys })).unwrap() };
        assert!(matches!(check(&signer, &json!({"alg": "ES256"}), &claims()), Err(JwtFault::UnknownKey)));
        assert!(matches!(check(&signer, &header(), &claims()), Err(JwtFault::UnknownKey)), "two of one id");
    }

    /// Asks a key set that was fetched `age` ago, at an address where nothing answers any more.
    async fn ask(age: Duration, header: &Value) -> Result<Map<String, Value>, ProviderFault> {
        let signer = Signer::new();
        let token = signer.sign(header, &claims());
        let fetched = Instant::now().checked_sub(age).expect("a clock that goes back an hour");
        let set = KeySet { cached: Mutex::new(Some((signer.keys, fetched))) };
        let issuers = ["https://id.example.com/".to_owned()];
        let expected = Expected { issuers: &issuers, audience: Audience::Only("mcp"), nonce: Some("n-1") };
        set.verify(&"http://127.0.0.1:9/".parse().unwrap(), &token, &expected).await
    }

    #[tokio::test]
    async fn keys_are_fetched_again_when_they_are_old() {
        assert!(ask(KEEP - Duration::from_secs(30), &header()).await.is_ok());
        assert!(matches!(ask(KEEP, &header()).await, Err(ProviderFault::Unreachable(_))));
    }

    #[tokio::test]
    async fn an_unknown_key_fetches_them_again_but_not_each_time() {
        let unknown = json!({"alg": "ES256", "kid": "k2"});
        let soon = ask(Duration::ZERO, &unknown).await;
        assert!(matches!(soon, Err(ProviderFault::Token(JwtFault::UnknownKey))), "{soon:?}");
        assert!(matches!(ask(REFETCH, &unknown).await, Err(ProviderFault::Unreachable(_))));
    }

    #[test]
    fn a_token_that_was_touched_does_not_hold() {
        let signer = Signer::new();
        let token = signer.sign(&header(), &claims());
        let issuers = ["https://id.example.com/".to_owned()];
        let expected = Expected { issuers: &issuers, audience: Audience::Only("mcp"), nonce: Some("n-1") };
        let (input, signature) = token.rsplit_once('.').unwrap();
        let zeroed = format!("{input}.{}", BASE64_URL_SAFE_NO_PAD.encode([0; 64]));
        for bad in ["", "a.b.c", input, &format!("{input}."), &format!("{input}.{signature}x"), &zeroed] {
            assert!(verify(&signer.keys, bad, &expected).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_audience_may_be_absent_only_where_that_is_said() {
        let signer = Signer::new();
        let issuers = ["https://id.example.com/".to_owned()];
        let check = |claims: &Value| {
            let expected =
                Expected { issuers: &issuers, audience: Audience::OnlyIfNamed("mcp"), nonce: None };
            verify(&signer.keys, &signer.sign(&header(), claims), &expected)
        };
        let mut claims = claims();
        assert!(check(&claims).is_ok());
        claims["aud"] = json!("other");
        assert!(check(&claims).is_err());
        claims.as_object_mut().unwrap().remove("aud");
        assert!(check(&claims).is_ok());
    }
}

#[cfg(test)]
mod property {
    use std::sync::LazyLock;

    use aws_lc_rs::{
        rand::SystemRandom,
        signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey},
    };
    use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// A key set and a token that it verifies.
    static SIGNED: LazyLock<(JwkSet, String)> = LazyLock::new(|| {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let key = Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap();
        let encode = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        let keys = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "k1", "x": encode(key.public_key().as_ref())}]});
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let claims = json!({"iss": "https://id.example.com", "sub": "user_1", "aud": "mcp", "nonce": "n", "iat": now,
                            "exp": now + 3000});
        let input = format!(
            "{}.{}",
            encode(json!({"alg": "EdDSA", "kid": "k1"}).to_string().as_bytes()),
            encode(claims.to_string().as_bytes())
        );
        let signature = key.sign(input.as_bytes());
        UnparsedPublicKey::new(&ED25519, key.public_key())
            .verify(input.as_bytes(), signature.as_ref())
            .unwrap();
        let token = format!("{input}.{}", encode(signature.as_ref()));
        (serde_json::from_value(keys).unwrap(), token)
    });

    fn holds(token: &str) -> bool {
        let issuers = ["https://id.example.com".to_owned()];
        let expected = Expected { issuers: &issuers, audience: Audience::Only("mcp"), nonce: Some("n") };
        verify(&SIGNED.0, token, &expected).is_ok()
    }

    proptest! {
        #[test]
        fn any_changed_character_fails(at: prop::sample::Index, with in "[A-Za-z0-9_.=+/-]") {
            let token = &SIGNED.1;
            prop_assert!(holds(token));
            let at = at.index(token.len());
            let mut changed = token.clone();
            changed.replace_range(at..=at, &with);
            prop_assert!(changed == *token || !holds(&changed), "{}", changed);
        }

        #[test]
        fn no_text_is_too_odd(text in "[ -~]{0,40}(\\.[ -~]{0,40}){0,3}") {
            prop_assert!(!holds(&text));
        }
    }
}
