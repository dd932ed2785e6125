//! Connections from the workspace for the client, and to the client from listeners here.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::unix::{
        ffi::OsStrExt as _,
        fs::{DirBuilderExt as _, FileTypeExt as _, PermissionsExt as _},
    },
    path::{Path, PathBuf},
    time::Duration,
};

use coderctl_ssh::server::{
    Channel, Direct, Forward, Global, Listen, OpenError, Opener, Outgoing, Reason, Target,
};
use futures_util::FutureExt as _;
use tokio::{
    io::{AsyncRead, AsyncWrite, copy_bidirectional_with_sizes},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    task::JoinSet,
};

use super::Blocks;

/// Bytes carried at a time, each way.
const BUFFER: usize = 64 * 1024;
/// Pause after a listener could not accept, such as for lack of file descriptors.
const PAUSE: Duration = Duration::from_millis(100);
/// Most listeners of one client.
const LISTENERS: usize = 256;

/// Connects a client to where it wants, and carries bytes until both directions have ended.
pub(super) async fn direct(direct: Direct, blocks: Blocks) {
    if blocks.local_forwarding {
        return direct.refuse(Reason::Prohibited, "local port forwarding is disabled");
    }
    let target = direct.target().clone();
    match target {
        Target::Tcp { host, port } => match TcpStream::connect((&host[..], port)).await {
            Ok(stream) => {
                without_delay(&stream);
                splice(direct.accept(), stream).await;
            }
            Err(error) => {
                direct.refuse(Reason::ConnectFailed, &format!("{host}:{port}: {error}"));
            }
        },
        Target::Unix { path } => {
            let path = to_path(&path);
            match UnixStream::connect(&path).await {
                Ok(stream) => splice(direct.accept(), stream).await,
                Err(error) => {
                    let text = format!("{}: {error}", path.display());
                    direct.refuse(Reason::ConnectFailed, &text);
                }
            }
        }
    }
}

/// Carries bytes both ways; each end is passed on by itself.
async fn splice(mut channel: Channel, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let done = copy_bidirectional_with_sizes(&mut channel, &mut stream, BUFFER, BUFFER).await;
    if let Err(error) = done {
        tracing::debug!(%error, "a forwarded connection broke");
    }
}

fn without_delay(stream: &TcpStream) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "nodelay");
    }
}

fn to_path(bytes: &[u8]) -> PathBuf {
    PathBuf::from(std::ffi::OsStr::from_bytes(bytes))
}

/// The listeners of one client. Dropping it ends them all.
#[derive(Debug)]
pub(super) struct Listeners {
    opener: Opener,
    blocks: Blocks,
    /// Under what the client says to cancel them: the port is the one that was bound.
    open: HashMap<Listen, Listener>,
}

#[derive(Debug)]
struct Listener {
    /// Its accepting tasks; the connections they accepted go on without it.
    _tasks: JoinSet<()>,
    /// A socket that is to be removed.
    path: Option<PathBuf>,
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(path) = &self.path
            && let Err(error) = std::fs::remove_file(path)
        {
            tracing::debug!(%error, path = %path.display(), "a forwarded socket stays");
        }
    }
}

impl Listeners {
    pub(super) fn new(opener: Opener, blocks: Blocks) -> Self {
        Self { opener, blocks, open: HashMap::new() }
    }

    /// Does what a client wants.
    pub(super) async fn handle(&mut self, forward: Forward) {
        match forward.request().clone() {
            Global::Cancel(listen) => match self.open.remove(&listen) {
                Some(_) => forward.grant(None),
                None => forward.refuse(),
            },
            Global::Listen(listen) => match self.listen(listen.clone()).await {
                Ok(port) => forward.grant(port),
                Err(error) => {
                    tracing::debug!(%error, ?listen, "no listener for a client");
                    forward.refuse();
                }
            },
        }
    }

    /// Begins to listen: the port that was bound.
    async fn listen(&mut self, listen: Listen) -> io::Result<Option<u16>> {
        if self.blocks.reverse_forwarding {
            return Err(io::Error::other("reverse port forwarding is disabled"));
        }
        if self.open.len() == LISTENERS {
            return Err(io::Error::other("too many listeners"));
        }
        if self.open.contains_key(&listen) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let mut tasks = JoinSet::new();
        match listen {
            Listen::Tcp { address, port } => {
                let (listeners, port) = bind(&address, port).await?;
                for listener in listeners {
                    let (opener, address) = (self.opener.clone(), address.clone());
                    tasks.spawn(
                        async move {
                            let next = || accept_tcp(&listener, &address, port);
                            accept(next, &opener).await;
                        }
                        .boxed(),
                    );
                }
                let listen = Listen::Tcp { address, port };
                self.open.insert(listen, Listener { _tasks: tasks, path: None });
                Ok(Some(port))
            }
            Listen::Unix { path: name } => {
                let path = to_path(&name);
                let listener = bind_unix(&path)?;
                let (opener, name_here) = (self.opener.clone(), name.clone());
                tasks.spawn(
                    async move {
                        let next = || async {
                            let (stream, _) = listener.accept().await?;
                            Ok((stream, Outgoing::ForwardedUnix { path: name_here.clone() }))
                        };
                        accept(next, &opener).await;
                    }
                    .boxed(),
                );
                let listen = Listen::Unix { path: name };
                self.open.insert(listen, Listener { _tasks: tasks, path: Some(path) });
                Ok(None)
            }
        }
    }
}

async fn accept_tcp(
    listener: &TcpListener,
    address: &str,
    port: u16,
) -> io::Result<(TcpStream, Outgoing)> {
    let (stream, peer) = listener.accept().await?;
    without_delay(&stream);
    let origin = (peer.ip().to_canonical().to_string(), peer.port());
    Ok((stream, Outgoing::ForwardedTcp { address: address.into(), port, origin }))
}

/// Accepts connections and opens a channel to the client for each.
pub(super) async fn accept<S, F>(next: impl Fn() -> F, opener: &Opener)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    F: Future<Output = io::Result<(S, Outgoing)>>,
{
    loop {
        accept_one(&next, opener).await;
    }
}

/// Accepts one connection.
pub(super) async fn accept_one<S, F>(next: impl Fn() -> F, opener: &Opener)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    F: Future<Output = io::Result<(S, Outgoing)>>,
{
    let (stream, outgoing) = loop {
        match next().await {
            Ok(accepted) => break accepted,
            Err(error) => {
                tracing::debug!(%error, "a forwarded listener cannot accept");
                tokio::time::sleep(PAUSE).await;
            }
        }
    };
    let opener = opener.clone();
    // It may outlive the listener; it ends with the connection to the client.
    tokio::spawn(
        async move {
            match opener.open(outgoing).await {
                Ok(channel) => splice(channel, stream).await,
                Err(error @ (OpenError::Refused { .. } | OpenError::Closed)) => {
                    tracing::debug!(%error, "a forwarded connection");
                }
            }
        }
        .boxed(),
    );
}

/// What to listen on for a client's word for it (RFC 4254 section 7.1).
#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// One address: the first that can be had. An unspecified IPv6 address takes IPv4, too.
    First(Vec<IpAddr>),
    /// The same port of all that can be had.
    All(Vec<IpAddr>),
    /// What this name stands for.
    Name,
}

fn place(address: &str) -> Place {
    match address {
        "" | "*" => Place::First(vec![Ipv6Addr::UNSPECIFIED.into(), Ipv4Addr::UNSPECIFIED.into()]),
        "localhost" => Place::All(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]),
        _ => address.parse().map_or(Place::Name, |ip| Place::First(vec![ip])),
    }
}

/// Listens on one port: the listeners, and which it is.
async fn bind(address: &str, port: u16) -> io::Result<(Vec<TcpListener>, u16)> {
    let (wanted, all) = match place(address) {
        Place::First(wanted) => (wanted, false),
        Place::All(wanted) => (wanted, true),
        Place::Name => {
            let found = tokio::net::lookup_host((address, port)).await?;
            (found.map(|found| found.ip()).collect(), false)
        }
    };
    let mut listeners: Vec<TcpListener> = Vec::new();
    let mut bound = port;
    let mut refused = None;
    for ip in wanted {
        match TcpListener::bind((ip, bound)).await {
            Ok(listener) => {
                bound = listener.local_addr()?.port();
                listeners.push(listener);
                if !all {
                    break;
                }
            }
            Err(error) => {
                tracing::debug!(%error, %ip, bound, "one address less");
                refused.get_or_insert(error);
            }
        }
    }
    match refused {
        Some(error) if listeners.is_empty() => Err(error),
        None if listeners.is_empty() => Err(io::ErrorKind::AddrNotAvailable.into()),
        Some(_) | None => Ok((listeners, bound)),
    }
}

/// Listens on a path, in a directory that is made if it is missing; a socket that nobody removed
/// is.
fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    if let Some(directory) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    }
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => std::fs::remove_file(path)?,
        Ok(_) | Err(_) => {}
    }
    let listener = UnixListener::bind(path)?;
    // For this user alone (OpenSSH: `StreamLocalBindMask`).
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_for_addresses() {
        let ips = |all: &[&str]| all.iter().map(|ip| ip.parse().unwrap()).collect();
        for (word, expected) in [
            ("", Place::First(ips(&["::", "0.0.0.0"]))),
            ("*", Place::First(ips(&["::", "0.0.0.0"]))),
            ("localhost", Place::All(ips(&["127.0.0.1", "::1"]))),
            ("127.0.0.1", Place::First(ips(&["127.0.0.1"]))),
            ("::1", Place::First(ips(&["::1"]))),
            ("example.test", Place::Name),
        ] {
            assert_eq!(place(word), expected, "{word}");
        }
    }

    #[tokio::test]
    async fn one_port_for_all_addresses() {
        let (listeners, port) = bind("localhost", 0).await.unwrap();
        assert_ne!(port, 0);
        for listener in &listeners {
            assert_eq!(listener.local_addr().unwrap().port(), port);
        }
        let again = bind("127.0.0.1", port).await.unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AddrInUse);
        let (listeners, port) = bind("", 0).await.unwrap();
        assert_eq!(listeners.len(), 1);
        TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    }

    #[tokio::test]
    async fn sockets_are_for_this_user_alone() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("new/deep/s.sock");
        let listener = bind_unix(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let parent = std::fs::metadata(path.parent().unwrap()).unwrap();
        assert_eq!(parent.permissions().mode() & 0o777, 0o700);
        drop(listener);
        // Nobody removed it.
        drop(bind_unix(&path).unwrap());
        // A file of another kind is nobody's to remove.
        let file = home.path().join("file");
        std::fs::write(&file, "x").unwrap();
        assert_eq!(bind_unix(&file).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        assert_eq!(std::fs::read(&file).unwrap(), b"x");
    }
}
