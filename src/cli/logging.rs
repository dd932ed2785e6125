//! Logs: with `-vv` or `CODERCTL_LOG` on stderr, with `--log-dir` in a file. Servers and agents say
//! warnings without being asked.

use std::{
    fs,
    io::{self, Write},
    sync::{Arc, Mutex, PoisonError},
};

use tracing::Level;
use tracing_subscriber::{Layer, filter::Targets, layer::SubscriberExt, util::SubscriberInitExt};

use crate::ui::Ui;

/// Our own crates.
const OURS: [&str; 8] = [
    "coderctl",
    "coderctl_agent",
    "coderctl_deployment",
    "coderctl_drpc",
    "coderctl_ssh",
    "coderctl_tailnet",
    "coderctl_transport",
    "coderctl_tunneler",
];

/// Ours from this level on; libraries below speak up only about what is wrong.
fn ours(level: Level) -> Targets {
    Targets::new().with_default(Level::WARN).with_targets(OURS.map(|target| (target, level)))
}

/// Installs what was asked for; nothing at all where nothing was. What `stands` (a server, an agent)
/// says without being asked what is wrong, and more with `-v`.
pub(super) fn start(verbosity: usize, stands: bool, file: Option<fs::File>, ui: &Ui) {
    let asked = std::env::var("CODERCTL_LOG").ok().filter(|filter| !filter.is_empty());
    let level = match (verbosity, stands) {
        (0, true) => Some(Level::WARN),
        (1, true) => Some(Level::INFO),
        (0 | 1, false) => None,
        _ => Some(Level::DEBUG),
    };
    if level.is_none() && asked.is_none() && file.is_none() {
        return;
    }
    let filter = asked.as_deref().and_then(|filter| match filter.parse::<Targets>() {
        Ok(filter) => Some(filter),
        Err(error) => {
            ui.warn(format_args!("CODERCTL_LOG is not a log filter: {error}"));
            None
        }
    });
    let spoken = filter.or_else(|| level.map(ours)).map(|filter| {
        let ui = ui.clone();
        tracing_subscriber::fmt::layer()
            .with_ansi(false)
            .with_writer(move || Spoken(ui.clone()))
            .with_filter(filter)
    });
    let written = file.map(|file| {
        let file = Arc::new(Mutex::new(file));
        tracing_subscriber::fmt::layer()
            .with_ansi(false)
            .with_writer(move || Written(Arc::clone(&file)))
            .with_filter(ours(Level::DEBUG))
    });
    // A second subscriber in one process (tests) keeps the first.
    let _ = tracing_subscriber::registry().with(spoken).with(written).try_init();
}

/// Log lines among everything else that is said, escaped like that.
struct Spoken(Ui);

impl Write for Spoken {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.debug(&String::from_utf8_lossy(line));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Written(Arc<Mutex<fs::File>>);

impl Write for Written {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(line)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).flush()
    }
}
