//! `--network-info-dir`: how the tunnel is, for the status bar of an editor.
//!
//! Editor extensions find the file by the number of the `ssh` that is our parent
//! (coder/coder: cli/ssh.go, `sshNetworkStats`; coder/vscode-coder: src/remote/sshProcess.ts). It
//! is written beside whatever else runs, first at once, then each interval, always whole.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{self, Poll},
    time::Duration,
};

use serde::Serialize;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::watch,
    time::{Instant, sleep, timeout},
};

use super::{
    App, BoxFuture, Context, Datagrams, End, Path as Way, Relays, Spliced, Stream, Tunnel,
    session::{attached, lost},
};
use crate::{
    error::{CommandError, Kind},
    ui::Ui,
    whole::{self, Access},
};

/// How long the workspace may leave pings unanswered before the session is given up
/// (coder/coder: cli/ssh.go).
const SILENCE: Duration = Duration::from_secs(60);

/// An app beside which the file is written.
pub struct NetworkInfo {
    app: Box<dyn App>,
    directory: PathBuf,
    interval: Duration,
}

impl NetworkInfo {
    /// Writes into this directory, each interval, while the app runs.
    #[must_use]
    pub fn new(app: Box<dyn App>, directory: PathBuf, interval: Duration) -> Self {
        Self { app, directory, interval }
    }

    fn file(&self) -> PathBuf {
        self.directory.join(format!("{}.json", parent()))
    }
}

/// The number of the process that started this one, by which editor extensions find what is theirs;
/// 0 where it is out of sight.
pub(crate) fn parent() -> i32 {
    rustix::process::getppid().map_or(0, |parent| parent.as_raw_nonzero().get())
}

impl App for NetworkInfo {
    fn prepare<'a>(&'a mut self, ui: &'a Ui) -> BoxFuture<'a, Result<(), CommandError>> {
        Box::pin(async move {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&self.directory)
                .map_err(|error| unwritable(&self.directory, error))?;
            self.app.prepare(ui).await
        })
    }

    fn run(self: Box<Self>, context: Context) -> BoxFuture<'static, End> {
        Box::pin(async move {
            let file = self.file();
            let traffic = Arc::new(Traffic::default());
            let Context { tunnel, close, signals, events, ui } = context;
            let (hand_on, counted) = watch::channel(None);
            let app = self.app.run(Context { tunnel: counted, close, signals, events, ui });
            let counting = count(tunnel.clone(), hand_on, Arc::clone(&traffic));
            let informing = inform(tunnel, &file, self.interval, &traffic);
            tokio::select! {
                end = app => end,
                end = informing => end,
                // Never: it goes on as long as the app does.
                () = counting => End::Done(0),
            }
        })
    }
}

/// What the file says. The keys and units are the Go client's.
#[derive(Debug, Serialize, PartialEq)]
struct Info {
    /// Whether the path is direct.
    p2p: bool,
    /// A round trip to the workspace, in milliseconds.
    latency: f64,
    /// The relay in use, or the one that would be.
    preferred_derp: String,
    /// Round trips to relays, in milliseconds.
    derp_latency: BTreeMap<String, f64>,
    upload_bytes_sec: u64,
    download_bytes_sec: u64,
    /// There is no such connection here.
    using_coder_connect: bool,
}

impl Info {
    fn new(
        way: &Way,
        latency: Duration,
        relays: &Relays,
        (up, down): (u64, u64),
        elapsed: Duration,
    ) -> Self {
        let rate = |bytes: u64| (bytes as f64 / elapsed.as_secs_f64().max(0.001)) as u64;
        let milliseconds = |took: Duration| took.as_secs_f64() * 1000.0;
        let home = match way {
            Way::Relay(name) => Some(name.clone()),
            Way::Direct(_) | Way::None => relays.home.clone(),
        };
        let latencies = relays.latencies.iter();
        let mut derp_latency: BTreeMap<_, _> =
            latencies.map(|(name, took)| (name.clone(), milliseconds(*took))).collect();
        let preferred_derp = home.unwrap_or_default();
        // Editors look it up without asking whether it is there; a relay that is not measured yet is
        // at most as far as the workspace behind it.
        derp_latency.entry(preferred_derp.clone()).or_insert(milliseconds(latency));
        Self {
            p2p: matches!(way, Way::Direct(_)),
            latency: milliseconds(latency),
            preferred_derp,
            derp_latency,
            upload_bytes_sec: rate(up),
            download_bytes_sec: rate(down),
            using_coder_connect: false,
        }
    }
}

/// Writes the file again and again. An end is a failure: the workspace is silent, or the file
/// cannot be written.
async fn inform(
    mut tunnel: watch::Receiver<Option<Arc<dyn Tunnel>>>,
    file: &Path,
    interval: Duration,
    traffic: &Traffic,
) -> End {
    let mut written = Instant::now();
    let mut answered = None;
    loop {
        let now = match attached(&mut tunnel).await {
            Ok(now) => now,
            Err(error) => return End::Failed(error),
        };
        let since = *answered.get_or_insert_with(Instant::now);
        match timeout(SILENCE, now.ping()).await {
            Ok(Ok(latency)) => {
                let info = Info::new(
                    &now.path(),
                    latency,
                    &now.relays(),
                    traffic.take(),
                    written.elapsed(),
                );
                written = Instant::now();
                answered = Some(written);
                if let Err(error) = write(file, &info) {
                    return End::Failed(unwritable(file, error));
                }
            }
            failed => {
                tracing::debug!(?failed, "network info");
                if since.elapsed() >= SILENCE {
                    let cause = anyhow::anyhow!("the workspace did not answer for a minute");
                    return lost(Some(cause));
                }
            }
        }
        sleep(interval).await;
    }
}

fn write(file: &Path, info: &Info) -> io::Result<()> {
    whole::show(file, &serde_json::to_vec(info)?, Access::Private)
}

fn unwritable(path: &Path, error: io::Error) -> CommandError {
    let what = format!("cannot write the network info to {}", path.display());
    CommandError::new(Kind::Local, anyhow::Error::new(error).context(what))
        .hint("--network-info-dir names a directory that can be made and written")
}

/// Hands the tunnel on, with its bytes counted.
async fn count(
    mut tunnel: watch::Receiver<Option<Arc<dyn Tunnel>>>,
    hand_on: watch::Sender<Option<Arc<dyn Tunnel>>>,
    traffic: Arc<Traffic>,
) {
    loop {
        let now = tunnel.borrow_and_update().clone();
        let traffic = Arc::clone(&traffic);
        let counted = now.map(|tunnel| Arc::new(Counted { tunnel, traffic }) as Arc<dyn Tunnel>);
        hand_on.send_replace(counted);
        if tunnel.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

/// Bytes since they were last asked for.
#[derive(Debug, Default)]
struct Traffic {
    up: AtomicU64,
    down: AtomicU64,
}

impl Traffic {
    fn add(&self, up: u64, down: u64) {
        self.up.fetch_add(up, Ordering::Relaxed);
        self.down.fetch_add(down, Ordering::Relaxed);
    }

    fn take(&self) -> (u64, u64) {
        (self.up.swap(0, Ordering::Relaxed), self.down.swap(0, Ordering::Relaxed))
    }
}

/// A tunnel whose streams are counted; datagrams are not.
struct Counted {
    tunnel: Arc<dyn Tunnel>,
    traffic: Arc<Traffic>,
}

impl Tunnel for Counted {
    fn dial(&self, port: u16) -> BoxFuture<'_, io::Result<Box<dyn Stream>>> {
        Box::pin(async move {
            let stream = self.tunnel.dial(port).await?;
            let traffic = Arc::clone(&self.traffic);
            Ok(Box::new(CountedStream { stream, traffic }) as Box<dyn Stream>)
        })
    }

    fn splice(&self, local: TcpStream, port: u16) -> BoxFuture<'_, io::Result<Spliced>> {
        Box::pin(async move {
            let spliced = self.tunnel.splice(local, port).await?;
            self.traffic.add(spliced.sent, spliced.received);
            Ok(spliced)
        })
    }

    fn datagrams(&self, port: u16) -> io::Result<Box<dyn Datagrams>> {
        self.tunnel.datagrams(port)
    }

    fn ping(&self) -> BoxFuture<'_, io::Result<Duration>> {
        self.tunnel.ping()
    }

    fn path(&self) -> Way {
        self.tunnel.path()
    }

    fn relays(&self) -> Relays {
        self.tunnel.relays()
    }
}

struct CountedStream {
    stream: Box<dyn Stream>,
    traffic: Arc<Traffic>,
}

impl AsyncRead for CountedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        self.traffic.add(0, (buffer.filled().len() - before) as u64);
        read
    }
}

impl AsyncWrite for CountedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, data);
        if let Poll::Ready(Ok(count)) = written {
            self.traffic.add(count as u64, 0);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_editors_read() {
        let relays = Relays {
            home: Some("oslo".into()),
            latencies: [("oslo".to_owned(), Duration::from_millis(7))].into(),
        };
        let rate = (3000, 10_000);
        let two = Duration::from_secs(2);
        let info = |way: &Way| {
            let info = Info::new(way, Duration::from_micros(12_500), &relays, rate, two);
            serde_json::to_value(&info).unwrap()
        };
        assert_eq!(
            info(&Way::Direct(([192, 0, 2, 1], 41641).into())),
            serde_json::json!({
                "p2p": true, "latency": 12.5, "preferred_derp": "oslo",
                "derp_latency": {"oslo": 7.0}, "upload_bytes_sec": 1500,
                "download_bytes_sec": 5000, "using_coder_connect": false,
            })
        );
        // A relay that is not measured is there all the same.
        let other = info(&Way::Relay("rome".into()));
        assert_eq!(other["p2p"], false);
        assert_eq!(other["preferred_derp"], "rome");
        assert_eq!(other["derp_latency"], serde_json::json!({"oslo": 7.0, "rome": 12.5}));
    }

    #[test]
    fn the_file_is_whole_and_this_users_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("7.json");
        let relays = Relays::default();
        for _ in 0..2 {
            let info = Info::new(&Way::None, Duration::ZERO, &relays, (0, 0), Duration::ZERO);
            write(&file, &info).unwrap();
        }
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
