//! `ssh --forward-gpg`: programs in the workspace sign and decrypt with the GPG keys that are here.
//!
//! As the Go client does it (coder/coder: cli/ssh.go): the public keys and the trust in owners go
//! over there, an agent that runs there is ended, and its socket becomes a forward to the *extra*
//! socket of the agent here, which is made for that: it uses keys and gives none away
//! (<https://wiki.gnupg.org/AgentForwarding>). The agent here is the user's: it is not started.

use std::{
    io,
    os::unix::ffi::OsStringExt as _,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use coderctl_ssh::{
    Exit, Options, Request, Session,
    client::{Client, Reader},
};
use tokio::{io::AsyncWriteExt as _, net::UnixStream, process::Command, time::timeout};

use super::{
    App, BoxFuture, Context, End, Tunnel,
    accompanied::Accompanied,
    forward_spec::{Forward, Listen, Place},
    port_forward::PortForward,
    session::{asked, attached, detached, ended_by, finish, open},
};
use crate::{
    error::{CommandError, Kind},
    ui::{Ui, escape},
};

/// How long a program of GnuPG may take, here and there: a keyring with thousands of keys takes
/// seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// Most of what such a program says that is kept, in bytes.
const MOST: usize = 64 << 10;

/// Ends the agent there and tells where its socket was. No shell's grammar but that of `sh` counts.
const CLEAR: &str = "sh -c 'gpgconf --kill gpg-agent && socket=$(gpgconf --list-dirs agent-socket) \
                     && rm -f -- \"$socket\" && printf %s \"$socket\"'";

/// A session with the GPG agent beside it.
pub struct Gpg {
    session: Box<dyn App>,
    workspace: String,
    here: Option<Here>,
}

/// What goes over.
struct Here {
    socket: PathBuf,
    keys: Vec<u8>,
    trust: Vec<u8>,
}

impl Gpg {
    /// Will run this session in the workspace of this name with our agent behind it.
    #[must_use]
    pub fn new(session: Box<dyn App>, workspace: impl Into<String>) -> Self {
        Self { session, workspace: workspace.into(), here: None }
    }
}

impl App for Gpg {
    fn prepare<'a>(&'a mut self, ui: &'a Ui) -> BoxFuture<'a, Result<(), CommandError>> {
        Box::pin(async move {
            self.here = Some(Here::find().await?);
            self.session.prepare(ui).await
        })
    }

    fn run(self: Box<Self>, context: Context) -> BoxFuture<'static, End> {
        Box::pin(run(*self, context))
    }
}

async fn run(app: Gpg, mut context: Context) -> End {
    let Context { tunnel, close, signals, .. } = &mut context;
    let Some(here) = app.here else {
        return End::Failed(CommandError::msg(Kind::Other, "the GPG agent was not looked for"));
    };
    let mut gone = tunnel.clone();
    let settled = async {
        let way = attached(tunnel).await?;
        tokio::select! {
            settled = timeout(PATIENCE, settle(&*way, &here)) => settled.unwrap_or_else(|_| {
                let text = format!("gpg in the workspace is not done after {} s", PATIENCE.as_secs());
                Err(CommandError::msg(Kind::Timeout, text))
            }),
            () = detached(&mut gone) => {
                Err(CommandError::msg(Kind::Tunnel, "the tunnel broke before the session began"))
            }
        }
    };
    let socket = tokio::select! {
        settled = settled => match settled {
            Ok(socket) => socket,
            Err(error) => return End::Failed(error),
        },
        () = asked(close) => return End::Done(0),
        Some(signal) = signals.recv() => return End::Done(ended_by(signal)),
    };
    let forward = Forward::Remote(Listen::Socket(socket), Place::Socket(here.socket));
    let forwards = PortForward::new(vec![forward], app.workspace);
    Box::new(Accompanied::new(app.session, forwards)).run(context).await
}

impl Here {
    /// Finds the agent, and what it can be asked about.
    async fn find() -> Result<Self, CommandError> {
        let mut socket = local("gpgconf", &["--list-dirs", "agent-extra-socket"]).await?;
        let end = socket.trim_ascii_end().len();
        socket.truncate(end);
        let socket = PathBuf::from(std::ffi::OsString::from_vec(socket));
        if let Err(error) = UnixStream::connect(&socket).await {
            let what = format!("no GPG agent answers at {}", socket.display());
            return Err(CommandError::new(Kind::Local, anyhow::Error::new(error).context(what))
                .hint("start it: gpgconf --launch gpg-agent"));
        }
        let (keys, trust) = tokio::try_join!(
            local("gpg", &["--batch", "--armor", "--export"]),
            local("gpg", &["--batch", "--export-ownertrust"]),
        )?;
        Ok(Self { socket, keys, trust })
    }
}

/// Runs a program here: what it prints.
async fn local(program: &'static str, arguments: &[&str]) -> Result<Vec<u8>, CommandError> {
    let failed = |why: anyhow::Error| {
        let what = format!("cannot forward the GPG agent: {program} {}", arguments.join(" "));
        CommandError::new(Kind::Local, why.context(what))
    };
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(PATIENCE, command.output())
        .await
        .map_err(|_| failed(anyhow::anyhow!("it is not done after {} s", PATIENCE.as_secs())))?;
    let output = match output {
        Ok(output) => output,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(failed(error.into()).hint("GnuPG has to be installed here"));
        }
        Err(error) => return Err(failed(error.into())),
    };
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(failed(anyhow::anyhow!("{}: {}", output.status, escape(said.trim()))))
}

/// Makes the workspace ready: where the agent's socket is to be there.
async fn settle(tunnel: &dyn Tunnel, here: &Here) -> Result<PathBuf, CommandError> {
    let mut client = None;
    for (command, input) in [
        // Without an agent of their own: the one here is to be the only one.
        ("gpg --batch --no-autostart --import", &here.keys),
        ("gpg --batch --no-autostart --import-ownertrust", &here.trust),
    ] {
        if !input.is_empty() {
            remote(tunnel, &mut client, command, input).await?;
        }
    }
    let said = remote(tunnel, &mut client, CLEAR, b"").await?;
    finish(client).await;
    let socket = PathBuf::from(std::ffi::OsString::from_vec(said));
    if socket.is_absolute() {
        return Ok(socket);
    }
    let text = format!("gpgconf in the workspace names no socket: {}", shown(&socket));
    Err(CommandError::msg(Kind::Remote, text))
}

fn shown(path: &Path) -> String {
    crate::ui::quoted(&path.to_string_lossy())
}

/// Runs a command there to its end: what it prints.
async fn remote(
    tunnel: &dyn Tunnel,
    client: &mut Option<Client>,
    command: &str,
    input: &[u8],
) -> Result<Vec<u8>, CommandError> {
    let request = Request::Exec(command.to_owned());
    let options = Options { env: Vec::new(), pty: None, agent: false, request };
    let failed = |why: String| {
        let text = format!("cannot forward the GPG agent: `{command}` in the workspace: {why}");
        CommandError::msg(Kind::Remote, text)
    };
    let session = match client {
        Some(client) => client.session(options).await.map_err(|error| failed(error.to_string()))?,
        None => {
            let (opened, session) = open(tunnel, options).await?;
            *client = Some(opened);
            session
        }
    };
    let Session { mut stdin, stdout, stderr, control } = session;
    let feeding = async {
        // It may end without reading all; its status says how that went.
        let _ = stdin.write_all(input).await;
        let _ = stdin.shutdown().await;
    };
    let ((), said, complained) = tokio::join!(feeding, all(stdout), all(stderr));
    match control.exit().await {
        Exit::Status(0) => Ok(said),
        Exit::Status(127) => {
            Err(failed("not found".to_owned()).hint("GnuPG has to be installed in the workspace"))
        }
        Exit::Status(status) => {
            let complained = String::from_utf8_lossy(&complained);
            let last = complained.trim().lines().next_back().unwrap_or_default();
            Err(failed(format!("status {status}: {}", escape(last))))
        }
        Exit::Signal { name, .. } => Err(failed(format!("killed by SIG{}", escape(&name)))),
        Exit::Lost(error) => Err(failed(error.to_string())),
    }
}

/// All of an output, or the first of it.
async fn all(mut from: Reader) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A lost session ends its output with an error, which its exit tells better.
    while let Ok(Some(chunk)) = from.chunk().await {
        let room = MOST.saturating_sub(bytes.len());
        bytes.extend_from_slice(&chunk[..chunk.len().min(room)]);
    }
    bytes
}
