//! A small scripted server on a free port, for what no real one would say.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

/// A stream, plain or TLS.
pub trait Wire: Read + Write {}
impl<T: Read + Write> Wire for T {}

/// A server that ends when it is dropped.
pub struct Server {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    requests: Arc<Mutex<Vec<Request>>>,
}

/// A request as it was received.
#[derive(Debug, Clone)]
pub struct Request {
    /// `GET /api/v2/…`, with its query.
    pub line: String,
    pub headers: Vec<(String, String)>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

/// An answer to one request.
#[derive(Debug, Clone)]
pub struct Answer {
    status: u16,
    content_type: &'static str,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

impl Answer {
    pub fn json(status: u16, body: impl Into<String>) -> Self {
        let headers = vec![("X-Coder-Build-Version", "v2.35.0".to_owned())];
        Self {
            status,
            content_type: "application/json; charset=utf-8",
            headers,
            body: body.into().into(),
        }
    }

    pub fn html(status: u16, body: &str) -> Self {
        Self { status, content_type: "text/html", headers: Vec::new(), body: body.into() }
    }

    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    fn write(&self, wire: &mut dyn Wire) -> std::io::Result<()> {
        let mut head = format!(
            "HTTP/1.1 {} Status\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\n",
            self.status,
            self.content_type,
            self.body.len()
        );
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        wire.write_all(head.as_bytes())?;
        wire.write_all(b"\r\n")?;
        wire.write_all(&self.body)?;
        wire.flush()
    }
}

impl Server {
    /// Answers each request with what `script` says to `METHOD /path`.
    pub fn http(script: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Self {
        let requests = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&requests);
        let mut server = Self::raw(move |mut stream| {
            serve(&mut stream, &script, &kept);
        });
        server.requests = requests;
        server
    }

    /// The same over TLS, with this certificate.
    pub fn https(
        tls: rustls::ServerConfig,
        script: impl Fn(&str) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let requests = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&requests);
        let tls = Arc::new(tls);
        let mut server = Self::raw(move |stream| {
            let connection = rustls::ServerConnection::new(Arc::clone(&tls)).unwrap();
            let mut stream = rustls::StreamOwned::new(connection, stream);
            serve(&mut stream, &script, &kept);
            stream.conn.send_close_notify();
            let _ = stream.flush();
        });
        server.requests = requests;
        server
    }

    /// Hands each connection to `script`, one thread each.
    pub fn raw(script: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let script = Arc::new(script);
        let thread = std::thread::spawn(move || {
            let mut threads = Vec::new();
            for stream in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    break;
                }
                let stream = stream.unwrap();
                // A client that hangs must not hang the tests.
                stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
                let script = Arc::clone(&script);
                threads.push(std::thread::spawn(move || script(stream)));
            }
            for thread in threads {
                thread.join().unwrap();
            }
        });
        let requests = Arc::default();
        Self { address, stop, thread: Some(thread), requests }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes `incoming`.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the server panicked");
        }
    }
}

fn serve(wire: &mut dyn Wire, script: &dyn Fn(&str) -> Answer, kept: &Mutex<Vec<Request>>) {
    let Some(request) = read_request(wire) else { return };
    let line = request.line.clone();
    kept.lock().unwrap().push(request);
    // The client may be gone by now; that is its own test's business.
    let _ = script(&line).write(wire);
}

fn read_request(wire: &mut dyn Wire) -> Option<Request> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if wire.read(&mut byte).ok()? == 0 || head.len() > 65_536 {
            return None;
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).ok()?;
    let mut lines = head.lines();
    let line = lines.next()?.strip_suffix(" HTTP/1.1")?.to_owned();
    let headers: Vec<_> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length = length.and_then(|(_, value)| value.parse().ok()).unwrap_or(0_u64);
    std::io::copy(&mut (&mut *wire).take(length), &mut std::io::sink()).ok()?;
    Some(Request { line, headers })
}
