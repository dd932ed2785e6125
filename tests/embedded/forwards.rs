//! `port-forward`: many connections, half-closes, refusals, a command under it, a clean end.

use std::{
    io::Read,
    net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream},
};

use rustix::process::Signal;

use crate::support::{LONGEST, Server, ask, local_port, noise, reverse, service};

/// A port at which nobody listens.
fn nobody() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

#[test]
fn two_hundred_connections_with_half_closes_carry_their_own_bytes() {
    let server = Server::with_dev();
    let (forward, local) = server.forward("dev", service(reverse));
    std::thread::scope(|scope| {
        for index in 0..200 {
            scope.spawn(move || {
                let mut bytes = noise(index, 1 + (usize::try_from(index).unwrap() * 977) % 100_000);
                let answer = ask(local, &bytes);
                bytes.reverse();
                assert!(answer == bytes, "connection {index}");
            });
        }
    });
    forward.signal(Signal::INT);
    let (code, said) = forward.finish();
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn sixty_four_mebibytes_each_way() {
    let server = Server::with_dev();
    let (_forward, local) = server.forward("dev", service(reverse));
    let mut data = noise(3, 64 << 20);
    let answer = ask(local, &data);
    data.reverse();
    assert!(answer == data, "{} bytes came back", answer.len());
}

#[test]
fn a_closed_remote_port_resets_that_one_connection_and_says_so() {
    let server = Server::with_dev();
    let specs = format!("127.0.0.1:0:{},127.0.0.1:0:{}", nobody(), service(reverse));
    let mut forward = server.background(&["port-forward", "dev", "--tcp", &specs]);
    let dead = local_port(&forward.wait_for("Forwarding"));
    let live = local_port(&forward.wait_for("Forwarding"));
    forward.wait_for("Ready!");
    let mut connection = TcpStream::connect((Ipv4Addr::LOCALHOST, dead)).unwrap();
    connection.set_read_timeout(Some(LONGEST)).unwrap();
    let ended = connection.read(&mut [0; 1]).unwrap_err();
    assert_eq!(ended.kind(), std::io::ErrorKind::ConnectionReset);
    forward.wait_for("Failed to dial");
    assert_eq!(ask(live, b"abc"), b"cba");
}

#[test]
fn both_loopbacks_lead_there_whatever_the_service_listens_on() {
    let server = Server::with_dev();
    let Ok(listener) = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)) else {
        return crate::support::skipped("this machine has no IPv6");
    };
    let remote = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            reverse(connection.unwrap());
        }
    });
    let spec = format!("0:{remote}");
    let mut forward = server.background(&["port-forward", "dev", "--tcp", &spec]);
    let mut lines = [forward.wait_for("Forwarding"), forward.wait_for("Forwarding")];
    lines.sort();
    let local = local_port(&lines[0]);
    assert!(lines[1].contains(&format!("[::1]:{local}'")), "{lines:?}");
    forward.wait_for("Ready!");
    assert_eq!(ask(local, b"abc"), b"cba");
    assert!(TcpStream::connect((Ipv6Addr::LOCALHOST, local)).is_ok());
}

#[test]
fn a_local_port_in_use_is_an_error_of_its_own() {
    let server = Server::with_dev();
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    server.run(&["port-forward", "dev", "--tcp", &format!("{port}:80")]).ends(210).says(&port);
}

#[test]
fn one_signal_ends_a_forward_cleanly() {
    let server = Server::with_dev();
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let (forward, _) = server.forward("dev", 80);
        forward.signal(signal);
        let (code, said) = forward.finish();
        assert_eq!(code, Some(0), "{said}");
    }
}

#[test]
fn a_command_runs_under_forwards_and_its_status_is_passed_on() {
    let server = Server::with_dev();
    let (one, other) = (service(reverse), service(reverse));
    let tcp = [format!("0:{one}"), format!("0:{other}")];
    let line = format!(
        "test $CODERCTL_PORT = $CODERCTL_PORT_{one} && \
                        test $CODERCTL_PORT != $CODERCTL_PORT_{other} && \
                        echo $CODERCTL_PORT && exit 9"
    );
    let start = ["port-forward", "dev", "--tcp", &tcp[0], "--tcp", &tcp[1], "--"];
    let seen = server.run(&[&start[..], &["sh", "-c", &line]].concat()).ends(9);
    seen.stdout.trim().parse::<u16>().unwrap();
    // What cannot be run is found out before anything is done.
    for (program, code) in
        [("nowhere-to-be-found", 127), ("/nowhere", 127), ("/", 126), ("/etc/passwd", 126)]
    {
        server.run(&[&start[..], &[program]].concat()).ends(code).says_not("Forwarding");
    }
    server.run(&[&start[..], &["sh", "-c", "kill -KILL $$"]].concat()).ends(137);
}

#[test]
fn a_command_under_a_forward_starts_a_stopped_workspace_first() {
    let server = Server::with_dev();
    server.run(&["stop", "dev", "-y"]).ends(0);
    let spec = format!("0:{}", service(reverse));
    let forward = ["port-forward", "dev", "--tcp", &spec, "--disable-autostart", "--", "true"];
    server.run(&forward).ends(203);
    let forward = ["port-forward", "dev", "--tcp", &spec, "--", "sh", "-c", "exit 9"];
    server.run(&forward).ends(9).says("Workspace was stopped, starting workspace");
}
