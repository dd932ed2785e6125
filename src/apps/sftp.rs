//! A client of the workspace's file transfer: any number of requests under way at once.
//!
//! ```text
//!   call ─► requests ─► writer ─► ssh ─► the workspace's files
//!     ▲                                      │
//!     └──── answers by number ◄── reader ◄───┘
//! ```

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::{Bytes, BytesMut};
use coderctl_ssh::{
    Text,
    sftp::{self, Attributes, Code, DATA, HANDLE, Limits, Name, Request, Response, VERSION},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufWriter},
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

/// Requests that wait to be written. More wait for these.
const QUEUE: usize = 256;
/// Small requests are collected up to this length, in bytes; larger ones go out by themselves.
const TOGETHER: usize = 32 * 1024;
/// Room for what is read at once, in bytes: two of the longest packets.
const ROOM: usize = 512 * 1024;
/// Bytes of a read or write where the server does not say how much it takes: what every server
/// takes (section 3 of the draft).
const MODEST: u32 = 32 * 1024;

/// Why a request did not do what it should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum SftpError {
    /// The server refused this one.
    #[error("{}", words(.code, .text))]
    Refused {
        /// How.
        code: Code,
        /// Its words.
        text: Text,
    },
    /// The connection is gone.
    #[error("{0}")]
    Lost(String),
    /// The server does not keep to the protocol, or cannot do what is needed.
    #[error("the workspace's sftp server {0}")]
    Broken(String),
}

fn words(code: &Code, text: &Text) -> String {
    match code {
        Code::NoSuchFile => "there is no such file or directory there".to_owned(),
        Code::PermissionDenied => "permission denied there".to_owned(),
        Code::Unsupported => "the workspace's sftp server cannot do that".to_owned(),
        Code::Ok | Code::Eof | Code::Failure | Code::BadMessage | Code::Other(_) => {
            format!("the workspace's sftp server says: {text}")
        }
    }
}

/// A session of the subsystem `sftp`. Dropping it ends it.
pub(super) struct Sftp {
    requests: mpsc::Sender<BytesMut>,
    calls: Arc<Mutex<Calls>>,
    tasks: [JoinHandle<()>; 2],
    /// What the server can do beyond version 3.
    extensions: Vec<Bytes>,
    chunk: usize,
}

/// Who waits for which answer.
#[derive(Default)]
struct Calls {
    next: u32,
    waiting: HashMap<u32, oneshot::Sender<Response>>,
    over: Option<SftpError>,
}

impl Sftp {
    /// Begins a session over the streams of the subsystem. There is no time limit in here.
    ///
    /// # Errors
    /// [`SftpError`], but for refusals.
    pub(super) async fn begin<R, W>(input: R, output: W) -> Result<Self, SftpError>
    where
        R: AsyncRead + Send + Unpin + 'static,
        W: AsyncWrite + Send + Unpin + 'static,
    {
        let calls = Arc::new(Mutex::new(Calls::default()));
        let (requests, queue) = mpsc::channel(QUEUE);
        let tasks = [
            tokio::spawn(read(input, Arc::clone(&calls))),
            tokio::spawn(write(output, queue, Arc::clone(&calls))),
        ];
        let mut sftp =
            Self { requests, calls, tasks, extensions: Vec::new(), chunk: MODEST as usize };
        // The answer has no number; it gets the first, which is 0.
        let answer = sftp.call(&Request::Init).await?;
        let Response::Version { version, extensions } = answer else {
            return Err(refused(&answer));
        };
        if version < VERSION {
            let why = format!("speaks version {version} only; {VERSION} is needed");
            return Err(SftpError::Broken(why));
        }
        sftp.extensions = extensions.into_iter().map(|(name, _)| name).collect();
        if sftp.can("limits@openssh.com")
            && let Response::Extended(fields) = sftp.call(&Request::Limits).await?
        {
            let limits = Limits::read(&fields)
                .map_err(|error| SftpError::Broken(format!("tells its limits wrongly: {error}")))?;
            let said = |limit: u64| if limit == 0 { u64::from(MODEST) } else { limit };
            let chunk = said(limits.read).min(said(limits.write)).min(u64::from(DATA));
            sftp.chunk = chunk as usize;
        }
        Ok(sftp)
    }

    /// Whether the server knows this extension.
    pub(super) fn can(&self, extension: &str) -> bool {
        self.extensions.iter().any(|known| *known == extension.as_bytes())
    }

    /// Most bytes of one read or write.
    pub(super) fn chunk(&self) -> usize {
        self.chunk
    }

    /// Asks, and waits for the answer, which may be a refusal.
    pub(super) async fn call(&self, request: &Request) -> Result<Response, SftpError> {
        let (tell, told) = oneshot::channel();
        let id = {
            let mut calls = lock(&self.calls);
            if let Some(over) = &calls.over {
                return Err(over.clone());
            }
            // Four thousand million later some may still wait.
            while calls.waiting.contains_key(&calls.next) {
                calls.next = calls.next.wrapping_add(1);
            }
            let id = calls.next;
            calls.next = calls.next.wrapping_add(1);
            calls.waiting.insert(id, tell);
            id
        };
        let mut packet = BytesMut::new();
        request.write(id, &mut packet);
        if self.requests.send(packet).await.is_ok()
            && let Ok(response) = told.await
        {
            return Ok(response);
        }
        Err(lock(&self.calls).over.clone().unwrap_or_else(|| lost("it was ended here")))
    }

    /// The same where the answer is that it is done.
    pub(super) async fn done(&self, request: &Request) -> Result<(), SftpError> {
        let answer = self.call(request).await?;
        if code(&answer) == Some(Code::Ok) { Ok(()) } else { Err(refused(&answer)) }
    }

    /// The same where it is a handle.
    pub(super) async fn handle(&self, request: &Request) -> Result<Bytes, SftpError> {
        let answer = self.call(request).await?;
        let Response::Handle(handle) = answer else { return Err(refused(&answer)) };
        if handle.len() > HANDLE {
            let why = format!("gave a handle of {} bytes; {HANDLE} at most", handle.len());
            return Err(SftpError::Broken(why));
        }
        Ok(handle)
    }

    /// The same where it is what is said of a file; none where there is no such file.
    pub(super) async fn attributes(
        &self,
        request: &Request,
    ) -> Result<Option<Attributes>, SftpError> {
        let answer = self.call(request).await?;
        if let Response::Attributes(said) = answer {
            return Ok(Some(said));
        }
        if code(&answer) == Some(Code::NoSuchFile) { Ok(None) } else { Err(refused(&answer)) }
    }

    /// The same where it is bytes of a file; none at its end.
    pub(super) async fn data(&self, request: &Request) -> Result<Option<Bytes>, SftpError> {
        let answer = self.call(request).await?;
        if let Response::Data(data) = answer {
            return Ok(Some(data));
        }
        if code(&answer) == Some(Code::Eof) { Ok(None) } else { Err(refused(&answer)) }
    }

    /// The same where it is names; none at the end of a directory.
    pub(super) async fn names(&self, request: &Request) -> Result<Option<Vec<Name>>, SftpError> {
        let answer = self.call(request).await?;
        if let Response::Names(names) = answer {
            return Ok(Some(names));
        }
        if code(&answer) == Some(Code::Eof) { Ok(None) } else { Err(refused(&answer)) }
    }

    /// The same where it is one path.
    pub(super) async fn path(&self, request: &Request) -> Result<Bytes, SftpError> {
        let names = self.names(request).await?.unwrap_or_default();
        match &names[..] {
            [path] => Ok(path.name.clone()),
            _ => Err(SftpError::Broken(format!("gave {} paths for one", names.len()))),
        }
    }
}

impl Drop for Sftp {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// The code of a status.
fn code(answer: &Response) -> Option<Code> {
    if let Response::Status { code, .. } = answer { Some(*code) } else { None }
}

/// What an answer other than the wanted one means.
fn refused(answer: &Response) -> SftpError {
    let what = match answer {
        Response::Status { code: Code::Ok, .. } => "success",
        Response::Status { code, text } => {
            return SftpError::Refused { code: *code, text: Text::new(text) };
        }
        Response::Version { .. } => "its version",
        Response::Handle(_) => "a handle",
        Response::Data(_) => "data",
        Response::Names(_) => "names",
        Response::Attributes(_) => "attributes",
        Response::Extended(_) => "an extended reply",
    };
    SftpError::Broken(format!("answered with {what}, which was not asked for"))
}

fn lost(why: &str) -> SftpError {
    SftpError::Lost(format!("the file transfer broke off: {why}"))
}

fn lock(calls: &Mutex<Calls>) -> MutexGuard<'_, Calls> {
    calls.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends all calls for this reason, if it is the first.
fn end(calls: &Mutex<Calls>, why: SftpError) {
    let mut calls = lock(calls);
    calls.over.get_or_insert(why);
    calls.waiting.clear();
}

async fn write(
    output: impl AsyncWrite + Unpin,
    mut queue: mpsc::Receiver<BytesMut>,
    calls: Arc<Mutex<Calls>>,
) {
    let mut output = BufWriter::with_capacity(TOGETHER, output);
    let mut carry = async || {
        while let Some(packet) = queue.recv().await {
            output.write_all(&packet).await?;
            while let Ok(packet) = queue.try_recv() {
                output.write_all(&packet).await?;
            }
            output.flush().await?;
        }
        std::io::Result::Ok(())
    };
    if let Err(error) = carry().await {
        end(&calls, lost(&error.to_string()));
    }
}

async fn read(mut input: impl AsyncRead + Unpin, calls: Arc<Mutex<Calls>>) {
    let mut buffer = BytesMut::new();
    let why = loop {
        match sftp::split(&mut buffer) {
            Ok(Some(packet)) => {
                if let Err(why) = deliver(&packet, &calls) {
                    break SftpError::Broken(why);
                }
            }
            Ok(None) => {
                if buffer.capacity() - buffer.len() < TOGETHER {
                    buffer.reserve(ROOM);
                }
                match input.read_buf(&mut buffer).await {
                    Ok(0) => break lost("the workspace's sftp server has ended"),
                    Ok(_) => {}
                    Err(error) => break lost(&error.to_string()),
                }
            }
            Err(length) => break SftpError::Broken(format!("sent a packet of {length} bytes")),
        }
    };
    end(&calls, why);
}

fn deliver(packet: &Bytes, calls: &Mutex<Calls>) -> Result<(), String> {
    let (id, response) = Response::parse(packet).map_err(|error| format!("sent a {error}"))?;
    let waiting = lock(calls).waiting.remove(&id);
    let waiting = waiting.ok_or_else(|| "answered what nobody had asked".to_owned())?;
    // Whoever asked may have gone away.
    let _ = waiting.send(response);
    Ok(())
}
