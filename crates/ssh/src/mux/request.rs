//! What a client asks for beside sessions, and the channels that either side opens to the other.

use crate::{
    error::Error,
    message,
    wire::{Put, Reader},
};

/// Where a client wants to be connected to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// `direct-tcpip` (RFC 4254 section 7.2)
    Tcp {
        /// A name or an address.
        host: String,
        /// Its port.
        port: u16,
    },
    /// `direct-streamlocal@openssh.com` (OpenSSH PROTOCOL section 2.4)
    Unix {
        /// The socket's path, not necessarily UTF-8.
        path: Vec<u8>,
    },
}

/// Where a client wants the server to listen. Equal for a listener and its cancellation.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Listen {
    /// `tcpip-forward` (RFC 4254 section 7.1)
    Tcp {
        /// The address as the client said it: empty means every address, `localhost` the
        /// loopbacks.
        address: String,
        /// The port; 0 asks for a free one, which only a new listener may.
        port: u16,
    },
    /// `streamlocal-forward@openssh.com`
    Unix {
        /// The socket's path, not necessarily UTF-8.
        path: Vec<u8>,
    },
}

/// What of a client's somebody at the server has connected to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A listener.
    Listen(Listen),
    /// The authentication agent that a session offers.
    Agent,
}

/// A request about listeners.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Global {
    /// To listen there.
    Listen(Listen),
    /// Not to listen there any more.
    Cancel(Listen),
}

impl Global {
    /// Reads the fields behind the name. `None` is a request that nobody knows, or with fields
    /// that make no sense.
    pub(super) fn parse(name: &[u8], reader: &mut Reader<'_>) -> Option<Self> {
        let tcp = |reader: &mut Reader<'_>| {
            place(reader).map(|(address, port)| Listen::Tcp { address, port })
        };
        let unix =
            |reader: &mut Reader<'_>| Some(Listen::Unix { path: reader.string().ok()?.to_vec() });
        Some(match name {
            b"tcpip-forward" => Self::Listen(tcp(reader)?),
            b"cancel-tcpip-forward" => Self::Cancel(tcp(reader)?),
            b"streamlocal-forward@openssh.com" => Self::Listen(unix(reader)?),
            b"cancel-streamlocal-forward@openssh.com" => Self::Cancel(unix(reader)?),
            _ => return None,
        })
    }

    /// A GLOBAL_REQUEST that wants an answer.
    pub(super) fn encode(&self) -> Vec<u8> {
        let (name, listen): (&[u8], _) = match self {
            Self::Listen(listen @ Listen::Tcp { .. }) => (b"tcpip-forward", listen),
            Self::Cancel(listen @ Listen::Tcp { .. }) => (b"cancel-tcpip-forward", listen),
            Self::Listen(listen @ Listen::Unix { .. }) => {
                (b"streamlocal-forward@openssh.com", listen)
            }
            Self::Cancel(listen @ Listen::Unix { .. }) => {
                (b"cancel-streamlocal-forward@openssh.com", listen)
            }
        };
        let mut out = vec![message::GLOBAL_REQUEST];
        out.put_string(name);
        out.put_boolean(true);
        match listen {
            Listen::Tcp { address, port } => put_place(&mut out, address, *port),
            Listen::Unix { path } => out.put_string(path),
        }
        out
    }
}

fn put_place(out: &mut Vec<u8>, host: &str, port: u16) {
    out.put_string(host.as_bytes());
    out.extend_from_slice(&u32::from(port).to_be_bytes());
}

/// Why a channel is refused (RFC 4254 section 5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It is forbidden here.
    Prohibited,
    /// What it should lead to cannot be reached.
    ConnectFailed,
    /// There is no such kind of channel.
    UnknownType,
    /// There are too many.
    Shortage,
}

impl Reason {
    /// Its number.
    #[must_use]
    pub fn code(self) -> u32 {
        match self {
            Self::Prohibited => 1,
            Self::ConnectFailed => 2,
            Self::UnknownType => 3,
            Self::Shortage => 4,
        }
    }
}

/// What a CHANNEL_OPEN asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Session,
    Direct(Target),
    /// To what we have offered at the server.
    Forwarded(Origin),
    /// Nothing that we can do, and why.
    Refused(Reason, &'static str),
}

/// A CHANNEL_OPEN.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Open {
    /// The peer's number, window and largest packet.
    pub(super) theirs: [u32; 3],
    pub(super) kind: Kind,
}

impl Open {
    /// Reads one. A server is asked for other kinds than a client.
    pub(super) fn parse(payload: &[u8], serves: bool) -> Result<Self, Error> {
        let mut reader = Reader::new(payload, "channel request");
        reader.byte()?;
        let name = reader.string()?;
        let theirs = [reader.u32()?, reader.u32()?, reader.u32()?];
        let no_place = Kind::Refused(Reason::ConnectFailed, "not a host and a port");
        let forwarded = |listen| Kind::Forwarded(Origin::Listen(listen));
        let kind = match name {
            b"session" if serves => Kind::Session,
            b"direct-tcpip" if serves => place(&mut reader)
                .map_or(no_place, |(host, port)| Kind::Direct(Target::Tcp { host, port })),
            b"direct-streamlocal@openssh.com" if serves => {
                Kind::Direct(Target::Unix { path: reader.string()?.to_vec() })
            }
            b"forwarded-tcpip" if !serves => place(&mut reader)
                .map_or(no_place, |(address, port)| forwarded(Listen::Tcp { address, port })),
            b"forwarded-streamlocal@openssh.com" if !serves => {
                forwarded(Listen::Unix { path: reader.string()?.to_vec() })
            }
            b"auth-agent@openssh.com" if !serves => Kind::Forwarded(Origin::Agent),
            _ => Kind::Refused(Reason::UnknownType, "unknown channel type"),
        };
        Ok(Self { theirs, kind })
    }
}

/// A host and its port.
fn place(reader: &mut Reader<'_>) -> Option<(String, u16)> {
    let host = reader.text().ok()?.to_owned();
    Some((host, reader.u32().ok()?.try_into().ok()?))
}

/// A channel that is asked for: the first by a client, the others by a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outgoing {
    /// A connection to a host that the server reaches.
    Direct(Target),
    /// A connection to a TCP listener that the client has asked for.
    ForwardedTcp {
        /// The listener's address, as the client had said it.
        address: String,
        /// The listener's port.
        port: u16,
        /// Whence the connection comes.
        origin: (String, u16),
    },
    /// A connection to a Unix listener that the client has asked for.
    ForwardedUnix {
        /// The listener's path, as the client had said it.
        path: Vec<u8>,
    },
    /// A connection to the client's authentication agent.
    Agent,
    /// A connection to the client's display.
    X11 {
        /// Whence it comes.
        origin: (String, u16),
    },
}

impl Outgoing {
    /// A CHANNEL_OPEN with our number, window and largest packet.
    pub(super) fn encode(&self, ours: [u32; 3]) -> Vec<u8> {
        let name: &[u8] = match self {
            Self::Direct(Target::Tcp { .. }) => b"direct-tcpip",
            Self::Direct(Target::Unix { .. }) => b"direct-streamlocal@openssh.com",
            Self::ForwardedTcp { .. } => b"forwarded-tcpip",
            Self::ForwardedUnix { .. } => b"forwarded-streamlocal@openssh.com",
            Self::Agent => b"auth-agent@openssh.com",
            Self::X11 { .. } => b"x11",
        };
        let mut out = vec![message::CHANNEL_OPEN];
        out.put_string(name);
        for number in ours {
            out.extend_from_slice(&number.to_be_bytes());
        }
        match self {
            Self::Direct(Target::Tcp { host, port }) => {
                put_place(&mut out, host, *port);
                // Whence it comes is nobody's business there.
                put_place(&mut out, "127.0.0.1", 0);
            }
            Self::Direct(Target::Unix { path }) => {
                out.put_string(path);
                // Reserved (OpenSSH PROTOCOL section 2.4).
                put_place(&mut out, "", 0);
            }
            Self::ForwardedTcp { address, port, origin } => {
                put_place(&mut out, address, *port);
                put_place(&mut out, &origin.0, origin.1);
            }
            Self::ForwardedUnix { path } => {
                out.put_string(path);
                out.put_string(b"");
            }
            Self::X11 { origin } => put_place(&mut out, &origin.0, origin.1),
            Self::Agent => {}
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(name: &[u8], fields: &[u8]) -> Result<Kind, Error> {
        let mut out = vec![message::CHANNEL_OPEN];
        out.put_string(name);
        out.extend_from_slice(&[0, 0, 0, 3, 0, 0, 16, 0, 0, 0, 4, 0]);
        out.extend_from_slice(fields);
        Open::parse(&out, true).map(|open| {
            assert_eq!(open.theirs, [3, 4096, 1024]);
            open.kind
        })
    }

    #[test]
    fn channels_that_a_client_asks_for() {
        let tcp = b"\0\0\0\x09localhost\0\0\x1f\x90\0\0\0\0\0\0\0\0";
        let target = Target::Tcp { host: "localhost".into(), port: 8080 };
        assert_eq!(open(b"direct-tcpip", tcp), Ok(Kind::Direct(target)));
        let big = b"\0\0\0\x01h\0\x01\0\0\0\0\0\0\0\0\0\0";
        let refused = Kind::Refused(Reason::ConnectFailed, "not a host and a port");
        assert_eq!(open(b"direct-tcpip", big), Ok(refused));
        let unix = b"\0\0\0\x03/\xff/\0\0\0\0\0\0\0\0";
        let target = Target::Unix { path: b"/\xff/".to_vec() };
        assert_eq!(open(b"direct-streamlocal@openssh.com", unix), Ok(Kind::Direct(target)));
        assert_eq!(open(b"session", b""), Ok(Kind::Session));
        let refused = Kind::Refused(Reason::UnknownType, "unknown channel type");
        assert_eq!(open(b"tun@openssh.com", b"\0"), Ok(refused));
    }

    #[test]
    fn listeners_that_a_client_asks_for() {
        let parse = |name: &[u8], fields: &[u8]| {
            Global::parse(name, &mut Reader::new(fields, "global request"))
        };
        let listen = Listen::Tcp { address: String::new(), port: 0 };
        assert_eq!(parse(b"tcpip-forward", &[0; 8]), Some(Global::Listen(listen.clone())));
        assert_eq!(parse(b"cancel-tcpip-forward", &[0; 8]), Some(Global::Cancel(listen)));
        assert_eq!(parse(b"tcpip-forward", &[0; 7]), None);
        assert_eq!(parse(b"tcpip-forward", &[0, 0, 0, 0, 0, 1, 0, 0]), None);
        let listen = Listen::Unix { path: b"/s".to_vec() };
        let fields = b"\0\0\0\x02/s";
        assert_eq!(
            parse(b"streamlocal-forward@openssh.com", fields),
            Some(Global::Listen(listen.clone()))
        );
        assert_eq!(
            parse(b"cancel-streamlocal-forward@openssh.com", fields),
            Some(Global::Cancel(listen))
        );
        assert_eq!(parse(b"keepalive@openssh.com", b""), None);
    }

    #[test]
    fn what_a_client_asks_for_is_read_as_it_was_meant() {
        let targets = [
            Target::Tcp { host: "db.internal".into(), port: 5432 },
            Target::Unix { path: b"/run/\xff.sock".to_vec() },
        ];
        for target in targets {
            let open = Open::parse(&Outgoing::Direct(target.clone()).encode([1, 2, 3]), true);
            assert_eq!(open, Ok(Open { theirs: [1, 2, 3], kind: Kind::Direct(target) }));
        }
        let tcp = Listen::Tcp { address: "localhost".into(), port: 9000 };
        let unix = Listen::Unix { path: b"/s".to_vec() };
        for listen in [tcp, unix] {
            for request in [Global::Listen(listen.clone()), Global::Cancel(listen)] {
                let bytes = request.encode();
                let mut reader = Reader::new(&bytes[1..], "global request");
                let name = reader.string().unwrap();
                assert_eq!(reader.boolean(), Ok(true));
                assert_eq!(Global::parse(name, &mut reader), Some(request));
            }
        }
    }

    #[test]
    fn either_side_is_asked_for_its_own_kinds_only() {
        let tcp = Outgoing::ForwardedTcp {
            address: "localhost".into(),
            port: 80,
            origin: ("::1".into(), 4000),
        };
        let unix = Outgoing::ForwardedUnix { path: b"/s".to_vec() };
        let unknown = Kind::Refused(Reason::UnknownType, "unknown channel type");
        for (outgoing, listen) in [
            (tcp, Listen::Tcp { address: "localhost".into(), port: 80 }),
            (unix, Listen::Unix { path: b"/s".to_vec() }),
        ] {
            let bytes = outgoing.encode([1, 2, 3]);
            let forwarded = Kind::Forwarded(Origin::Listen(listen));
            assert_eq!(Open::parse(&bytes, false).unwrap().kind, forwarded);
            assert_eq!(Open::parse(&bytes, true).unwrap().kind, unknown);
        }
        let agent = Outgoing::Agent.encode([1, 2, 3]);
        assert_eq!(Open::parse(&agent, false).unwrap().kind, Kind::Forwarded(Origin::Agent));
        assert_eq!(Open::parse(&agent, true).unwrap().kind, unknown);
        let direct = Outgoing::Direct(Target::Unix { path: b"/s".to_vec() });
        assert_eq!(Open::parse(&direct.encode([1, 2, 3]), false).unwrap().kind, unknown);
    }

    /// The fields as RFC 4254 section 7.2 and OpenSSH's PROTOCOL have them.
    #[test]
    fn channels_that_a_server_opens() {
        let tcp = Outgoing::ForwardedTcp {
            address: "localhost".into(),
            port: 80,
            origin: ("::1".into(), 4000),
        };
        assert_eq!(
            tcp.encode([1, 2, 3]),
            b"\x5a\0\0\0\x0fforwarded-tcpip\0\0\0\x01\0\0\0\x02\0\0\0\x03\
              \0\0\0\x09localhost\0\0\0\x50\0\0\0\x03::1\0\0\x0f\xa0"
        );
        let unix = Outgoing::ForwardedUnix { path: b"/s".to_vec() };
        assert_eq!(
            unix.encode([1, 2, 3]),
            b"\x5a\0\0\0\x21forwarded-streamlocal@openssh.com\0\0\0\x01\0\0\0\x02\0\0\0\x03\
              \0\0\0\x02/s\0\0\0\0"
        );
        assert_eq!(
            Outgoing::Agent.encode([1, 2, 3]),
            b"\x5a\0\0\0\x16auth-agent@openssh.com\0\0\0\x01\0\0\0\x02\0\0\0\x03"
        );
        let x11 = Outgoing::X11 { origin: ("127.0.0.1".into(), 1) };
        assert_eq!(
            x11.encode([1, 2, 3]),
            b"\x5a\0\0\0\x03x11\0\0\0\x01\0\0\0\x02\0\0\0\x03\0\0\0\x09127.0.0.1\0\0\0\x01"
        );
    }
}
