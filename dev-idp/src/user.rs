//! Who can be signed in: anybody with an e-mail address.

use aws_lc_rs::digest;

/// The longest address that SMTP can carry (RFC 5321 section 4.5.3.1.3, less the angle brackets).
const MAX_EMAIL_BYTES: usize = 254;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The same for the same address, after every restart.
    pub subject: String,
    pub email: String,
    pub name: String,
}

impl User {
    /// The user with this e-mail address; `None` where it is not one.
    pub fn with_email(email: &str) -> Option<Self> {
        let email = email.trim().to_lowercase();
        let (local, domain) = email.split_once('@')?;
        let plain = |part: &str| {
            !part.is_empty() && !part.contains(|c: char| c == '@' || c.is_whitespace() || c.is_control())
        };
        if email.len() > MAX_EMAIL_BYTES || !plain(local) || !plain(domain) {
            return None;
        }
        Some(Self { subject: subject(&email), name: display_name(local), email })
    }
}

/// Opaque, so that nobody builds on a subject being an address: real providers do not let them.
fn subject(email: &str) -> String {
    let hash = digest::digest(&digest::SHA256, format!("mcp-dev-idp subject\0{email}").as_bytes());
    let hex: String = hash.as_ref()[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("dev_{hex}")
}

/// `ada.lovelace+work` → `Ada Lovelace Work`.
fn display_name(local: &str) -> String {
    let words = local.split(['.', '_', '-', '+']).filter(|word| !word.is_empty()).map(|word| {
        let mut letters = word.chars();
        letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
    });
    words.collect::<Vec<String>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_subject_belongs_to_the_address() {
        let alice = User::with_email("alice@example.com").expect("an address");
        assert_eq!(User::with_email(" Alice@Example.COM "), Some(alice.clone()));
        // Kept sessions name it, so it must not change from one release to the next.
        assert_eq!(alice.subject, "dev_e3fd4cc8ed52bc87741b14bfc183f677");
        assert_ne!(alice.subject, User::with_email("bob@example.com").expect("an address").subject);
    }

    #[test]
    fn names_are_read_from_the_address() {
        for (email, name) in [
            ("alice@example.com", "Alice"),
            ("ada.lovelace+work@example.com", "Ada Lovelace Work"),
            ("_a..b-@example.com", "A B"),
            ("émile@example.com", "Émile"),
        ] {
            assert_eq!(User::with_email(email).expect(email).name, name);
        }
    }

    #[test]
    fn what_is_no_address_is_nobody() {
        for email in [
            "",
            "alice",
            "@example.com",
            "alice@",
            "a b@example.com",
            "a@b@c",
            "a@b\r\nc",
            "a\u{7f}@b",
            "a@b\0",
        ] {
            assert_eq!(User::with_email(email), None, "{email:?}");
        }
    }

    #[test]
    fn an_address_has_254_bytes_at_most() {
        for (letter, times, accepted) in
            [("a", 242, true), ("a", 243, false), ("é", 121, true), ("é", 122, false)]
        {
            let email = format!("{}@example.com", letter.repeat(times));
            assert_eq!(User::with_email(&email).is_some(), accepted, "{} bytes", email.len());
        }
    }
}
