//! OpenSSH and what runs over it, through `coderctl ssh --stdio` as ProxyCommand.

use std::process::{Command, Stdio};

use crate::{
    openssh_options::{self, options, ssh_line},
    support::{Running, Seen, Server, ask, feed, has, local_port, noise, reverse, run, service},
};

/// A program of OpenSSH's, or one that uses it, with the way there.
fn command(server: &Server, program: &str, arguments: &[&str]) -> Command {
    let options = options(program);
    let all: Vec<&str> =
        options.iter().map(String::as_str).chain(arguments.iter().copied()).collect();
    let mut command = server.program(program, &all);
    command.env("GIT_SSH_COMMAND", ssh_line()).env("GIT_CONFIG_NOSYSTEM", "1");
    command
}

fn perform(server: &Server, program: &str, arguments: &[&str], input: &[u8]) -> Seen {
    feed(&mut command(server, program, arguments), input).ends(0)
}

#[test]
fn ssh_runs_commands_and_carries_bytes() {
    if !has("ssh") {
        return;
    }
    let server = Server::with_dev();
    let seen = perform(&server, "ssh", &["dev", "cat; echo done"], b"in\x00\xff");
    assert_eq!(seen.bytes, b"in\x00\xffdone\n");
    run(&mut command(&server, "ssh", &["dev", "exit 9"])).ends(9);
    // A pty of OpenSSH's asking.
    let seen = perform(&server, "ssh", &["-tt", "dev", "test -t 0 && echo terminal"], b"");
    assert_eq!(seen.stdout, "terminal\r\n");
    let data = noise(5, 4 << 20);
    let seen = perform(&server, "ssh", &["dev", "cat"], &data);
    assert!(seen.bytes == data, "{} bytes came back", seen.bytes.len());
}

#[test]
fn scp_sftp_rsync_and_git_carry_files() {
    let server = Server::with_dev();
    let place = tempfile::tempdir().unwrap();
    let path = |name: &str| place.path().join(name).to_str().unwrap().to_owned();
    let data = noise(11, 2 << 20);
    std::fs::write(path("source"), &data).unwrap();
    let same = |name: &str| assert!(std::fs::read(path(name)).unwrap() == data, "{name}");

    if has("scp") {
        perform(&server, "scp", &[&path("source"), "dev:by-scp"], b"");
        assert!(std::fs::read(server.file("dev", "by-scp")).unwrap() == data);
        perform(&server, "scp", &["dev:by-scp", &path("by-scp")], b"");
        same("by-scp");
        // The old protocol, too, without sftp.
        perform(&server, "scp", &["-O", "dev:by-scp", &path("by-old-scp")], b"");
        same("by-old-scp");
    }
    if has("sftp") {
        let batch = format!(
            "mkdir d\nput {} d/f\nchmod 600 d/f\nrename d/f d/g\nls -l d\nget d/g {}\nrm d/g\nrmdir d\n",
            path("source"),
            path("by-sftp")
        );
        let seen = perform(&server, "sftp", &["-b", "-", "dev"], batch.as_bytes());
        assert!(seen.stdout.contains("-rw-------"), "{seen:?}");
        same("by-sftp");
        assert!(!server.file("dev", "d").exists());
    }
    if has("rsync") {
        let ssh = ssh_line();
        perform(&server, "rsync", &["-e", &ssh, &path("source"), "dev:by-rsync"], b"");
        perform(&server, "rsync", &["-e", &ssh, "dev:by-rsync", &path("by-rsync")], b"");
        same("by-rsync");
    }
    if has("git") {
        let own = ["-c", "user.name=t", "-c", "user.email=t@example.com"];
        let git = |arguments: &[&str]| perform(&server, "git", arguments, b"");
        git(&["init", "-q", &path("repository")]);
        std::fs::write(path("repository/file"), &data).unwrap();
        git(&["-C", &path("repository"), "add", "file"]);
        let commit = ["-C", &path("repository"), "commit", "-qm", "t"];
        git(&[&own[..], &commit[..]].concat());
        let url = format!("ssh://dev{}", server.file("dev", "bare").display());
        git(&["init", "-q", "--bare", server.file("dev", "bare").to_str().unwrap()]);
        git(&["-C", &path("repository"), "push", "-q", &url, "HEAD:refs/heads/main"]);
        git(&["clone", "-q", "-b", "main", &url, &path("clone")]);
        same("clone/file");
    }
}

#[test]
fn ssh_forwards_ports_and_sockets_both_ways() {
    if !has("ssh") {
        return;
    }
    let server = Server::with_dev();
    let remote = service(reverse);
    let place = tempfile::tempdir().unwrap();
    let socket = |name: &str| place.path().join(name).to_str().unwrap().to_owned();
    let to_port = format!("127.0.0.1:{remote}");
    let forwards = [
        // From here to a port there, by a socket here.
        ["-L", &format!("{}:{to_port}", socket("here"))],
        // From there to a port here: by a socket, and by a free port.
        ["-R", &format!("{}:{to_port}", socket("there"))],
        ["-R", &format!("127.0.0.1:0:{to_port}")],
        // And from here through all of it.
        ["-L", &format!("{}:{}", socket("through"), socket("there"))],
    ];
    let mut arguments = vec!["-v", "-o", "LogLevel=DEBUG1", "-o", "ExitOnForwardFailure=yes"];
    arguments.extend(forwards.iter().flatten().copied());
    arguments.extend(["dev", "echo up >&2; cat"]);
    let mut command = command(&server, "ssh", &arguments);
    let mut ssh = Running::start(command.stdin(Stdio::piped()).stdout(Stdio::null()));
    ssh.wait_for("up");
    for name in ["here", "there", "through"] {
        assert_eq!(ask_at(&socket(name), b"abc"), b"cba", "{name}");
    }
    let line = ssh.seen().lines().find(|line| line.contains("Allocated port")).map(str::to_owned);
    let line = line.unwrap_or_else(|| ssh.wait_for("Allocated port"));
    let port: u16 =
        line.split("Allocated port ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    assert_eq!(ask(port, b"abc"), b"cba");
    drop(ssh.child.stdin.take());
    let (code, said) = ssh.finish();
    assert_eq!(code, Some(0), "{said}");
}

fn ask_at(socket: &str, bytes: &[u8]) -> Vec<u8> {
    use std::io::{Read, Write};
    let mut connection = std::os::unix::net::UnixStream::connect(socket).unwrap();
    connection.set_read_timeout(Some(crate::support::LONGEST)).unwrap();
    connection.write_all(bytes).unwrap();
    connection.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).unwrap();
    answer
}

#[test]
fn ssh_forwards_its_agent() {
    if !(has("ssh") && has("ssh-agent") && has("ssh-add") && has("ssh-keygen")) {
        return;
    }
    let server = Server::with_dev();
    let place = tempfile::tempdir().unwrap();
    let path = |name: &str| place.path().join(name).to_str().unwrap().to_owned();
    let key = ["-q", "-t", "ed25519", "-N", "", "-C", "key-of-tests", "-f", &path("key")];
    run(&mut server.program("ssh-keygen", &key)).ends(0);
    let mut agent = server.program("ssh-agent", &["-D", "-a", &path("agent")]);
    agent.stdin(Stdio::null()).stdout(Stdio::null());
    let _agent = Running::start(&mut agent);
    crate::support::until("the SSH agent listens", || {
        std::os::unix::net::UnixStream::connect(path("agent")).ok()
    });
    let with = |mut command: Command| run(command.env("SSH_AUTH_SOCK", path("agent"))).ends(0);
    with(server.program("ssh-add", &["-q", &path("key")]));
    let seen = with(command(&server, "ssh", &["-A", "dev", "ssh-add -l"]));
    assert!(seen.stdout.contains("key-of-tests"), "{seen:?}");
    let seen =
        run(command(&server, "ssh", &["dev", "ssh-add -l"]).env("SSH_AUTH_SOCK", path("agent")));
    seen.ends(2);
}

#[test]
fn a_forward_of_ours_beside_openssh() {
    // Both at once on one agent.
    if !has("ssh") {
        return;
    }
    let server = Server::with_dev();
    let spec = format!("127.0.0.1:0:{}", service(reverse));
    let mut forward = server.background(&["port-forward", "dev", "--tcp", &spec]);
    let local = local_port(&forward.wait_for("Forwarding"));
    forward.wait_for("Ready!");
    let seen = perform(&server, "ssh", &["dev", "cat"], b"through OpenSSH");
    assert_eq!(seen.stdout, "through OpenSSH");
    assert_eq!(ask(local, b"abc"), b"cba");
}

/// As an editor's extension has it: several connections at once, each with its files, one of them
/// with a SOCKS port of OpenSSH's.
#[test]
fn an_editor_keeps_several_connections_and_a_socks_port() {
    if !(has("ssh") && has("curl")) {
        return;
    }
    let server = Server::with_dev();
    let place = tempfile::tempdir().unwrap();
    let path = |name: &str| place.path().join(name).to_str().unwrap().to_owned();
    for (name, content) in [("url", &server.url), ("session", &server.token)] {
        std::fs::write(path(name), content).unwrap();
    }
    let proxy = format!(
        "ProxyCommand={} --global-config {place} ssh --stdio --usage-app=vscode \
         --disable-autostart --network-info-dir {place}/info --log-dir {place} \
         --ssh-host-prefix coder-vscode.example.com-- %h",
        crate::support::binary(),
        place = place.path().display()
    );
    let socks = {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("127.0.0.1:{}", free.local_addr().unwrap().port())
    };
    let host = "coder-vscode.example.com--me--dev";
    let mut connections: Vec<_> = (0..3)
        .map(|number| {
            let mut arguments = vec!["-T", "-F", "none", "-o", &proxy];
            for option in openssh_options::OPTIONS {
                arguments.extend(["-o", option]);
            }
            if number == 0 {
                arguments.extend(["-o", "ExitOnForwardFailure=yes", "-D", &socks]);
            }
            arguments.extend([host, "echo up >&2; exec sh -s"]);
            let mut command = server.program("ssh", &arguments);
            command.env_remove("CODER_URL").env_remove("CODER_SESSION_TOKEN");
            Running::start(command.stdin(Stdio::piped()).stdout(Stdio::piped()))
        })
        .collect();
    for connection in &mut connections {
        connection.wait_for("up");
    }
    let url = format!("{}/api/v2/buildinfo", server.url.trim_end_matches('/'));
    let curl = ["-sSf", "--noproxy", "", "--socks5-hostname", &socks, &url];
    let seen = run(&mut server.program("curl", &curl)).ends(0);
    assert!(seen.stdout.contains("version"), "{seen:?}");
    let names: Vec<_> = std::fs::read_dir(place.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    for (number, mut connection) in connections.into_iter().enumerate() {
        let pid = connection.child.id();
        let mut stdin = connection.child.stdin.take().unwrap();
        std::io::Write::write_all(&mut stdin, format!("exit {number}\n").as_bytes()).unwrap();
        let info = place.path().join(format!("info/{pid}.json"));
        crate::support::until("the file of the tunnel", || info.exists().then_some(()));
        let log = |name: &&String| {
            name.starts_with("coder-ssh-") && name.ends_with(&format!("-{pid}.log"))
        };
        assert_eq!(names.iter().filter(log).count(), 1, "{names:?}");
        let (code, said) = connection.finish();
        assert_eq!(code, i32::try_from(number).ok(), "{said}");
    }
}
