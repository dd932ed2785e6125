//! What listens in the workspace, which is on this machine, and bytes to be carried.

use std::net::{Ipv4Addr, TcpListener, TcpStream};

/// A service: each connection is handed to `serve`, until the test ends. Its port.
pub(crate) fn service(serve: impl Fn(TcpStream) + Send + Sync + Clone + 'static) -> u16 {
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

/// The local port in a `Forwarding 'tcp://127.0.0.1:PORT' …` line.
#[track_caller]
pub(crate) fn local_port(line: &str) -> u16 {
    let after = line.split("127.0.0.1:").nth(1).unwrap_or_else(|| panic!("no port in {line:?}"));
    after.split('\'').next().unwrap().parse().unwrap()
}

/// Bytes that compress badly and never repeat within a gigabyte: splitmix64.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
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
