//! The driver: performs the tunneler's actions, owns every task, feeds it events.

use crate::{apps::App, error::CommandError, ui::Ui};

/// What a command asks the driver for.
pub struct Request {
    /// The name as resolved by `crate::cli::target`.
    pub target: crate::cli::target::Target,
    /// Whether to wait for start scripts.
    pub wait: Wait,
    /// Whether a stopped workspace may be started.
    pub autostart: bool,
    /// Whether to go on after a loss (forwards) or to end with the reason (sessions).
    pub follow: bool,
    /// The app name for usage reports while something is open; `None` reports nothing. A forward
    /// reports without a name (`Some("")`).
    pub usage_app: Option<String>,
    /// What runs on the tunnel.
    pub app: Box<dyn App>,
}

/// `--wait`: whether to wait for the workspace's start scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Wait {
    /// Wait.
    Yes,
    /// Do not wait.
    No,
    /// Wait if a script is marked as blocking login.
    #[default]
    Auto,
}

/// Takes the workspace from whatever state it is in to a working tunnel, runs the app on it, and
/// answers with the program's exit code.
///
/// # Errors
/// The one reason why it could not, or why it ended.
pub async fn run(
    session: &crate::cli::Session,
    ui: &Ui,
    request: Request,
) -> Result<u8, CommandError> {
    let _ = (session, ui, request);
    Err(CommandError::msg(crate::error::Kind::Other, "the driver is not built yet"))
}
