//! The SSH server of the workspace: sessions, forwards, sftp.
//!
//! Whoever reaches it is let in (`none`): the tunnel below has authenticated the client already.
//! Sessions run as the agent's own user, whatever user name the client gives.

mod auth_agent;
mod banner;
mod command;
mod forward;
mod modes;
mod observer;
mod process;
mod server;
mod session;
mod settings;
mod sftp;
mod x11;

pub use observer::{Connection, NoObserver, SessionKind, SessionObserver};
pub use server::Server;
pub use settings::{Blocks, MAX_TIMEOUT, SessionEnvironment, Settings};
