//! `ssh`: commands, shells, bytes, statuses, signals, terminals.

use std::process::Stdio;

use ring::digest::{SHA256, digest};
use rustix::process::Signal;

use crate::support::{Never, Server, binary, noise, run};

#[test]
fn a_command_keeps_its_streams_and_its_status_apart() {
    let server = Server::with_dev();
    let line = "echo out; echo err >&2; cat; exit 7";
    let seen = server.feed(&["ssh", "dev", "--", line], b"in\n\x00\xff").ends(7);
    assert_eq!(seen.bytes, b"out\nin\n\x00\xff");
    assert_eq!(seen.stderr, "err\n");
}

#[test]
fn statuses_are_passed_on() {
    let server = Server::with_dev();
    for (line, code) in
        [("true", 0), ("false", 1), ("exit 255", 255), ("nowhere-to-be-found", 127), ("/", 126)]
    {
        server.run(&["ssh", "dev", "--", line]).ends(code);
    }
    // Ended by a signal, as a shell says it.
    server.run(&["ssh", "dev", "--", "kill -KILL $$"]).ends(137);
    server.run(&["ssh", "dev", "--", "kill -TERM $$"]).ends(143);
}

#[test]
fn flags_before_the_first_word_are_ours_and_after_it_the_commands() {
    let server = Server::with_dev();
    let seen = server.run(&["ssh", "dev", "-e", "GREETING=hi", "printenv", "GREETING"]);
    seen.ends(0).prints("hi\n");
    server.run(&["ssh", "dev", "ls", "-d", "/"]).ends(0).prints("/\n");
    server
        .run(&["ssh", "dev", "--", "echo", "one  two", "\"three  four\""])
        .ends(0)
        // Joined by single blanks, and left to the shell there, as OpenSSH does.
        .prints("one two three  four\n");
}

#[test]
fn sixty_four_mebibytes_each_way_arrive_with_equal_hashes() {
    let server = Server::with_dev();
    let data = noise(7, 64 << 20);
    let hash: String =
        digest(&SHA256, &data).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let seen = server.feed(&["ssh", "dev", "--", "sha256sum"], &data).ends(0);
    assert_eq!(seen.stdout, format!("{hash}  -\n"));
    std::fs::write(server.file("dev", "data"), &data).unwrap();
    let seen = server.run(&["ssh", "dev", "--", "cat data"]).ends(0);
    assert!(seen.bytes == data, "{} bytes came", seen.bytes.len());
}

#[test]
fn both_ways_at_once() {
    let server = Server::with_dev();
    let data = noise(8, 8 << 20);
    let seen = server.feed(&["ssh", "dev", "--", "cat"], &data).ends(0);
    assert!(seen.bytes == data, "{} bytes came back", seen.bytes.len());
}

#[test]
fn a_tar_pipe_ends_when_its_input_ends() {
    let server = Server::with_dev();
    let from = tempfile::tempdir().unwrap();
    let data = noise(1, 3_000_001);
    std::fs::write(from.path().join("one"), &data).unwrap();
    std::fs::write(from.path().join("two"), b"").unwrap();
    let source = from.path().to_str().unwrap();
    let archive = run(&mut server.program("tar", &["-c", "-C", source, "."])).ends(0).bytes;
    let line = ["ssh", "dev", "--", "mkdir to && tar x -C to"];
    server.feed(&line, &archive).ends(0);
    assert_eq!(std::fs::read(server.file("dev", "to/one")).unwrap(), data);
    assert!(server.file("dev", "to/two").exists());
}

#[test]
fn output_into_a_closed_pipe_ends_quietly() {
    let server = Server::with_dev();
    let line = "\"$0\" ssh dev -- yes | head -n 1";
    run(&mut server.program("sh", &["-c", line, binary()])).ends(0).prints("y\n").says_nothing();
}

#[test]
fn many_sessions_at_once() {
    let server = Server::with_dev();
    let many: Vec<_> = (0..12)
        .map(|number| server.background(&["ssh", "dev", "--", &format!("exit {number}")]))
        .collect();
    for (number, session) in many.into_iter().enumerate() {
        let (code, said) = session.finish();
        assert_eq!(code, i32::try_from(number).ok(), "{said}");
    }
}

#[test]
fn a_signal_reaches_the_command_and_a_second_one_ends_at_once() {
    let server = Server::with_dev();
    // It ends when it is told to, and says so.
    let patient = "trap 'echo caught >&2; exit 9' TERM; echo set >&2; while read _ || [ $? -gt 128 ]; do :; done";
    let mut command = server.command(&["ssh", "dev", "--", patient]);
    let mut session = crate::support::Running::start(command.stdin(Stdio::piped()));
    session.wait_for("set");
    session.signal(Signal::TERM);
    session.wait_for("caught");
    assert_eq!(session.finish().0, Some(9));

    // It does not.
    let deaf =
        "trap 'echo caught >&2' TERM; echo set >&2; while read _ || [ $? -gt 128 ]; do :; done";
    let mut command = server.command(&["ssh", "dev", "--", deaf]);
    let mut session = crate::support::Running::start(command.stdin(Stdio::piped()));
    session.wait_for("set");
    session.signal(Signal::TERM);
    session.wait_for("caught");
    session.signal(Signal::TERM);
    assert_eq!(session.finish().0, Some(143));
}

#[test]
fn what_is_left_running_does_not_hold_a_session_up() {
    let server = Server::with_dev();
    let never = Never::within(server.home.path());
    let line = format!("cat {never} >/dev/null 2>&1 </dev/null & echo begun");
    server.run(&["ssh", "dev", "--", &line]).ends(0).prints("begun\n");
}

#[test]
fn a_shell_on_a_pipe_has_a_terminal_and_runs_what_it_reads() {
    let server = Server::with_dev();
    let seen = server.feed(&["ssh", "dev"], b"test -t 0 && echo a-$((40+2))-tty\nexit 3\n").ends(3);
    assert!(seen.stdout.contains("a-42-tty"), "{seen:?}");
}

#[test]
fn a_shell_on_a_terminal_is_one() {
    let server = Server::with_dev();
    let mut terminal = server.terminal(&["ssh", "dev"], (30, 100));
    terminal.types("echo size-$(stty size | tr ' ' x)-$TERM\n");
    terminal.wait_for("size-30x100-xterm");
    // Control-C is for what runs there.
    terminal
        .types("sh -c 'trap \"echo caught; exit 5\" INT; echo re\"\"ady; read x'; echo code-$?\n");
    terminal.wait_for("ready");
    terminal.types_until("\x03", "code-5");
    terminal.types("echo still-$((40+2))\n");
    terminal.wait_for("still-42");
    terminal.types("exit 3\n");
    assert_eq!(terminal.finish(), Some(3));
}

#[test]
fn a_window_that_changes_its_size_is_told() {
    let server = Server::with_dev();
    let never = Never::within(server.home.path());
    let line = format!("trap 'stty size; exit 5' WINCH; stty size; cat {never} & wait");
    let mut terminal = server.terminal(&["ssh", "-t", "dev", "--", &line], (24, 80));
    terminal.wait_for("24 80");
    terminal.resize((50, 132));
    terminal.wait_for("50 132");
    assert_eq!(terminal.finish(), Some(5));
}

#[test]
fn a_command_has_a_terminal_only_when_it_is_asked_for() {
    let server = Server::with_dev();
    let line = "test -t 1 && echo terminal || echo none";
    for (flag, expected) in [("-t", "terminal"), ("--wait=auto", "none")] {
        let mut terminal = server.terminal(&["ssh", flag, "dev", "--", line], (24, 80));
        terminal.wait_for(expected);
        assert_eq!(terminal.finish(), Some(0));
    }
}

#[test]
fn what_a_session_runs_in_is_the_workspace_s() {
    let server = Server::empty();
    let text = "[[agents]]\nname = \"main\"\ndirectory = \"project\"\n\
                environment = { GREETING = \"hello $SHELL\" }\n\
                motd = \"motd.txt\"\n[[agents.scripts]]\nname = \"make\"\nblocks_login = true\n\
                run = \"mkdir -p project; echo welcome aboard > $HOME/motd.txt\"";
    server.create("own", text);
    let seen = server.run(&["ssh", "own", "--", "pwd; echo $GREETING; echo $CODER; pwd"]).ends(0);
    let lines: Vec<_> = seen.stdout.lines().collect();
    assert!(lines[0].ends_with("/project"), "{lines:?}");
    assert_eq!(lines[1..3], ["hello /bin/sh", "true"]);
    assert!(!seen.stdout.contains("welcome"), "only shells are welcomed");
    let mut terminal = server.terminal(&["ssh", "own"], (24, 80));
    terminal.wait_for("welcome aboard");
    terminal.types("exit\n");
    assert_eq!(terminal.finish(), Some(0));
}
