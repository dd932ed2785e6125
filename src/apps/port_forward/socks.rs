//! SOCKS 5 (RFC 1928): connections to whatever a client asks for, from the workspace.
//!
//! Names are resolved there, not here. UDP is carried to ports of the workspace itself alone: its
//! agent takes datagrams for no other host.
//!
//! The messages are read and written by pure functions; [`serve`] is what talks.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UdpSocket,
    time::timeout,
};

use super::{
    Shared,
    datagrams::Flows,
    serve::{Accepted, splice},
    way::Way,
};
use crate::apps::{
    Stream,
    forward_spec::{Place, is_name},
};

/// How long a client may take to say what it wants. Programs say it at once.
const GREETING: Duration = Duration::from_secs(30);

const VERSION: u8 = 5;
/// The only method of logging in: none.
const NO_LOGIN: u8 = 0;
const NO_METHOD: u8 = 0xff;
/// Largest datagram with its header.
const LARGEST: usize = 65_507;

/// What a client wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Command {
    Connect,
    Associate,
}

/// What becomes of it (RFC 1928 section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reply {
    Done = 0,
    Failed = 1,
    NotAllowed = 2,
    Refused = 5,
    Expired = 6,
    NoSuchCommand = 7,
    NoSuchAddress = 8,
}

/// Serves one connection to its end.
pub(super) async fn serve(local: &mut Accepted, way: &Way, shared: &Shared) -> io::Result<()> {
    let greeting = timeout(GREETING, greet(local.stream()));
    let Some((command, place)) = greeting.await.map_err(|_| io::ErrorKind::TimedOut)?? else {
        // It was told no.
        return local.stream().shutdown().await;
    };
    match command {
        Command::Connect => connect(local, &place, way, shared).await,
        Command::Associate => associate(local, shared).await,
    }
}

/// Agrees on no login, and reads the request. `None` has been refused.
async fn greet(stream: &mut dyn Stream) -> io::Result<Option<(Command, Place)>> {
    let [version, count] = read(stream).await?;
    if version != VERSION {
        return Err(wrong("not SOCKS 5"));
    }
    let mut methods = vec![0; usize::from(count)];
    stream.read_exact(&mut methods).await?;
    if !methods.contains(&NO_LOGIN) {
        stream.write_all(&[VERSION, NO_METHOD]).await?;
        return Ok(None);
    }
    stream.write_all(&[VERSION, NO_LOGIN]).await?;

    let [version, command, _, kind] = read(stream).await?;
    if version != VERSION {
        return Err(wrong("not SOCKS 5"));
    }
    let place = match kind {
        1 => read::<4>(stream).await?.to_vec(),
        3 => {
            let [length] = read(stream).await?;
            let mut name = vec![0; usize::from(length)];
            stream.read_exact(&mut name).await?;
            name
        }
        4 => read::<16>(stream).await?.to_vec(),
        _ => {
            answer(stream, Reply::NoSuchAddress, None).await?;
            return Ok(None);
        }
    };
    let port = u16::from_be_bytes(read(stream).await?);
    let command = match command {
        1 => Command::Connect,
        3 => Command::Associate,
        _ => {
            answer(stream, Reply::NoSuchCommand, None).await?;
            return Ok(None);
        }
    };
    match host(kind, &place) {
        Some(host) => Ok(Some((command, at(host, port)))),
        None => {
            answer(stream, Reply::NoSuchAddress, None).await?;
            Ok(None)
        }
    }
}

async fn read<const N: usize>(stream: &mut dyn Stream) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

fn wrong(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// The address of a kind (RFC 1928 section 5), as text.
fn host(kind: u8, bytes: &[u8]) -> Option<String> {
    match kind {
        1 => <[u8; 4]>::try_from(bytes).ok().map(|bytes| Ipv4Addr::from(bytes).to_string()),
        3 => {
            let name = std::str::from_utf8(bytes).ok()?;
            let is_address = name.parse::<IpAddr>().is_ok();
            (is_address || is_name(name)).then(|| name.to_owned())
        }
        4 => <[u8; 16]>::try_from(bytes).ok().map(|bytes| Ipv6Addr::from(bytes).to_string()),
        _ => None,
    }
}

fn at(host: String, port: u16) -> Place {
    if host == "127.0.0.1" { Place::Port(port) } else { Place::Host(host, port) }
}

async fn answer(stream: &mut dyn Stream, reply: Reply, at: Option<SocketAddr>) -> io::Result<()> {
    let at = at.unwrap_or((Ipv4Addr::UNSPECIFIED, 0).into());
    let mut out = vec![VERSION, reply as u8, 0];
    put_address(&mut out, at);
    stream.write_all(&out).await
}

fn put_address(out: &mut Vec<u8>, address: SocketAddr) {
    match address.ip() {
        IpAddr::V4(ip) => {
            out.push(1);
            out.extend_from_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            out.push(4);
            out.extend_from_slice(&ip.octets());
        }
    }
    out.extend_from_slice(&address.port().to_be_bytes());
}

async fn connect(
    local: &mut Accepted,
    place: &Place,
    way: &Way,
    shared: &Shared,
) -> io::Result<()> {
    if place.port() == Some(0) {
        return answer(local.stream(), Reply::Refused, None).await;
    }
    match way.connect(place).await {
        Ok(mut remote) => {
            answer(local.stream(), Reply::Done, None).await?;
            splice(local, &mut *remote).await.map(drop)
        }
        Err(error) => {
            shared.not_dialled(&place.url(), &error);
            answer(local.stream(), reply_to(&error), None).await
        }
    }
}

fn reply_to(error: &io::Error) -> Reply {
    #[expect(clippy::wildcard_enum_match_arm, reason = "foreign enum without an end")]
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Reply::Refused,
        io::ErrorKind::PermissionDenied => Reply::NotAllowed,
        io::ErrorKind::TimedOut => Reply::Expired,
        _ => Reply::Failed,
    }
}

/// Takes datagrams for as long as the connection that asked for it stays (RFC 1928 section 7).
async fn associate(local: &mut Accepted, shared: &Shared) -> io::Result<()> {
    let Accepted::Tcp(stream) = local else {
        return answer(local.stream(), Reply::NotAllowed, None).await;
    };
    let (here, client) = (stream.local_addr()?.ip(), stream.peer_addr()?.ip());
    let socket = Arc::new(UdpSocket::bind((here, 0)).await?);
    answer(stream, Reply::Done, Some(socket.local_addr()?)).await?;
    let mut flows = Flows::new(shared.clone());
    let mut buffer = vec![0; LARGEST];
    let mut byte = [0; 1];
    loop {
        tokio::select! {
            received = socket.recv_from(&mut buffer) => {
                let Ok((length, sender)) = received else { continue };
                if sender.ip() == client {
                    relay(&buffer[..length], sender, &socket, &mut flows, shared);
                }
            }
            () = flows.tidy() => {}
            // Nothing is to be said on it any more; its end is the end.
            read = stream.read(&mut byte) => if read? == 0 { return Ok(()) },
        }
    }
}

/// Sends one datagram on, if it is for the workspace.
fn relay(
    datagram: &[u8],
    sender: SocketAddr,
    socket: &Arc<UdpSocket>,
    flows: &mut Flows,
    shared: &Shared,
) {
    let Some((place, payload)) = open(datagram) else {
        tracing::debug!(%sender, "a datagram without a SOCKS header");
        return;
    };
    let Some(port) = place.port().filter(|port| place.is_loopback() && *port != 0) else {
        let why = io::Error::other("datagrams go to the workspace's own ports alone");
        shared.not_dialled(&place.url().replace("tcp:", "udp:"), &why);
        return;
    };
    // Answers come from the address that the client knows.
    let header = datagram[..datagram.len() - payload.len()].to_vec();
    flows.send(sender, port, payload, || {
        let socket = Arc::clone(socket);
        move |answer: &[u8]| socket.try_send_to(&[&header, answer].concat(), sender).map(drop)
    });
}

/// Where a datagram is to go, and what is in it. Pieces of larger ones are not taken: nobody sends
/// them.
fn open(datagram: &[u8]) -> Option<(Place, &[u8])> {
    let [0, 0, 0, kind, rest @ ..] = datagram else { return None };
    let (address, rest) = match kind {
        1 => rest.split_at_checked(4)?,
        3 => {
            let (length, rest) = rest.split_first()?;
            rest.split_at_checked(usize::from(*length))?
        }
        4 => rest.split_at_checked(16)?,
        _ => return None,
    };
    let (port, payload) = rest.split_first_chunk::<2>()?;
    Some((at(host(*kind, address)?, u16::from_be_bytes(*port)), payload))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_are_taken_apart() {
        for (datagram, opened) in [
            (&b"\0\0\0\x01\x7f\0\0\x01\0\x35abc"[..], Some((Place::Port(53), &b"abc"[..]))),
            (b"\0\0\0\x03\x02db\x15\x38", Some((Place::Host("db".into(), 5432), b""))),
            (
                b"\0\0\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\0\x35x",
                Some((Place::Host("::1".into(), 53), b"x")),
            ),
            (b"", None),
            (b"\0\0\0", None),
            (b"\0\0\x01\x01\x7f\0\0\x01\0\x35abc", None),
            (b"\0\0\0\x02\x7f\0\0\x01\0\x35abc", None),
            (b"\0\0\0\x01\x7f\0\0", None),
            (b"\0\0\0\x03\xffdb\0\x35", None),
            (b"\0\0\0\x03\x03d\x1bb\0\x35", None),
            (b"\0\0\0\x03\0\0\x35", None),
        ] {
            assert_eq!(open(datagram), opened, "{datagram:?}");
        }
    }

    #[test]
    fn a_failure_is_the_reply_that_means_it() {
        for (kind, reply) in [
            (io::ErrorKind::ConnectionRefused, Reply::Refused),
            (io::ErrorKind::PermissionDenied, Reply::NotAllowed),
            (io::ErrorKind::TimedOut, Reply::Expired),
            (io::ErrorKind::NotConnected, Reply::Failed),
        ] {
            assert_eq!(reply_to(&kind.into()), reply);
        }
    }
}
