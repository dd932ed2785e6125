//! The server's pure core: what it answers, in how many writes, and hostile input.

#![allow(clippy::unwrap_used, reason = "in helpers of tests too")]

mod raw;

use std::time::{Duration, Instant};

use bytes::BytesMut;
use coderctl_ssh::{
    Error, Exit, Modes, Options, Pty, Request,
    algorithms::{Lists, STRICT_CLIENT},
    channel::Source,
    message as m,
    packet::{SystemEntropy, Writer},
    server::{
        Answer, Config, Core, Event, Global, LIMIT, Listen, Outgoing, Program, Reason, WINDOW,
    },
};
use proptest::prelude::*;
use raw::{Message, Pure, config, core, data, global, login, numbers, open_direct, open_session};
use raw::{request, service};

fn logged_in() -> (Pure, Core) {
    let (mut client, mut core) = (Pure::new(), core(config()));
    client.log_in(&mut core);
    (client, core)
}

fn events(core: &mut Core) -> Vec<Event> {
    std::iter::from_fn(|| core.poll_event()).collect()
}

fn first_bytes(said: &[BytesMut]) -> Vec<u8> {
    said.iter().map(|message| message[0]).collect()
}

/// Two round trips from the first byte to a running command, as our own client counts on.
#[test]
fn everything_that_came_together_is_answered_together() {
    let pty = Pty { term: "dumb".into(), cols: 80, rows: 24, modes: Modes::default().with(53, 1) };
    let options = Options {
        env: vec![("A".into(), "1".into())],
        pty: Some(pty.clone()),
        ..Options::new(Request::Exec("run".into()))
    };
    let now = Instant::now();
    let mut client = Core::client(None, Box::new(SystemEntropy::default()), now).unwrap();
    client.session(options).unwrap();
    let mut core = core(config());
    core.handle_input(&mut client.output().split(), now).unwrap();
    client.handle_input(&mut core.output().split(), now).unwrap();
    assert_eq!(client.poll_event(), None);
    core.handle_input(&mut client.output().split(), now).unwrap();
    client.handle_input(&mut core.output().split(), now).unwrap();
    assert_eq!(events(&mut client), [Event::LoggedIn, Event::Started(0)]);
    let Some(Event::Session(0, start)) = core.poll_event() else { panic!("no session") };
    assert_eq!(start.env, [(b"A".to_vec(), b"1".to_vec())]);
    assert_eq!(start.pty, Some(pty));
    assert_eq!(start.program, Program::Exec(b"run".to_vec()));
    // And the end is one more write.
    core.send_data(0, Source::Stdout, b"out").unwrap();
    core.finish(0, &Exit::Status(3)).unwrap();
    client.handle_input(&mut core.output().split(), now).unwrap();
    let rest = [
        Event::Data(0, Source::Stdout, "out".into()),
        Event::Eof(0),
        Event::Exited(0, Exit::Status(3)),
        Event::Closed(0),
    ];
    assert_eq!(events(&mut client), rest);
    client.disconnect(11, "").unwrap();
    let left = core.handle_input(&mut client.output().split(), now);
    assert!(matches!(left, Err(Error::Disconnected { reason: 11, .. })), "{left:?}");
}

#[test]
fn only_the_method_none_is_let_in() {
    let (mut client, mut core) = (Pure::new(), core(config()));
    client.exchange(&mut core).unwrap();
    client.say(&service());
    client.say(&login("password").flag(false).string("secret"));
    client.say(&login("none"));
    client.say(&login("none"));
    let said = client.exchange(&mut core).unwrap();
    let expected = [m::SERVICE_ACCEPT, m::USERAUTH_FAILURE, m::USERAUTH_SUCCESS];
    assert_eq!(first_bytes(&said), expected, "what follows the success is ignored");

    let (mut client, mut core) = (Pure::new(), raw::core(config()));
    client.exchange(&mut core).unwrap();
    client.say(&service());
    for _ in 0..6 {
        client.say(&login("publickey"));
    }
    let end = client.exchange(&mut core).unwrap_err();
    assert!(matches!(end, Error::Disconnected { reason: 14, .. }), "{end}");
    assert!(core.is_closed());

    let (mut client, mut core) = (Pure::new(), raw::core(config()));
    client.exchange(&mut core).unwrap();
    client.say(&Message::new(m::SERVICE_REQUEST).string("ssh-connection"));
    let end = client.exchange(&mut core).unwrap_err();
    assert!(matches!(end, Error::Disconnected { reason: 7, .. }), "{end}");

    let (mut client, mut core) = (Pure::new(), raw::core(config()));
    client.exchange(&mut core).unwrap();
    client.say(&open_session(0));
    let end = client.exchange(&mut core).unwrap_err();
    let during = "before it was logged in";
    assert_eq!(end, Error::Unexpected { message: m::CHANNEL_OPEN, during });
}

#[test]
fn unknown_things_are_refused_and_the_connection_goes_on() {
    let (mut client, mut core) = logged_in();
    client.say(&global("keepalive@openssh.com", true));
    client.say(&global("no-more-sessions@openssh.com", false));
    client.say(&Message::new(m::CHANNEL_OPEN).string("tun").number(4).number(1).number(1));
    client.say(&Message::new(192).string("what"));
    client.say(&open_session(7));
    client.say(&request(0, "eow@openssh.com", false));
    client.say(&request(0, "frobnicate", true));
    client.say(&request(0, "keepalive@openssh.com", true));
    client.say(&request(0, "subsystem", true).string("netconf"));
    client.say(&request(0, "exec", true).string("run"));
    client.say(&request(0, "exec", true).string("again"));
    let said = client.exchange(&mut core).unwrap();
    assert_eq!(
        first_bytes(&said),
        [
            m::REQUEST_FAILURE,
            m::CHANNEL_OPEN_FAILURE,
            m::UNIMPLEMENTED,
            m::CHANNEL_OPEN_CONFIRMATION,
            m::CHANNEL_FAILURE,
            m::CHANNEL_SUCCESS,
            m::CHANNEL_FAILURE,
            m::CHANNEL_SUCCESS,
            m::CHANNEL_FAILURE,
        ]
    );
    assert_eq!(numbers(&said[1]), [4, 3], "unknown channel type");
    assert_eq!(numbers(&said[3]), [7, 0, WINDOW, 32768]);
    assert!(matches!(events(&mut core)[..], [Event::Session(0, _)]));
}

#[test]
fn answers_about_listeners_keep_their_order() {
    let (mut client, mut core) = logged_in();
    client.say(&global("tcpip-forward", true).string("localhost").number(0));
    client.say(&global("keepalive@openssh.com", true));
    client.say(&global("tcpip-forward", false).string("").number(80));
    client.say(&global("streamlocal-forward@openssh.com", true).string("/s"));
    assert!(client.exchange(&mut core).unwrap().is_empty(), "all wait for the first");
    let tcp = |address: &str, port| Listen::Tcp { address: address.into(), port };
    assert_eq!(
        events(&mut core),
        [
            Event::Global(0, Global::Listen(tcp("localhost", 0))),
            Event::Global(2, Global::Listen(tcp("", 80))),
            Event::Global(3, Global::Listen(Listen::Unix { path: b"/s".to_vec() })),
        ]
    );
    core.answer(3, Answer::Granted(None)).unwrap();
    core.answer(2, Answer::Granted(Some(80))).unwrap();
    assert!(client.exchange(&mut core).unwrap().is_empty());
    core.answer(0, Answer::Granted(Some(4321))).unwrap();
    core.answer(0, Answer::Refused).unwrap();
    let said = client.exchange(&mut core).unwrap();
    let expected = [m::REQUEST_SUCCESS, m::REQUEST_FAILURE, m::REQUEST_SUCCESS];
    assert_eq!(first_bytes(&said), expected, "one wanted no answer");
    assert_eq!(numbers(&said[0]), [4321]);
    // A flood of them that nobody answers ends the connection.
    for _ in 0..300 {
        client.say(&global("tcpip-forward", true).string("").number(0));
    }
    assert!(matches!(client.exchange(&mut core), Err(Error::TooLong { .. })));
}

#[test]
fn numbers_are_used_again_when_nobody_needs_them() {
    let (mut client, mut core) = logged_in();
    for number in 0..LIMIT as u32 + 1 {
        client.say(&open_direct(number, "host", 1 << 20));
    }
    let said = client.exchange(&mut core).unwrap();
    assert_eq!(first_bytes(&said), [m::CHANNEL_OPEN_FAILURE]);
    assert_eq!(numbers(&said[0]), [LIMIT as u32, 4], "resource shortage");
    assert_eq!(core.open(&Outgoing::Agent).unwrap(), None, "for neither side");
    assert_eq!(events(&mut core).len(), LIMIT);

    core.refuse(5, Reason::ConnectFailed, "no such host").unwrap();
    core.accept(6).unwrap();
    core.accept(7).unwrap();
    let said = client.exchange(&mut core).unwrap();
    let confirmed = m::CHANNEL_OPEN_CONFIRMATION;
    assert_eq!(first_bytes(&said), [m::CHANNEL_OPEN_FAILURE, confirmed, confirmed]);
    // Refused, but our side may still speak of it.
    assert_eq!(core.open(&Outgoing::Agent).unwrap(), None);
    core.release(5).unwrap();
    assert_eq!(core.open(&Outgoing::Agent).unwrap(), Some(5));
    // Closed by our side alone.
    core.release(6).unwrap();
    assert_eq!(core.open(&Outgoing::Agent).unwrap(), None);
    client.say(&Message::new(m::CHANNEL_CLOSE).number(6));
    // Closed by both sides, but ours may still speak of it.
    client.say(&Message::new(m::CHANNEL_CLOSE).number(7));
    client.exchange(&mut core).unwrap();
    assert_eq!(core.open(&Outgoing::Agent).unwrap(), Some(6));
    assert_eq!(core.open(&Outgoing::Agent).unwrap(), None);
    assert!(core.is_shut(7));
    core.release(7).unwrap();
    assert_eq!(core.open(&Outgoing::Agent).unwrap(), Some(7));
}

#[test]
fn a_session_that_never_starts_leaves_nothing() {
    let (mut client, mut core) = logged_in();
    for round in 0..3 {
        client.say(&open_session(round));
        client.say(&data(0, b"early"));
        client.say(&Message::new(m::CHANNEL_CLOSE).number(0));
        let said = client.exchange(&mut core).unwrap();
        assert_eq!(first_bytes(&said), [m::CHANNEL_OPEN_CONFIRMATION, m::CHANNEL_CLOSE]);
        assert_eq!(numbers::<2>(&said[0]), [round, 0]);
        let Some(Event::Data(0, ..)) = core.poll_event() else { panic!("what came early") };
        assert_eq!(events(&mut core), [Event::Gone(0)]);
    }
}

#[test]
fn a_channel_that_nobody_waits_for_any_more_is_closed() {
    let (mut client, mut core) = logged_in();
    assert_eq!(core.open(&Outgoing::Agent).unwrap(), Some(0));
    assert_eq!(first_bytes(&client.exchange(&mut core).unwrap()), [m::CHANNEL_OPEN]);
    core.release(0).unwrap();
    let confirm = Message::new(m::CHANNEL_OPEN_CONFIRMATION).number(0).number(9);
    client.say(&confirm.number(1000).number(1000));
    let said = client.exchange(&mut core).unwrap();
    assert_eq!(first_bytes(&said), [m::CHANNEL_CLOSE]);
    assert_eq!(numbers(&said[0]), [9]);
    client.say(&Message::new(m::CHANNEL_CLOSE).number(0));
    client.exchange(&mut core).unwrap();
    assert_eq!(events(&mut core), []);
    assert_eq!(core.open(&Outgoing::Agent).unwrap(), Some(0));
}

#[test]
fn more_than_the_window_is_an_error() {
    let (mut client, mut core) = logged_in();
    client.say(&open_direct(0, "host", 10));
    client.exchange(&mut core).unwrap();
    core.accept(0).unwrap();
    client.exchange(&mut core).unwrap();
    let block = vec![1; 1 << 15];
    for _ in 0..WINDOW >> 15 {
        client.say(&data(0, &block));
    }
    client.exchange(&mut core).unwrap();
    assert_eq!(core.send_data(0, Source::Stdout, b"more than ten bytes").unwrap(), 10);
    assert!(core.is_exhausted(0));
    client.say(&data(0, b"x"));
    assert_eq!(client.exchange(&mut core).unwrap_err(), Error::Window);
}

#[test]
fn a_client_that_is_silent_is_asked_and_then_given_up() {
    let begun = Instant::now();
    let interval = Duration::from_secs(10);
    let config = Config { keep_alive: Some(interval), ..config() };
    let (mut client, mut core) = (Pure::new(), core(config));
    assert!(core.poll_timeout().unwrap() > begun + Duration::from_secs(60), "time to log in");
    client.log_in(&mut core);
    let mut asked = 0;
    // It answers, so all is well.
    for _ in 0..10 {
        let due = core.poll_timeout().unwrap();
        core.handle_timeout(due).unwrap();
        for message in client.exchange(&mut core).unwrap() {
            assert_eq!(message[0], m::GLOBAL_REQUEST);
            asked += 1;
            client.say(&Message::new(m::REQUEST_FAILURE));
        }
        client.exchange(&mut core).unwrap();
    }
    assert_eq!(asked, 5, "after every silence");
    let mut silences = 0;
    let end = loop {
        let due = core.poll_timeout().unwrap();
        match core.handle_timeout(due) {
            Ok(()) => silences += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(end, Error::Silent(_)), "{end}");
    assert_eq!(silences, 4, "one that began with an answer, three questions");
}

#[test]
fn a_login_has_its_time() {
    let mut core = core(config());
    let due = core.poll_timeout().unwrap();
    assert_eq!(core.handle_timeout(due), Err(Error::Silent("to log in")));
}

#[test]
fn keys_are_renewed_by_either_side_in_the_middle_of_everything() {
    let (mut client, mut core) = logged_in();
    client.say(&open_direct(0, "host", u32::MAX));
    client.exchange(&mut core).unwrap();
    core.accept(0).unwrap();
    client.transport.set_rekey_bytes(100_000);
    core.transport().set_rekey_bytes(70_000);
    let mut received = 0;
    for round in 0..100u8 {
        client.say(&data(0, &[round; 3000]));
        while core.send_data(0, Source::Stdout, &[round; 5000]).unwrap() == 0 {
            received += client.exchange(&mut core).unwrap().len();
        }
        if round % 3 == 0 {
            received += client.exchange(&mut core).unwrap().len();
        }
        for event in events(&mut core) {
            if let Event::Data(0, _, data) = event {
                core.consumed(0, data.len()).unwrap();
            }
        }
    }
    received += client.exchange(&mut core).unwrap().len();
    assert_eq!(received, 100 + 1, "every piece, and the confirmation");
}

/// What a client of the strict exchange may not do (OpenSSH PROTOCOL section 1.10).
#[test]
fn nothing_slips_in_before_the_keys() {
    let lists = Lists::client();
    assert!(lists.names(STRICT_CLIENT));
    for (before, after) in [(true, false), (false, true)] {
        let mut writer = Writer::new();
        let mut input = BytesMut::from(&b"SSH-2.0-x\r\n"[..]);
        let mut say = |payload: &[u8]| {
            writer.write(&mut SystemEntropy::default(), &[payload], &mut input).unwrap();
        };
        let ignore = Message::new(m::IGNORE).string("x").0;
        if before {
            say(&ignore);
        }
        say(&lists.encode([3; 16]));
        if after {
            say(&ignore);
        }
        let end = core(config()).handle_input(&mut input, Instant::now()).unwrap_err();
        assert!(matches!(end, Error::Unexpected { .. }), "{end}");
    }
}

#[test]
fn a_wrong_guess_of_the_client_is_ignored() {
    let lists = Lists {
        kex: format!("ecdh-sha2-nistp256,{}", Lists::client().kex),
        follows: true,
        ..Lists::client()
    };
    let mut writer = Writer::new();
    let mut input = BytesMut::from(&b"SSH-2.0-x\r\n"[..]);
    let mut say = |payload: &[u8]| {
        writer.write(&mut SystemEntropy::default(), &[payload], &mut input).unwrap();
    };
    say(&lists.encode([3; 16]));
    say(&Message::new(m::KEX_ECDH_INIT).string([4; 65]).0);
    say(&Message::new(m::KEX_ECDH_INIT).string([9; 32]).0);
    let mut core = core(config());
    core.output().clear();
    core.handle_input(&mut input, Instant::now()).unwrap();
    // The reply and NEWKEYS are in the clear, EXT_INFO is not.
    assert!(core.output().len() > 200, "{}", core.output().len());
    // Without a guess, that share is a wrong one.
    let mut writer = Writer::new();
    let mut input = BytesMut::from(&b"SSH-2.0-x\r\n"[..]);
    for payload in [
        Lists { follows: false, ..lists }.encode([3; 16]),
        Message::new(m::KEX_ECDH_INIT).string([4; 65]).0,
    ] {
        writer.write(&mut SystemEntropy::default(), &[&payload], &mut input).unwrap();
    }
    let end = raw::core(config()).handle_input(&mut input, Instant::now()).unwrap_err();
    assert_eq!(end, Error::Malformed("key exchange share"));
}

/// Any message of this number, about channels that exist and others.
fn any_message() -> impl Strategy<Value = Message> {
    let names = prop::sample::select(vec![
        "session",
        "direct-tcpip",
        "direct-streamlocal@openssh.com",
        "tcpip-forward",
        "cancel-streamlocal-forward@openssh.com",
        "env",
        "pty-req",
        "exec",
        "shell",
        "subsystem",
        "signal",
        "window-change",
        "x11-req",
        "",
    ]);
    let tail = prop::collection::vec(any::<u8>(), 0..60);
    (0u8..110, 0u32..4, names, any::<bool>(), 0u8..4, tail).prop_map(
        |(number, channel, name, answer, form, tail)| {
            let mut message = Message::new(number);
            match form {
                0 => {}
                1 => message = message.number(channel),
                2 => message = message.number(channel).string(name).flag(answer),
                _ => message = message.string(name).flag(answer),
            }
            message.0.extend_from_slice(&tail);
            message
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn hostile_bytes_end_in_an_error_or_wait(
        bytes in prop::collection::vec(any::<u8>(), 0..3000),
        version in any::<bool>(),
    ) {
        let mut input = BytesMut::new();
        if version {
            input.extend_from_slice(b"SSH-2.0-x\r\n");
        }
        input.extend_from_slice(&bytes);
        let _ = core(config()).handle_input(&mut input, Instant::now());
    }

    /// Any messages under keys, and everything that can be done about what they come to.
    #[test]
    fn hostile_messages_end_in_an_error_or_nothing(
        messages in prop::collection::vec(any_message(), 1..30),
        open in any::<bool>(),
        cut in 0usize..4,
    ) {
        let (mut client, mut core) = (Pure::new(), core(config()));
        if open {
            client.log_in(&mut core);
            client.say(&open_session(0));
            client.say(&request(0, "shell", true));
            client.say(&open_direct(1, "host", 100));
        }
        for (index, message) in messages.iter().enumerate() {
            client.say(message);
            if index % 4 == cut && client.exchange(&mut core).is_err() {
                break;
            }
        }
        let _ = client.exchange(&mut core);
        for event in events(&mut core) {
            match event {
                Event::Session(id, _) => {
                    let _ = core.send_data(id, Source::Stderr, &[1; 1000]);
                    let _ = core.finish(id, &Exit::Status(1));
                }
                Event::Direct(id, _) => {
                    let _ = core.accept(id);
                    let _ = core.send_data(id, Source::Stdout, &[1; 1000]);
                }
                Event::Data(id, _, data) => {
                    let _ = core.consumed(id, data.len());
                }
                Event::Global(number, _) => {
                    let _ = core.answer(number, Answer::Granted(Some(1)));
                }
                Event::Opened(id) | Event::Refused(id, ..) | Event::Closed(id) => {
                    let _ = core.release(id);
                }
                Event::Eof(_)
                | Event::Writable(_)
                | Event::Size(..)
                | Event::Signal(..)
                | Event::Gone(_) => {}
                // Those are a client's.
                Event::LoggedIn
                | Event::Forwarded(..)
                | Event::Answered(..)
                | Event::Started(_)
                | Event::Exited(..) => panic!("{event:?}"),
            }
        }
        let _ = client.exchange(&mut core);
    }

    #[test]
    fn a_login_is_the_same_in_any_pieces(cuts in prop::collection::vec(1usize..300, 1..20)) {
        let (mut client, mut core) = (Pure::new(), core(config()));
        client.exchange(&mut core).unwrap();
        client.say(&service());
        client.say(&login("none"));
        client.say(&open_session(3));
        client.say(&request(0, "exec", true).string("run"));
        client.say(&data(0, b"input"));
        let mut whole = client.transport.output().split();
        let mut input = BytesMut::new();
        let mut cuts = cuts.iter().cycle();
        while !whole.is_empty() {
            let cut = (*cuts.next().unwrap()).min(whole.len());
            input.extend_from_slice(&whole.split_to(cut));
            core.handle_input(&mut input, Instant::now()).unwrap();
        }
        let events = events(&mut core);
        prop_assert!(matches!(&events[..], [Event::Session(0, _), Event::Data(0, _, data)]
            if &data[..] == b"input"));
    }
}
