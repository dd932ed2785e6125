//! What `--tcp` says: which local ports lead to which ports of the workspace.
//!
//! ```text
//! list  = spec *( "," spec )            ; blanks around a spec are trimmed
//! spec  = [ bind ":" ] range [ ":" range ]
//! bind  = IPv4 dotted quad | "[" IPv6 "]"
//! range = port [ "-" port ]
//! ```
//!
//! The order is local:remote, as with `ssh -L`. This is the grammar of the `coder` client
//! (coder/coder: cli/portforward.go) and one thing more: the single local port 0 asks for a free
//! one.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use crate::ui::quoted;

/// One local port and the port of the workspace that it leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forward {
    /// The local address; `None` means both loopbacks.
    pub bind: Option<IpAddr>,
    /// The local port; 0 asks for a free one.
    pub local: u16,
    /// The port in the workspace, never 0.
    pub remote: u16,
}

/// A specification that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// It does not follow the grammar.
    #[error("invalid port specification {0}")]
    Syntax(String),
    /// It follows the grammar, but not the meaning of its numbers.
    #[error("invalid port specification {spec}: {cause}")]
    Range {
        /// The specification, quoted.
        spec: String,
        /// What is wrong with it.
        cause: RangeError,
    },
    /// Two specifications ask for the same local port.
    #[error("local tcp host:{host} port:{port} is specified twice")]
    Twice {
        /// The local address.
        host: IpAddr,
        /// The local port.
        port: u16,
    },
    /// No specification at all.
    #[error("no port-forwards requested")]
    Nothing,
}

/// What can be wrong with the numbers of a specification.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// Port 0 on the remote side or in a range.
    #[error("port cannot be 0")]
    Zero,
    /// A number that is no port.
    #[error("port {0} is above 65535")]
    TooHigh(String),
    /// A range that runs backwards.
    #[error("range end port {end} is less than start port {start}")]
    Reversed {
        /// Its first port.
        start: u16,
        /// Its last port.
        end: u16,
    },
    /// A local and a remote range that do not pair up.
    #[error("port ranges must be the same length, got {local} ports forwarded to {remote} ports")]
    Lengths {
        /// Ports in the local range.
        local: usize,
        /// Ports in the remote range.
        remote: usize,
    },
}

/// Reads all specifications of a command. Each element may itself be a list.
///
/// # Errors
/// The first specification that cannot be used, or that there is none.
pub fn parse<S: AsRef<str>>(lists: &[S]) -> Result<Vec<Forward>, SpecError> {
    let mut forwards = Vec::new();
    for spec in lists.iter().flat_map(|list| list.as_ref().split(',')) {
        forwards.extend(parse_one(spec.trim())?);
    }
    if forwards.is_empty() {
        return Err(SpecError::Nothing);
    }
    refuse_twice(&forwards)?;
    Ok(forwards)
}

fn parse_one(spec: &str) -> Result<impl Iterator<Item = Forward>, SpecError> {
    let syntax = || SpecError::Syntax(quoted(spec));
    let numbers = |cause| SpecError::Range { spec: quoted(spec), cause };
    let (bind, ranges) = split_bind(spec).ok_or_else(syntax)?;
    let (local, remote) = match ranges.split_once(':') {
        Some((local, remote)) => (local, Some(remote)),
        None => (ranges, None),
    };
    let local = Range::parse(local).ok_or_else(syntax)?.map_err(numbers)?;
    let remote = match remote {
        Some(remote) => Range::parse(remote).ok_or_else(syntax)?.map_err(numbers)?,
        None => local,
    };
    // Only a single local port may be left to the system.
    if remote.first == 0 || (local.first == 0 && local.last != 0) {
        return Err(numbers(RangeError::Zero));
    }
    if local.len() != remote.len() {
        return Err(numbers(RangeError::Lengths { local: local.len(), remote: remote.len() }));
    }
    let pairs = (local.first..=local.last).zip(remote.first..=remote.last);
    Ok(pairs.map(move |(local, remote)| Forward { bind, local, remote }))
}

/// Splits the local address off.
fn split_bind(spec: &str) -> Option<(Option<IpAddr>, &str)> {
    if let Some(rest) = spec.strip_prefix('[') {
        let (address, ranges) = rest.split_once("]:")?;
        return Some((Some(address.parse::<Ipv6Addr>().ok()?.into()), ranges));
    }
    match spec.split_once(':') {
        Some((address, ranges)) if address.contains('.') => {
            Some((Some(address.parse::<Ipv4Addr>().ok()?.into()), ranges))
        }
        _ => Some((None, spec)),
    }
}

#[derive(Debug, Clone, Copy)]
struct Range {
    first: u16,
    last: u16,
}

impl Range {
    /// `None` where it is not even a number.
    fn parse(text: &str) -> Option<Result<Self, RangeError>> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = match (port(first)?, port(last)?) {
            (Ok(first), Ok(last)) => (first, last),
            (Err(error), _) | (_, Err(error)) => return Some(Err(error)),
        };
        if last < first {
            return Some(Err(RangeError::Reversed { start: first, end: last }));
        }
        Some(Ok(Self { first, last }))
    }

    fn len(self) -> usize {
        usize::from(self.last - self.first) + 1
    }
}

fn port(text: &str) -> Option<Result<u16, RangeError>> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(text.parse().map_err(|_| RangeError::TooHigh(text.chars().take(12).collect())))
}

fn refuse_twice(forwards: &[Forward]) -> Result<(), SpecError> {
    let mut taken = BTreeSet::new();
    for forward in forwards.iter().filter(|forward| forward.local != 0) {
        let implied = [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()];
        let hosts = match &forward.bind {
            Some(host) => std::slice::from_ref(host),
            None => &implied,
        };
        for &host in hosts {
            if !taken.insert((host, forward.local)) {
                return Err(SpecError::Twice { host, port: forward.local });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(list: &str) -> String {
        match parse(&[list]) {
            Ok(forwards) => {
                let one = |f: &Forward| match f.bind {
                    Some(bind) => format!("{bind} {}>{}", f.local, f.remote),
                    None => format!("{}>{}", f.local, f.remote),
                };
                forwards.iter().map(one).collect::<Vec<_>>().join(" ")
            }
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn every_form_is_read() {
        for (list, forwards) in [
            ("8080", "8080>8080"),
            ("5678:1234", "5678>1234"),
            ("8000-8002", "8000>8000 8001>8001 8002>8002"),
            ("10000-10001:10010-10011", "10000>10010 10001>10011"),
            ("0.0.0.0:8080:80", "0.0.0.0 8080>80"),
            ("127.0.0.1:4000-4001", "127.0.0.1 4000>4000 127.0.0.1 4001>4001"),
            ("[::1]:4000-4001:5000-5001", "::1 4000>5000 ::1 4001>5001"),
            ("8080, 9000:3000 ,9090-9091", "8080>8080 9000>3000 9090>9090 9091>9091"),
            ("0:80", "0>80"),
            ("0:80,0:80,127.0.0.1:0:81", "0>80 0>80 127.0.0.1 0>81"),
            ("65535", "65535>65535"),
            ("65534-65535:1-2", "65534>1 65535>2"),
        ] {
            assert_eq!(shown(list), forwards, "{list}");
        }
    }

    #[test]
    fn a_range_that_ends_at_the_highest_port_ends() {
        assert_eq!(parse(&["1-65535"]).unwrap().len(), 65535);
    }

    #[test]
    fn everything_else_is_refused_by_name() {
        for (list, error) in [
            ("", "invalid port specification ``"),
            ("8080,", "invalid port specification ``"),
            ("localhost:80", "invalid port specification `localhost:80`"),
            ("localhost:80:80", "invalid port specification `localhost:80:80`"),
            ("*:80:80", "invalid port specification `*:80:80`"),
            ("127.0.0.1", "invalid port specification `127.0.0.1`"),
            ("127.0.0.1:", "invalid port specification `127.0.0.1:`"),
            ("[::1]", "invalid port specification `[::1]`"),
            ("[::1%lo]:80", "invalid port specification `[::1%lo]:80`"),
            ("::1:80", "invalid port specification `::1:80`"),
            ("1.2.3:80:80", "invalid port specification `1.2.3:80:80`"),
            ("80:10.0.0.1:80", "invalid port specification `80:10.0.0.1:80`"),
            ("80:81:82", "invalid port specification `80:81:82`"),
            ("80:", "invalid port specification `80:`"),
            (":80", "invalid port specification `:80`"),
            ("+80", "invalid port specification `+80`"),
            ("80-", "invalid port specification `80-`"),
            ("80-81-82", "invalid port specification `80-81-82`"),
            ("/tmp/a.sock:80", "invalid port specification `/tmp/a.sock:80`"),
            ("8\n0", "invalid port specification `8\\n0`"),
            ("0", "invalid port specification `0`: port cannot be 0"),
            ("80:0", "invalid port specification `80:0`: port cannot be 0"),
            ("0-2:80-82", "invalid port specification `0-2:80-82`: port cannot be 0"),
            ("70000", "invalid port specification `70000`: port 70000 is above 65535"),
            ("9-8", "invalid port specification `9-8`: range end port 8 is less than start port 9"),
            (
                "80:80-81",
                "invalid port specification `80:80-81`: port ranges must be the same length, got \
                 1 ports forwarded to 2 ports",
            ),
            ("8080,8080:80", "local tcp host:127.0.0.1 port:8080 is specified twice"),
            ("8080,[::1]:8080:80", "local tcp host:::1 port:8080 is specified twice"),
        ] {
            assert_eq!(shown(list), error, "{list}");
        }
        assert_eq!(parse::<&str>(&[]), Err(SpecError::Nothing));
    }

    proptest! {
        #[test]
        fn no_text_panics_and_what_is_read_is_whole(text in "[0-9:.,\\[\\] -]{0,40}|.{0,20}") {
            if let Ok(forwards) = parse(&[text]) {
                prop_assert!(forwards.iter().all(|forward| forward.remote != 0));
            }
        }
    }
}
