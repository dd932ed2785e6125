//! The `coderctl` program as a library, so that tests can reach its parts.
//!
//! ```text
//! cli ─► tunnel (driver) ─► tunneler (pure) ─► starter · dialer · apps
//!          │                                     │
//!          └── api (REST, watch, logs) · ui ◄────┘
//! ```

pub mod api;
pub mod apps;
pub mod cli;
pub mod config;
pub mod error;
pub mod signal;
mod splice;
pub mod tunnel;
pub mod ui;
mod whole;
