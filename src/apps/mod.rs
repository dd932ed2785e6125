//! What runs on a tunnel: port-forward, a session, stdio, cp, ping, speedtest, sessions.
//!
//! An app is started once and runs as one task. Through its [`Context`] it is *attached* to a
//! tunnel and *detached* from it any number of times (the watch holds `Some` or `None`), is asked
//! to close once, and ends with an [`End`]. Apps know the [`Tunnel`] trait and nothing below it.

pub mod accompanied;
mod agent_api;
pub mod containers;
pub mod cp;
pub mod forward_spec;
pub mod gpg;
pub mod local;
pub mod network_info;
mod once;
pub mod ping;
pub mod port_forward;
pub mod remote;
pub(crate) mod report;
pub mod run_under;
pub mod session;
pub mod sessions;
mod sftp;
pub mod speedtest;
pub mod stdio;
pub mod streamed;
pub mod terminal;
#[cfg(test)]
pub(crate) mod testing;

use std::{
    collections::BTreeMap, fmt, future::Future, io, net::SocketAddr, pin::Pin, sync::Arc,
    time::Duration,
};

use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{mpsc, watch},
};

use crate::{
    error::CommandError,
    ui::{Ui, escape},
};

/// A future that a trait object returns.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A byte stream to a port of the workspace. Shutting down the write half delivers the end of
/// input and keeps the read half; dropping it before both ends are closed resets the connection.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A working tunnel to one agent.
pub trait Tunnel: Send + Sync {
    /// Opens a TCP connection to `port` of the workspace. Fails with `ConnectionRefused` when the
    /// agent answers with a reset, `TimedOut` when nothing answers in time, `NotConnected` when
    /// the tunnel is gone.
    fn dial(&self, port: u16) -> BoxFuture<'_, io::Result<Box<dyn Stream>>>;

    /// Connects `local` to `port` of the workspace and carries bytes both ways until both
    /// directions have ended (half-close is kept). `Err` of kind `ConnectionRefused`, `TimedOut`
    /// or `NotConnected` says that the remote end could not be dialled; `local` has then been reset.
    fn splice(&self, local: tokio::net::TcpStream, port: u16)
    -> BoxFuture<'_, io::Result<Spliced>>;

    /// Datagrams to and from `port` of the workspace, from a port of their own.
    ///
    /// # Errors
    /// `NotConnected` when the tunnel is gone.
    fn datagrams(&self, port: u16) -> io::Result<Box<dyn Datagrams>>;

    /// One round trip through the tunnel.
    fn ping(&self) -> BoxFuture<'_, io::Result<Duration>>;

    /// The way that packets to the workspace take now.
    fn path(&self) -> Path;

    /// What is known of the relays; from the first question on, they are measured even where there
    /// is no choice.
    fn relays(&self) -> Relays {
        Relays::default()
    }
}

/// What is known of the deployment's relays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Relays {
    /// The short name of the region where we listen. Not to be printed unescaped.
    pub home: Option<String>,
    /// Round trips to regions, by their short names.
    pub latencies: BTreeMap<String, Duration>,
}

/// The way that packets to the workspace take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Path {
    /// Through the relay of this region, by its short name. Not to be printed unescaped.
    Relay(String),
    /// Straight to this address.
    Direct(SocketAddr),
    /// None: the agent has left.
    None,
}

impl fmt::Display for Path {
    /// As part of a sentence, escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Relay(name) => write!(f, "by relay {}", escape(name)),
            Self::Direct(address) => write!(f, "directly at {address}"),
            Self::None => f.write_str("without a way to it"),
        }
    }
}

/// Datagrams between here and one port of the workspace. Dropping it ends that.
pub trait Datagrams: Send + Sync {
    /// Sends one; when too many wait already it is dropped, as networks do.
    ///
    /// # Errors
    /// `InvalidInput` for one that does not fit a packet of the tunnel, `NotConnected` when the
    /// tunnel is gone.
    fn send(&self, payload: &[u8]) -> io::Result<()>;

    /// The next one. For one task at a time; nothing is lost when it is not asked again.
    ///
    /// # Errors
    /// `NotConnected` when the tunnel is gone.
    fn poll_recv(&self, cx: &mut std::task::Context<'_>) -> std::task::Poll<io::Result<BytesMut>>;
}

/// How many bytes a spliced connection carried.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spliced {
    /// Bytes from the local socket to the workspace.
    pub sent: u64,
    /// Bytes from the workspace to the local socket.
    pub received: u64,
}

/// What an app is given.
pub struct Context {
    /// The tunnel while attached, `None` while detached.
    pub tunnel: watch::Receiver<Option<Arc<dyn Tunnel>>>,
    /// Becomes `true` when the app is asked to close.
    pub close: watch::Receiver<bool>,
    /// Signals for the app to pass on or act upon, while it is up.
    pub signals: mpsc::Receiver<crate::signal::Signal>,
    /// Where it reports what happens.
    pub events: mpsc::UnboundedSender<Event>,
    /// Where it speaks to the user.
    pub ui: Ui,
}

/// What an app reports while it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It works on the tunnel that it was attached to.
    Up,
    /// A session or a forwarded connection opened: the workspace is in use.
    Opened,
    /// A session or a forwarded connection ended.
    Closed,
}

/// How an app ended.
#[derive(Debug)]
pub enum End {
    /// It is done; this is the program's exit code (a remote status is passed on unchanged).
    Done(u8),
    /// It failed.
    Failed(CommandError),
}

/// An application of the tunnel.
pub trait App: Send {
    /// Opens local ends (listeners, the terminal) before the workspace is touched; many have none.
    fn prepare<'a>(&'a mut self, _: &'a Ui) -> BoxFuture<'a, Result<(), CommandError>> {
        Box::pin(async { Ok(()) })
    }

    /// Runs until it is done, failed, or was asked to close.
    fn run(self: Box<Self>, context: Context) -> BoxFuture<'static, End>;
}
