//! `port-forward`: many connections, half-closes, refusals, a clean end.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, Shutdown, TcpStream},
};

use crate::support::{local_port, noise, service, shared};

/// Reads a length (eight bytes, big-endian) and as many bytes, and answers with them reversed. A Go
/// agent ends a forwarded connection as soon as either direction ends, so the end of input cannot
/// be the question's end here.
fn reverse(mut connection: TcpStream) {
    let mut length = [0; 8];
    if connection.read_exact(&mut length).is_err() {
        return;
    }
    let mut bytes = vec![0; u64::from_be_bytes(length) as usize];
    connection.read_exact(&mut bytes).unwrap();
    bytes.reverse();
    connection.write_all(&bytes).unwrap();
}

/// The question for [`reverse`].
fn ask(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u64).to_be_bytes(), bytes].concat()
}

#[test]
fn two_hundred_connections_with_half_closes_carry_their_own_bytes() {
    let Some(deployment) = shared() else { return };
    let remote = service(reverse);
    let mut forward = crate::support::Running::start(deployment.coderctl(&[
        "port-forward",
        "dev",
        "--tcp",
        &format!("127.0.0.1:0:{remote}"),
    ]));
    let local = local_port(&forward.wait_for("Forwarding"));
    forward.wait_for("Ready!");
    std::thread::scope(|scope| {
        for index in 0..200_u64 {
            scope.spawn(move || {
                let mut expected = noise(index, 1 + (index as usize * 977) % 200_000);
                let mut connection = TcpStream::connect((Ipv4Addr::LOCALHOST, local)).unwrap();
                connection.write_all(&ask(&expected)).unwrap();
                let mut answer = vec![0; expected.len()];
                connection.read_exact(&mut answer).unwrap();
                expected.reverse();
                assert!(answer == expected, "connection {index}");
                // Some say goodbye first, some wait for the other side to.
                if index % 3 == 0 {
                    connection.shutdown(Shutdown::Write).unwrap();
                }
                assert_eq!(connection.read(&mut [0; 1]).unwrap(), 0, "connection {index}");
            });
        }
    });
    forward.signal("INT");
    let (code, said) = forward.finish();
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn a_quarter_gibibyte_each_way_through_a_forward() {
    let Some(deployment) = shared() else { return };
    let remote = service(reverse);
    let mut forward = crate::support::Running::start(deployment.coderctl(&[
        "port-forward",
        "dev",
        "--tcp",
        &format!("127.0.0.1:0:{remote}"),
    ]));
    let local = local_port(&forward.wait_for("Forwarding"));
    let mut data = noise(3, 256 << 20);
    let mut connection = TcpStream::connect((Ipv4Addr::LOCALHOST, local)).unwrap();
    let mut sender = connection.try_clone().unwrap();
    let question = ask(&data);
    let writer = std::thread::spawn(move || sender.write_all(&question).unwrap());
    let mut answer = vec![0; data.len()];
    connection.read_exact(&mut answer).unwrap();
    writer.join().unwrap();
    data.reverse();
    assert!(answer == data, "{} bytes came back", answer.len());
}

#[test]
fn a_closed_remote_port_resets_that_one_connection_and_says_so() {
    let Some(deployment) = shared() else { return };
    let closed = {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.local_addr().unwrap().port()
    };
    let remote = service(reverse);
    let specs = format!("127.0.0.1:0:{closed},127.0.0.1:0:{remote}");
    let mut forward = crate::support::Running::start(deployment.coderctl(&[
        "port-forward",
        "dev",
        "--tcp",
        &specs,
    ]));
    let dead = local_port(&forward.wait_for("Forwarding"));
    let live = local_port(&forward.wait_for("Forwarding"));
    forward.wait_for("Ready!");
    let mut connection = TcpStream::connect((Ipv4Addr::LOCALHOST, dead)).unwrap();
    let ended = connection.read(&mut [0; 1]);
    assert!(
        matches!(&ended, Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset),
        "{ended:?}"
    );
    forward.wait_for("Failed to dial");
    let mut connection = TcpStream::connect((Ipv4Addr::LOCALHOST, live)).unwrap();
    connection.write_all(&ask(b"abc")).unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "cba");
}

#[test]
fn a_local_port_in_use_is_an_error_of_its_own() {
    let Some(deployment) = shared() else { return };
    let taken = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let output = deployment.run(&["port-forward", "dev", "--tcp", &format!("{port}:80")], b"");
    assert_eq!(output.status.code(), Some(210), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains(&port.to_string()));
}

#[test]
fn two_interrupts_end_at_once_and_one_ends_cleanly() {
    let Some(deployment) = shared() else { return };
    let forward = deployment.forward(&["dev", "--tcp", "0:80"]);
    let started = std::time::Instant::now();
    forward.signal("INT");
    assert_eq!(forward.finish().0, Some(0));
    assert!(started.elapsed().as_secs() < 5);
    let forward = deployment.forward(&["dev", "--tcp", "0:80"]);
    forward.signal("TERM");
    assert_eq!(forward.finish().0, Some(0));
}
