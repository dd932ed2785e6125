//! Logging in, by authentication `none`, on either side (RFC 4252).

use std::time::Instant;

use super::core::{Core, Event, Side, Stage};
use crate::{
    error::{Error, Text},
    message,
    wire::{Put, Reader},
};

/// Most attempts to log in (OpenSSH: `MaxAuthTries`).
const ATTEMPTS: u32 = 6;

impl Core {
    /// The keys are there: a client asks for everything up to its session in one write.
    pub(super) fn establish(&mut self) -> Result<(), Error> {
        match self.side {
            Side::Server(_) => Ok(()),
            Side::Client => {
                let mut out = vec![message::SERVICE_REQUEST];
                out.put_string(b"ssh-userauth");
                self.transport.send(&[&out])?;
                let mut out = vec![message::USERAUTH_REQUEST];
                // An agent ignores the name.
                for field in [&b"coder"[..], b"ssh-connection", b"none"] {
                    out.put_string(field);
                }
                self.transport.send(&[&out])?;
                self.stage = Stage::Service;
                self.open_early_sessions()
            }
        }
    }

    /// A message before the login is done.
    pub(super) fn handle_login(&mut self, payload: &[u8], now: Instant) -> Result<(), Error> {
        let message = payload[0];
        match (&self.side, self.stage, message) {
            (Side::Server(_), Stage::Service, message::SERVICE_REQUEST) => {
                self.handle_service(payload)
            }
            (Side::Server(_), Stage::Auth { attempts }, message::USERAUTH_REQUEST) => {
                self.handle_auth(payload, attempts, now)
            }
            (Side::Client, Stage::Service, message::SERVICE_ACCEPT) => {
                self.stage = Stage::Auth { attempts: 0 };
                Ok(())
            }
            (Side::Client, Stage::Auth { .. }, message::USERAUTH_BANNER) => {
                let mut reader = Reader::new(&payload[1..], "login banner");
                tracing::info!(banner = %Text::new(reader.string()?), "ssh");
                Ok(())
            }
            (Side::Client, Stage::Auth { .. }, message::USERAUTH_SUCCESS) => {
                self.enter(now);
                self.events.push_back(Event::LoggedIn);
                Ok(())
            }
            (Side::Client, Stage::Auth { .. }, message::USERAUTH_FAILURE) => {
                let mut reader = Reader::new(&payload[1..], "login refusal");
                Err(Error::AuthRefused(Text::new(reader.string()?)))
            }
            (Side::Client | Side::Server(_), ..) => {
                Err(Error::Unexpected { message, during: "before it was logged in" })
            }
        }
    }

    fn handle_service(&mut self, payload: &[u8]) -> Result<(), Error> {
        let mut reader = Reader::new(payload, "service request");
        reader.byte()?;
        let name = reader.string()?;
        if name != b"ssh-userauth" {
            // Service not available (RFC 4253 section 11.1).
            return self.disconnect(7, "no such service");
        }
        self.stage = Stage::Auth { attempts: 0 };
        let mut out = vec![message::SERVICE_ACCEPT];
        out.put_string(name);
        self.transport.send(&[&out])
    }

    /// Everybody is let in who asks for nothing but that (RFC 4252 section 5.2).
    fn handle_auth(&mut self, payload: &[u8], attempts: u32, now: Instant) -> Result<(), Error> {
        let mut reader = Reader::new(payload, "login request");
        reader.byte()?;
        let user = Text::new(reader.string()?);
        let (service, method) = (reader.string()?, reader.string()?);
        if service == b"ssh-connection" && method == b"none" {
            tracing::debug!(%user, "ssh login");
            self.enter(now);
            return self.transport.send(&[&[message::USERAUTH_SUCCESS]]);
        }
        if attempts + 1 == ATTEMPTS {
            // No more authentication methods available.
            return self.disconnect(14, "only the method none is accepted");
        }
        self.stage = Stage::Auth { attempts: attempts + 1 };
        let mut out = vec![message::USERAUTH_FAILURE];
        // No other can go on; and none may not be named (RFC 4252 section 5.2).
        out.put_string(b"");
        out.put_boolean(false);
        self.transport.send(&[&out])
    }

    fn enter(&mut self, now: Instant) {
        self.stage = Stage::Open;
        self.due = self.keep_alive.map(|interval| now + interval);
    }
}
