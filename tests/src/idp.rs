//! Identity providers: two written by others, one that misbehaves on demand.

pub mod npm;
pub mod stub;
