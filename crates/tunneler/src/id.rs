//! Names of things: which agent, which connection, which build.

use std::fmt;

/// An agent's UUID as a number (`Uuid::as_u128`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AgentId(pub u128);

/// One dial and the tunnel that comes of it. The tunneler counts them; every answer and every
/// report about a tunnel names the dial that it belongs to, so that news of a tunnel that is gone
/// never touches its successor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// A workspace's build number: 1 for the first, one more for each later build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BuildNumber(pub u64);

impl fmt::Display for AgentId {
    /// The usual form of a UUID.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = format!("{:032x}", self.0);
        let (a, rest) = hex.split_at(8);
        let (b, rest) = rest.split_at(4);
        let (c, rest) = rest.split_at(4);
        let (d, e) = rest.split_at(4);
        write!(f, "{a}-{b}-{c}-{d}-{e}")
    }
}
