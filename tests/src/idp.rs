//! Identity providers: two written by others, one that misbehaves on demand, and the one of `make run`.

pub mod dev;
pub mod npm;
pub mod stub;
