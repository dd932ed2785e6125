//! Bad surroundings: each ends in an error that names the host and says what is wrong.

use coderctl_transport::{Error, Limits, Options, Step, Target, Transport};
use tokio::{io::AsyncWriteExt, net::TcpListener};

use crate::server::{
    Authority, Server, ask, get, ok, options, says, serve, silent, tls, transport,
};

async fn call(transport: &Transport, url: &str) -> Result<String, Error> {
    let answer = transport.request(get(url), Limits::default()).await?;
    Ok(String::from_utf8_lossy(answer.body()).into_owned())
}

fn trusting(authority: &Authority) -> Transport {
    Transport::new(Options { ca_file: Some(authority.file()), ..options() }).unwrap()
}

async fn with_certificate(name: &str, expired: bool) -> (Authority, Server) {
    let authority = Authority::new();
    let server = tls(authority.acceptor(name, expired, false)).await;
    (authority, server)
}

#[tokio::test]
async fn a_private_authority_is_trusted_when_it_is_named() {
    let (authority, server) = with_certificate("127.0.0.1", false).await;
    assert_eq!(call(&trusting(&authority), &server.url("https", "/")).await.unwrap(), "ok");
    let error = call(&trusting(&Authority::new()), &server.url("https", "/")).await.unwrap_err();
    assert!(matches!(error, Error::Certificate { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("signed by nobody we know"), "{text}");
    assert!(text.contains(&format!("127.0.0.1:{}", server.port)), "{text}");
}

#[tokio::test]
async fn an_expired_certificate_is_told_from_one_for_another_name() {
    for (name, expired, words) in
        [("127.0.0.1", true, "it has expired"), ("other.example", false, "it is for another name")]
    {
        let (authority, server) = with_certificate(name, expired).await;
        let error = call(&trusting(&authority), &server.url("https", "/")).await.unwrap_err();
        assert!(matches!(error, Error::Certificate { .. }), "{error:?}");
        assert!(error.to_string().ends_with(words), "{error}");
    }
}

#[tokio::test]
async fn a_target_may_name_the_certificate_or_do_without() {
    let (authority, server) = with_certificate("relay.example", false).await;
    let url = server.url("https", "/");
    let plain = Target::of(&url.parse().unwrap()).unwrap();
    let named = Target { server_name: Some("relay.example".to_owned()), ..plain.clone() };
    let insecure = Target { insecure: true, ..plain.clone() };
    let transport = trusting(&authority);
    for (target, reached) in [(plain, false), (named, true), (insecure, true)] {
        let error = transport.upgrade_at(ask(&url), "DERP", &target).await.err().unwrap();
        assert_eq!(matches!(error, Error::Status { .. }), reached, "{target:?}: {error}");
    }
}

#[tokio::test]
async fn a_target_may_have_its_own_addresses() {
    let server = says(ok("")).await;
    let target = Target {
        host: "nowhere.invalid".to_owned(),
        port: server.port,
        tls: false,
        addresses: vec!["127.0.0.1".parse().unwrap()],
        server_name: None,
        insecure: false,
    };
    let url = format!("http://nowhere.invalid:{}/derp", server.port);
    let error = transport().upgrade_at(ask(&url), "DERP", &target).await.err().unwrap();
    assert!(matches!(error, Error::Status { .. }), "{error}");
}

#[tokio::test]
async fn a_client_certificate_is_shown_where_it_is_wanted() {
    let authority = Authority::new();
    let server = tls(authority.acceptor("127.0.0.1", false, true)).await;
    let url = server.url("https", "/");
    let error = call(&trusting(&authority), &url).await.unwrap_err();
    assert!(!matches!(error, Error::Timeout { .. }), "{error:?}");
    let client_cert = Some(authority.client());
    let options = Options { ca_file: Some(authority.file()), client_cert, ..options() };
    assert_eq!(call(&Transport::new(options).unwrap(), &url).await.unwrap(), "ok");
}

#[tokio::test]
async fn files_that_are_no_certificates_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let junk = directory.path().join("junk.pem");
    std::fs::write(&junk, "junk").unwrap();
    let server = silent().await;
    for ca in [directory.path().to_owned(), directory.path().join("missing"), junk] {
        let options = Options { ca_file: Some(ca.clone()), ..options() };
        let transport = Transport::new(options).unwrap();
        let error = call(&transport, &server.url("https", "/")).await.unwrap_err();
        assert!(matches!(error, Error::Options(_)), "{error:?}");
        assert!(error.to_string().contains(ca.to_str().unwrap()), "{error}");
    }
}

#[tokio::test]
async fn the_wrong_scheme_is_recognised_both_ways() {
    // A head of TLS never ends like one of HTTP: answer at once, as web servers do.
    let eager = serve(|_, mut stream| async move {
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        let _ = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut Vec::new()).await;
    })
    .await;
    let error = call(&transport(), &eager.url("https", "/")).await.unwrap_err();
    assert!(error.to_string().contains("does not speak TLS"), "{error}");
    assert!(error.to_string().contains("http://"), "{error}");

    let (_authority, secure) = with_certificate("127.0.0.1", false).await;
    let error = call(&transport(), &secure.url("http", "/")).await.unwrap_err();
    assert!(matches!(error, Error::NotHttp { .. }), "{error:?}");
    assert!(error.to_string().contains("https://"), "{error}");
}

#[tokio::test]
async fn a_server_of_another_kind_is_named() {
    for (banner, words) in [
        ("SSH-2.0-OpenSSH_9.6\r\n", "SSH"),
        ("220 mail.example\x1b[2J\r\n", "220 mail.example\\x1b"),
    ] {
        let server = serve(move |_, mut stream| async move {
            let _ = stream.write_all(banner.as_bytes()).await;
            let _ = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut Vec::new()).await;
        })
        .await;
        let error = call(&transport(), &server.url("http", "/")).await.unwrap_err();
        assert!(matches!(error, Error::NotHttp { .. }), "{error:?}");
        assert!(error.to_string().contains(words), "{error}");
        assert!(!error.to_string().contains('\x1b'));
    }
}

#[tokio::test]
async fn nobody_there_and_no_such_name() {
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let error = call(&transport(), &format!("http://127.0.0.1:{port}")).await.unwrap_err();
    assert!(matches!(error, Error::Connect { .. }), "{error:?}");
    assert!(error.is_before_request() && error.is_transient());
    let error = call(&transport(), "http://name.invalid./").await.unwrap_err();
    assert!(matches!(error, Error::Resolve { .. }), "{error:?}");
    assert_eq!(error.to_string(), "cannot find host name.invalid.:80");
    for url in ["/x", "ftp://x/", "mailto:x"] {
        if let Ok(uri) = url.parse() {
            assert!(matches!(Target::of(&uri), Err(Error::Url { .. })), "{url}");
        }
    }
}

#[tokio::test]
async fn silence_ends_at_its_limit_and_names_its_step() {
    let server = silent().await;
    let step = async |scheme: &str| {
        let url = server.url(scheme, "/");
        let transport = transport();
        let call = call(&transport, &url);
        // Time only jumps while nothing else can be done, and reading the system's roots is
        // something else, so the clock is the only one to blame.
        match call.await.unwrap_err() {
            Error::Timeout { step, after, .. } => (step, after.as_secs()),
            other => panic!("{other:?}"),
        }
    };
    tokio::time::pause();
    assert_eq!(step("http").await, (Step::Answer, 30));
    assert_eq!(step("https").await, (Step::Tls, 10));
}

#[tokio::test]
async fn a_body_that_stops_ends_at_the_limit() {
    let server = serve(|_, mut stream| async move {
        crate::server::head(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc").await;
        std::future::pending::<()>().await;
    })
    .await;
    tokio::time::pause();
    let error = call(&transport(), &server.url("http", "/")).await.unwrap_err();
    assert!(matches!(error, Error::Timeout { step: Step::Body, .. }), "{error:?}");
}
