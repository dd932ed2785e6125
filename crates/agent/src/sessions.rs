//! Who is connected to the workspace: counted for statistics, and told to the audit log.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use uuid::Uuid;

use crate::{
    reports::{ConnectionType, Connections},
    ssh::{Connection, SessionKind, SessionObserver},
};

/// Sessions that are open, by what they are for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) ssh: i64,
    pub(crate) vscode: i64,
    pub(crate) jetbrains: i64,
    pub(crate) terminal: i64,
}

impl Counts {
    fn of(&mut self, kind: Kind) -> &mut i64 {
        match kind {
            Kind::Ssh(SessionKind::VsCode) => &mut self.vscode,
            Kind::Ssh(SessionKind::JetBrains) => &mut self.jetbrains,
            Kind::Ssh(SessionKind::Ssh | SessionKind::Unknown) => &mut self.ssh,
            Kind::Terminal => &mut self.terminal,
        }
    }
}

/// What a session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Ssh(SessionKind),
    /// A connection to a reconnecting terminal.
    Terminal,
}

impl Kind {
    /// How the audit log calls it.
    fn to_proto(self) -> ConnectionType {
        match self {
            Self::Ssh(SessionKind::VsCode) => ConnectionType::Vscode,
            Self::Ssh(SessionKind::JetBrains) => ConnectionType::Jetbrains,
            Self::Ssh(SessionKind::Ssh | SessionKind::Unknown) => ConnectionType::Ssh,
            Self::Terminal => ConnectionType::ReconnectingPty,
        }
    }
}

/// Sessions that are open.
#[derive(Debug)]
pub(crate) struct Sessions {
    open: Mutex<BTreeMap<Uuid, Kind>>,
    reports: Arc<Connections>,
}

impl Sessions {
    pub(crate) fn new(reports: Arc<Connections>) -> Self {
        Self { open: Mutex::default(), reports }
    }

    pub(crate) fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for kind in self.lock().values() {
            *counts.of(*kind) += 1;
        }
        counts
    }

    /// A connection to a terminal was made; it is over when what this returns is dropped.
    pub(crate) fn terminal(self: &Arc<Self>, ip: IpAddr) -> TerminalSession {
        let id = Uuid::new_v4();
        self.begin(id, Kind::Terminal, ip);
        TerminalSession { sessions: Arc::clone(self), id, ip }
    }

    fn begin(&self, id: Uuid, kind: Kind, ip: IpAddr) {
        self.lock().insert(id, kind);
        self.reports.connected(id, kind.to_proto(), ip);
    }

    fn end(&self, id: Uuid, kind: Kind, ip: IpAddr, code: i32, reason: &str) {
        self.lock().remove(&id);
        self.reports.disconnected(id, kind.to_proto(), ip, code, reason);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Uuid, Kind>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SessionObserver for Sessions {
    fn connected(&self, connection: Connection) {
        let kind = Kind::Ssh(connection.kind);
        self.begin(connection.id, kind, connection.peer.ip());
    }

    fn disconnected(&self, connection: Connection, code: i32, reason: &str) {
        let kind = Kind::Ssh(connection.kind);
        self.end(connection.id, kind, connection.peer.ip(), code, reason);
    }
}

/// A connection to a terminal.
pub(crate) struct TerminalSession {
    sessions: Arc<Sessions>,
    id: Uuid,
    ip: IpAddr,
}

impl Drop for TerminalSession {
    fn drop(&mut self) {
        self.sessions.end(self.id, Kind::Terminal, self.ip, 0, "");
    }
}
