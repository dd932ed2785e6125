//! The listener: connections, their limits, and how it all ends.
//!
//! ```text
//!   accept ─► (TLS) ─► HTTP/1.1 ─► body limit, deadline, panics contained ─► router
//!                          └─ upgraded: a task in `Tasks`
//! ```
//!
//! Every task is owned here: the connections in one set, the upgraded ones in [`Tasks`].

mod limits;
mod patient;
mod tls;

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::Request,
    response::{IntoResponse, Response},
};
use futures_util::FutureExt;
use http::{HeaderName, HeaderValue, StatusCode, header};
use http_body_util::Limited;
use hyper::{
    body::Incoming,
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;
use url::Url;

pub use self::limits::{Limits, raise_open_files};
use self::patient::Patient;
use super::{
    error::ApiError,
    tasks::{EndWith, Stopping, Tasks},
};
use crate::config::{Config, ConfigError};

/// The version on every response and in `/buildinfo`. It is none of Coder's: a Go client takes a
/// server at v0.0.0 for one that was built from source and does not compare it with its own
/// (`buildinfo/buildinfo.go`, `cli/root.go`).
pub const BUILD_VERSION: &str = concat!("v0.0.0+coderctl.", env!("CARGO_PKG_VERSION"));

/// Where [`BUILD_VERSION`] goes.
const BUILD_VERSION_HEADER: HeaderName = HeaderName::from_static("x-coder-build-version");

/// Pause after a connection could not be accepted (no more files may be opened, most likely).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The address of the client, among the extensions of every request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

/// Why the deployment cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// What it was started with makes no sense.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The address cannot be had.
    #[error("cannot listen on {address}: {source}; choose another address with --listen")]
    Bind {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

/// An address that is listened on.
pub struct Listener {
    tcp: TcpListener,
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
    access_url: Url,
    limits: Limits,
}

impl Listener {
    /// Checks what concerns the listener, reads its certificate and opens its port. Connections
    /// wait until [`serve`](Self::serve).
    ///
    /// # Errors
    /// When the configuration is not safe or makes no sense, or the address cannot be had.
    pub async fn bind(config: &Config) -> Result<Self, ListenError> {
        config.check()?;
        let tls = config.tls.as_ref().map(tls::acceptor).transpose()?;
        let bind = |source| ListenError::Bind { address: config.listen, source };
        let tcp = TcpListener::bind(config.listen).await.map_err(bind)?;
        let address = tcp.local_addr().map_err(bind)?;
        let access_url = config.access_url_on(address)?;
        Ok(Self { tcp, address, tls, access_url, limits: config.limits.clone() })
    }

    /// Where it listens, with the port that the system chose if that was left to it.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL by which clients and agents reach it.
    #[must_use]
    pub fn access_url(&self) -> &Url {
        &self.access_url
    }

    /// Serves until `stop` is ready and all connections have ended, or were cut off at the end of
    /// [`Limits::shutdown`].
    pub async fn serve(self, router: Router, stop: impl Future<Output = ()>) {
        raise_open_files();
        let tasks = Tasks::default();
        let _tasks_end_too = EndWith(tasks.clone());
        let slots = Arc::new(Semaphore::new(self.limits.connections));
        let mut connections = JoinSet::new();
        let shared = Arc::new(Shared {
            router: TowerToHyperService::new(router),
            tls: self.tls,
            limits: self.limits,
            tasks: tasks.clone(),
        });
        let mut stop = std::pin::pin!(stop);
        loop {
            let next = async {
                // Never closed, so there is always a slot in the end.
                let slot = Arc::clone(&slots).acquire_owned().await;
                (slot, self.tcp.accept().await)
            };
            tokio::select! {
                () = &mut stop => break,
                (slot, accepted) = next => match accepted {
                    Ok((stream, peer)) => {
                        let serve = Arc::clone(&shared).connection(stream, peer);
                        connections.spawn(async move {
                            serve.await;
                            drop(slot);
                        }.boxed());
                    }
                    Err(error) => {
                        tracing::warn!(%error, "a connection could not be accepted");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(ended) = connections.join_next() => report(ended),
            }
        }
        drop(self.tcp);
        let patience = shared.limits.shutdown;
        let all = async {
            while let Some(ended) = connections.join_next().await {
                report(ended);
            }
        };
        let ended = futures_util::join!(tasks.stop(patience), tokio::time::timeout(patience, all));
        if ended.1.is_err() {
            tracing::debug!(count = connections.len(), "requests cut off as the server stops");
            connections.shutdown().await;
        }
    }
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listener").field("address", &self.address).finish_non_exhaustive()
    }
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    match ended {
        Err(error) if error.is_panic() => tracing::error!(%error, "a connection's task panicked"),
        Err(_) | Ok(()) => {}
    }
}

/// What all connections share.
struct Shared {
    router: TowerToHyperService<Router>,
    tls: Option<TlsAcceptor>,
    limits: Limits,
    tasks: Tasks,
}

impl Shared {
    async fn connection(self: Arc<Self>, stream: TcpStream, peer: SocketAddr) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, %peer, "no TCP_NODELAY");
        }
        let stream = Patient::new(stream, self.limits.stalled);
        let Some(tls) = self.tls.clone() else { return self.http(stream, peer).await };
        match tokio::time::timeout(self.limits.handshake, tls.accept(stream)).await {
            Ok(Ok(stream)) => self.http(stream, peer).await,
            Ok(Err(error)) => tracing::debug!(%error, %peer, "no TLS"),
            Err(_) => tracing::debug!(%peer, "no TLS within the time for it"),
        }
    }

    async fn http<S>(self: Arc<Self>, stream: S, peer: SocketAddr)
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
    {
        let mut stopping = self.tasks.stopping();
        let count = AtomicUsize::new(0);
        let service = service_fn(|request: http::Request<Incoming>| {
            let last =
                count.fetch_add(1, Ordering::Relaxed) + 1 >= self.limits.requests_per_connection;
            let shared = Arc::clone(&self);
            async move {
                let mut response = shared.answer(request, peer).await;
                if last && response.status() != StatusCode::SWITCHING_PROTOCOLS {
                    let close = HeaderValue::from_static("close");
                    response.headers_mut().insert(header::CONNECTION, close);
                }
                Ok::<_, std::convert::Infallible>(response)
            }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.header)
            .max_buf_size(self.limits.head)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        let mut connection = std::pin::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = stopping.requested() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, %peer, "a connection broke");
        }
    }

    async fn answer(&self, request: http::Request<Incoming>, peer: SocketAddr) -> Response {
        let mut request: Request =
            request.map(|body| Body::new(Limited::new(body, self.limits.body)));
        request.extensions_mut().insert(Peer(peer));
        request.extensions_mut().insert(self.tasks.clone());
        let call = format!("{} {}", request.method(), request.uri().path());
        let answer = self.router.call(request);
        let mut response = match tokio::time::timeout(self.limits.request, answer).await {
            Ok(Ok(response)) => response,
            Ok(Err(never)) => match never {},
            Err(_) => {
                let limit = self.limits.request;
                let why = format!("{call} was not done within {limit:?}.");
                tracing::warn!("{why}");
                ApiError::new(StatusCode::SERVICE_UNAVAILABLE, why).into_response()
            }
        };
        let headers = response.headers_mut();
        headers.insert(BUILD_VERSION_HEADER, HeaderValue::from_static(BUILD_VERSION));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    }
}

/// Ends a stream that follows something when the server stops, instead of holding it up.
pub async fn until_stopping<T>(
    stopping: &mut Stopping,
    work: impl Future<Output = T>,
) -> Option<T> {
    tokio::select! {
        biased;
        () = stopping.requested() => None,
        done = work => Some(done),
    }
}
