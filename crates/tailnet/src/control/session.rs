//! The task: dial, serve, wait, dial anew.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use coderctl_drpc::proto::rpc::tailnet as rpc;
use coderctl_drpc::proto::tailnet as proto;
use coderctl_drpc::{Client, Receiver, RpcError, Sender};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};
use url::Url;

use super::backoff::Backoff;
use super::dial::{DialError, DialFailure};
use super::resume::ResumeToken;
use super::{ControlEvent, DIAL_TIMEOUT, DOUBT_TIMEOUT, Ended, Shared};
use crate::derp_map::DerpMap;

/// When the server does not say when to refresh the token (coder/coder: tailnet/controllers.go).
const REFRESH_DEFAULT: Duration = Duration::from_secs(30 * 60);

/// A connection that lived for so long was a good one: the next dial is soon. One that the server
/// ends at once, again and again, must not be dialled as fast as it can be.
const GOOD: Duration = Duration::from_secs(5);

/// Why the connection is down.
#[derive(Debug, thiserror::Error)]
pub enum Down {
    /// A dial failed.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// A call failed.
    #[error(transparent)]
    Rpc(#[from] RpcError),
    /// The server ended the call.
    #[error("the server ended coordination")]
    Ended,
    /// The network changed, and nothing comes through it.
    #[error("the server does not answer from another network")]
    Silent,
}

/// Everything the task owns.
pub(super) struct Task {
    pub(super) shared: Arc<Shared>,
    pub(super) server: Url,
    pub(super) resume: Option<ResumeToken>,
    pub(super) leaving: watch::Receiver<bool>,
    pub(super) events: mpsc::Sender<ControlEvent>,
}

/// The calls of one connection.
struct Calls {
    client: Client,
    requests: Sender<proto::CoordinateRequest>,
    responses: Receiver<proto::CoordinateResponse>,
    maps: Receiver<proto::DerpMap>,
}

impl Task {
    pub(super) async fn run<D, F, S>(mut self, mut dial: D) -> Ended
    where
        D: FnMut(Option<ResumeToken>) -> F + Send,
        F: Future<Output = Result<S, DialError>> + Send,
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let mut leaving = self.leaving.clone();
        let mut backoff = Backoff::new();
        let mut first = true;
        loop {
            let resume = self.resume.clone().filter(|token| token.is_valid(SystemTime::now()));
            let opened = tokio::select! {
                opened = open(dial(resume)) => opened,
                () = self.shared.doubt.notified() => {
                    backoff.reset();
                    continue;
                }
                () = left(&mut leaving) => return Ended::NotConnected,
            };
            let down = match opened {
                Ok(calls) => {
                    let began = Instant::now();
                    let down = self.serve(calls).await;
                    if *self.leaving.borrow() {
                        return Ended::Left;
                    }
                    if began.elapsed() >= GOOD {
                        backoff.reset();
                    }
                    down
                }
                Err(Down::Dial(error)) if first && error.failure == DialFailure::Refused => {
                    self.emit(ControlEvent::Refused(error)).await;
                    return Ended::NotConnected;
                }
                Err(Down::Dial(error)) if error.failure == DialFailure::ResumeToken => {
                    self.resume = None;
                    Down::Dial(error)
                }
                Err(down) => down,
            };
            first = false;
            tracing::debug!(error = %down, "control connection down");
            self.emit(ControlEvent::Down(down)).await;
            tokio::select! {
                () = sleep(backoff.next()) => {}
                () = self.shared.doubt.notified() => backoff.reset(),
                () = left(&mut leaving) => return Ended::NotConnected,
            }
        }
    }

    /// Serves one connection until it ends, and says why.
    async fn serve(&mut self, calls: Calls) -> Down {
        let Calls { client, requests, responses, maps } = calls;
        self.shared.lock().handle_connected();
        self.emit(ControlEvent::Connected).await;
        let refreshed = std::sync::Mutex::new(None);
        let down = tokio::select! {
            down = self.say(requests) => down,
            down = self.hear(responses) => down,
            down = self.maps(maps) => down,
            down = self.doubt(&client) => down,
            never = refresh(&client, &refreshed) => match never {},
        };
        if let Ok(Some(token)) = refreshed.into_inner() {
            self.resume = Some(token);
        }
        if matches!(down, Down::Silent) {
            tracing::debug!(%down, "control connection ended");
        } else {
            let ended = client.close().await;
            tracing::debug!(%down, %ended, "control connection ended");
        }
        self.shared.lock().handle_disconnected();
        self.emit_updates().await;
        down
    }

    async fn say(&self, mut requests: Sender<proto::CoordinateRequest>) -> Down {
        loop {
            let request = self.shared.lock().poll_request();
            match request {
                Some(request) => {
                    if let Err(error) = requests.send(&request).await {
                        return error.into();
                    }
                }
                None => {
                    self.emit_updates().await;
                    self.shared.changed.notified().await;
                }
            }
        }
    }

    async fn hear(&self, mut responses: Receiver<proto::CoordinateResponse>) -> Down {
        loop {
            match responses.recv().await {
                Ok(Some(response)) => self.shared.lock().handle_response(response),
                Ok(None) => return Down::Ended,
                Err(error) => return error.into(),
            }
            self.emit_updates().await;
        }
    }

    /// Asks the server whether it is there, whenever the network has changed.
    async fn doubt(&self, client: &Client) -> Down {
        loop {
            self.shared.doubt.notified().await;
            if timeout(DOUBT_TIMEOUT, client.session().ping()).await.is_err() {
                return Down::Silent;
            }
        }
    }

    async fn maps(&self, mut maps: Receiver<proto::DerpMap>) -> Down {
        loop {
            match maps.recv().await {
                Ok(Some(message)) => match DerpMap::from_proto(message) {
                    Ok(mut map) => {
                        map.rewrite(&self.server);
                        self.emit(ControlEvent::DerpMap(map)).await;
                    }
                    Err(error) => tracing::warn!(%error, "relay map ignored"),
                },
                Ok(None) => return Down::Ended,
                Err(error) => return error.into(),
            }
        }
    }

    async fn emit_updates(&self) {
        loop {
            let Some(update) = self.shared.lock().poll_update() else { return };
            self.emit(ControlEvent::Peer(update)).await;
        }
    }

    /// Hands out an event; while we leave nobody listens any more.
    async fn emit(&self, event: ControlEvent) {
        let mut leaving = self.leaving.clone();
        tokio::select! {
            biased;
            () = left(&mut leaving) => {}
            sent = self.events.send(event) => {
                if sent.is_err() {
                    tracing::debug!("nobody listens to the control connection");
                }
            }
        }
    }
}

/// Dials and opens the calls.
async fn open<S>(dial: impl Future<Output = Result<S, DialError>>) -> Result<Calls, Down>
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let open = async {
        let client = Client::connect(dial.await?);
        let (requests, responses) = client.stream(rpc::COORDINATE).await?;
        let request = proto::StreamDerpMapsRequest {};
        let maps = client.server_stream(rpc::STREAM_DERP_MAPS, &request).await?;
        Ok(Calls { client, requests, responses, maps })
    };
    match timeout(DIAL_TIMEOUT, open).await {
        Ok(opened) => opened,
        Err(_) => {
            let limit = DIAL_TIMEOUT.as_secs();
            Err(DialError::transient(format!("no connection within {limit} s")).into())
        }
    }
}

/// Keeps the resume token fresh; without one we merely come back as somebody new.
async fn refresh(
    client: &Client,
    token: &std::sync::Mutex<Option<ResumeToken>>,
) -> std::convert::Infallible {
    loop {
        let request = proto::RefreshResumeTokenRequest {};
        let answer: Result<proto::RefreshResumeTokenResponse, RpcError> =
            client.unary(rpc::REFRESH_RESUME_TOKEN, &request).await;
        let delay = match answer {
            Ok(response) => {
                let delay = response.refresh_in.and_then(|delay| Duration::try_from(delay).ok());
                if let Ok(mut token) = token.lock() {
                    *token = ResumeToken::from_response(response);
                }
                delay.filter(|delay| !delay.is_zero()).unwrap_or(REFRESH_DEFAULT)
            }
            Err(error) => {
                if error.is_unimplemented() {
                    tracing::debug!("the server has no resume tokens");
                } else {
                    tracing::debug!(%error, "resume token not refreshed");
                }
                return std::future::pending().await;
            }
        };
        sleep(delay).await;
    }
}

async fn left(leaving: &mut watch::Receiver<bool>) {
    // It fails when the handle is dropped, which aborts this task.
    if leaving.wait_for(|leaving| *leaving).await.is_err() {
        std::future::pending::<()>().await;
    }
}
