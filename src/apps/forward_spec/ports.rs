//! The grammar of `--tcp` and `--udp`.
//!
//! ```text
//! list  = spec *( "," spec )            ; blanks around a spec are trimmed
//! spec  = [ bind ":" ] range [ ":" range ]
//! bind  = IPv4 dotted quad | "[" IPv6 "]"
//! range = port [ "-" port ]
//! ```
//!
//! One thing more than with the `coder` client: the single local port 0 asks for a free one.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{Bind, Port, SpecError};
use crate::ui::quoted;

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

/// Listeners and the ports that they lead to.
pub(super) fn parse(lists: &[String]) -> Result<Vec<(Port, u16)>, SpecError> {
    let mut pairs = Vec::new();
    for spec in lists.iter().flat_map(|list| list.split(',')) {
        pairs.extend(parse_one(spec.trim())?);
    }
    Ok(pairs)
}

fn parse_one(spec: &str) -> Result<impl Iterator<Item = (Port, u16)>, SpecError> {
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
    let pairs = local.pair_with(remote).map_err(numbers)?;
    Ok(pairs.map(move |(port, remote)| (Port { bind, port }, remote)))
}

/// Splits the local address off.
fn split_bind(spec: &str) -> Option<(Bind, &str)> {
    if let Some(rest) = spec.strip_prefix('[') {
        let (address, ranges) = rest.split_once("]:")?;
        return Some((Bind::Address(address.parse::<Ipv6Addr>().ok()?.into()), ranges));
    }
    match spec.split_once(':') {
        Some((address, ranges)) if address.contains('.') => {
            Some((Bind::Address(address.parse::<Ipv4Addr>().ok()?.into()), ranges))
        }
        _ => Some((Bind::Loopback, spec)),
    }
}

/// A port, or several in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    first: u16,
    last: u16,
}

impl Range {
    /// `None` where it is not even a number.
    pub(super) fn parse(text: &str) -> Option<Result<Self, RangeError>> {
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

    /// The listener's ports with those that they lead to.
    pub(super) fn pair_with(
        self,
        to: Self,
    ) -> Result<impl Iterator<Item = (u16, u16)>, RangeError> {
        // Only a single port may be left to the system.
        if to.first == 0 || (self.first == 0 && self.last != 0) {
            return Err(RangeError::Zero);
        }
        if self.len() != to.len() {
            return Err(RangeError::Lengths { local: self.len(), remote: to.len() });
        }
        Ok((self.first..=self.last).zip(to.first..=to.last))
    }

    /// The only port that it has.
    pub(super) fn single(self) -> Option<u16> {
        (self.first == self.last).then_some(self.first)
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
