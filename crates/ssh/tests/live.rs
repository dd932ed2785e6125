//! Against a real server, through any command that carries SSH bytes on its standard input and
//! output: `CODERCTL_TEST_SSH_STDIO='coder ssh --stdio dev' cargo test -p coderctl-ssh --test live`.
//! Skipped, loudly, without that variable.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "in helpers of tests too")]

mod cat;

use std::process::Stdio;

use cat::there_and_back;
use coderctl_ssh::{
    Exit, Modes, Options, Pty, Request, Session,
    client::{self, Client, Core},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::{Child, Command},
};

/// A connection over the command, and the command, which ends when dropped.
async fn connect(
    change: impl FnOnce(&mut Core),
    options: Options,
) -> Option<(Session, (Client, Child))> {
    let Ok(command) = std::env::var("CODERCTL_TEST_SSH_STDIO") else {
        // Past the capture of passing tests' output.
        let mut stderr = std::io::stderr();
        std::io::Write::write_all(&mut stderr, b"SKIPPED: CODERCTL_TEST_SSH_STDIO is not set\n")
            .unwrap();
        return None;
    };
    let mut child = Command::new("sh")
        .args(["-c", &format!("exec {command}")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let entropy = Box::new(coderctl_ssh::packet::SystemEntropy::default());
    let mut core = Core::client(None, entropy, std::time::Instant::now()).unwrap();
    change(&mut core);
    let client = client::begin_core(tokio::io::join(stdout, stdin), core);
    let session = client.session(options).await.unwrap();
    eprintln!("host key {}", client.fingerprint());
    Some((session, (client, child)))
}

fn exec(command: &str) -> Options {
    Options::new(Request::Exec(command.into()))
}

#[tokio::test]
async fn a_command_has_its_streams_and_status() {
    let options = Options {
        env: vec![("GREETING".into(), "hei hå".into())],
        ..exec("cat; echo $GREETING >&2; exit 7")
    };
    let Some((mut session, (client, _child))) = connect(|_| {}, options).await else { return };
    session.stdin.write_all(b"in\0\xff\r\n").await.unwrap();
    session.stdin.shutdown().await.unwrap();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    session.stdout.read_to_end(&mut out).await.unwrap();
    session.stderr.read_to_end(&mut err).await.unwrap();
    assert_eq!(out, b"in\0\xff\r\n");
    assert_eq!(err, "hei hå\n".as_bytes());
    assert_eq!(session.exit().await, Exit::Status(7));
    client.close().await;
}

#[tokio::test]
async fn a_terminal_has_its_size() {
    let pty = Pty { term: "xterm-256color".into(), cols: 97, rows: 31, modes: Modes::default() };
    let options = Options { pty: Some(pty), ..exec("stty size; echo $TERM; read x; stty size") };
    let Some((mut session, _child)) = connect(|_| {}, options).await else { return };
    let mut out = Vec::new();
    while !out.ends_with(b"xterm-256color\r\n") {
        out.extend_from_slice(&session.stdout.chunk().await.unwrap().unwrap());
    }
    session.control.window_change(61, 17);
    session.stdin.write_all(b"\n").await.unwrap();
    session.stdout.read_to_end(&mut out).await.unwrap();
    let out = String::from_utf8_lossy(&out);
    assert!(out.starts_with("31 97\r\n") && out.ends_with("17 61\r\n"), "{out:?}");
    assert_eq!(session.exit().await, Exit::Status(0));
}

#[tokio::test]
async fn a_signal_reaches_the_command() {
    let options = exec("trap 'exit 42' INT; echo up; while :; do sleep 0.05; done");
    let Some((mut session, _child)) = connect(|_| {}, options).await else { return };
    assert_eq!(&session.stdout.chunk().await.unwrap().unwrap()[..], b"up\n");
    session.control.signal("INT");
    assert_eq!(session.exit().await, Exit::Status(42));
}

/// 64 MiB each way, with keys renewed every 4 MiB.
#[tokio::test]
async fn much_goes_both_ways_across_new_keys() {
    let rekey = |core: &mut Core| core.transport().set_rekey_bytes(4 << 20);
    let Some((session, _child)) = connect(rekey, exec("cat")).await else { return };
    let began = std::time::Instant::now();
    there_and_back(session, 64).await;
    eprintln!("64 MiB there and back in {:?}", began.elapsed());
}

/// What a shell with piped input relies on: a remote terminal knows no other end of input.
#[tokio::test]
async fn a_shell_ends_with_the_end_of_file_key() {
    let pty = Pty { term: "dumb".into(), cols: 80, rows: 24, modes: Modes::default().with(5, 4) };
    let options = Options { pty: Some(pty), ..Options::new(Request::Shell) };
    let Some((mut session, _child)) = connect(|_| {}, options).await else { return };
    session.stdin.write_all(b"echo $((6*7))\n").await.unwrap();
    let mut out = String::new();
    while !out.contains("\n42\r\n") && !out.contains("\r42\r\n") {
        out += &String::from_utf8_lossy(&session.stdout.chunk().await.unwrap().unwrap());
    }
    // One that comes while the shell still sets up its terminal is lost: so there is one more for
    // all that it says meanwhile, up to its prompt.
    let keys = async {
        loop {
            // A shell that has ended takes none.
            let _ = session.stdin.write_all(b"\x04").await;
            if session.stdout.chunk().await.unwrap().is_none() {
                return;
            }
        }
    };
    let (exit, ()) = tokio::join!(session.control.exit(), keys);
    assert_eq!(exit, Exit::Status(0));
}
