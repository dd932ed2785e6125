//! Local listeners.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;

use crate::{
    apps::forward_spec::Forward,
    error::{CommandError, Kind},
    ui::Ui,
};

/// How many free ports of 127.0.0.1 are tried until one is free on `::1`, too.
const TRIES: usize = 16;

/// A bound local port and where it leads.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) socket: TcpListener,
    pub(super) local: SocketAddr,
    pub(super) remote: u16,
}

/// Binds one forward: its address, or both loopbacks, of which `::1` may be missing.
pub(super) async fn bind(forward: Forward, ui: &Ui) -> Result<Vec<Listener>, CommandError> {
    let Forward { bind, local, remote } = forward;
    if let Some(address) = bind {
        let address = SocketAddr::new(address, local);
        let listener = listen(address, remote).await.map_err(|error| refused(address, &error))?;
        return Ok(vec![listener]);
    }
    let v4 = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), local);
    if local == 0 {
        return both_free(v4, remote).await.map_err(|error| refused(v4, &error));
    }
    let first = match listen((Ipv6Addr::LOCALHOST, local).into(), remote).await {
        Ok(listener) => Some(listener),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            // Where 127.0.0.1 is in use as well, that error says it all.
            let listener = listen(v4, remote).await.map_err(|error| refused(v4, &error))?;
            ui.warn(format_args!(
                "[::1]:{local} is in use by another program, only 127.0.0.1:{local} is forwarded"
            ));
            return Ok(vec![listener]);
        }
        // No IPv6 on this host: nothing that a user could connect to is missing.
        Err(_) => None,
    };
    let second = listen(v4, remote).await.map_err(|error| refused(v4, &error))?;
    Ok(first.into_iter().chain([second]).collect())
}

/// A port that is free on both loopbacks.
async fn both_free(v4: SocketAddr, remote: u16) -> io::Result<Vec<Listener>> {
    let mut tries = 1;
    loop {
        let second = listen(v4, remote).await?;
        match listen((Ipv6Addr::LOCALHOST, second.local.port()).into(), remote).await {
            Ok(first) => return Ok(vec![first, second]),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && tries < TRIES => tries += 1,
            Err(_) => return Ok(vec![second]),
        }
    }
}

async fn listen(address: SocketAddr, remote: u16) -> io::Result<Listener> {
    let socket = TcpListener::bind(address).await?;
    let local = socket.local_addr()?;
    Ok(Listener { socket, local, remote })
}

fn refused(address: SocketAddr, error: &io::Error) -> CommandError {
    let port = address.port();
    let said = CommandError::msg(Kind::Local, format!("listen 'tcp://{address}': {error}"));
    if error.raw_os_error() == Some(rustix::io::Errno::MFILE.raw_os_error()) {
        return said.hint("forward fewer ports, or raise the limit of open files (ulimit -n)");
    }
    #[expect(clippy::wildcard_enum_match_arm, reason = "foreign enum without an end")]
    match error.kind() {
        io::ErrorKind::AddrInUse => said.hint(format!(
            "another program uses port {port}; choose another local port, or 0 for a free one \
             (--tcp 0:REMOTE)"
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

/// A forwarded connection is a file, and 1024 (a common soft limit) is soon reached by a range of
/// ports. What the hard limit allows is there for the asking.
pub(super) fn allow_many_files() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current < limit.maximum || (limit.current.is_some() && limit.maximum.is_none()) {
        // Where it is refused (macOS has a ceiling of its own), the soft limit stays.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    }
}
