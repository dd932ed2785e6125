//! A coordinator whose every answer is the test's.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use coderctl_drpc::proto::rpc::tailnet as rpc;
use coderctl_drpc::proto::tailnet as proto;
use coderctl_drpc::{Receiver, RpcError, Sender, Server};
use coderctl_tailnet::control::{Control, ControlEvent, DialError, ResumeToken, Settings};
use coderctl_tailnet::node::Node;
use tokio::io::DuplexStream;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use url::Url;

use crate::{Said, said};

/// A control connection that dials the test.
pub(crate) fn start(node: Option<Node>) -> (Control, mpsc::Receiver<ControlEvent>, Dials) {
    let (asked, dials) = mpsc::unbounded_channel();
    let server = Url::parse("https://coder.test").unwrap();
    let settings = Settings { server, node, resume: None };
    let (control, events) = Control::start(settings, move |resume| {
        let (answer, answered) = oneshot::channel();
        asked.send(Dialed { resume, answer, at: Instant::now() }).unwrap();
        async move { answered.await.unwrap() }
    });
    (control, events, Dials(dials))
}

/// The dials that are made.
pub(crate) struct Dials(mpsc::UnboundedReceiver<Dialed>);

impl Dials {
    pub(crate) async fn next(&mut self) -> Dialed {
        self.0.recv().await.unwrap()
    }
}

/// A dial that waits for its answer.
pub(crate) struct Dialed {
    pub(crate) resume: Option<ResumeToken>,
    pub(crate) at: Instant,
    answer: oneshot::Sender<Result<DuplexStream, DialError>>,
}

impl Dialed {
    /// Refuses it.
    pub(crate) fn refuse(self, status: u16, body: &str) {
        self.answer.send(Err(DialError::from_response(status, body.as_bytes()))).unwrap();
    }

    /// Accepts it: a coordinator with resume tokens.
    pub(crate) async fn accept(self) -> Link {
        self.accept_with(Some(Duration::from_secs(1800))).await
    }

    /// Accepts it. Tokens are to be refreshed after that time; `None`: there are none.
    pub(crate) async fn accept_with(self, refresh_in: Option<Duration>) -> Link {
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        self.answer.send(Ok(ours)).unwrap();
        Link::open(Server::connect(theirs), refresh_in).await
    }

    /// Accepts it, over a network that takes everything and carries nothing once it is frozen.
    pub(crate) async fn accept_over(self, frozen: &Arc<Notify>) -> Link {
        let (ours, near) = tokio::io::duplex(1 << 20);
        let (far, theirs) = tokio::io::duplex(1 << 20);
        self.answer.send(Ok(ours)).unwrap();
        tokio::spawn(pass(near, far, Arc::clone(frozen)));
        Link::open(Server::connect(theirs), None).await
    }
}

/// What passes bytes on until it is told not to.
async fn pass(mut one: DuplexStream, mut other: DuplexStream, frozen: Arc<Notify>) {
    tokio::select! {
        ended = tokio::io::copy_bidirectional(&mut one, &mut other) => drop(ended),
        // Both ends stay open.
        () = frozen.notified() => std::future::pending().await,
    }
}

/// The server's side of one control connection. Dropping it breaks the connection.
pub(crate) struct Link {
    requests: Receiver<proto::CoordinateRequest>,
    pub(crate) responses: Sender<proto::CoordinateResponse>,
    pub(crate) maps: Sender<proto::DerpMap>,
    /// A note for each refresh of the token.
    pub(crate) refreshed: mpsc::UnboundedReceiver<Instant>,
    task: JoinHandle<()>,
}

impl Link {
    async fn open(mut server: Server, refresh_in: Option<Duration>) -> Link {
        let (coordinate, opened_coordinate) = oneshot::channel();
        let (maps, opened_maps) = oneshot::channel();
        let (note, refreshed) = mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            let (mut coordinate, mut maps) = (Some(coordinate), Some(maps));
            let mut number = 0;
            while let Some(call) = server.accept().await {
                match call.rpc() {
                    rpc::COORDINATE => {
                        drop(coordinate.take().unwrap().send(call.stream()));
                    }
                    rpc::STREAM_DERP_MAPS => {
                        let (proto::StreamDerpMapsRequest {}, sender) =
                            call.server_stream().await.unwrap();
                        drop(maps.take().unwrap().send(sender));
                    }
                    rpc::REFRESH_RESUME_TOKEN => {
                        number += 1;
                        let _unheard = note.send(Instant::now());
                        let answer = token(number, refresh_in);
                        let handler = async |_: proto::RefreshResumeTokenRequest| answer;
                        drop(call.unary(handler).await);
                    }
                    other => panic!("{other}"),
                }
            }
        });
        let (requests, responses) = opened_coordinate.await.unwrap();
        let maps = opened_maps.await.unwrap();
        Link { requests, responses, maps, refreshed, task }
    }

    /// What the client says next.
    pub(crate) async fn hear(&mut self) -> Said {
        said(self.requests.recv().await.unwrap().unwrap())
    }

    /// Says something.
    pub(crate) async fn say(&mut self, response: proto::CoordinateResponse) {
        self.responses.send(&response).await.unwrap();
    }

    /// Whether the client has nothing to say, and its connection is still there.
    pub(crate) async fn is_silent(&mut self) -> bool {
        tokio::time::timeout(Duration::from_secs(1), self.requests.recv()).await.is_err()
    }

    /// Waits until the client is gone.
    pub(crate) async fn until_left(mut self) {
        let said = self.requests.recv().await;
        assert!(!matches!(said, Ok(Some(_))), "{said:?}");
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn token(
    number: u32,
    refresh_in: Option<Duration>,
) -> Result<proto::RefreshResumeTokenResponse, RpcError> {
    let Some(refresh_in) = refresh_in else {
        return Err(RpcError::unimplemented(rpc::REFRESH_RESUME_TOKEN));
    };
    Ok(proto::RefreshResumeTokenResponse {
        token: format!("token {number}"),
        refresh_in: Some(refresh_in.try_into().unwrap()),
        // The wall's clock, not ours.
        expires_at: Some((SystemTime::now() + Duration::from_secs(3600)).into()),
        peer_id: Vec::new(),
    })
}

/// The next event; it must come.
pub(crate) async fn next(events: &mut mpsc::Receiver<ControlEvent>) -> ControlEvent {
    tokio::time::timeout(Duration::from_secs(60), events.recv()).await.unwrap().unwrap()
}
