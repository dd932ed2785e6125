//! The grammar of `-L`, `-R` and `-D`.
//!
//! ```text
//! pair   = listen ":" place                 ; -L, -R
//! listen = [ bind ":" ] range | path
//! place  = [ host ":" ] range | path
//! bind   = "localhost" | "*" | IPv4 | "[" IPv6 "]"
//! host   = name | IPv4 | "[" IPv6 "]"
//! range  = port [ "-" port ]
//! path   = "/" …                            ; ":" and "\" in it after a "\"
//! -D     = [ bind ":" ] port
//! ```
//!
//! This is OpenSSH's grammar (openssh-portable: readconf.c, `parse_forward`) with three
//! differences: ranges; a place may be a port alone; and what would bind every address without
//! saying so (`:8080:…`) is refused.

use std::{
    fmt::{self, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::unix::net::SocketAddr,
    path::{Path, PathBuf},
};

use super::{
    Bind, Listen, Place, Port,
    ports::{Range, RangeError},
};
use crate::ui::quoted;

/// Longest host name (RFC 1035 section 2.3.4).
const NAME: usize = 253;

/// What is wrong with an end of a forward.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndError {
    /// Too few or too many fields.
    #[error("write [BIND:]PORT:HOST:PORT, or a socket's path for either end")]
    Fields,
    /// As before, for `-D`.
    #[error("write [BIND:]PORT")]
    PortFields,
    /// More than two colons that might be an address's own.
    #[error("too many colons: IPv6 addresses stand in brackets")]
    Colons,
    /// A bracket without its partner, or something behind it.
    #[error("brackets hold an IPv6 address and nothing else")]
    Brackets,
    /// Not a port where one has to be.
    #[error("{0} is not a port")]
    NoPort(String),
    /// A port, and perhaps a host, in a place where only one of them would make sense.
    #[error("{0} would be a host: write HOST:PORT, or PORT alone for the workspace's own")]
    Ambiguous(String),
    /// Not a host.
    #[error("{0} is not a host name or address")]
    NoHost(String),
    /// Not something to bind to.
    #[error("{0} is not an address to listen on: write localhost, an address, or * for all")]
    NoBind(String),
    /// Nothing before the first colon, which OpenSSH takes for every address.
    #[error("an empty address would listen on all of them: write * if that is meant")]
    EmptyBind,
    /// A path that is not absolute.
    #[error("a socket's path begins with /")]
    Relative,
    /// A path that no socket can have.
    #[error("the socket's path is too long: {0} bytes, and the system takes about 100")]
    LongPath(usize),
    /// A path with a zero byte.
    #[error("a socket's path cannot have a zero byte")]
    ZeroByte,
    /// Several ports that lead to one socket, or the other way round.
    #[error("a range of ports leads to as many ports, not to a socket")]
    RangeToSocket,
    /// The numbers make no sense.
    #[error(transparent)]
    Range(#[from] RangeError),
}

/// A field between colons.
#[derive(Debug, PartialEq, Eq)]
enum Field {
    Plain(String),
    Bracketed(String),
    Path(PathBuf),
}

/// One end before ranges are taken apart.
enum End<Where> {
    Ports(Where, Range),
    Socket(PathBuf),
}

/// Listeners and where they lead to: several for ranges.
pub(super) fn parse_pair(spec: &str) -> Result<Vec<(Listen, Place)>, EndError> {
    let fields = split(spec)?;
    let listens = match fields.first() {
        Some(first) if first.is_path() || first.is_range() => 1,
        Some(_) | None => 2,
    };
    if fields.len() <= listens {
        return Err(EndError::Fields);
    }
    let (from, to) = fields.split_at(listens);
    match (listen(from)?, place(to)?) {
        (End::Socket(from), End::Socket(to)) => Ok(vec![(Listen::Socket(from), Place::Socket(to))]),
        (End::Socket(from), End::Ports(host, range)) => match range.single() {
            Some(0) => Err(RangeError::Zero.into()),
            Some(port) => Ok(vec![(Listen::Socket(from), at(host, port))]),
            None => Err(EndError::RangeToSocket),
        },
        (End::Ports(bind, range), End::Socket(to)) => {
            let port = range.single().ok_or(EndError::RangeToSocket)?;
            Ok(vec![(Listen::Port(Port { bind, port }), Place::Socket(to))])
        }
        (End::Ports(bind, from), End::Ports(host, to)) => Ok(from
            .pair_with(to)?
            .map(|(port, to)| (Listen::Port(Port { bind, port }), at(host.clone(), to)))
            .collect()),
    }
}

/// A port that is listened on.
pub(super) fn parse_port(spec: &str) -> Result<Port, EndError> {
    match listen(&split(spec)?)? {
        End::Ports(bind, range) => {
            let port = range.single().ok_or(EndError::PortFields)?;
            Ok(Port { bind, port })
        }
        End::Socket(_) => Err(EndError::PortFields),
    }
}

/// A port of this host, or of the workspace itself.
fn at(host: Option<String>, port: u16) -> Place {
    match host {
        Some(host) if host != "127.0.0.1" => Place::Host(host, port),
        Some(_) | None => Place::Port(port),
    }
}

fn listen(fields: &[Field]) -> Result<End<Bind>, EndError> {
    match fields {
        [Field::Path(path)] => Ok(End::Socket(checked(path)?)),
        [port] => Ok(End::Ports(Bind::Loopback, port.range()?)),
        [host, port] => Ok(End::Ports(bind(host)?, port.range()?)),
        [] => Err(EndError::PortFields),
        [_, _, _, ..] => Err(EndError::Colons),
    }
}

fn place(fields: &[Field]) -> Result<End<Option<String>>, EndError> {
    match fields {
        [Field::Path(path)] => Ok(End::Socket(checked(path)?)),
        [port] => Ok(End::Ports(None, port.range()?)),
        [name, port] => Ok(End::Ports(Some(host(name)?), port.range()?)),
        [] => Err(EndError::Fields),
        [_, _, _, ..] => Err(EndError::Colons),
    }
}

fn bind(field: &Field) -> Result<Bind, EndError> {
    let address: IpAddr = match field {
        Field::Bracketed(text) => ipv6(text)?.into(),
        Field::Plain(text) => match text.as_str() {
            "" => return Err(EndError::EmptyBind),
            "*" => return Ok(Bind::Any),
            "localhost" => return Ok(Bind::Loopback),
            text => text.parse::<Ipv4Addr>().map_err(|_| EndError::NoBind(quoted(text)))?.into(),
        },
        Field::Path(path) => return Err(EndError::NoBind(quoted(&path.to_string_lossy()))),
    };
    Ok(Bind::Address(address))
}

fn host(field: &Field) -> Result<String, EndError> {
    match field {
        Field::Bracketed(text) => Ok(ipv6(text)?.to_string()),
        Field::Plain(text) if field.is_range() => Err(EndError::Ambiguous(quoted(text))),
        Field::Plain(text) if is_name(text) => Ok(text.clone()),
        Field::Plain(text) => Err(EndError::NoHost(quoted(text))),
        Field::Path(path) => Err(EndError::NoHost(quoted(&path.to_string_lossy()))),
    }
}

fn ipv6(text: &str) -> Result<Ipv6Addr, EndError> {
    text.parse().map_err(|_| EndError::NoHost(quoted(text)))
}

/// Whether it may be a name or an IPv4 address. Underscores are no part of host names but are seen
/// in those of containers.
pub(in crate::apps) fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= NAME
        && !text.starts_with('-')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
}

impl Field {
    fn is_path(&self) -> bool {
        matches!(self, Self::Path(_))
    }

    fn is_range(&self) -> bool {
        matches!(self, Self::Plain(text) if Range::parse(text).is_some())
    }

    fn range(&self) -> Result<Range, EndError> {
        match self {
            Self::Plain(text) => {
                let range = Range::parse(text).ok_or_else(|| EndError::NoPort(quoted(text)))?;
                Ok(range?)
            }
            Self::Bracketed(text) => Err(EndError::NoPort(quoted(text))),
            Self::Path(path) => Err(EndError::NoPort(quoted(&path.to_string_lossy()))),
        }
    }
}

/// A path that a socket can have here. What the workspace takes is its own business, but no system
/// takes more.
fn checked(path: &Path) -> Result<PathBuf, EndError> {
    let bytes = path.as_os_str().as_encoded_bytes();
    if bytes.contains(&0) {
        return Err(EndError::ZeroByte);
    }
    match SocketAddr::from_pathname(path) {
        Ok(_) => Ok(path.to_owned()),
        Err(_) => Err(EndError::LongPath(bytes.len())),
    }
}

/// The fields between colons.
fn split(spec: &str) -> Result<Vec<Field>, EndError> {
    let mut fields = Vec::new();
    let mut rest = Some(spec);
    while let Some(text) = rest {
        let field;
        (field, rest) = match text.as_bytes().first() {
            Some(b'[') => bracketed(&text[1..])?,
            Some(b'/') => path(text),
            Some(_) | None => {
                let (field, rest) = match text.split_once(':') {
                    Some((field, rest)) => (field, Some(rest)),
                    None => (text, None),
                };
                if field.contains('/') {
                    return Err(EndError::Relative);
                }
                (Field::Plain(field.to_owned()), rest)
            }
        };
        fields.push(field);
    }
    Ok(fields)
}

fn bracketed(text: &str) -> Result<(Field, Option<&str>), EndError> {
    let (field, rest) = text.split_once(']').ok_or(EndError::Brackets)?;
    let rest = match rest.strip_prefix(':') {
        None if !rest.is_empty() => return Err(EndError::Brackets),
        rest => rest,
    };
    Ok((Field::Bracketed(field.to_owned()), rest))
}

fn path(text: &str) -> (Field, Option<&str>) {
    let mut path = String::new();
    let mut characters = text.char_indices();
    while let Some((index, character)) = characters.next() {
        match character {
            ':' => return (Field::Path(path.into()), Some(&text[index + 1..])),
            '\\' => path.extend(characters.next().map(|(_, escaped)| escaped)),
            _ => path.push(character),
        }
    }
    (Field::Path(path.into()), None)
}

/// Writes a path so that it is read as it is.
pub(super) fn write_path(f: &mut fmt::Formatter<'_>, path: &Path) -> fmt::Result {
    for character in path.to_string_lossy().chars() {
        if matches!(character, ':' | '\\') {
            f.write_char('\\')?;
        }
        f.write_char(character)?;
    }
    Ok(())
}
