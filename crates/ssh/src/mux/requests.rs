//! The requests on a session channel (RFC 4254 section 6), decided one by one: what is granted,
//! what is kept for the program, what the running program is told.

use crate::{
    options::{Modes, Pty},
    wire::Reader,
};

/// Most bytes of variables that one session may bring: what a program can be started with
/// (Linux: a quarter of the 8 MiB stack limit, for arguments and environment together).
const ENVIRONMENT: usize = 2 << 20;
/// Most signals kept for a program that is not started, or does not listen (coder/ssh: `session.go`).
pub(super) const SIGNALS: usize = 128;

/// What a server grants of what is optional.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    /// The subsystems that there are.
    pub subsystems: Vec<String>,
    /// Whether a client may offer its authentication agent.
    pub agent: bool,
    /// Whether a client may offer its display.
    pub x11: bool,
}

/// What is to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Program {
    /// The login shell.
    Shell,
    /// A command for the shell, not necessarily UTF-8.
    Exec(Vec<u8>),
    /// A subsystem of [`Policy::subsystems`].
    Subsystem(String),
}

/// A client's display (RFC 4254 section 6.3.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct X11 {
    /// Whether one connection is all.
    pub single: bool,
    /// The authentication protocol, such as `MIT-MAGIC-COOKIE-1`.
    pub protocol: String,
    /// The cookie, in hexadecimal digits.
    pub cookie: String,
    /// The screen's number.
    pub screen: u32,
}

/// A session that is to start, with all that was asked before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// Variables, in order; not necessarily UTF-8.
    pub env: Vec<(Vec<u8>, Vec<u8>)>,
    /// The terminal.
    pub pty: Option<Pty>,
    /// The display.
    pub x11: Option<X11>,
    /// Whether the client offers its authentication agent.
    pub agent: bool,
    /// What is to run.
    pub program: Program,
}

/// What a request comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    Refused,
    Granted,
    /// Granted, and the session starts.
    Start(Box<Start>),
    /// Granted: the terminal's size in columns and rows.
    Size(u32, u32),
    /// Granted: a signal, named without `SIG`.
    Signal(String),
}

/// What a session has asked for so far.
#[derive(Debug, Default)]
pub(super) struct Requests {
    env: Vec<(Vec<u8>, Vec<u8>)>,
    env_bytes: usize,
    pty: Option<Pty>,
    /// The terminal is kept after the start only as the fact that there is one.
    has_pty: bool,
    x11: Option<X11>,
    agent: bool,
    started: bool,
}

impl Requests {
    /// Whether the session has started.
    pub(super) fn is_started(&self) -> bool {
        self.started
    }

    /// Decides on a request. Fields that make no sense are a refusal.
    pub(super) fn handle(
        &mut self,
        name: &[u8],
        fields: &mut Reader<'_>,
        policy: &Policy,
    ) -> Outcome {
        self.decide(name, fields, policy).unwrap_or(Outcome::Refused)
    }

    fn decide(&mut self, name: &[u8], fields: &mut Reader<'_>, policy: &Policy) -> Option<Outcome> {
        let early = !self.started;
        Some(match name {
            b"env" if early => self.env(fields)?,
            b"pty-req" if early && !self.has_pty => {
                let term = String::from_utf8_lossy(fields.string().ok()?).into_owned();
                let (cols, rows) = (fields.u32().ok()?, fields.u32().ok()?);
                fields.take(8).ok()?;
                let modes = Modes::parse(fields.string().ok()?);
                self.pty = Some(Pty { term, cols, rows, modes });
                self.has_pty = true;
                Outcome::Granted
            }
            b"window-change" if self.has_pty => {
                let (cols, rows) = (fields.u32().ok()?, fields.u32().ok()?);
                match &mut self.pty {
                    Some(pty) => {
                        (pty.cols, pty.rows) = (cols, rows);
                        Outcome::Granted
                    }
                    None => Outcome::Size(cols, rows),
                }
            }
            b"auth-agent-req@openssh.com" if early && policy.agent => {
                self.agent = true;
                Outcome::Granted
            }
            b"x11-req" if early && policy.x11 && self.x11.is_none() => {
                self.x11 = Some(X11 {
                    single: fields.boolean().ok()?,
                    protocol: fields.text().ok()?.to_owned(),
                    cookie: fields.text().ok()?.to_owned(),
                    screen: fields.u32().ok()?,
                });
                Outcome::Granted
            }
            b"signal" => Outcome::Signal(String::from_utf8_lossy(fields.string().ok()?).into()),
            b"keepalive@openssh.com" => Outcome::Granted,
            b"shell" if early => self.start(Program::Shell),
            b"exec" if early => self.start(Program::Exec(fields.string().ok()?.to_vec())),
            b"subsystem" if early => {
                let name = fields.text().ok()?;
                policy.subsystems.iter().find(|known| *known == name)?;
                self.start(Program::Subsystem(name.to_owned()))
            }
            _ => return None,
        })
    }

    fn env(&mut self, fields: &mut Reader<'_>) -> Option<Outcome> {
        let (name, value) = (fields.string().ok()?, fields.string().ok()?);
        // No process can have such a variable.
        if name.is_empty() || name.contains(&b'=') || name.contains(&0) || value.contains(&0) {
            return None;
        }
        self.env_bytes += name.len() + value.len();
        if self.env_bytes > ENVIRONMENT {
            return None;
        }
        self.env.push((name.to_vec(), value.to_vec()));
        Some(Outcome::Granted)
    }

    fn start(&mut self, program: Program) -> Outcome {
        self.started = true;
        Outcome::Start(Box::new(Start {
            env: std::mem::take(&mut self.env),
            pty: self.pty.take(),
            x11: self.x11.take(),
            agent: self.agent,
            program,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Put;

    fn policy() -> Policy {
        Policy { subsystems: vec!["sftp".into()], agent: true, x11: true }
    }

    fn strings(parts: &[&str]) -> Vec<u8> {
        let mut out = Vec::new();
        for part in parts {
            out.put_string(part.as_bytes());
        }
        out
    }

    fn pty_fields(cols: u32) -> Vec<u8> {
        let mut out = strings(&["xterm"]);
        for number in [cols, 24, 0, 0] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        out.put_string(&[53, 0, 0, 0, 1, 0]);
        out
    }

    type Row<'a> = (&'a str, &'a [u8], fn(&Outcome) -> bool);

    /// One session; what is asked in order, and what comes of it.
    fn table(rows: &[Row<'_>]) {
        let mut requests = Requests::default();
        for (row, (name, fields, expected)) in rows.iter().enumerate() {
            let mut reader = Reader::new(fields, "channel request");
            let outcome = requests.handle(name.as_bytes(), &mut reader, &policy());
            assert!(expected(&outcome), "row {row}: {name} came to {outcome:?}");
        }
    }

    const GRANTED: fn(&Outcome) -> bool = |outcome| *outcome == Outcome::Granted;
    const REFUSED: fn(&Outcome) -> bool = |outcome| *outcome == Outcome::Refused;

    #[test]
    fn what_is_asked_before_the_start_comes_with_it() {
        let x11: &[u8] = b"\x01\0\0\0\x03MIT\0\0\0\x02ab\0\0\0\x01";
        table(&[
            ("window-change", &[0; 16], REFUSED),
            ("env", &strings(&["A", "1"]), GRANTED),
            ("env", &strings(&["A", "2"]), GRANTED),
            ("env", &strings(&["A=B", "2"]), REFUSED),
            ("env", &strings(&["", "2"]), REFUSED),
            ("env", &strings(&["A", "nul\0"]), REFUSED),
            ("env", &strings(&["A"]), REFUSED),
            ("pty-req", &pty_fields(80), GRANTED),
            ("pty-req", &pty_fields(90), REFUSED),
            ("window-change", &[0, 0, 0, 100, 0, 0, 0, 50, 0, 0, 0, 0, 0, 0, 0, 0], GRANTED),
            ("auth-agent-req@openssh.com", b"", GRANTED),
            ("x11-req", x11, GRANTED),
            ("x11-req", x11, REFUSED),
            ("break", &[0; 4], REFUSED),
            ("keepalive@openssh.com", b"", GRANTED),
            ("signal", &strings(&["INT"]), |o| *o == Outcome::Signal("INT".into())),
            ("subsystem", &strings(&["netconf"]), REFUSED),
            ("exec", &strings(&["run"]), |outcome| {
                let Outcome::Start(start) = outcome else { return false };
                let pty = start.pty.as_ref().unwrap();
                let x11 = start.x11.as_ref().unwrap();
                start.env == [(b"A".to_vec(), b"1".to_vec()), (b"A".to_vec(), b"2".to_vec())]
                    && (pty.cols, pty.rows, &pty.term[..]) == (100, 50, "xterm")
                    && pty.modes.iter().eq([(53, 1)])
                    && (x11.single, x11.screen, &x11.cookie[..]) == (true, 1, "ab")
                    && start.agent
                    && start.program == Program::Exec(b"run".to_vec())
            }),
            ("env", &strings(&["A", "1"]), REFUSED),
            ("exec", &strings(&["again"]), REFUSED),
            ("shell", b"", REFUSED),
            ("subsystem", &strings(&["sftp"]), REFUSED),
            ("pty-req", &pty_fields(80), REFUSED),
            ("x11-req", x11, REFUSED),
            ("auth-agent-req@openssh.com", b"", REFUSED),
            ("window-change", &[0, 0, 0, 1, 0, 0, 0, 2], |o| *o == Outcome::Size(1, 2)),
            ("signal", &strings(&["KILL"]), |o| *o == Outcome::Signal("KILL".into())),
            ("xon-xoff", b"\0", REFUSED),
        ]);
    }

    #[test]
    fn what_is_optional_is_refused_by_default() {
        let mut requests = Requests::default();
        let mut ask = |name: &[u8], fields: &[u8]| {
            requests.handle(name, &mut Reader::new(fields, ""), &Policy::default())
        };
        assert_eq!(ask(b"auth-agent-req@openssh.com", b""), Outcome::Refused);
        assert_eq!(ask(b"x11-req", &[0; 13]), Outcome::Refused);
        assert_eq!(ask(b"subsystem", &strings(&["sftp"])), Outcome::Refused);
        assert!(matches!(ask(b"shell", b""), Outcome::Start(_)));
    }

    #[test]
    fn variables_are_bounded() {
        let mut requests = Requests::default();
        let value = "x".repeat(200 * 1024);
        let outcomes: Vec<_> = (0..12)
            .map(|_| {
                let fields = strings(&["A", &value]);
                requests.handle(b"env", &mut Reader::new(&fields, ""), &policy())
            })
            .collect();
        assert_eq!(outcomes[0], Outcome::Granted);
        assert_eq!(outcomes[11], Outcome::Refused);
    }
}
