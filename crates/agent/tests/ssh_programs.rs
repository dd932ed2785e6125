//! The programs that people use: OpenSSH's ssh, scp and sftp, rsync and git over it, against a
//! server on loopback. Skipped, loudly, where a program is missing.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "in helpers of tests too")]

mod ssh_common;

use std::{
    path::Path,
    process::{Output, Stdio},
};

use coderctl_agent::ssh::Blocks;
use ssh_common::{Agent, until, within};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    process::{Child, Command},
};

/// What every program gets: nothing of the user's configuration, no questions.
const OPTIONS: [&str; 12] = [
    "-F",
    "none",
    "-o",
    "StrictHostKeyChecking=no",
    "-o",
    "UserKnownHostsFile=/dev/null",
    "-o",
    "LogLevel=ERROR",
    "-o",
    "BatchMode=yes",
    "-o",
    "ExitOnForwardFailure=yes",
];

/// Whether these programs are here; says so past the capture of passing tests' output if not.
fn have(programs: &[&str]) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let missing = programs.iter().find(|program| {
        !std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
    });
    if let Some(program) = missing {
        let text = format!("SKIPPED: {program} is not installed\n");
        std::io::Write::write_all(&mut std::io::stderr(), text.as_bytes()).unwrap();
    }
    missing.is_none()
}

/// An agent, and where it listens.
struct Host {
    agent: Agent,
    port: u16,
}

impl Host {
    async fn new(agent: Agent) -> Self {
        let port = agent.listen().await;
        Self { agent, port }
    }

    /// `ssh` with these options before the host's name and these words after it.
    fn ssh(&self, options: &[&str], words: &[&str]) -> Command {
        let mut command = Command::new("ssh");
        command.args(OPTIONS).args(["-p", &self.port.to_string()]).args(options);
        command.arg("localhost").args(words).stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// The same in one word, for programs that start it themselves.
    fn ssh_word(&self) -> String {
        format!("ssh {} -p {}", OPTIONS.join(" "), self.port)
    }

    /// `scp` or `sftp` with these words.
    async fn copy(&self, program: &str, words: &[&str]) -> Output {
        let mut command = Command::new(program);
        command.args(OPTIONS).args(["-P", &self.port.to_string()]).args(words);
        within(command.stdin(Stdio::null()).output()).await.unwrap()
    }
}

fn succeeded(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}: {}", output.status, text(&output.stderr));
    text(&output.stdout)
}

/// Waits for a line of a child's output.
async fn line(child: &mut Child) -> String {
    let mut lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    within(lines.next_line()).await.unwrap().expect("a line")
}

fn block(length: usize) -> Vec<u8> {
    (0..length as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

#[tokio::test]
async fn ssh_has_streams_statuses_and_a_terminal() {
    if !have(&["ssh"]) {
        return;
    }
    let host = Host::new(Agent::new()).await;
    let output = within(host.ssh(&[], &["echo out; echo err >&2; exit 7"]).output()).await.unwrap();
    assert_eq!(output.status.code(), Some(7));
    assert_eq!((&output.stdout[..], &output.stderr[..]), (&b"out\n"[..], &b"err\n"[..]));
    let output = within(host.ssh(&["-tt"], &["tty && exit 3"]).output()).await.unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(output.stdout.starts_with(b"/dev/"), "{output:?}");
    // OpenSSH makes 255 of a program that was killed.
    let output = within(host.ssh(&[], &["kill -TERM $$"]).output()).await.unwrap();
    assert_eq!(output.status.code(), Some(255));
    let mut command = host.ssh(&["-o", "SetEnv=A=1 B=2"], &["echo $A$B"]);
    assert_eq!(succeeded(&within(command.output()).await.unwrap()), "12\n");
    // Input that ends, output after it.
    let mut child =
        host.ssh(&[], &["wc -c"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&block(300_000)).await.unwrap();
    let output = within(child.wait_with_output()).await.unwrap();
    assert_eq!(succeeded(&output).trim(), "300000");
}

/// Several sessions over one connection, one of them much longer than the others.
#[tokio::test]
async fn ssh_shares_a_connection() {
    if !have(&["ssh"]) {
        return;
    }
    let host = Host::new(Agent::new()).await;
    let socket = host.agent.path("control");
    let control = format!("ControlPath={}", socket.display());
    let options = ["-o", &control];
    let mut master = host.ssh(&["-M", "-N", "-o", &control], &[]).spawn().unwrap();
    until("the master listens", || socket.exists()).await;
    let mut long = host.ssh(&options, &["cat"]).stdin(Stdio::piped()).spawn().unwrap();
    for status in 0..5 {
        let words = format!("exit {status}");
        let mut command = host.ssh(&options, &[&words]);
        assert_eq!(within(command.status()).await.unwrap().code(), Some(status));
    }
    drop(long.stdin.take());
    assert_eq!(within(long.wait()).await.unwrap().code(), Some(0));
    within(master.kill()).await.unwrap();
}

#[tokio::test]
async fn ssh_renews_keys_under_every_cipher() {
    if !have(&["ssh"]) {
        return;
    }
    let host = Host::new(Agent::new()).await;
    let sent = block(8 << 20);
    for cipher in
        ["aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com"]
    {
        let mut child = host
            .ssh(&["-c", cipher, "-o", "RekeyLimit=1M"], &["cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut back = Vec::new();
        let both = async {
            tokio::join!(
                async {
                    stdin.write_all(&sent).await.unwrap();
                    drop(stdin);
                },
                stdout.read_to_end(&mut back)
            )
        };
        within(both).await.1.unwrap();
        assert!(back == sent, "{cipher}");
        assert!(within(child.wait()).await.unwrap().success());
    }
}

/// Echoes one connection, saying the end of what it read before it ends.
async fn echo(mut stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin) {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    stream.write_all(&bytes).await.unwrap();
    stream.write_all(b"|end").await.unwrap();
    stream.shutdown().await.unwrap();
}

/// Echoes every connection to the port that is returned.
async fn echo_on_tcp() -> u16 {
    let target = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = target.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            tokio::spawn(echo(target.accept().await.unwrap().0));
        }
    });
    port
}

/// Says something, ends that direction, and reads what comes back.
async fn ask(mut stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin) {
    let sent = block(200_000);
    let mut back = Vec::new();
    let (mut read, mut write) = tokio::io::split(&mut stream);
    let both = async {
        tokio::join!(
            async {
                write.write_all(&sent).await.unwrap();
                write.shutdown().await.unwrap();
            },
            read.read_to_end(&mut back)
        )
    };
    within(both).await.1.unwrap();
    assert!(back.starts_with(&sent) && back.ends_with(b"|end"), "{}", back.len());
}

/// Connects as soon as somebody listens.
async fn connect_unix(path: &Path) -> UnixStream {
    let connect = async {
        loop {
            match UnixStream::connect(path).await {
                Ok(stream) => return stream,
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
            }
        }
    };
    within(connect).await
}

/// `TCPLocalForwarding`, `UnixLocalForwarding`: and either end of a connection by itself.
#[tokio::test]
async fn ssh_forwards_from_here() {
    if !have(&["ssh"]) {
        return;
    }
    let host = Host::new(Agent::new()).await;
    let port = echo_on_tcp().await;
    let socket = host.agent.path("target.sock");
    let target = UnixListener::bind(&socket).unwrap();
    tokio::spawn(async move {
        loop {
            tokio::spawn(echo(target.accept().await.unwrap().0));
        }
    });
    let (tcp, unix) = (host.agent.path("tcp"), host.agent.path("unix"));
    let forwards = [
        format!("{}:localhost:{port}", tcp.display()),
        format!("{}:{}", unix.display(), socket.display()),
    ];
    let _ssh = host.ssh(&["-N", "-L", &forwards[0], "-L", &forwards[1]], &[]).spawn().unwrap();
    for path in [&tcp, &unix] {
        tokio::join!(
            async { ask(connect_unix(path).await).await },
            async { ask(connect_unix(path).await).await },
            async { ask(connect_unix(path).await).await }
        );
    }
    // -W: the connection is standard input and output.
    let mut child = host
        .ssh(&["-W", &format!("localhost:{port}")], &[])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"hello").await.unwrap();
    assert_eq!(succeeded(&within(child.wait_with_output()).await.unwrap()), "hello|end");
    // Where nobody listens.
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let refused = host.ssh(&["-W", &format!("localhost:{port}")], &[]).output();
    assert_eq!(within(refused).await.unwrap().status.code(), Some(255));
}

/// `TCPRemoteForwarding`, `UnixRemoteForwarding`
#[tokio::test]
async fn ssh_forwards_to_here() {
    if !have(&["ssh"]) {
        return;
    }
    let host = Host::new(Agent::new()).await;
    let port = echo_on_tcp().await;
    // The server's choice of a port; ssh says which.
    let forward = format!("0:localhost:{port}");
    let options = ["-v", "-o", "LogLevel=VERBOSE", "-N", "-R", &forward];
    let mut ssh = host.ssh(&options, &[]).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(ssh.stderr.take().unwrap()).lines();
    let bound: u16 = loop {
        let line = within(lines.next_line()).await.unwrap().expect("the port");
        if let Some(rest) = line.strip_prefix("Allocated port ") {
            break rest.split(' ').next().unwrap().parse().unwrap();
        }
    };
    ask(TcpStream::connect(("127.0.0.1", bound)).await.unwrap()).await;
    within(ssh.kill()).await.unwrap();
    // The listener goes with its client.
    let mut gone = false;
    while !gone {
        gone = TcpStream::connect(("127.0.0.1", bound)).await.is_err();
    }
    let socket = host.agent.path("new/remote.sock");
    let forward = format!("{}:localhost:{port}", socket.display());
    let mut ssh = host.ssh(&["-N", "-R", &forward], &[]).spawn().unwrap();
    ask(connect_unix(&socket).await).await;
    within(ssh.kill()).await.unwrap();
    until("the socket is removed", || !socket.exists()).await;
}

/// The four `*Blocked` tests, and that one block does not affect the other.
#[tokio::test]
async fn forwards_can_be_forbidden() {
    if !have(&["ssh"]) {
        return;
    }
    for (local, reverse) in [(true, false), (false, true)] {
        let blocks =
            Blocks { local_forwarding: local, reverse_forwarding: reverse, ..Blocks::default() };
        let host = Host::new(Agent::blocking(blocks)).await;
        let port = echo_on_tcp().await;
        let socket = host.agent.path("target.sock");
        let unix = UnixListener::bind(&socket).unwrap();
        tokio::spawn(async move { echo(unix.accept().await.unwrap().0).await });

        let words = format!("localhost:{port}");
        let direct = within(host.ssh(&["-W", &words], &[]).output()).await.unwrap();
        assert_eq!(direct.status.success(), !local);
        let near = host.agent.path("near.sock");
        let forward = format!("{}:{}", near.display(), socket.display());
        let ssh = host.ssh(&["-N", "-L", &forward], &[]).spawn().unwrap();
        let mut stream = connect_unix(&near).await;
        stream.shutdown().await.unwrap();
        let mut text = String::new();
        within(stream.read_to_string(&mut text)).await.unwrap();
        assert_eq!(text, if local { "" } else { "|end" });
        drop(ssh);

        for forward in [
            format!("0:localhost:{port}"),
            format!("{}:localhost:{port}", host.agent.path("far.sock").display()),
        ] {
            let reversed = within(host.ssh(&["-R", &forward], &["true"]).status()).await.unwrap();
            assert_eq!(reversed.success(), !reverse, "{forward}");
        }
    }
}

#[tokio::test]
async fn scp_and_sftp_carry_files() {
    if !have(&["scp", "sftp"]) {
        return;
    }
    let host = Host::new(Agent::new()).await;
    let here = tempfile::tempdir().unwrap();
    let big = block(3_000_001);
    std::fs::create_dir_all(here.path().join("tree/deep")).unwrap();
    std::fs::write(here.path().join("tree/big"), &big).unwrap();
    std::fs::write(here.path().join("tree/deep/small file"), "small").unwrap();
    let tree = here.path().join("tree").display().to_string();
    // By sftp, and by the old protocol, which runs scp on the other side.
    for (name, old) in [("new", &[][..]), ("old", &["-O"])] {
        let there = format!("localhost:{name}");
        let words = [old, &["-r", "-p", &tree, &there]].concat();
        succeeded(&host.copy("scp", &words).await);
        assert!(std::fs::read(host.agent.path(name).join("big")).unwrap() == big);
        let back = here.path().join(name).display().to_string();
        let words = [old, &["-r", &there, &back]].concat();
        succeeded(&host.copy("scp", &words).await);
        assert!(std::fs::read(here.path().join(name).join("big")).unwrap() == big);
        let small = std::fs::read(here.path().join(name).join("deep/small file"));
        assert_eq!(small.unwrap(), b"small");
    }
    let batch = here.path().join("batch");
    std::fs::write(
        &batch,
        format!(
            "pwd\nmkdir made\ncd made\nput {tree}/big there\nchmod 600 there\nls -l\n\
             rename there moved\nsymlink moved link\nln moved hard\nls -la ..\ndf .\n\
             get link {tree}/link\nrm hard\n-rm missing\nbye\n"
        ),
    )
    .unwrap();
    let batch = batch.display().to_string();
    let text = succeeded(&host.copy("sftp", &["-b", &batch, "localhost"]).await);
    let home = host.agent.home.path().canonicalize().unwrap();
    assert!(text.contains(&format!("Remote working directory: {}", home.display())), "{text}");
    assert!(text.lines().any(|line| line.starts_with("-rw-------") && line.ends_with("there")));
    assert!(std::fs::read(here.path().join("tree/link")).unwrap() == big);
    assert!(host.agent.path("made/moved").exists() && !host.agent.path("made/hard").exists());
}

#[tokio::test]
async fn rsync_and_git_work_over_it() {
    if !have(&["ssh", "rsync", "git"]) {
        return;
    }
    let host = Host::new(Agent::new()).await;
    let here = tempfile::tempdir().unwrap();
    let big = block(1_000_000);
    std::fs::create_dir(here.path().join("tree")).unwrap();
    std::fs::write(here.path().join("tree/big"), &big).unwrap();
    let mut command = Command::new("rsync");
    command.args(["-a", "-e", &host.ssh_word()]).arg(here.path().join("tree"));
    succeeded(&within(command.arg("localhost:").output()).await.unwrap());
    assert!(std::fs::read(host.agent.path("tree/big")).unwrap() == big);

    let git = |words: &[&str]| {
        let mut command = Command::new("git");
        command.args(["-c", "user.name=me", "-c", "user.email=me@example.test"]);
        command.args(words).env("GIT_SSH_COMMAND", host.ssh_word());
        command.env("GIT_CONFIG_GLOBAL", "/dev/null").current_dir(here.path());
        command
    };
    let bare = host.agent.path("repository.git").display().to_string();
    let there = format!("ssh://localhost{bare}");
    for words in [
        &["init", "-q", "--bare", &bare][..],
        &["clone", "-q", &there, "copy"],
        &["-C", "copy", "commit", "-q", "--allow-empty", "-m", "first"],
        &["-C", "copy", "push", "-q", "origin", "HEAD:refs/heads/main"],
        &["clone", "-q", "-b", "main", &there, "second"],
    ] {
        succeeded(&within(git(words).output()).await.unwrap());
    }
}

#[tokio::test]
async fn the_authentication_agent_is_forwarded() {
    if !have(&["ssh", "ssh-agent", "ssh-add", "ssh-keygen"]) {
        return;
    }
    let host = Host::new(Agent::new()).await;
    let here = tempfile::tempdir().unwrap();
    let socket = here.path().join("agent.sock");
    let _agent = Command::new("ssh-agent")
        .args(["-D", "-a"])
        .arg(&socket)
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    until("the agent listens", || socket.exists()).await;
    let key = here.path().join("key");
    let mut command = Command::new("ssh-keygen");
    command.args(["-q", "-t", "ed25519", "-N", "", "-C", "the comment", "-f"]).arg(&key);
    succeeded(&within(command.output()).await.unwrap());
    let mut command = Command::new("ssh-add");
    succeeded(&within(command.arg(&key).env("SSH_AUTH_SOCK", &socket).output()).await.unwrap());

    let mut command = host.ssh(&["-A"], &["ssh-add -l; ls -ld $(dirname $SSH_AUTH_SOCK)"]);
    let text = succeeded(&within(command.env("SSH_AUTH_SOCK", &socket).output()).await.unwrap());
    assert!(text.contains("the comment") && text.contains("\ndrwx------"), "{text}");
    // Its socket goes with the session.
    let mut command = host.ssh(&["-A"], &["echo $SSH_AUTH_SOCK"]);
    let text = succeeded(&within(command.env("SSH_AUTH_SOCK", &socket).output()).await.unwrap());
    let path = Path::new(text.trim()).to_path_buf();
    assert!(path.is_absolute(), "{text}");
    until("the socket is removed", || !path.exists()).await;
    let mut command = host.ssh(&["-a"], &["echo [$SSH_AUTH_SOCK]"]);
    command.env("SSH_AUTH_SOCK", &socket);
    let text = succeeded(&within(command.output()).await.unwrap());
    assert!(!text.contains("auth-agent"), "{text}");
}

/// A client that is cut off in the middle: its shell ends.
#[tokio::test]
async fn a_killed_client_takes_its_terminal_along() {
    if !have(&["ssh"]) {
        return;
    }
    let host = Host::new(Agent::new()).await;
    let mut ssh =
        host.ssh(&["-tt"], &["echo $$; sleep 1000"]).stdout(Stdio::piped()).spawn().unwrap();
    let pid = line(&mut ssh).await;
    assert!(ssh_common::is_alive(&pid));
    within(ssh.kill()).await.unwrap();
    until("the program ends", || !ssh_common::is_alive(&pid)).await;
}
