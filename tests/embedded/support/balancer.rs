//! One address before several servers, as a load balancer is.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
};

/// Hands each connection to one of the servers that are chosen at the moment, in turn.
pub struct Balancer {
    address: SocketAddr,
    to: Arc<Mutex<Vec<SocketAddr>>>,
}

impl Balancer {
    /// One that leads nowhere yet: it closes what comes.
    pub fn new() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let to = Arc::new(Mutex::new(Vec::new()));
        let chosen = Arc::clone(&to);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let to: Option<SocketAddr> = {
                    let mut chosen = chosen.lock().unwrap();
                    if !chosen.is_empty() {
                        chosen.rotate_left(1);
                    }
                    chosen.first().copied()
                };
                // One that is gone, or not there yet: the client's connection is closed, too.
                let Some(server) = to.and_then(|to| TcpStream::connect(to).ok()) else { continue };
                join(client.unwrap(), server);
            }
        });
        Self { address, to }
    }

    /// Connections that come from now on go to this server.
    pub fn lead_to(&self, url: &str) {
        self.lead_to_all(&[url]);
    }

    /// Connections that come from now on go to these servers in turn.
    pub fn lead_to_all(&self, urls: &[&str]) {
        let address = |url: &&str| {
            url.strip_prefix("http://").unwrap().trim_end_matches('/').parse().unwrap()
        };
        *self.to.lock().unwrap() = urls.iter().map(address).collect();
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

fn join(client: TcpStream, server: TcpStream) {
    for connection in [&client, &server] {
        connection.set_nodelay(true).unwrap();
    }
    let back = (server.try_clone().unwrap(), client.try_clone().unwrap());
    std::thread::spawn(move || copy(client, server));
    std::thread::spawn(move || copy(back.0, back.1));
}

/// A connection that breaks on one side is broken off on the other.
fn copy(mut from: TcpStream, mut to: TcpStream) {
    let mut bytes = vec![0; 64 * 1024];
    loop {
        match from.read(&mut bytes) {
            Ok(0) => {
                // The other side may be gone.
                let _ = to.shutdown(Shutdown::Write);
                return;
            }
            Ok(read) if to.write_all(&bytes[..read]).is_ok() => {}
            Ok(_) | Err(_) => {
                let _ = from.shutdown(Shutdown::Both);
                let _ = to.shutdown(Shutdown::Both);
                return;
            }
        }
    }
}
