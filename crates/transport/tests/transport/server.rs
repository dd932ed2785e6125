//! Servers that do what a test tells them, on a port of the system's choice.

use std::{path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use coderctl_transport::{Options, Proxies, Transport};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};
use tokio_rustls::TlsAcceptor;

/// A server; ends with its handle.
pub struct Server {
    pub port: u16,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    pub fn url(&self, scheme: &str, path: &str) -> String {
        format!("{scheme}://127.0.0.1:{}{path}", self.port)
    }
}

/// Serves each connection with `serve`, which is given its number as well.
pub async fn serve<F, W>(mut serve: F) -> Server
where
    F: FnMut(usize, TcpStream) -> W + Send + 'static,
    W: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let task = tokio::spawn(async move {
        let mut connections = JoinSet::new();
        let mut number = 0;
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            connections.spawn(serve(number, stream));
            number += 1;
        }
    });
    Server { port, task }
}

/// Answers every connection with the same bytes once it has read a request's head, and closes.
pub async fn says(answer: impl Into<Bytes>) -> Server {
    let answer = answer.into();
    serve(move |_, mut stream| {
        let answer = answer.clone();
        async move {
            head(&mut stream).await;
            let _ = stream.write_all(&answer).await;
            let _ = stream.shutdown().await;
            // Reading to the end keeps the answer from being cut off by a reset.
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
    })
    .await
}

/// A request's head, as text; empty at the end of the connection.
pub async fn head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return String::new(),
        }
    }
    String::from_utf8(head).unwrap()
}

/// The value of a header in a head.
pub fn value<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
}

pub fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

pub fn options() -> Options {
    Options { proxies: Proxies::none(), ..Options::default() }
}

pub fn transport() -> Transport {
    Transport::new(options()).unwrap()
}

pub fn get(url: &str) -> http::Request<Bytes> {
    http::Request::get(url).body(Bytes::new()).unwrap()
}

pub fn ask(url: &str) -> http::Request<()> {
    http::Request::get(url).body(()).unwrap()
}

/// A certificate authority whose certificate is in a file.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: tempfile::TempDir,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let issuer = CertifiedIssuer::self_signed(params, key).unwrap();
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { issuer, directory }
    }

    pub fn file(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// A certificate and its key in files, to be shown by a client.
    pub fn client(&self) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["client".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let paths = ["cert.pem", "key.pem"].map(|name| self.directory.path().join(name));
        std::fs::write(&paths[0], certificate.pem()).unwrap();
        std::fs::write(&paths[1], key.serialize_pem()).unwrap();
        paths.into()
    }

    /// What a server with a certificate for `name` accepts with.
    pub fn acceptor(&self, name: &str, expired: bool, wants_client: bool) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        if expired {
            params.not_before = rcgen::date_time_ymd(2019, 1, 1);
            params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        }
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = if wants_client {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(self.issuer.der().clone()).unwrap();
            let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
                Arc::new(roots),
                provider,
            );
            builder.with_client_cert_verifier(verifier.build().unwrap())
        } else {
            builder.with_no_client_auth()
        };
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let config = builder.with_single_cert(vec![certificate.der().clone()], key).unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// An HTTPS server that answers every request with `ok`.
pub async fn tls(acceptor: TlsAcceptor) -> Server {
    serve(move |_, stream| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            while !head(&mut stream).await.is_empty() {
                let _ = stream.write_all(ok("ok").as_bytes()).await;
                let _ = stream.flush().await;
            }
        }
    })
    .await
}

/// A connection that is accepted and then left alone.
pub async fn silent() -> Server {
    serve(|_, stream| async move {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await
}

pub const SOON: Duration = Duration::from_secs(5);
