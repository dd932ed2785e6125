//! HTTP/1.1: requests with a kept connection, bodies that stream, upgrades.

use std::{
    collections::BTreeMap,
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Incoming, client::conn::http1::SendRequest};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::{sync::OnceCell, task::JoinHandle};

use crate::{
    BoxStream, Error, Options, Step, Target,
    begin::{Beginning, Watched},
    connect::{self, Progress, within},
    proxy::{Kind, Proxy},
    tls,
};

/// Idle connections kept for one origin. A command makes at most a handful of calls at once.
const MAX_IDLE: usize = 4;

/// Redirects followed, as many as Go follows.
const MAX_REDIRECTS: usize = 10;

/// Most of a refused upgrade's body that is read, in bytes.
const MAX_REFUSAL: usize = 64 * 1024;

/// How long and how much one call may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// From the call to the last byte of the answer.
    pub deadline: Duration,
    /// Longest body, in bytes.
    pub max_body: usize,
}

impl Default for Limits {
    /// Half a minute, and 32 MiB: a list of a thousand workspaces with their resources has ten.
    fn default() -> Self {
        Self { deadline: Duration::from_secs(30), max_body: 32 << 20 }
    }
}

/// The way to every host. Cheap to clone; clones share connections.
#[derive(Clone)]
pub struct Transport {
    inner: Arc<Inner>,
}

struct Inner {
    options: Options,
    tls: OnceCell<Arc<ClientConfig>>,
    insecure: OnceCell<Arc<ClientConfig>>,
    idle: Mutex<BTreeMap<Target, Vec<Connection>>>,
}

/// One HTTP connection and the task that drives it.
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    began: Beginning,
    _driver: Driver,
}

/// Ends the task with the connection.
struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Transport {
    /// A transport; nothing is read or connected yet.
    ///
    /// # Errors
    /// None at present: files are read when the first TLS connection needs them.
    pub fn new(options: Options) -> Result<Self, Error> {
        let inner = Inner {
            options,
            tls: OnceCell::new(),
            insecure: OnceCell::new(),
            idle: Mutex::new(BTreeMap::new()),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// One call: sends `request` and reads the whole answer, whatever its status. Redirects are
    /// followed within the same host.
    ///
    /// # Errors
    /// Whatever keeps a whole answer from arriving.
    pub async fn request(
        &self,
        request: Request<Bytes>,
        limits: Limits,
    ) -> Result<Response<Bytes>, Error> {
        let host = Target::of(request.uri())?.name();
        let progress = Progress::default();
        within(limits.deadline, &host, &progress, async {
            let (response, connection) = self.follow(request, &progress).await?;
            let (parts, body) = response.into_parts();
            progress.at(Step::Body);
            let body = read(body, limits.max_body, &host).await?;
            if let Some((target, connection)) = connection {
                self.keep(target, connection);
            }
            Ok(Response::from_parts(parts, body))
        })
        .await
    }

    /// A call whose answer goes on: status and headers within `limit`, the body as it comes.
    ///
    /// # Errors
    /// Whatever keeps the head from arriving.
    pub async fn stream(
        &self,
        request: Request<Bytes>,
        limit: Duration,
    ) -> Result<Response<Body>, Error> {
        let host = Target::of(request.uri())?.name();
        let progress = Progress::default();
        let (response, connection) =
            within(limit, &host, &progress, self.follow(request, &progress)).await?;
        Ok(response.map(|incoming| Body { incoming, host, _connection: connection }))
    }

    /// Upgrades a connection to `protocol`; the bytes behind the head are the stream's first.
    ///
    /// # Errors
    /// [`Error::Status`] when the server does not upgrade; whatever keeps it from answering.
    pub async fn upgrade(
        &self,
        request: Request<()>,
        protocol: &str,
    ) -> Result<(http::response::Parts, BoxStream), Error> {
        let target = Target::of(request.uri())?;
        self.upgrade_at(request, protocol, &target).await
    }

    /// As [`Transport::upgrade`], to a target that the request's URL does not tell.
    ///
    /// # Errors
    /// As [`Transport::upgrade`].
    pub async fn upgrade_at(
        &self,
        mut request: Request<()>,
        protocol: &str,
        target: &Target,
    ) -> Result<(http::response::Parts, BoxStream), Error> {
        let host = target.name();
        let headers = request.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        let value = HeaderValue::from_str(protocol).map_err(|_| Error::WebSocket {
            host: host.clone(),
            why: "the protocol's name is no header value".to_owned(),
        })?;
        headers.insert(header::UPGRADE, value);
        let limit = Limits::default().deadline;
        let progress = Progress::default();
        within(limit, &host, &progress, async {
            let mut connection = self.connect(target, true, &progress).await?;
            let request = self.equip(request.map(|()| Full::default()), target, None);
            let response = connection.send(request, &host).await?;
            if response.status() != StatusCode::SWITCHING_PROTOCOLS {
                let (parts, body) = response.into_parts();
                progress.at(Step::Body);
                let body = beginning(body, MAX_REFUSAL).await;
                return Err(Error::Status { host: host.clone(), parts: Box::new(parts), body });
            }
            let mut response = response;
            let upgraded =
                hyper::upgrade::on(&mut response).await.map_err(|error| explain(&error, &host))?;
            let (parts, _) = response.into_parts();
            Ok((parts, Box::new(TokioIo::new(upgraded)) as BoxStream))
        })
        .await
    }

    /// Sends and follows redirects.
    async fn follow(
        &self,
        request: Request<Bytes>,
        progress: &Progress,
    ) -> Result<(Response<Incoming>, Option<(Target, Connection)>), Error> {
        let mut request = request;
        for _ in 0..=MAX_REDIRECTS {
            let target = Target::of(request.uri())?;
            let (response, connection) = self.exchange(copy(&request), &target, progress).await?;
            let Some(location) = redirect(&response) else {
                return Ok((response, Some((target, connection))));
            };
            let next = resolve(request.uri(), &location);
            match next.as_ref().map(Target::of) {
                Some(Ok(next)) if next.host == target.host && next.tls >= target.tls => {}
                _ => return Err(Error::Redirect { host: target.name(), location }),
            }
            let Some(next) = next else {
                return Err(Error::Redirect { host: target.name(), location });
            };
            *request.uri_mut() = next;
        }
        let host = Target::of(request.uri())?.name();
        Err(Error::Redirect { host, location: "itself, again and again".to_owned() })
    }

    /// One request on a kept connection, or on a new one. A kept connection that the server
    /// closed meanwhile gives the request back unsent, and it goes out on another.
    async fn exchange(
        &self,
        request: Request<Bytes>,
        target: &Target,
        progress: &Progress,
    ) -> Result<(Response<Incoming>, Connection), Error> {
        let host = target.name();
        let mut request = self.equip(request.map(Full::new), target, self.whole(target));
        progress.at(Step::Answer);
        while let Some(mut connection) = self.kept(target) {
            // One that has just been used is ready once its driver has run; one that the server
            // has closed never is.
            if connection.sender.ready().await.is_err() {
                continue;
            }
            match connection.sender.try_send_request(request).await {
                Ok(response) => return Ok((response, connection)),
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(connection.began.explain(error.error(), &host)),
                },
            }
        }
        let mut connection = self.connect(target, false, progress).await?;
        let response = connection.send(request, &host).await?;
        Ok((response, connection))
    }

    /// The proxy that is given whole requests for this target, if there is one.
    pub(crate) fn whole(&self, target: &Target) -> Option<&Proxy> {
        let proxy = self.inner.options.proxies.for_target(target);
        proxy.filter(|proxy| !target.tls && proxy.kind != Kind::Socks5)
    }

    /// Adds what every request carries, and gives it the form that goes on the wire.
    pub(crate) fn equip(
        &self,
        mut request: Request<Full<Bytes>>,
        target: &Target,
        whole: Option<&Proxy>,
    ) -> Request<Full<Bytes>> {
        let options = &self.inner.options;
        let uri = std::mem::take(request.uri_mut());
        let default_port = if target.tls { 443 } else { 80 };
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        let bare = authority.strip_suffix(&format!(":{default_port}")).unwrap_or(authority);
        let headers = request.headers_mut();
        if let Ok(host) = HeaderValue::from_str(bare) {
            headers.entry(header::HOST).or_insert(host);
        }
        if let Ok(agent) = HeaderValue::from_str(&options.user_agent) {
            headers.entry(header::USER_AGENT).or_insert(agent);
        }
        add(headers, &options.headers);
        if let Some(login) = whole.and_then(connect::basic)
            && let Ok(mut login) = HeaderValue::from_str(&login)
        {
            login.set_sensitive(true);
            headers.insert(header::PROXY_AUTHORIZATION, login);
        }
        *request.uri_mut() = if whole.is_some() { uri } else { origin_form(&uri) };
        request
    }

    /// A new connection. One that is to be upgraded goes through a proxy by CONNECT, since an
    /// upgrade ends at the next hop.
    pub(crate) async fn connect(
        &self,
        target: &Target,
        upgrades: bool,
        progress: &Progress,
    ) -> Result<Connection, Error> {
        let host = target.name();
        let limit = self.inner.options.connect_timeout;
        let dial = self.dial(target, upgrades, progress);
        let io = within(limit, &host, progress, dial).await?;
        progress.at(Step::Answer);
        Connection::begin(io, &host).await
    }

    async fn dial(
        &self,
        target: &Target,
        upgrades: bool,
        progress: &Progress,
    ) -> Result<BoxStream, Error> {
        let proxy = self.inner.options.proxies.for_target(target);
        if let Some(proxy) = proxy
            && !target.tls
            && !upgrades
            && proxy.kind == Kind::Http
        {
            progress.at(Step::Proxy);
            let unseen = Progress::default();
            let stream = connect::tcp(&proxy.host, proxy.port, &[], &unseen).await;
            return stream.map(connect::plain).map_err(|error| Error::Proxy {
                proxy: proxy.name(),
                host: target.name(),
                why: connect::full(&error),
            });
        }
        if !target.tls {
            return connect::reach(target, proxy, progress).await.map(connect::plain);
        }
        let (config, stream) =
            tokio::try_join!(self.tls(target.insecure), connect::reach(target, proxy, progress))?;
        progress.at(Step::Tls);
        tls::wrap(config, target, stream).await
    }

    async fn tls(&self, insecure: bool) -> Result<Arc<ClientConfig>, Error> {
        let cell = if insecure { &self.inner.insecure } else { &self.inner.tls };
        let config = cell.get_or_try_init(|| async {
            let options = self.inner.options.clone();
            tokio::task::spawn_blocking(move || tls::config(&options, insecure))
                .await
                .unwrap_or_else(|error| {
                    Err(Error::Options(format!("reading certificates: {error}")))
                })
        });
        config.await.cloned()
    }

    fn kept(&self, target: &Target) -> Option<Connection> {
        let mut idle = self.inner.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = idle.get_mut(target)?;
        while let Some(connection) = kept.pop() {
            if !connection.sender.is_closed() {
                return Some(connection);
            }
        }
        None
    }

    fn keep(&self, target: Target, connection: Connection) {
        if connection.sender.is_closed() {
            return;
        }
        let mut idle = self.inner.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = idle.entry(target).or_default();
        if kept.len() < MAX_IDLE {
            kept.push(connection);
        }
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport").field("options", &self.inner.options).finish_non_exhaustive()
    }
}

/// A body that is read as it comes.
pub struct Body {
    incoming: Incoming,
    host: String,
    _connection: Option<(Target, Connection)>,
}

impl Body {
    /// The next piece, `None` at the end.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            let frame = std::future::poll_fn(|cx| self.poll_frame(cx)).await;
            match frame {
                None => return Ok(None),
                Some(Err(error)) => return Err(explain(&error, &self.host)),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Bytes>, hyper::Error>>> {
        hyper::body::Body::poll_frame(Pin::new(&mut self.incoming), cx)
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").field("host", &self.host).finish_non_exhaustive()
    }
}

impl Connection {
    /// Speaks HTTP on a stream.
    pub(crate) async fn begin(io: BoxStream, host: &str) -> Result<Self, Error> {
        let began = Beginning::default();
        let io = Watched { io, seen: 0, began: began.clone() };
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(io)).await;
        let (sender, connection) = handshake.map_err(|error| explain(&error, host))?;
        let driver = tokio::spawn(
            async move {
                // Errors reach whoever waits for an answer.
                let _ = connection.with_upgrades().await;
            }
            .boxed(),
        );
        Ok(Self { sender, began, _driver: Driver(driver) })
    }

    pub(crate) async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
        host: &str,
    ) -> Result<Response<Incoming>, Error> {
        let answer = self.sender.send_request(request).await;
        answer.map_err(|error| self.began.explain(&error, host))
    }
}

/// As much of a body as there is within `limit`, for a message.
async fn beginning(mut body: Incoming, limit: usize) -> Bytes {
    let mut whole = Vec::new();
    while whole.len() < limit {
        // One that breaks is as good as one that ends.
        let Some(Ok(frame)) = body.frame().await else { break };
        if let Ok(data) = frame.into_data() {
            whole.extend_from_slice(&data[..data.len().min(limit - whole.len())]);
        }
    }
    whole.into()
}

/// A whole body.
pub(crate) async fn read(body: Incoming, limit: usize, host: &str) -> Result<Bytes, Error> {
    match Limited::new(body, limit).collect().await {
        Ok(whole) => Ok(whole.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            Err(Error::TooLarge { host: host.to_owned(), limit })
        }
        Err(error) => Err(match error.downcast::<hyper::Error>() {
            Ok(error) => explain(&error, host),
            Err(error) => Error::NotHttp { host: host.to_owned(), why: error.to_string() },
        }),
    }
}

pub(crate) fn explain(error: &hyper::Error, host: &str) -> Error {
    let host = host.to_owned();
    if error.is_parse() {
        let why = "what it answered is no HTTP response".to_owned();
        return Error::NotHttp { host, why };
    }
    let source = std::io::Error::other(connect::full(error));
    Error::Broken { host, source, sent: !error.is_canceled() }
}

/// The same request again, for a redirect.
fn copy(request: &Request<Bytes>) -> Request<Bytes> {
    let mut copy = Request::new(request.body().clone());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    copy
}

/// Where a redirect leads. A 303 after a POST would change the method, and no API does that.
fn redirect(response: &Response<Incoming>) -> Option<String> {
    match response.status().as_u16() {
        301 | 302 | 303 | 307 | 308 => {}
        _ => return None,
    }
    let location = response.headers().get(header::LOCATION)?;
    Some(String::from_utf8_lossy(location.as_bytes()).into_owned())
}

fn resolve(base: &Uri, location: &str) -> Option<Uri> {
    let base = url::Url::parse(&base.to_string()).ok()?;
    base.join(location).ok()?.as_str().parse().ok()
}

/// Path and query only, as servers expect it (RFC 9112 section 3.2.1).
fn origin_form(uri: &Uri) -> Uri {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    path.parse().unwrap_or_else(|_| Uri::from_static("/"))
}

fn add(headers: &mut HeaderMap, extra: &HeaderMap) {
    for (name, value) in extra {
        headers.append(name.clone(), value.clone());
    }
}
