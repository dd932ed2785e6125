//! What the kernel's end of a connection does.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};

use crate::sim::pattern;

/// The first bytes of what everybody sends.
pub(crate) fn start(count: usize) -> &'static [u8] {
    &pattern(0, 0, count)[..count]
}

/// Sends so many bytes and closes, and receives until the end: how much came.
pub(crate) fn exchange(stream: &TcpStream, bytes: u64) -> io::Result<u64> {
    std::thread::scope(|scope| {
        let sending = scope.spawn(|| send(stream, bytes));
        let received = receive(stream)?;
        sending.join().unwrap()?;
        Ok(received)
    })
}

fn send(mut stream: &TcpStream, bytes: u64) -> io::Result<()> {
    let mut sent = 0;
    while sent < bytes {
        let part = pattern(0, sent, (bytes - sent) as usize);
        stream.write_all(part)?;
        sent += part.len() as u64;
    }
    stream.shutdown(Shutdown::Write)
}

/// Receives until the end, and looks at every byte.
pub(crate) fn receive(mut stream: &TcpStream) -> io::Result<u64> {
    let mut received = 0;
    let mut buffer = vec![0; 64 << 10];
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Ok(received);
        }
        let mut rest = &buffer[..count];
        while !rest.is_empty() {
            let expected = pattern(0, received, rest.len());
            let (found, behind) = rest.split_at(expected.len());
            assert!(found == expected, "other bytes behind {received}");
            received += found.len() as u64;
            rest = behind;
        }
    }
}

/// The counters that Linux keeps of TCP in this namespace.
pub(crate) fn counters() -> BTreeMap<String, u64> {
    let text = std::fs::read_to_string("/proc/self/net/snmp").unwrap();
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let values = values.split_whitespace().map(|value| value.parse().unwrap_or(0));
    names.split_whitespace().map(str::to_owned).zip(values).collect()
}
