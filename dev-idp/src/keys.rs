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
    use jsonwebtoken::{DecodingKey, Validation, decode};
    use serde_json::{Value, json};

    #[test]
    fn the_published_key_verifies_what_the_private_one_signed() {
        let key = SigningKey::generate().expect("a key");
        let set = serde_json::to_value(key.public_set()).expect("JSON");
        assert!(set["keys"][0].get("d").is_none(), "only the public part is published");
        assert_eq!(set["keys"][0]["use"], "sig");

        let token = key.sign(&json!({ "sub": "alice", "aud": "client", "exp": 4_102_444_800_u64 }));
        let published: JwkSet = serde_json::from_value(set).expect("a key set");
        let kid = jsonwebtoken::decode_header(&token).expect("a header").kid.expect("a key id");
        let public =
            DecodingKey::from_jwk(published.find(&kid).expect("the key that signed")).expect("a key");
        let mut validation = Validation::new(Algorithm::RS256);
        validation.set_audience(&["client"]);
        assert_eq!(decode::<Value>(&token, &public, &validation).expect("valid").claims["sub"], "alice");

        let other = SigningKey::generate()
            .expect("a key")
            .sign(&json!({ "aud": "client", "exp": 4_102_444_800_u64 }));
        assert!(decode::<Value>(&other, &public, &validation).is_err());
    }
}
