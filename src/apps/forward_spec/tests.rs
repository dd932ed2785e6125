use proptest::prelude::*;

use super::*;

/// The specifications of one flag.
fn specs(flag: &str, spec: &str) -> Specs {
    let mut specs = Specs::default();
    let list = match flag {
        "--tcp" => &mut specs.tcp,
        "--udp" => &mut specs.udp,
        "-L" => &mut specs.local,
        "-R" => &mut specs.remote,
        "-D" => &mut specs.dynamic,
        flag => panic!("{flag}"),
    };
    list.push(spec.to_owned());
    specs
}

/// What is read, in short, or the error.
fn shown(flag: &str, spec: &str) -> String {
    match parse(&specs(flag, spec)) {
        Ok(forwards) => forwards.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
        Err(error) => error.to_string(),
    }
}

#[test]
fn every_form_of_ports_is_read() {
    for (list, forwards) in [
        ("8080", "8080:8080"),
        ("5678:1234", "5678:1234"),
        ("8000-8002", "8000:8000 8001:8001 8002:8002"),
        ("10000-10001:10010-10011", "10000:10010 10001:10011"),
        ("0.0.0.0:8080:80", "0.0.0.0:8080:80"),
        ("127.0.0.1:4000-4001", "127.0.0.1:4000:4000 127.0.0.1:4001:4001"),
        ("[::1]:4000-4001:5000-5001", "[::1]:4000:5000 [::1]:4001:5001"),
        ("8080, 9000:3000 ,9090-9091", "8080:8080 9000:3000 9090:9090 9091:9091"),
        ("0:80", "0:80"),
        ("0:80,0:80,127.0.0.1:0:81", "0:80 0:80 127.0.0.1:0:81"),
        ("65535", "65535:65535"),
        ("65534-65535:1-2", "65534:1 65535:2"),
    ] {
        assert_eq!(shown("--tcp", list), forwards, "{list}");
        assert_eq!(shown("--udp", list), forwards, "{list}");
    }
}

#[test]
fn a_range_that_ends_at_the_highest_port_ends() {
    assert_eq!(parse(&specs("--tcp", "1-65535")).unwrap().len(), 65535);
}

#[test]
fn everything_else_is_no_port() {
    for (list, error) in [
        ("", "invalid port specification ``"),
        ("8080,", "invalid port specification ``"),
        ("localhost:80", "invalid port specification `localhost:80`"),
        ("localhost:80:80", "invalid port specification `localhost:80:80`"),
        ("*:80:80", "invalid port specification `*:80:80`"),
        ("127.0.0.1", "invalid port specification `127.0.0.1`"),
        ("127.0.0.1:", "invalid port specification `127.0.0.1:`"),
        ("[::1]", "invalid port specification `[::1]`"),
        ("[::1%lo]:80", "invalid port specification `[::1%lo]:80`"),
        ("::1:80", "invalid port specification `::1:80`"),
        ("1.2.3:80:80", "invalid port specification `1.2.3:80:80`"),
        ("80:10.0.0.1:80", "invalid port specification `80:10.0.0.1:80`"),
        ("80:81:82", "invalid port specification `80:81:82`"),
        ("80:", "invalid port specification `80:`"),
        (":80", "invalid port specification `:80`"),
        ("+80", "invalid port specification `+80`"),
        ("80-", "invalid port specification `80-`"),
        ("80-81-82", "invalid port specification `80-81-82`"),
        ("/tmp/a.sock:80", "invalid port specification `/tmp/a.sock:80`"),
        ("8\n0", "invalid port specification `8\\n0`"),
        ("0", "invalid port specification `0`: port cannot be 0"),
        ("80:0", "invalid port specification `80:0`: port cannot be 0"),
        ("0-2:80-82", "invalid port specification `0-2:80-82`: port cannot be 0"),
        ("70000", "invalid port specification `70000`: port 70000 is above 65535"),
        ("9-8", "invalid port specification `9-8`: range end port 8 is less than start port 9"),
        (
            "80:80-81",
            "invalid port specification `80:80-81`: port ranges must be the same length, got 1 \
             ports forwarded to 2 ports",
        ),
        ("8080,8080:80", "local tcp host:127.0.0.1 port:8080 is specified twice"),
        ("8080,[::1]:8080:80", "local tcp host:::1 port:8080 is specified twice"),
    ] {
        assert_eq!(shown("--tcp", list), error, "{list}");
    }
    assert_eq!(parse(&Specs::default()), Err(SpecError::Nothing));
}

#[test]
fn every_form_of_ends_is_read() {
    for (spec, forwards) in [
        ("5432:db.internal:5432", "5432:db.internal:5432"),
        ("localhost:5432:db:5432", "5432:db:5432"),
        ("127.0.0.1:5432:db:5432", "127.0.0.1:5432:db:5432"),
        ("[::1]:5432:[fd00::5]:5432", "[::1]:5432:[fd00::5]:5432"),
        ("*:5432:db:5432", "*:5432:db:5432"),
        ("0:db:5432", "0:db:5432"),
        ("8080:80", "8080:80"),
        ("8080:127.0.0.1:80", "8080:80"),
        ("8080:localhost:80", "8080:localhost:80"),
        ("127.0.0.1:8080:80", "127.0.0.1:8080:80"),
        ("8000-8001:web:9000-9001", "8000:web:9000 8001:web:9001"),
        ("/tmp/d.sock:/var/run/docker.sock", "/tmp/d.sock:/var/run/docker.sock"),
        ("/tmp/d.sock:db:5432", "/tmp/d.sock:db:5432"),
        ("/tmp/d.sock:5432", "/tmp/d.sock:5432"),
        ("2375:/var/run/docker.sock", "2375:/var/run/docker.sock"),
        ("[::1]:2375:/var/run/docker.sock", "[::1]:2375:/var/run/docker.sock"),
        (r"/a\:b\\c:80", r"/a\:b\\c:80"),
    ] {
        assert_eq!(shown("-L", spec), forwards, "{spec}");
        assert_eq!(shown("-R", spec), forwards, "{spec}");
    }
    for (spec, forward) in [
        ("1080", "1080"),
        ("0", "0"),
        ("localhost:1080", "1080"),
        ("*:1080", "*:1080"),
        ("[::1]:1080", "[::1]:1080"),
    ] {
        assert_eq!(shown("-D", spec), forward, "{spec}");
    }
}

#[test]
fn everything_else_is_no_pair_of_ends() {
    let long = format!("/{}:80", "x".repeat(200));
    for (spec, cause) in [
        ("", "write [BIND:]PORT:HOST:PORT, or a socket's path for either end"),
        ("8080", "write [BIND:]PORT:HOST:PORT, or a socket's path for either end"),
        ("localhost:8080", "write [BIND:]PORT:HOST:PORT, or a socket's path for either end"),
        ("8080:::1:80", "too many colons: IPv6 addresses stand in brackets"),
        (
            "::1:8080:db:80",
            "an empty address would listen on all of them: write * if that is meant",
        ),
        (":8080:db:80", "an empty address would listen on all of them: write * if that is meant"),
        (
            "8080:5432:80",
            "`5432` would be a host: write HOST:PORT, or PORT alone for the workspace's own",
        ),
        ("8080:db", "`db` is not a port"),
        ("8080:db:http", "`http` is not a port"),
        ("8080::80", "`` is not a host name or address"),
        ("8080:d b:80", "`d b` is not a host name or address"),
        ("8080:-db:80", "`-db` is not a host name or address"),
        ("8080:d\u{1b}b:80", "`d\\x1bb` is not a host name or address"),
        ("8080:[fe80::1%eth0]:80", "`fe80::1%eth0` is not a host name or address"),
        ("8080:[db]:80", "`db` is not a host name or address"),
        ("8080:[::1:80", "brackets hold an IPv6 address and nothing else"),
        ("8080:[::1]x:80", "brackets hold an IPv6 address and nothing else"),
        (
            "here:8080:db:80",
            "`here` is not an address to listen on: write localhost, an address, or * for all",
        ),
        ("./d.sock:80", "a socket's path begins with /"),
        ("80:tmp/d.sock", "a socket's path begins with /"),
        ("/a\0b:80", "a socket's path cannot have a zero byte"),
        (&long, "the socket's path is too long: 201 bytes, and the system takes about 100"),
        ("8080-8081:/d.sock", "a range of ports leads to as many ports, not to a socket"),
        ("/d.sock:80-81", "a range of ports leads to as many ports, not to a socket"),
        ("/d.sock:0", "port cannot be 0"),
        ("8080:db:0", "port cannot be 0"),
        ("8080:db:70000", "port 70000 is above 65535"),
        ("9-8:db:80", "range end port 8 is less than start port 9"),
        (
            "8000-8001:db:80",
            "port ranges must be the same length, got 2 ports forwarded to 1 ports",
        ),
    ] {
        let said = shown("-L", spec);
        let expected = format!("invalid forward -L {}: {cause}", quoted(spec));
        assert_eq!(said, expected, "{spec}");
    }
    for (spec, cause) in [
        ("", "`` is not a port"),
        ("1080-1081", "write [BIND:]PORT"),
        ("/tmp/s.sock", "write [BIND:]PORT"),
        ("::1:1080", "too many colons: IPv6 addresses stand in brackets"),
        (":1080", "an empty address would listen on all of them: write * if that is meant"),
    ] {
        let expected = format!("invalid forward -D {}: {cause}", quoted(spec));
        assert_eq!(shown("-D", spec), expected, "{spec}");
    }
}

#[test]
fn what_is_asked_for_twice_is_named() {
    let twice = |all: Specs| parse(&all).unwrap_err().to_string();
    let one = |spec: &str| vec![spec.to_owned()];
    let said = twice(Specs { local: one("1080:db:80"), dynamic: one("1080"), ..Specs::default() });
    assert_eq!(said, "local tcp host:127.0.0.1 port:1080 is specified twice");
    let said = twice(Specs { udp: one("53,53:54"), ..Specs::default() });
    assert_eq!(said, "local udp host:127.0.0.1 port:53 is specified twice");
    let said = twice(Specs { remote: [one("/s:80"), one("/s:80")].concat(), ..Specs::default() });
    assert_eq!(said, "remote socket `/s` is specified twice");
    let said = twice(Specs { remote: [one("9:80"), one("9:80")].concat(), ..Specs::default() });
    assert_eq!(said, "remote tcp host:127.0.0.1 port:9 is specified twice");
    let fine = Specs {
        tcp: one("53,0:80,0:81"),
        udp: one("53"),
        remote: one("53:80"),
        ..Specs::default()
    };
    assert_eq!(parse(&fine).unwrap().len(), 5);
}

fn bind() -> impl Strategy<Value = Bind> {
    prop_oneof![
        Just(Bind::Loopback),
        Just(Bind::Any),
        any::<Ipv4Addr>().prop_map(|address| Bind::Address(address.into())),
        any::<Ipv6Addr>().prop_map(|address| Bind::Address(address.into())),
    ]
}

fn port() -> impl Strategy<Value = Port> {
    (bind(), any::<u16>()).prop_map(|(bind, port)| Port { bind, port })
}

fn path() -> impl Strategy<Value = PathBuf> {
    r"/[^\x00]{0,20}".prop_map(PathBuf::from)
}

fn listen() -> impl Strategy<Value = Listen> {
    prop_oneof![port().prop_map(Listen::Port), path().prop_map(Listen::Socket)]
}

fn place() -> impl Strategy<Value = Place> {
    let host = prop_oneof![
        r"[a-z_][a-z0-9._-]{0,12}",
        any::<Ipv6Addr>().prop_map(|address| address.to_string()),
    ];
    prop_oneof![
        (1..=u16::MAX).prop_map(Place::Port),
        (host, 1..=u16::MAX).prop_map(|(host, port)| Place::Host(host, port)),
        path().prop_map(Place::Socket),
    ]
}

/// A forward and a flag that says it.
fn forward() -> impl Strategy<Value = (&'static str, Forward)> {
    let address = bind().prop_filter("no * there", |bind| *bind != Bind::Any);
    let plain = (address, any::<u16>()).prop_map(|(bind, port)| Port { bind, port });
    prop_oneof![
        (listen(), place()).prop_map(|(from, to)| ("-L", Forward::Local(from, to))),
        (listen(), place()).prop_map(|(from, to)| ("-R", Forward::Remote(from, to))),
        port().prop_map(|from| ("-D", Forward::Socks(from))),
        (plain, 1..=u16::MAX).prop_map(|(from, to)| ("--udp", Forward::Udp(from, to))),
    ]
}

proptest! {
    #[test]
    fn what_is_printed_is_read_as_what_it_was((flag, forward) in forward()) {
        let read = parse(&specs(flag, &forward.to_string()));
        prop_assert_eq!(read, Ok(vec![forward]));
    }

    #[test]
    fn no_text_panics_and_what_is_read_can_be_printed(
        text in r"([0-9:.,*\[\]/ a-f-]|\\){0,30}|.{0,20}",
        flag in prop::sample::select(vec!["--tcp", "--udp", "-L", "-R", "-D"]),
    ) {
        // Long ranges are read elsewhere.
        for forward in parse(&specs(flag, &text)).into_iter().flatten().take(5) {
            let again = parse(&specs(flag, &forward.to_string()));
            prop_assert_eq!(again, Ok(vec![forward]));
        }
    }
}
