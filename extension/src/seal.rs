//! Sealing: what of a session only its own client can open.
//!
//! A session has one random data key. The OAuth tokens are encrypted under it; it is itself stored only *wrapped*:
//! encrypted under a key derived from a client's secret, and from a server key where there is one. So a dump, a backup
//! or a curious operator opens nothing, and a session whose wrapped keys are deleted is shredded. Each live token of a
//! session carries a wrapped copy of its own.
//!
//! XChaCha20-Poly1305 has 24-byte nonces, which may be random for any number of messages under one key. The
//! associated data names what a ciphertext is and where it belongs, so none of them opens anywhere else.

use crate::error::Error;
use crate::token::{Token, random};
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use hkdf::Hkdf;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use uuid::Uuid;
use zeroize::Zeroizing;

const NONCE: usize = 24;
/// A file of keys is a few lines; anything longer is the wrong file.
const KEY_FILE_LIMIT: u64 = 64 * 1024;

/// A symmetric key. Wiped from memory when dropped.
pub(crate) type Key = Zeroizing<[u8; 32]>;

/// The server's half of a wrapping key. Never in the database.
pub(crate) struct ServerKey {
    /// The first eight bytes of the key's SHA-256: which key a row was wrapped with.
    pub(crate) id: [u8; 8],
    key: Key,
}

/// A new data key.
pub(crate) fn data_key() -> Result<Key, Error> {
    Ok(Zeroizing::new(random()?))
}

/// Encrypts `plain` under `key`: nonce, then ciphertext.
pub(crate) fn seal(key: &Key, plain: &[u8], associated: &[u8]) -> Result<Vec<u8>, Error> {
    let nonce: [u8; NONCE] = random()?;
    let mut sealed = nonce.to_vec();
    let cipher = XChaCha20Poly1305::new((&**key).into());
    sealed.extend(
        cipher
            .encrypt(&XNonce::from(nonce), Payload { msg: plain, aad: associated })
            .expect("the message is far below the cipher's limit of 256 GiB"),
    );
    Ok(sealed)
}

/// Decrypts what [`seal`] made. `None` when key, associated data or a single bit differ.
pub(crate) fn open(key: &Key, sealed: &[u8], associated: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (nonce, ciphertext) = sealed.split_at_checked(NONCE)?;
    let nonce: [u8; NONCE] = nonce.try_into().ok()?;
    let cipher = XChaCha20Poly1305::new((&**key).into());
    cipher
        .decrypt(&XNonce::from(nonce), Payload { msg: ciphertext, aad: associated })
        .ok()
        .map(Zeroizing::new)
}

/// Names a ciphertext: its kind, the session it belongs to and its generation there.
pub(crate) fn associated(kind: &str, session: Uuid, generation: i64) -> Vec<u8> {
    [b"mcp/v1/", kind.as_bytes(), b"\0", session.as_bytes(), &generation.to_be_bytes()].concat()
}

/// The key that only the holder of `secret` (and, where given, of the server key) can derive.
pub(crate) fn derive(secret: &[u8], server: Option<&ServerKey>, salt: &[u8], purpose: &str) -> Key {
    let mut material = Zeroizing::new(secret.to_vec());
    if let Some(server) = server {
        material.extend_from_slice(&*server.key);
    }
    let info = ["mcp/v1/", purpose].concat();
    let mut key = Zeroizing::new([0; 32]);
    Hkdf::<Sha256>::new(Some(salt), &material)
        .expand(info.as_bytes(), &mut *key)
        .expect("HKDF-SHA-256 expands to 32 bytes");
    key
}

/// Wraps a session's data key for one of its tokens.
pub(crate) fn wrap(
    token: &Token,
    session: Uuid,
    server: Option<&ServerKey>,
    key: &Key,
) -> Result<Vec<u8>, Error> {
    let wrapping = derive(token.secret(), server, session.as_bytes(), "wrap");
    seal(&wrapping, &**key, &associated("wrapped key", session, 0))
}

/// Unwraps the data key with the token it was wrapped for.
pub(crate) fn unwrap(
    token: &Token,
    session: Uuid,
    server: Option<&ServerKey>,
    wrapped: &[u8],
) -> Option<Key> {
    let wrapping = derive(token.secret(), server, session.as_bytes(), "wrap");
    let key = open(&wrapping, wrapped, &associated("wrapped key", session, 0))?;
    Some(Zeroizing::new(key.as_slice().try_into().ok()?))
}

/// Reads the server keys: the first wraps, all of them unwrap. Read at each use, so that a rotated file needs no
/// restart; reading it costs less than the transaction that needs it.
pub(crate) fn server_keys(path: &Path) -> Result<Vec<ServerKey>, Error> {
    let fault = |reason: String| Error::KeyFile { path: path.display().to_string(), reason };
    let file = File::open(path).map_err(|e| fault(e.to_string()))?;
    let metadata = file.metadata().map_err(|e| fault(e.to_string()))?;
    if metadata.mode() & 0o077 != 0 {
        return Err(fault(format!(
            "its mode is {:04o}, but it must be 0600 or stricter",
            metadata.mode() & 0o7777
        )));
    }
    let mut text = Zeroizing::new(String::new());
    file.take(KEY_FILE_LIMIT).read_to_string(&mut text).map_err(|e| fault(e.to_string()))?;
    let keys: Vec<ServerKey> = text
        .lines()
        .enumerate()
        .map(|(at, line)| (at, line.trim()))
        .filter(|(_, line)| !line.is_empty())
        .map(|(at, line)| {
            server_key(line).ok_or_else(|| fault(format!("line {} is not 64 hexadecimal digits", at + 1)))
        })
        .collect::<Result<_, _>>()?;
    if keys.is_empty() { Err(fault("it holds no key".into())) } else { Ok(keys) }
}

fn server_key(line: &str) -> Option<ServerKey> {
    if line.len() != 64 || !line.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut key = Zeroizing::new([0; 32]);
    for (byte, digits) in key.iter_mut().zip(line.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    let digest = Sha256::digest(*key);
    Some(ServerKey { id: digest[..8].try_into().ok()?, key })
}

#[cfg(test)]
mod unit {
    use super::*;
    use crate::token::Kind;
    use proptest::prelude::*;
    use std::os::unix::fs::PermissionsExt;

    proptest! {
        #[test]
        fn any_flipped_bit_fails(plain: Vec<u8>, at: prop::sample::Index, bit in 0u8..8) {
            let key = data_key().unwrap();
            let session = Uuid::from_bytes([1; 16]);
            let mut sealed = seal(&key, &plain, &associated("oauth data", session, 3)).unwrap();
            prop_assert_eq!(&*open(&key, &sealed, &associated("oauth data", session, 3)).unwrap(), &plain);
            let at = at.index(sealed.len());
            sealed[at] ^= 1 << bit;
            prop_assert!(open(&key, &sealed, &associated("oauth data", session, 3)).is_none());
        }

        /// Wrapped keys of two tokens, of one session or of two, put in each other's place.
        #[test]
        fn any_two_swapped_fail(one: u128, two: u128, same: bool, served: bool) {
            let two = if same { one } else { two };
            let session = |number: u128| Uuid::from_u128(number);
            let token = |number: u128| Token::mint(Kind::Access, number.to_be_bytes()).unwrap();
            let (first, second) = (token(one), token(two));
            let server = served.then(|| server_key(&"5a".repeat(32)).unwrap());
            let keys = [data_key().unwrap(), data_key().unwrap()];
            let wrapped = [
                wrap(&first, session(one), server.as_ref(), &keys[0]).unwrap(),
                wrap(&second, session(two), server.as_ref(), &keys[1]).unwrap(),
            ];
            prop_assert_eq!(&unwrap(&first, session(one), server.as_ref(), &wrapped[0]).unwrap(), &keys[0]);
            prop_assert!(unwrap(&first, session(one), server.as_ref(), &wrapped[1]).is_none());
            prop_assert!(unwrap(&second, session(two), server.as_ref(), &wrapped[0]).is_none());
            let sealed = seal(&keys[0], b"tokens", &associated("oauth data", session(one), 1)).unwrap();
            prop_assert!(open(&keys[1], &sealed, &associated("oauth data", session(one), 1)).is_none());
            prop_assert_eq!(
                open(&keys[0], &sealed, &associated("oauth data", session(two), 1)).is_some(),
                one == two
            );
        }

        #[test]
        fn any_flipped_bit_of_a_wrapped_key_fails(at: prop::sample::Index, bit in 0u8..8) {
            let token = Token::mint(Kind::Refresh, [1; 16]).unwrap();
            let session = Uuid::from_bytes([1; 16]);
            let mut wrapped = wrap(&token, session, None, &data_key().unwrap()).unwrap();
            let at = at.index(wrapped.len());
            wrapped[at] ^= 1 << bit;
            prop_assert!(unwrap(&token, session, None, &wrapped).is_none());
        }

        #[test]
        fn no_server_key_is_too_odd(text: String, key: [u8; 32]) {
            let digits: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
            prop_assert_eq!(*server_key(&digits).unwrap().key, key);
            prop_assert_eq!(
                server_key(&text).is_some(),
                text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
            );
        }

        #[test]
        fn what_is_too_short_fails(sealed in prop::collection::vec(any::<u8>(), 0..40)) {
            prop_assert!(open(&data_key().unwrap(), &sealed, b"").is_none());
        }
    }

    #[test]
    fn a_ciphertext_opens_only_where_it_belongs() {
        let key = data_key().unwrap();
        let (one, two) = (Uuid::from_bytes([1; 16]), Uuid::from_bytes([2; 16]));
        let sealed = seal(&key, b"token", &associated("oauth data", one, 1)).unwrap();
        assert_ne!(sealed, seal(&key, b"token", &associated("oauth data", one, 1)).unwrap());
        assert!(open(&key, &sealed, &associated("oauth data", one, 1)).is_some());
        assert!(open(&key, &sealed, &associated("oauth data", two, 1)).is_none());
        assert!(open(&key, &sealed, &associated("oauth data", one, 2)).is_none());
        assert!(open(&key, &sealed, &associated("sign-in", one, 1)).is_none());
        assert!(open(&data_key().unwrap(), &sealed, &associated("oauth data", one, 1)).is_none());
    }

    #[test]
    fn a_wrapped_key_needs_token_session_and_server_key() {
        let (key, session) = (data_key().unwrap(), Uuid::from_bytes([1; 16]));
        let token = Token::mint(Kind::Access, *session.as_bytes()).unwrap();
        let server = server_key(&"5a".repeat(32)).unwrap();
        let other = server_key(&"5b".repeat(32)).unwrap();
        assert_ne!(server.id, other.id);
        let wrapped = wrap(&token, session, Some(&server), &key).unwrap();
        assert_eq!(unwrap(&token, session, Some(&server), &wrapped).unwrap(), key);
        assert!(unwrap(&token, session, None, &wrapped).is_none());
        assert!(unwrap(&token, session, Some(&other), &wrapped).is_none());
        assert!(unwrap(&token, Uuid::from_bytes([2; 16]), Some(&server), &wrapped).is_none());
        let stranger = Token::mint(Kind::Access, *session.as_bytes()).unwrap();
        assert!(unwrap(&stranger, session, Some(&server), &wrapped).is_none());
        let keys = [("salt", "wrap"), ("other", "wrap"), ("salt", "other")]
            .map(|(salt, purpose)| derive(token.secret(), Some(&server), salt.as_bytes(), purpose));
        assert!(keys[0] != keys[1] && keys[0] != keys[2] && keys[1] != keys[2]);
    }

    #[test]
    fn key_files() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys");
        let write = |text: &str, mode: u32| {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            server_keys(&path).map(|keys| keys.len()).map_err(|e| e.to_string())
        };
        let (one, two) = ("0a".repeat(32), "FF".repeat(32));
        assert_eq!(write(&format!("{one}\n\n{two}\n"), 0o600), Ok(2));
        assert_eq!(write(&format!(" {one}\t\r\n  \n\t{two} \n"), 0o600), Ok(2));
        assert!(write(&one, 0o640).unwrap_err().contains("its mode is 0640"));
        assert!(write(&format!("{one}\nnonsense"), 0o600).unwrap_err().contains("line 2"));
        assert!(write("\n", 0o600).unwrap_err().contains("it holds no key"));
        assert!(write(&format!("+{}", &one[1..]), 0o600).unwrap_err().contains("line 1"));
        // No more than the limit is read.
        assert_eq!(write(&format!("{one}\n{}{two}", "\n".repeat(KEY_FILE_LIMIT as usize)), 0o600), Ok(1));
        std::fs::remove_file(&path).unwrap();
        assert!(server_keys(&path).is_err());
    }
}
