//! Sessions: one user's signed-in grant to one MCP client.

#[cfg(any(test, feature = "pg_test"))]
use pgrx::pg_schema;

pub(crate) mod create;
pub(crate) mod enter;
pub(crate) mod record;
pub(crate) mod refresh;
pub(crate) mod revoke;
pub(crate) mod sealed;
pub(crate) mod state;
mod verdict;
mod widen;

pub(crate) use create::{NewSession, checked_scopes, create as create_session, user_id_of};
pub(crate) use enter::{authenticate, touch_armed};
pub(crate) use revoke::{end as end_session, session_of};
pub(crate) use verdict::Status;
pub(crate) use widen::widen as widen_session;

#[cfg(any(test, feature = "pg_test"))]
#[pg_schema]
mod tests {
    use pgrx::prelude::*;

    /// The memory a backend keeps between calls.
    fn kept() -> usize {
        // SAFETY: valid for the life of the backend.
        unsafe { pg_sys::MemoryContextMemAllocated(pg_sys::TopMemoryContext, false) }
    }

    #[pg_test]
    fn a_backend_does_not_grow() {
        let token = Spi::get_one::<String>(
            "SELECT access_token FROM mcp.create_session('https://idp.example', 'alice', '{}', claims => '{\"a\": 1}')",
        )
        .unwrap()
        .unwrap();
        let cycle = || {
            let status = Spi::get_one_with_args::<String>(
                "SELECT status FROM mcp.lookup_session($1)",
                &[token.as_str().into()],
            );
            assert_eq!(status.unwrap().as_deref(), Some("active"));
        };
        (0..10).for_each(|_| cycle());
        let before = kept();
        (0..2000).for_each(|_| cycle());
        assert_eq!(kept(), before);
    }

    #[pg_test]
    fn user_ids_are_stable_and_separate_issuers() {
        use super::create::user_id_of;
        let id = user_id_of("https://idp.example", "auth0|x");
        assert_eq!(id, user_id_of("https://idp.example", "auth0|x"));
        assert_eq!(id.get_version_num(), 5);
        assert_ne!(id, user_id_of("https://idp.example/", "auth0|x"));
        assert_ne!(user_id_of("ab", "c"), user_id_of("a", "bc"));
    }

    #[pg_test]
    fn a_use_is_written_when_it_gains_a_hundredth() {
        Spi::run(
            "CREATE TEMP TABLE t AS SELECT * FROM mcp.create_session('https://idp.example', 'bob', NULL, ttl => '100 s')",
        )
        .unwrap();
        let written = |left: &str| {
            Spi::run_with_args(
                "UPDATE mcp.sessions SET expires_at = clock_timestamp() + $1::interval
                  WHERE session_id = (SELECT session_id FROM t)",
                &[left.into()],
            )
            .unwrap();
            let before = Spi::get_one::<TimestampWithTimeZone>(
                "SELECT expires_at FROM mcp.sessions WHERE session_id = (SELECT session_id FROM t)",
            );
            let after =
                Spi::get_one::<TimestampWithTimeZone>("SELECT mcp.touch_session(access_token) FROM t");
            before.unwrap() != after.unwrap()
        };
        assert!(!written("99.9 s"));
        assert!(written("98 s"));
    }
}
