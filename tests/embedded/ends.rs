//! `port-forward` to and from other ends than ports: hosts, sockets, SOCKS, UDP, the workspace's own
//! listeners.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, Shutdown, TcpStream, UdpSocket},
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::{LONGEST, Running, Server, ask, local_port, noise, reverse, service};

/// A UDP service that answers each datagram with its bytes reversed.
fn udp_service() -> u16 {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = socket.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut buffer = [0; 2000];
        loop {
            let (length, sender) = socket.recv_from(&mut buffer).unwrap();
            buffer[..length].reverse();
            socket.send_to(&buffer[..length], sender).unwrap();
        }
    });
    port
}

/// Asks a datagram service, again and again until it answers: datagrams may be lost.
fn ask_by_datagram(port: u16, bytes: &[u8]) -> Vec<u8> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    socket.set_read_timeout(Some(LONGEST / 20)).unwrap();
    let mut buffer = [0; 2000];
    for _ in 0..20 {
        socket.send(bytes).unwrap();
        if let Ok(length) = socket.recv(&mut buffer) {
            return buffer[..length].to_vec();
        }
    }
    panic!("no answer");
}

fn ask_at(path: &Path, bytes: &[u8]) -> Vec<u8> {
    let mut connection = UnixStream::connect(path).unwrap();
    connection.set_read_timeout(Some(LONGEST)).unwrap();
    connection.write_all(bytes).unwrap();
    connection.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).unwrap();
    answer
}

/// A service behind a Unix socket, which reverses too.
fn socket_service(path: &Path) {
    let listener = UnixListener::bind(path).unwrap();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let mut bytes = Vec::new();
            connection.read_to_end(&mut bytes).unwrap();
            bytes.reverse();
            connection.write_all(&bytes).unwrap();
        }
    });
}

#[track_caller]
fn ends_well(forward: Running) {
    forward.signal(Signal::INT);
    let (code, said) = forward.finish();
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn hosts_and_sockets_are_reached_from_the_workspace() {
    let server = Server::with_dev();
    let directory = TempDir::new().unwrap();
    let (here, there) = (directory.path().join("here"), directory.path().join("there"));
    socket_service(&there);
    let host = format!("127.0.0.1:0:localhost:{}", service(reverse));
    let sockets = format!("{}:{}", here.display(), there.display());
    let mut forward = server.background(&["port-forward", "dev", "-L", &host, "-L", &sockets]);
    let local = local_port(&forward.wait_for("'tcp://localhost:"));
    forward.wait_for("unix://");
    forward.wait_for("Ready!");
    let mut bytes = noise(1, 1 << 20);
    let (by_port, by_socket) = (ask(local, &bytes), ask_at(&here, &bytes));
    bytes.reverse();
    assert!(by_port == bytes && by_socket == bytes);
    ends_well(forward);
    assert!(!here.exists());
}

#[test]
fn listeners_in_the_workspace_lead_here() {
    let server = Server::with_dev();
    let directory = TempDir::new().unwrap();
    let there = directory.path().join("there");
    let to = service(reverse);
    let port = format!("127.0.0.1:0:localhost:{to}");
    let socket = format!("{}:{to}", there.display());
    let mut forward = server.background(&["port-forward", "dev", "-R", &port, "-R", &socket]);
    let remote = local_port(&forward.wait_for("in the workspace to 'tcp://localhost:"));
    forward.wait_for("Ready!");
    assert_eq!(ask(remote, b"abc"), b"cba");
    assert_eq!(ask_at(&there, b"abc"), b"cba");
    ends_well(forward);
    // A port that somebody has there already.
    let taken = format!("127.0.0.1:{}:80", service(reverse));
    server
        .run(&["port-forward", "dev", "-R", &taken])
        .ends(211)
        .says("in the workspace: the SSH server refused to listen there");
}

#[test]
fn datagrams_go_there_and_back() {
    let server = Server::with_dev();
    let spec = format!("127.0.0.1:0:{}", udp_service());
    let mut forward = server.background(&["port-forward", "dev", "--udp", &spec]);
    let local = local_port(&forward.wait_for("Forwarding 'udp://"));
    forward.wait_for("Ready!");
    assert_eq!(ask_by_datagram(local, b"abc"), b"cba");
    ends_well(forward);
}

#[test]
fn socks_reaches_names_from_the_workspace() {
    let server = Server::with_dev();
    let mut forward = server.background(&["port-forward", "dev", "-D", "127.0.0.1:0"]);
    let local = local_port(&forward.wait_for("socks5://"));
    forward.wait_for("Ready!");
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, local)).unwrap();
    stream.set_read_timeout(Some(LONGEST)).unwrap();
    let port = service(reverse).to_be_bytes();
    stream.write_all(b"\x05\x01\0").unwrap();
    stream.write_all(&[b"\x05\x01\0\x03\x09localhost", &port[..]].concat()).unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"\x05\0\x05\0\0\x01\0\0\0\0\0\0");
    stream.write_all(b"abc").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut said = Vec::new();
    stream.read_to_end(&mut said).unwrap();
    assert_eq!(said, b"cba");
    ends_well(forward);
}

#[test]
fn ready_means_that_the_remote_end_answers_and_everybody_is_told() {
    let server = Server::with_dev();
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("ready");
    let path = file.to_str().unwrap();
    let to = service(reverse);
    let spec = format!("127.0.0.1:0:{to}");
    let start = ["port-forward", "dev", "--tcp", &spec, "-D", "127.0.0.1:0", "-o", "json"];
    let wait = ["--wait-remote", "60s", "--ready-file", path, "--"];
    let line = format!("cat {path}; echo $CODERCTL_FORWARDS; echo $CODERCTL_SOCKS; exit 9");
    let seen = server.run(&[&start[..], &wait, &["sh", "-c", &line]].concat()).ends(9);
    let lines: Vec<_> = seen.stdout.lines().collect();
    let [told, found, forwards, socks] = lines[..] else { panic!("{seen:?}") };
    assert_eq!(told, found);
    let told: serde_json::Value = serde_json::from_str(told).unwrap();
    let forwards: serde_json::Value = serde_json::from_str(forwards).unwrap();
    assert_eq!(told["forwards"], forwards);
    assert_eq!(forwards[0]["remote"]["port"], to);
    assert_eq!(socks, format!("socks5h://127.0.0.1:{}", forwards[1]["local"]["port"]));
    assert!(!file.exists());
    // Nobody listens at the port of a listener that is gone.
    let nobody = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let spec = format!("0:{}", nobody.local_addr().unwrap().port());
    drop(nobody);
    server
        .run(&["port-forward", "dev", "--tcp", &spec, "--wait-remote", "1s"])
        .ends(211)
        .says("in the workspace did not answer within 1 s");
}
