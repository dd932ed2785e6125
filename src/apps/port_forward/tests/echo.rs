//! A tunnel to a workspace that answers.

use std::{
    io,
    sync::{Arc, Mutex},
    task::Poll,
    time::Duration,
};

use bytes::BytesMut;
use coderctl_ssh::{
    client::{self, Channel},
    hostkey::HostKey,
    server::{Config, Global, Incoming, Opener, Policy, Target, serve},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    net::TcpStream,
    sync::mpsc,
    task::JoinSet,
};

use crate::apps::{BoxFuture, Datagrams, Path, Spliced, Stream, Tunnel, testing};

/// Answers on port 80 with the port and what was said, once all was said; refuses all else. Its SSH
/// server reaches a host `db` and a socket `/run/s`, which do so, too, and listens everywhere but at
/// port 1. Its UDP ports send back what they get.
#[derive(Default)]
pub(super) struct Echo {
    /// SSH connections so far, the last one's way to open channels, and their tasks.
    ssh: Arc<Mutex<(usize, Option<Opener>)>>,
    tasks: Mutex<JoinSet<()>>,
}

impl Echo {
    pub(super) fn connections(&self) -> usize {
        self.ssh.lock().unwrap().0
    }

    pub(super) fn opener(&self) -> Opener {
        self.ssh.lock().unwrap().1.clone().unwrap()
    }

    /// Breaks all SSH connections off.
    pub(super) fn break_ssh(&self) {
        self.tasks.lock().unwrap().abort_all();
    }
}

pub(super) async fn answer(stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin), name: &str) {
    let mut said = Vec::new();
    stream.read_to_end(&mut said).await.unwrap();
    stream.write_all(&[name.as_bytes(), b":", &said].concat()).await.unwrap();
    stream.shutdown().await.unwrap();
}

async fn ssh_server(io: DuplexStream, ssh: Arc<Mutex<(usize, Option<Opener>)>>) {
    let host_key = Arc::new(HostKey::from_seed(&[7; 32]).unwrap());
    let config = Config { host_key, policy: Policy::default(), keep_alive: None };
    let mut connection = serve(io, config).unwrap();
    {
        let mut ssh = ssh.lock().unwrap();
        *ssh = (ssh.0 + 1, Some(connection.opener()));
    }
    let mut channels = JoinSet::new();
    while let Some(incoming) = connection.next().await {
        match incoming {
            Incoming::Direct(direct) => {
                let name = match direct.target() {
                    Target::Tcp { host, port: 5432 } if host == "db" => "db",
                    Target::Unix { path } if path == b"/run/s" => "socket",
                    Target::Tcp { .. } | Target::Unix { .. } => continue,
                };
                let mut channel: Channel = direct.accept();
                channels.spawn(async move { answer(&mut channel, name).await });
            }
            Incoming::Forward(forward) => match forward.request() {
                Global::Listen(listen) => {
                    let port = match listen {
                        client::Listen::Tcp { port: 0, .. } => Some(4321),
                        client::Listen::Tcp { port: 1, .. } => continue,
                        client::Listen::Tcp { .. } | client::Listen::Unix { .. } => None,
                    };
                    forward.grant(port);
                }
                Global::Cancel(_) => forward.refuse(),
            },
            Incoming::Session(session) => panic!("{session:?}"),
        }
    }
}

impl Tunnel for Echo {
    fn dial(&self, port: u16) -> BoxFuture<'_, io::Result<Box<dyn Stream>>> {
        Box::pin(async move {
            let (ours, mut theirs) = testing::duplex();
            let mut tasks = self.tasks.lock().unwrap();
            match port {
                1 => tasks.spawn(ssh_server(theirs, Arc::clone(&self.ssh))),
                80 => tasks.spawn(async move { answer(&mut theirs, "80").await }),
                _ => return Err(io::Error::new(io::ErrorKind::ConnectionRefused, "refused")),
            };
            Ok(Box::new(ours) as Box<dyn Stream>)
        })
    }

    fn splice(&self, mut local: TcpStream, port: u16) -> BoxFuture<'_, io::Result<Spliced>> {
        Box::pin(async move {
            if port != 80 {
                local.set_zero_linger()?;
                return Err(io::Error::new(io::ErrorKind::ConnectionRefused, "refused"));
            }
            let mut said = Vec::new();
            local.read_to_end(&mut said).await?;
            local.write_all(b"80:").await?;
            local.write_all(&said).await?;
            Ok(Spliced { sent: said.len() as u64, received: said.len() as u64 + 3 })
        })
    }

    fn datagrams(&self, port: u16) -> io::Result<Box<dyn Datagrams>> {
        let (sent, back) = mpsc::unbounded_channel();
        Ok(Box::new(Twin { port, sent, back: Mutex::new(back) }))
    }

    fn ping(&self) -> BoxFuture<'_, io::Result<Duration>> {
        Box::pin(async { Ok(Duration::ZERO) })
    }

    fn path(&self) -> Path {
        Path::None
    }
}

/// Sends back what it gets, with its port before it.
struct Twin {
    port: u16,
    sent: mpsc::UnboundedSender<BytesMut>,
    back: Mutex<mpsc::UnboundedReceiver<BytesMut>>,
}

impl Datagrams for Twin {
    fn send(&self, payload: &[u8]) -> io::Result<()> {
        if payload.len() > 1200 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "too long"));
        }
        let answer = [format!("{}:", self.port).as_bytes(), payload].concat();
        self.sent.send(BytesMut::from(&answer[..])).map_err(io::Error::other)
    }

    fn poll_recv(&self, cx: &mut std::task::Context<'_>) -> Poll<io::Result<BytesMut>> {
        self.back.lock().unwrap().poll_recv(cx).map(|payload| Ok(payload.unwrap()))
    }
}
