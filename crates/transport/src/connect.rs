//! From a target to a byte stream: name lookup, addresses raced, proxy, TLS.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::atomic::{AtomicU8, Ordering},
    time::Duration,
};

use bytes::BytesMut;
use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    BoxStream, Error, Step, Target,
    proxy::{Kind, Proxy},
};

/// Head start of each address over the next (RFC 8305 section 5).
const STAGGER: Duration = Duration::from_millis(250);

/// Longest answer of a proxy to CONNECT that is read, in bytes.
const MAX_PROXY_HEAD: usize = 16 * 1024;

/// A TCP connection to `target`, through `proxy` if there is one.
pub(crate) async fn reach(
    target: &Target,
    proxy: Option<&Proxy>,
    progress: &Progress,
) -> Result<TcpStream, Error> {
    let Some(proxy) = proxy else {
        return tcp(&target.host, target.port, &target.addresses, progress).await;
    };
    let host = target.name();
    let name = proxy.name();
    let failed = |why: String| Error::Proxy { proxy: name.clone(), host: host.clone(), why };
    progress.at(Step::Proxy);
    // A proxy is an address away: its own steps are not told apart.
    let unseen = Progress::default();
    let stream = tcp(&proxy.host, proxy.port, &[], &unseen).await;
    let stream = stream.map_err(|error| failed(full(&error)))?;
    match proxy.kind {
        Kind::Http => connect(stream, target, proxy).await.map_err(failed),
        Kind::Socks5 => socks5(stream, target, proxy).await.map_err(failed),
        Kind::Https => Err(failed("proxies that speak TLS are not supported".to_owned())),
    }
}

/// A TCP connection to a proxy that takes whole URLs (plain HTTP), or directly.
pub(crate) async fn tcp(
    host: &str,
    port: u16,
    fixed: &[IpAddr],
    progress: &Progress,
) -> Result<TcpStream, Error> {
    let name =
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let addresses: Vec<SocketAddr> = if !fixed.is_empty() {
        fixed.iter().map(|ip| SocketAddr::new(*ip, port)).collect()
    } else if let Ok(ip) = host.parse::<IpAddr>() {
        vec![SocketAddr::new(ip, port)]
    } else {
        progress.at(Step::Resolve);
        match tokio::net::lookup_host((host, port)).await {
            Ok(found) => interleave(found.collect()),
            Err(source) => return Err(Error::Resolve { host: name, source }),
        }
    };
    progress.at(Step::Connect);
    let mut waiting = addresses.into_iter();
    let mut tries = FuturesUnordered::new();
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    loop {
        if let Some(address) = waiting.next() {
            tries.push(TcpStream::connect(address));
        } else if tries.is_empty() {
            return Err(Error::Connect { host: name, source: last });
        }
        let more = waiting.len() > 0;
        tokio::select! {
            Some(outcome) = tries.next() => match outcome {
                Ok(stream) => {
                    // Interactive bytes must not wait for an acknowledgement.
                    if let Err(error) = stream.set_nodelay(true) {
                        tracing::debug!(%error, "TCP_NODELAY");
                    }
                    return Ok(stream);
                }
                Err(error) => last = error,
            },
            () = tokio::time::sleep(STAGGER), if more => {}
        }
    }
}

/// Families in turn, in the resolver's order otherwise (RFC 8305 section 4).
fn interleave(found: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = found.first().is_some_and(SocketAddr::is_ipv6);
    let (mut one, mut other): (Vec<_>, Vec<_>) =
        found.into_iter().partition(|address| address.is_ipv6() == first_is_v6);
    let mut all = Vec::with_capacity(one.len() + other.len());
    one.reverse();
    other.reverse();
    while !one.is_empty() || !other.is_empty() {
        all.extend(one.pop());
        all.extend(other.pop());
    }
    all
}

/// Asks an HTTP proxy for a tunnel (RFC 9110 section 9.3.6).
async fn connect(
    mut stream: TcpStream,
    target: &Target,
    proxy: &Proxy,
) -> Result<TcpStream, String> {
    let name = target.name();
    let mut head = format!("CONNECT {name} HTTP/1.1\r\nHost: {name}\r\n");
    if let Some(login) = basic(proxy) {
        head += &format!("Proxy-Authorization: {login}\r\n");
    }
    head += "\r\n";
    stream.write_all(head.as_bytes()).await.map_err(|error| error.to_string())?;
    let mut answer = BytesMut::new();
    loop {
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut response = httparse::Response::new(&mut headers);
        match response.parse(&answer) {
            Ok(httparse::Status::Complete(length)) => {
                return match response.code {
                    // Bytes behind the head are the target's. Neither TLS nor HTTP speaks first,
                    // so whoever does is no server for us.
                    Some(200..=299) if answer.len() > length => {
                        Err("what is behind it speaks before it is asked".to_owned())
                    }
                    Some(200..=299) => Ok(stream),
                    Some(407) => Err("it wants a user name and password (407)".to_owned()),
                    Some(code) => Err(format!("it answered with HTTP status {code}")),
                    None => Err("it answered without a status".to_owned()),
                };
            }
            Ok(httparse::Status::Partial) if answer.len() < MAX_PROXY_HEAD => {}
            Ok(httparse::Status::Partial) => return Err("its answer does not end".to_owned()),
            Err(error) => return Err(format!("it does not speak HTTP: {error}")),
        }
        match stream.read_buf(&mut answer).await {
            Ok(0) => return Err("it closed the connection".to_owned()),
            Ok(_) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
}

/// The value of `Proxy-Authorization` (RFC 7617).
pub(crate) fn basic(proxy: &Proxy) -> Option<String> {
    let (user, password) = proxy.login.as_ref()?;
    Some(format!("Basic {}", base64(format!("{user}:{password}").as_bytes())))
}

/// RFC 4648 section 4.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group = chunk
            .iter()
            .enumerate()
            .fold(0_u32, |group, (at, byte)| group | u32::from(*byte) << (16 - 8 * at));
        for place in 0..4 {
            if place <= chunk.len() {
                let index = (group >> (18 - 6 * place)) & 63;
                out.push(char::from(ALPHABET[index as usize]));
            } else {
                out.push('=');
            }
        }
    }
    out
}

/// Asks a SOCKS5 proxy for a connection, by name (RFC 1928, RFC 1929).
async fn socks5(
    mut stream: TcpStream,
    target: &Target,
    proxy: &Proxy,
) -> Result<TcpStream, String> {
    let broke = |error: io::Error| format!("it broke off: {error}");
    let methods: &[u8] = if proxy.login.is_some() { &[5, 2, 0, 2] } else { &[5, 1, 0] };
    stream.write_all(methods).await.map_err(broke)?;
    let mut chosen = [0; 2];
    stream.read_exact(&mut chosen).await.map_err(broke)?;
    match (chosen, &proxy.login) {
        ([5, 0], _) => {}
        ([5, 2], Some((user, password))) => {
            let mut login = vec![1];
            for part in [user, password] {
                login.push(u8::try_from(part.len()).map_err(|_| "its login is too long")?);
                login.extend_from_slice(part.as_bytes());
            }
            stream.write_all(&login).await.map_err(broke)?;
            let mut answer = [0; 2];
            stream.read_exact(&mut answer).await.map_err(broke)?;
            if answer[1] != 0 {
                return Err("it refuses the user name and password".to_owned());
            }
        }
        ([5, _], _) => return Err("it wants another way to log in".to_owned()),
        _ => return Err("it does not speak SOCKS5".to_owned()),
    }
    let mut ask = vec![5, 1, 0];
    match target.host.parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) => {
            ask.push(1);
            ask.extend_from_slice(&ip.octets());
        }
        Ok(IpAddr::V6(ip)) => {
            ask.push(4);
            ask.extend_from_slice(&ip.octets());
        }
        Err(_) => {
            ask.push(3);
            ask.push(u8::try_from(target.host.len()).map_err(|_| "the host's name is too long")?);
            ask.extend_from_slice(target.host.as_bytes());
        }
    }
    ask.extend_from_slice(&target.port.to_be_bytes());
    stream.write_all(&ask).await.map_err(broke)?;
    let mut head = [0; 4];
    stream.read_exact(&mut head).await.map_err(broke)?;
    if head[1] != 0 {
        return Err(format!("it answered with SOCKS error {}", head[1]));
    }
    let length = match head[3] {
        1 => 4,
        4 => 16,
        3 => usize::from(stream.read_u8().await.map_err(broke)?),
        other => return Err(format!("it answered with address type {other}")),
    };
    let mut bound = vec![0; length + 2];
    stream.read_exact(&mut bound).await.map_err(broke)?;
    Ok(stream)
}

/// How far an attempt is, so that a limit that passes can say where.
#[derive(Debug, Default)]
pub(crate) struct Progress(AtomicU8);

impl Progress {
    const STEPS: [Step; 6] =
        [Step::Connect, Step::Resolve, Step::Proxy, Step::Tls, Step::Answer, Step::Body];

    pub(crate) fn at(&self, step: Step) {
        let place = Self::STEPS.iter().position(|one| *one == step).unwrap_or_default();
        self.0.store(u8::try_from(place).unwrap_or_default(), Ordering::Relaxed);
    }

    fn step(&self) -> Step {
        let place = usize::from(self.0.load(Ordering::Relaxed));
        Self::STEPS.get(place).copied().unwrap_or(Step::Connect)
    }
}

/// `future`, or the error that its present step took too long.
pub(crate) async fn within<T>(
    limit: Duration,
    host: &str,
    progress: &Progress,
    future: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    match tokio::time::timeout(limit, future).await {
        Ok(outcome) => outcome,
        Err(_) => {
            Err(Error::Timeout { host: host.to_owned(), step: progress.step(), after: limit })
        }
    }
}

/// An error and its causes in one line.
pub(crate) fn full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text += &format!(": {next}");
        cause = next.source();
    }
    text
}

/// A stream that is no TLS.
pub(crate) fn plain(stream: TcpStream) -> BoxStream {
    Box::new(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        let rows =
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")];
        for (plain, coded) in rows {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }

    #[test]
    fn families_take_turns() {
        let all = ["[::1]:1", "[::2]:1", "1.1.1.1:1", "2.2.2.2:1", "3.3.3.3:1"];
        let sorted = interleave(all.iter().map(|one| one.parse().unwrap()).collect());
        let text: Vec<_> = sorted.iter().map(ToString::to_string).collect();
        assert_eq!(text, ["[::1]:1", "1.1.1.1:1", "[::2]:1", "2.2.2.2:1", "3.3.3.3:1"]);
    }
}
