//! Publish and subscribe: in process, or PostgreSQL's LISTEN and NOTIFY.

/// Channels.
#[derive(Clone, Debug)]
pub struct Pubsub {}
