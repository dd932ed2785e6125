//! How much one client may ask for, and for how long.

use std::time::Duration;

/// Limits of the listener. The defaults suit a thousand watched workspaces and some hundred agents
/// (each agent holds three connections: RPC, relay and `/reinit`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections at a time. Beyond that new ones wait in the system's queue.
    pub connections: usize,
    /// Requests on one connection before it is closed; the next one may go to another replica.
    pub requests_per_connection: usize,
    /// For a request's head, and for the pause between two requests.
    pub header: Duration,
    /// From a request's head to its response's. What streams afterwards has no limit.
    pub request: Duration,
    /// For the handshake of TLS.
    pub handshake: Duration,
    /// For a client to read something, when something waits to be read.
    pub stalled: Duration,
    /// Bytes of a request's body. A template is the largest.
    pub body: usize,
    /// Bytes of a request's head.
    pub head: usize,
    /// Requests that a user may make at once.
    pub user_burst: u32,
    /// Requests that a user may make in a second, in the long run.
    pub user_per_second: u32,
    /// Bad tokens that one address may show at once; beyond that it hears 429 instead of 401.
    pub refusal_burst: u32,
    /// Bad tokens that one address may show in a second, in the long run.
    pub refusals_per_second: u32,
    /// For connections to end when the server stops.
    pub shutdown: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 8192,
            requests_per_connection: 10_000,
            header: Duration::from_secs(60),
            request: Duration::from_secs(30),
            handshake: Duration::from_secs(10),
            stalled: Duration::from_secs(60),
            body: 1 << 20,
            head: 32 << 10,
            // Upstream allows 512 requests a minute for each user and path (`coderd/coderd.go`); here
            // all paths count together, and a thousand watches may be opened at once.
            user_burst: 5000,
            user_per_second: 200,
            refusal_burst: 200,
            refusals_per_second: 5,
            shutdown: Duration::from_secs(5),
        }
    }
}

/// Lets this process open as many files as the system allows it: many shells allow 1024 at first,
/// fewer than the connections of a busy deployment. Go programs do this at their start as well.
pub fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return;
    }
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::debug!(%error, ?current, "the limit of open files stays");
    }
}
