//! What listens in the workspace, which is on this machine, and bytes to be carried.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
};

/// A service: each connection is handed to `serve`, until the test ends. Its port.
pub fn service(serve: impl Fn(TcpStream) + Send + Sync + Clone + 'static) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let serve = serve.clone();
            std::thread::spawn(move || serve(connection.unwrap()));
        }
    });
    port
}

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
    connection.set_read_timeout(Some(super::LONGEST)).unwrap();
    connection.set_write_timeout(Some(super::LONGEST)).unwrap();
    connection.write_all(bytes).unwrap();
    connection.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::with_capacity(bytes.len());
    connection.read_to_end(&mut answer).unwrap();
    answer
}

/// The local port in a `Forwarding 'tcp://127.0.0.1:PORT' …` line.
#[track_caller]
pub fn local_port(line: &str) -> u16 {
    let after = line.split("127.0.0.1:").nth(1).unwrap_or_else(|| panic!("no port in {line:?}"));
    after.split('\'').next().unwrap().parse().unwrap()
}

/// Bytes that compress badly and never repeat within a gigabyte: splitmix64.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bytes.extend_from_slice(&(z ^ (z >> 31)).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
