//! A service that answers only after the end of input.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, Shutdown, TcpStream},
};

/// Reads all there is, and only then answers with it reversed: a half-close must be kept.
pub fn reverse(mut connection: TcpStream) {
    let mut bytes = Vec::new();
    // A connection that is broken off needs no answer.
    if connection.read_to_end(&mut bytes).is_ok() {
        bytes.reverse();
        let _ = connection.write_all(&bytes);
    }
}

/// Asks a [`reverse`] service through this port.
#[track_caller]
pub fn ask(port: u16, bytes: &[u8]) -> Vec<u8> {
    let mut connection = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    connection.set_read_timeout(Some(crate::support::LONGEST)).unwrap();
    connection.set_write_timeout(Some(crate::support::LONGEST)).unwrap();
    connection.write_all(bytes).unwrap();
    connection.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::with_capacity(bytes.len());
    connection.read_to_end(&mut answer).unwrap();
    answer
}
