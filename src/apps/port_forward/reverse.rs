//! `-R`: listeners in the workspace, whose connections come here.
//!
//! They live as long as the SSH connection that asked for them. When that is lost while the tunnel
//! stays, or comes back with another tunnel, they are asked for again, a free port by the number
//! that it had.

use std::{io, os::unix::ffi::OsStrExt, path::Path, time::Duration};

use coderctl_ssh::client::{self, Client, Forwarded, ListenError, Origin, Reason};
use futures_util::FutureExt as _;
use tokio::{
    net::{TcpStream, UnixStream},
    sync::mpsc,
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    Shared,
    serve::{Open, note},
    way::{self, Way},
};
use crate::{
    apps::{
        Stream,
        forward_spec::{Bind, Listen, Place, Port},
    },
    error::{CommandError, Kind},
    splice::splice,
};

/// How long the workspace may take to open a listener.
const LISTEN: Duration = Duration::from_secs(30);

/// How long a place here may take to answer.
const CONNECT: Duration = Duration::from_secs(30);

/// Pauses before a lost listener is asked for again, doubling.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// One forward from the workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reverse {
    /// Where it listens; a free port has its number once there is one.
    pub(super) listen: Listen,
    /// Where its connections go, here.
    pub(super) to: Place,
}

/// What becomes of the listeners.
#[derive(Debug)]
pub(super) enum Word {
    /// They stand, over the way of this number.
    Up(u64, Vec<Reverse>),
    /// They are lost although the way is there: which one, and why.
    Down(u64, String),
    /// They could not be had at the first try.
    Failed(CommandError),
}

/// Keeps the listeners over every way, for as long as there is somebody to tell.
pub(super) async fn keep(
    mut forwards: Vec<Reverse>,
    mut shared: Shared,
    told: mpsc::UnboundedSender<Word>,
) {
    let mut ways = shared.way.clone();
    let (mut stood, mut pause) = (false, FIRST_PAUSE);
    loop {
        let Some(way) = way::next(&mut ways).await else { return };
        let over = async {
            let client = match listen(&way, &mut forwards).await {
                Ok(client) => client,
                Err(error) if stood => {
                    shared.ui.warn(format_args!("{error}; trying again"));
                    sleep(pause).await;
                    pause = (2 * pause).min(LONGEST_PAUSE);
                    return true;
                }
                Err(error) => return told.send(Word::Failed(error)).is_ok(),
            };
            (stood, pause) = (true, FIRST_PAUSE);
            if told.send(Word::Up(way.number(), forwards.clone())).is_err() {
                return false;
            }
            let why = serve(client, &forwards, &mut shared).await;
            told.send(Word::Down(way.number(), why)).is_ok()
        };
        tokio::select! {
            goes_on = over => if !goes_on { return },
            () = way::replaced(&mut ways, &way) => {}
        }
    }
}

/// Asks for all listeners; those for a free port learn which it is.
async fn listen(way: &Way, forwards: &mut [Reverse]) -> Result<Client, CommandError> {
    let client = way.log_in().await.map_err(|error| {
        let what = "cannot reach the agent's SSH server, which listens in the workspace";
        CommandError::new(Kind::Tunnel, anyhow::Error::new(error).context(what))
    })?;
    for Reverse { listen, .. } in forwards {
        let refused = |why: &dyn std::fmt::Display| {
            CommandError::msg(
                Kind::Remote,
                format!("listen '{}' in the workspace: {why}", listen.url()),
            )
            .hint("another program may use it there; port 0 takes a free one")
        };
        match timeout(LISTEN, client.listen(wanted(listen))).await {
            Ok(Ok(bound)) => {
                if let (Listen::Port(Port { port, .. }), Some(bound)) = (&mut *listen, bound) {
                    *port = bound;
                }
            }
            Ok(Err(error @ (ListenError::Refused | ListenError::Closed))) => {
                return Err(refused(&error));
            }
            Err(_) => return Err(refused(&format!("no answer within {} s", LISTEN.as_secs()))),
        }
    }
    Ok(client)
}

/// A listener in SSH's words (RFC 4254 section 7.1).
fn wanted(listen: &Listen) -> client::Listen {
    match listen {
        Listen::Port(Port { bind, port }) => {
            let address = match bind {
                Bind::Loopback => "localhost".to_owned(),
                Bind::Any => String::new(),
                Bind::Address(address) => address.to_string(),
            };
            client::Listen::Tcp { address, port: *port }
        }
        Listen::Socket(path) => client::Listen::Unix { path: path.as_os_str().as_bytes().to_vec() },
    }
}

/// Serves the listeners until their connection is over; why it is.
async fn serve(client: Client, forwards: &[Reverse], shared: &mut Shared) -> String {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            forwarded = client.next() => match forwarded {
                Some(forwarded) => {
                    let found = forwards.iter().find(|one| {
                        Origin::Listen(wanted(&one.listen)) == *forwarded.target()
                    });
                    match found {
                        Some(Reverse { to, .. }) => {
                            connections.spawn(carry(forwarded, to.clone(), shared.clone()).boxed());
                        }
                        None => forwarded.refuse(Reason::Prohibited, "not asked for"),
                    }
                }
                None => break,
            },
            Some(ended) = connections.join_next() => note(ended),
        }
    }
    way::how(client.ended().await)
}

async fn carry(forwarded: Forwarded, to: Place, shared: Shared) {
    // Nobody closes the semaphore.
    let Ok(_permit) = shared.permits.clone().acquire_owned().await else { return };
    let connected = timeout(CONNECT, connect(&to)).await;
    let mut local = match connected.map_err(io::Error::from).flatten() {
        Ok(local) => local,
        Err(error) => {
            forwarded.refuse(Reason::ConnectFailed, "cannot be reached");
            shared.failures.tell(&shared.ui, &format!("'{}' locally", to.url()), &error);
            return;
        }
    };
    let _open = Open::new(shared.events.clone());
    let mut channel = forwarded.accept();
    if let Err(error) = splice(&mut channel, &mut *local).await {
        tracing::debug!(%error, %to, "a connection from the workspace broke");
    }
}

async fn connect(to: &Place) -> io::Result<Box<dyn Stream>> {
    let stream = match to {
        Place::Port(port) => TcpStream::connect(("127.0.0.1", *port)).await?,
        Place::Host(host, port) => TcpStream::connect((host.as_str(), *port)).await?,
        Place::Socket(path) => return unix(path).await,
    };
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "no TCP_NODELAY");
    }
    Ok(Box::new(stream))
}

async fn unix(path: &Path) -> io::Result<Box<dyn Stream>> {
    Ok(Box::new(UnixStream::connect(path).await?))
}
