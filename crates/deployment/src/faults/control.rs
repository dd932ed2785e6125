//! The control socket: one JSON object a line each way.
//!
//! | line | answer |
//! |---|---|
//! | `{"arm": {"hold_job": {}}}`, any [`Fault`] | `{"armed": 1}`, its number |
//! | `{"disarm": 1}` | `{"disarmed": 1}`, how many |
//! | `{"disarm_all": {}}` | `{"disarmed": 3}` |
//! | `{"list": {}}` | `{"faults": [{"id": 1, "fault": {…}, "seen": 0, "hit": 0}]}` |
//! | `{"drop_sessions": {"agent": "…"}}`, or `{}` for all | `{"cut": 1}`, how many |
//! | `{"cut_streams": {"path": "/api/v2/workspaces/"}}` | `{"cut": 1}` |
//! | `{"freeze_relay": true}` | `{"frozen": true}` |
//! | anything else | `{"error": "…"}` |
//!
//! The socket has mode 0600, and a connection of another user than the server's is closed unread.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt},
    path::{Path, PathBuf},
};

use futures_util::FutureExt as _;
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    task::JoinSet,
};
use uuid::Uuid;

use super::{Armed, Fault, Faults};
use crate::relay::Relay;

/// Bytes of a line; the longest fault has a few hundred.
const MAX_LINE: u64 = 64 * 1024;

/// Connections at a time; a test needs one.
const MAX_CONNECTIONS: usize = 8;

/// A line from the client.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Request {
    Arm(Fault),
    Disarm(u64),
    DisarmAll {},
    List {},
    DropSessions {
        #[serde(default)]
        agent: Option<Uuid>,
    },
    CutStreams {
        path: String,
    },
    FreezeRelay(bool),
}

/// A line to the client.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    Armed(u64),
    Disarmed(usize),
    Faults(Vec<Armed>),
    Cut(usize),
    Frozen(bool),
    Error(String),
}

/// Why there is no control socket.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the control socket {path}: {source}")]
pub struct ControlError {
    path: PathBuf,
    source: io::Error,
}

/// The control socket, open. Its file is removed when it is dropped.
#[derive(Debug)]
pub struct Control {
    listener: UnixListener,
    path: PathBuf,
}

impl Control {
    /// Opens it.
    ///
    /// # Errors
    /// When the path cannot be used; also when there is something at it already, unless it is a
    /// socket at which nobody listens any more.
    pub fn bind(path: &Path) -> Result<Self, ControlError> {
        let listener =
            open(path).map_err(|source| ControlError { path: path.to_owned(), source })?;
        Ok(Self { listener, path: path.to_owned() })
    }

    /// Serves until it is dropped.
    pub async fn serve(self, faults: Faults, relay: Relay) {
        let mut connections = JoinSet::new();
        loop {
            while connections.len() >= MAX_CONNECTIONS {
                connections.join_next().await;
            }
            match self.listener.accept().await {
                Ok((stream, _)) if is_ours(&stream) => {
                    let (faults, relay) = (faults.clone(), relay.clone());
                    connections.spawn(
                        async move {
                            if let Err(error) = converse(stream, &faults, &relay).await {
                                tracing::debug!(%error, "a control connection broke");
                            }
                        }
                        .boxed(),
                    );
                }
                Ok(_) => tracing::warn!("another user knocked at the control socket"),
                Err(error) => {
                    tracing::error!(%error, "the control socket is closed");
                    return;
                }
            }
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(%error, "the control socket is gone already");
        }
    }
}

/// Binds in a directory that nobody else may enter, so that the socket is never open to others,
/// and moves it to its place.
fn open(path: &Path) -> io::Result<UnixListener> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.file_type().is_socket() => {
            if std::os::unix::net::UnixStream::connect(path).is_ok() {
                return Err(io::Error::new(
                    io::ErrorKind::AddrInUse,
                    "another server listens there",
                ));
            }
        }
        Ok(_) => {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "there is another file; remove it or choose another path",
            ));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let private = parent.unwrap_or(Path::new(".")).join(format!(".{}", Uuid::new_v4().simple()));
    fs::DirBuilder::new().mode(0o700).create(&private)?;
    let place = private.join("s");
    let bound = UnixListener::bind(&place).and_then(|listener| {
        fs::set_permissions(&place, fs::Permissions::from_mode(0o600))?;
        fs::rename(&place, path)?;
        Ok(listener)
    });
    if bound.is_err() && place.exists() {
        fs::remove_file(&place)?;
    }
    fs::remove_dir(&private)?;
    bound
}

/// Whether the other end is a process of this user.
fn is_ours(stream: &UnixStream) -> bool {
    stream.peer_cred().is_ok_and(|peer| peer.uid() == rustix::process::geteuid().as_raw())
}

async fn converse(stream: UnixStream, faults: &Faults, relay: &Relay) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    loop {
        let mut line = Vec::new();
        (&mut read).take(MAX_LINE).read_until(b'\n', &mut line).await?;
        if line.is_empty() {
            return Ok(());
        }
        let answer = match serde_json::from_slice(&line) {
            Ok(request) => perform(request, faults, relay),
            Err(error) => Answer::Error(error.to_string()),
        };
        let mut text = serde_json::to_vec(&answer)?;
        text.push(b'\n');
        write.write_all(&text).await?;
        if line.last() != Some(&b'\n') {
            return Ok(());
        }
    }
}

fn perform(request: Request, faults: &Faults, relay: &Relay) -> Answer {
    tracing::info!(?request, "fault");
    match request {
        Request::Arm(fault) => match faults.arm(fault) {
            Ok(id) => Answer::Armed(id),
            Err(error) => Answer::Error(error.to_string()),
        },
        Request::Disarm(id) => Answer::Disarmed(faults.disarm(Some(id))),
        Request::DisarmAll {} => Answer::Disarmed(faults.disarm(None)),
        Request::List {} => Answer::Faults(faults.list()),
        Request::DropSessions { agent } => Answer::Cut(faults.drop_sessions(agent)),
        Request::CutStreams { path } => Answer::Cut(faults.cut_streams(&path)),
        Request::FreezeRelay(frozen) => {
            relay.freeze(frozen);
            Answer::Frozen(frozen)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn lines_are_those_of_the_description() {
        for (line, request) in [
            (
                r#"{"arm": {"hold_job": {}}}"#,
                Request::Arm(Fault::HoldJob { workspace: None, transition: None }),
            ),
            (r#"{"disarm": 1}"#, Request::Disarm(1)),
            (r#"{"disarm_all": {}}"#, Request::DisarmAll {}),
            (r#"{"list": {}}"#, Request::List {}),
            (r#"{"drop_sessions": {}}"#, Request::DropSessions { agent: None }),
            (r#"{"cut_streams": {"path": "/x"}}"#, Request::CutStreams { path: "/x".to_owned() }),
            (r#"{"freeze_relay": true}"#, Request::FreezeRelay(true)),
        ] {
            assert_eq!(serde_json::from_str::<Request>(line).unwrap(), request, "{line}");
        }
        let answer = serde_json::to_string(&Answer::Armed(1)).unwrap();
        assert_eq!(answer, r#"{"armed":1}"#);
    }

    #[tokio::test]
    async fn the_socket_is_for_its_owner_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control");
        let control = Control::bind(&path).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let error = Control::bind(&path).unwrap_err().to_string();
        assert!(error.contains("another server listens there"), "{error}");
        drop(control);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "nothing is left");
        fs::write(&path, "precious").unwrap();
        let error = Control::bind(&path).unwrap_err().to_string();
        assert!(error.contains("there is another file"), "{error}");
    }

    #[tokio::test]
    async fn a_socket_that_nobody_listens_at_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        Control::bind(&path).unwrap();
    }
}
