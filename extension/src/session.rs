//! Sessions: one user's signed-in grant to one MCP client.

mod create;
mod enter;
pub(crate) mod record;
mod refresh;
mod revoke;
mod sealed;
mod state;
mod verdict;

pub(crate) use enter::{authenticate, touch_armed};
pub(crate) use verdict::Status;
