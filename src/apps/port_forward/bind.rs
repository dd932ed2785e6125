//! Local listeners: TCP ports, UDP ports and Unix sockets.

use std::{
    fmt, fs, io,
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
};

use rustix::{
    fs::Mode,
    process::{Resource, Rlimit, getrlimit, setrlimit, umask},
};
use tokio::net::{TcpListener, UdpSocket, UnixListener};

use crate::{
    apps::{
        BoxFuture,
        forward_spec::{Bind, Forward, Listen, Place, Port},
    },
    error::{CommandError, Kind},
    ui::Ui,
};

/// How many free ports of 127.0.0.1 are tried until one is free on `::1`, too.
const TRIES: usize = 16;

/// Everything that listens here.
#[derive(Debug, Default)]
pub(super) struct Bound {
    pub(super) listeners: Vec<Listener>,
    pub(super) datagrams: Vec<Datagrams>,
}

/// Where connections come in, and where they lead.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) socket: Socket,
    pub(super) local: Local,
    pub(super) to: To,
}

/// A listening socket.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener, #[expect(dead_code, reason = "for its end")] SocketFile),
}

/// Where a listener is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Local {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// Where a listener's connections go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum To {
    Place(Place),
    /// Wherever each asks for.
    Socks,
}

/// A UDP port, and the port of the workspace that it leads to.
#[derive(Debug)]
pub(super) struct Datagrams {
    pub(super) socket: UdpSocket,
    pub(super) local: SocketAddr,
    pub(super) to: u16,
}

impl fmt::Display for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "tcp://{address}"),
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

impl Local {
    /// Without the scheme.
    pub(super) fn host_and_port(&self) -> String {
        match self {
            Self::Tcp(address) => address.to_string(),
            Self::Unix(path) => path.display().to_string(),
        }
    }

    pub(super) fn port(&self) -> Option<u16> {
        match self {
            Self::Tcp(address) => Some(address.port()),
            Self::Unix(_) => None,
        }
    }
}

impl Bound {
    /// Binds what of a forward listens here.
    pub(super) async fn add(&mut self, forward: &Forward, ui: &Ui) -> Result<(), CommandError> {
        let (listen, to) = match forward {
            Forward::Local(listen, place) => (listen.clone(), To::Place(place.clone())),
            Forward::Socks(port) => (Listen::Port(*port), To::Socks),
            Forward::Udp(port, to) => {
                for (socket, local) in bind::<UdpSocket>(*port, ui).await? {
                    self.datagrams.push(Datagrams { socket, local, to: *to });
                }
                return Ok(());
            }
            // It listens in the workspace.
            Forward::Remote(..) => return Ok(()),
        };
        match listen {
            Listen::Port(port) => {
                for (socket, local) in bind::<TcpListener>(port, ui).await? {
                    let (socket, local) = (Socket::Tcp(socket), Local::Tcp(local));
                    self.listeners.push(Listener { socket, local, to: to.clone() });
                }
            }
            Listen::Socket(path) => {
                let (socket, file) = listen_at(&path)?;
                let socket = Socket::Unix(socket, file);
                self.listeners.push(Listener { socket, local: Local::Unix(path), to });
            }
        }
        Ok(())
    }
}

/// A socket that is bound to an address.
trait Open: Sized + Send {
    /// As URLs name it.
    const SCHEME: &'static str;
    fn open(address: SocketAddr) -> BoxFuture<'static, io::Result<Self>>;
    fn address(&self) -> io::Result<SocketAddr>;
}

impl Open for TcpListener {
    const SCHEME: &'static str = "tcp";

    fn open(address: SocketAddr) -> BoxFuture<'static, io::Result<Self>> {
        Box::pin(Self::bind(address))
    }

    fn address(&self) -> io::Result<SocketAddr> {
        self.local_addr()
    }
}

impl Open for UdpSocket {
    const SCHEME: &'static str = "udp";

    fn open(address: SocketAddr) -> BoxFuture<'static, io::Result<Self>> {
        Box::pin(Self::bind(address))
    }

    fn address(&self) -> io::Result<SocketAddr> {
        self.local_addr()
    }
}

/// Binds a port: at its address, or at both loopbacks, of which `::1` may be missing.
async fn bind<S: Open>(port: Port, ui: &Ui) -> Result<Vec<(S, SocketAddr)>, CommandError> {
    let local = port.port;
    match port.bind {
        Bind::Address(address) => one(SocketAddr::new(address, local)).await,
        Bind::Any => match open::<S>((std::net::Ipv6Addr::UNSPECIFIED, local).into()).await {
            // Takes IPv4, too (Linux: net.ipv6.bindv6only is 0 unless somebody changed it).
            Ok(both) => Ok(vec![both]),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                let address = (std::net::Ipv6Addr::UNSPECIFIED, local).into();
                Err(refused(S::SCHEME, address, &error))
            }
            // No IPv6 on this host.
            Err(_) => one((Ipv4Addr::UNSPECIFIED, local).into()).await,
        },
        Bind::Loopback if local == 0 => {
            let v4 = (Ipv4Addr::LOCALHOST, 0).into();
            both_free(v4).await.map_err(|error| refused(S::SCHEME, v4, &error))
        }
        Bind::Loopback => loopbacks(local, ui).await,
    }
}

async fn one<S: Open>(address: SocketAddr) -> Result<Vec<(S, SocketAddr)>, CommandError> {
    let bound = open(address).await.map_err(|error| refused(S::SCHEME, address, &error))?;
    Ok(vec![bound])
}

async fn loopbacks<S: Open>(port: u16, ui: &Ui) -> Result<Vec<(S, SocketAddr)>, CommandError> {
    let v4 = (Ipv4Addr::LOCALHOST, port).into();
    let first = match open((std::net::Ipv6Addr::LOCALHOST, port).into()).await {
        Ok(bound) => Some(bound),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            // Where 127.0.0.1 is in use as well, that error says it all.
            let bound = one(v4).await?;
            ui.warn(format_args!(
                "[::1]:{port} is in use by another program, only 127.0.0.1:{port} is forwarded"
            ));
            return Ok(bound);
        }
        // No IPv6 on this host: nothing that a user could connect to is missing.
        Err(_) => None,
    };
    Ok(first.into_iter().chain(one(v4).await?).collect())
}

/// A port that is free on both loopbacks.
async fn both_free<S: Open>(v4: SocketAddr) -> io::Result<Vec<(S, SocketAddr)>> {
    let mut tries = 1;
    loop {
        let second = open::<S>(v4).await?;
        match open((std::net::Ipv6Addr::LOCALHOST, second.1.port()).into()).await {
            Ok(first) => return Ok(vec![first, second]),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && tries < TRIES => tries += 1,
            Err(_) => return Ok(vec![second]),
        }
    }
}

async fn open<S: Open>(address: SocketAddr) -> io::Result<(S, SocketAddr)> {
    let socket = S::open(address).await?;
    let local = socket.address()?;
    Ok((socket, local))
}

fn refused(scheme: &str, address: SocketAddr, error: &io::Error) -> CommandError {
    let port = address.port();
    let said = CommandError::msg(Kind::Local, format!("listen '{scheme}://{address}': {error}"));
    if error.raw_os_error() == Some(rustix::io::Errno::MFILE.raw_os_error()) {
        return said.hint("forward fewer ports, or raise the limit of open files (ulimit -n)");
    }
    #[expect(clippy::wildcard_enum_match_arm, reason = "foreign enum without an end")]
    match error.kind() {
        io::ErrorKind::AddrInUse => said.hint(format!(
            "another program uses port {port}; choose another local port, or 0 for a free one"
        )),
        io::ErrorKind::PermissionDenied => {
            said.hint("ports below 1024 need privileges; choose a higher local port")
        }
        io::ErrorKind::AddrNotAvailable => {
            said.hint(format!("{} is not an address of this host", address.ip()))
        }
        _ => said,
    }
}

/// The file of a socket, removed with the forward unless another has taken its place.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    /// Device and number of the file.
    id: Option<(u64, u64)>,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.id.is_none() || id(&self.path) != self.id {
            return;
        }
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(%error, path = %self.path.display(), "a socket's file stays");
        }
    }
}

fn id(path: &Path) -> Option<(u64, u64)> {
    let found = fs::symlink_metadata(path).ok()?;
    Some((found.dev(), found.ino()))
}

/// Listens at a path, for this user alone. A socket that nobody listens on any more is replaced,
/// anything else that has the name stays.
fn listen_at(path: &Path) -> Result<(UnixListener, SocketFile), CommandError> {
    let refused = |why: String| {
        CommandError::msg(Kind::Local, format!("listen 'unix://{}': {why}", path.display()))
    };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(refused(error.to_string())),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(refused("there is a file of that name, and it is no socket".to_owned())
                .hint("choose another path, or remove the file"));
        }
        Ok(_) => match std::os::unix::net::UnixStream::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                fs::remove_file(path).map_err(|error| refused(error.to_string()))?;
            }
            Ok(_) => {
                return Err(
                    refused("another program listens there".to_owned()).hint("choose another path")
                );
            }
            Err(error) => return Err(refused(error.to_string())),
        },
    }
    let before = umask(Mode::RWXG | Mode::RWXO);
    let bound = UnixListener::bind(path);
    umask(before);
    let socket = bound.map_err(|error| {
        let said = refused(error.to_string());
        match error.kind() == io::ErrorKind::NotFound {
            true => said.hint("the directory has to be there already"),
            false => said,
        }
    })?;
    Ok((socket, SocketFile { path: path.to_owned(), id: id(path) }))
}

/// A forwarded connection is a file, and 1024 (a common soft limit) is soon reached by a range of
/// ports. What the hard limit allows is there for the asking.
pub(super) fn allow_many_files() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current < limit.maximum || (limit.current.is_some() && limit.maximum.is_none()) {
        // Where it is refused (macOS has a ceiling of its own), the soft limit stays.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    }
}
