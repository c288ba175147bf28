//! Messages to whoever forwards what a call says while it runs.
//!
//! They are messages of level INFO, which no setting holds back, told from a tool's own by their SQLSTATE.

use pgrx::pg_sys;
use std::ffi::CString;

/// A message of ours.
#[derive(Clone, Copy)]
pub(super) enum Notice {
    /// A call begins: until it ends, what comes over this connection belongs to it. The text is the id that its caller
    /// gave it.
    Begin,
    /// How far the call is. The text is an object of `progress`, `total` and `message`.
    Progress,
}

impl Notice {
    fn sql_state(self) -> [u8; 5] {
        match self {
            Notice::Begin => *b"MCP00",
            Notice::Progress => *b"MCP01",
        }
    }

    pub(super) fn send(self, text: &str) {
        let Ok(text) = CString::new(text) else { return };
        // Six bits a character, counted from '0' (utils/elog.h).
        let packed = |code: i32, (at, character): (usize, &u8)| {
            code | (i32::from(character.wrapping_sub(b'0') & 0x3f) << (6 * at))
        };
        let code = self.sql_state().iter().enumerate().fold(0, packed);
        // SAFETY: the server copies what it takes of the structure, all of whose fields may be zero.
        unsafe {
            let mut data = std::mem::zeroed::<pg_sys::ErrorData>();
            data.elevel = pg_sys::INFO as i32;
            data.sqlerrcode = code;
            data.message = text.as_ptr().cast_mut();
            pg_sys::ThrowErrorData(&mut data);
        }
    }
}
