//! The introduction of client and relay: JSON in NaCl boxes (coder/tailscale: derp/derp_client.go,
//! derp/derp_server.go).
//!
//! The relay says its key in the clear; each side then proves its own by a box that only the other
//! can open. A client need not wait for the relay's half before it sends packets.

use std::fmt;

use bytes::BytesMut;
use crypto_box::SalsaBox;
use crypto_box::aead::AeadInPlace;
use serde::{Deserialize, Serialize};

use super::frame::Frame;
use crate::keys::{NodePrivate, NodePublic, RelayPrivate, RelayPublic};

/// The version that both sides speak.
pub const VERSION: u64 = 2;

/// Length of a nonce, in bytes.
pub const NONCE_LENGTH: usize = 24;

const TAG_LENGTH: usize = 16;

/// What a client says about itself.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientInfo {
    /// [`VERSION`].
    #[serde(default)]
    pub version: u64,
    /// It answers pings.
    #[serde(rename = "CanAckPings", default)]
    pub can_ack_pings: bool,
    /// Another relay shows by this that it is one of the same deployment; ordinary clients have
    /// none. Prints as redacted.
    #[serde(rename = "meshKey", default, skip_serializing_if = "Option::is_none")]
    pub mesh_key: Option<String>,
}

/// What we say about ourselves.
impl Default for ClientInfo {
    fn default() -> Self {
        ClientInfo { version: VERSION, can_ack_pings: true, mesh_key: None }
    }
}

impl fmt::Debug for ClientInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientInfo")
            .field("version", &self.version)
            .field("can_ack_pings", &self.can_ack_pings)
            .field("mesh_key", &self.mesh_key.as_ref().map(|_| "redacted"))
            .finish()
    }
}

/// What a relay says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerInfo {
    /// [`VERSION`].
    #[serde(default)]
    pub version: u64,
    /// Bytes per second that the relay accepts of one client, framing included; 0 for any.
    #[serde(rename = "TokenBucketBytesPerSecond", default, skip_serializing_if = "is_zero")]
    pub bytes_per_second: u64,
    /// Bytes above the rate that it accepts at once.
    #[serde(rename = "TokenBucketBytesBurst", default, skip_serializing_if = "is_zero")]
    pub bytes_burst: u64,
}

impl Default for ServerInfo {
    fn default() -> Self {
        ServerInfo { version: VERSION, bytes_per_second: 0, bytes_burst: 0 }
    }
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// The client's half, as a frame.
pub fn client_info(
    node: &NodePrivate,
    relay: &RelayPublic,
    info: &ClientInfo,
    nonce: [u8; NONCE_LENGTH],
) -> Frame {
    let sealed = seal(&node.box_with_relay(relay), &nonce, info);
    Frame::ClientInfo { node: node.public(), nonce, sealed }
}

/// Opens the client's half at the relay.
///
/// # Errors
///
/// [`LoginError`] when the box does not open or holds something else.
pub fn open_client_info(
    relay: &RelayPrivate,
    node: &NodePublic,
    nonce: &[u8; NONCE_LENGTH],
    sealed: &[u8],
) -> Result<ClientInfo, LoginError> {
    open(&relay.box_with_node(node), nonce, sealed)
}

/// The relay's half, as a frame.
pub fn server_info(
    relay: &RelayPrivate,
    node: &NodePublic,
    info: &ServerInfo,
    nonce: [u8; NONCE_LENGTH],
) -> Frame {
    Frame::ServerInfo { nonce, sealed: seal(&relay.box_with_node(node), &nonce, info) }
}

/// Opens the relay's half at the client.
///
/// # Errors
///
/// [`LoginError`] when the box does not open or holds something else.
pub fn open_server_info(
    node: &NodePrivate,
    relay: &RelayPublic,
    nonce: &[u8; NONCE_LENGTH],
    sealed: &[u8],
) -> Result<ServerInfo, LoginError> {
    open(&node.box_with_relay(relay), nonce, sealed)
}

fn seal(secret: &SalsaBox, nonce: &[u8; NONCE_LENGTH], info: &impl Serialize) -> BytesMut {
    let mut sealed = vec![0; TAG_LENGTH];
    // Structs of numbers and booleans, into memory: neither can fail.
    if serde_json::to_writer(&mut sealed, info).is_err() {
        unreachable!("plain values as JSON");
    }
    let (tag, plaintext) = sealed.split_at_mut(TAG_LENGTH);
    match secret.encrypt_in_place_detached(nonce.into(), &[], plaintext) {
        Ok(made) => tag.copy_from_slice(&made),
        // The cipher refuses additional data and more than 2^38 bytes, of which neither is here.
        Err(_) => unreachable!("sealing a short message without additional data"),
    }
    BytesMut::from(&sealed[..])
}

fn open<T: for<'a> Deserialize<'a>>(
    secret: &SalsaBox,
    nonce: &[u8; NONCE_LENGTH],
    sealed: &[u8],
) -> Result<T, LoginError> {
    let (tag, ciphertext) = sealed.split_at_checked(TAG_LENGTH).ok_or(LoginError::Sealed)?;
    let mut plaintext = ciphertext.to_vec();
    secret
        .decrypt_in_place_detached(nonce.into(), &[], &mut plaintext, tag.into())
        .map_err(|_| LoginError::Sealed)?;
    serde_json::from_slice(&plaintext).map_err(|cause| LoginError::Json(cause.to_string()))
}

/// Why an introduction is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// The box does not open: the other side has not the key that it names.
    #[error("the other side does not hold the key that it names")]
    Sealed,
    /// The box holds something else.
    #[error("the introduction is not what was expected: {0}")]
    Json(String),
}
