//! The signing key: made at start, gone at the end.

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use jsonwebtoken::jwk::{Jwk, JwkSet, PublicKeyUse, ThumbprintHash};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;

#[derive(Clone)]
pub struct SigningKey {
    private: EncodingKey,
    public: Jwk,
    header: Header,
}

impl SigningKey {
    /// Makes an RSA key for RS256, the one algorithm that every OpenID client has to know
    /// (OpenID Connect Core 1.0 section 15.1).
    ///
    /// # Errors
    /// Where the cryptographic library refuses; there is no reason it should.
    pub fn generate() -> Result<Self, String> {
        let pair = KeyPair::generate(KeySize::Rsa2048).map_err(|error| error.to_string())?;
        let pkcs8 = pair.as_der().map_err(|error| error.to_string())?;
        let pem = pem::encode(&pem::Pem::new("PRIVATE KEY", pkcs8.as_ref()));
        let private = EncodingKey::from_rsa_pem(pem.as_bytes()).map_err(|error| error.to_string())?;

        let mut public =
            Jwk::from_encoding_key(&private, Algorithm::RS256).map_err(|error| error.to_string())?;
        // A new name with each new key tells clients that their copy of the set is out of date.
        let key_id = public.thumbprint(ThumbprintHash::SHA256).map_err(|error| error.to_string())?;
        public.common.key_id = Some(key_id.clone());
        public.common.public_key_use = Some(PublicKeyUse::Signature);
        let mut header = Header::new(Algorithm::RS256);
        header.kid = Some(key_id);
        Ok(Self { private, public, header })
    }

    pub fn public_set(&self) -> JwkSet {
        JwkSet { keys: vec![self.public.clone()] }
    }

    /// A compact JWS of the claims.
    pub fn sign(&self, claims: &impl Serialize) -> String {
        jsonwebtoken::encode(&self.header, claims, &self.private)
            .expect("claims are plain JSON and the key was checked when it was made")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::digest;
    use base64::Engine;
    use base64::prelude::BASE64_URL_SAFE_NO_PAD;
    use jsonwebtoken::{DecodingKey, Validation, decode};
    use serde_json::{Value, json};

    #[test]
    fn what_is_published_is_the_public_part_under_its_thumbprint() {
        let key = SigningKey::generate().expect("a key");
        let set = serde_json::to_value(key.public_set()).expect("JSON");
        let modulus = set["keys"][0]["n"].as_str().expect("a modulus");
        assert_eq!(BASE64_URL_SAFE_NO_PAD.decode(modulus).expect("base64url").len(), 256);
        // RFC 7638 section 3.
        let members = format!(r#"{{"e":"AQAB","kty":"RSA","n":"{modulus}"}}"#);
        let thumbprint = BASE64_URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, members.as_bytes()));
        let jwk = json!({
            "kty": "RSA", "use": "sig", "alg": "RS256", "kid": thumbprint, "n": modulus, "e": "AQAB"
        });
        assert_eq!(set, json!({ "keys": [jwk] }));
    }

    #[test]
    fn the_published_key_verifies_what_the_private_one_signed() {
        let key = SigningKey::generate().expect("a key");
        let token = key.sign(&json!({ "sub": "alice", "aud": "client", "exp": 4_102_444_800_u64 }));
        let set = key.public_set();
        let header = jsonwebtoken::decode_header(&token).expect("a header");
        let public = set.find(&header.kid.clone().expect("a key id")).expect("the key that signed");
        let expected = json!({ "typ": "JWT", "alg": "RS256", "kid": public.common.key_id });
        assert_eq!(serde_json::to_value(header).expect("JSON"), expected);

        let public = DecodingKey::from_jwk(public).expect("a key");
        let mut validation = Validation::new(Algorithm::RS256);
        validation.set_audience(&["client"]);
        assert_eq!(decode::<Value>(&token, &public, &validation).expect("valid").claims["sub"], "alice");

        let other = SigningKey::generate()
            .expect("a key")
            .sign(&json!({ "aud": "client", "exp": 4_102_444_800_u64 }));
        assert!(decode::<Value>(&other, &public, &validation).is_err());
    }
}
