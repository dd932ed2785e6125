//! The crate from outside: recorded sessions, both roles against each other, hostile bytes.

mod calls;
mod hostile;
mod limits;
mod recorded;
mod replay;
mod sessions;
mod support;
mod vectors;
