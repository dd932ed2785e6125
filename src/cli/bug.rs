//! What a panic does: it is a bug of this program, and ends it.
//!
//! Nothing goes on around a task that is gone: a stream whose other half has died, or a server that
//! no longer answers one kind of call, would be worse than the end. Release builds therefore do not
//! unwind (a fifth of their size), and what guards undo elsewhere is undone here: the terminal.
//! What the deployment has acknowledged is in its database.

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    panic::{self, Location},
};

use crate::{apps::terminal, error::Kind, ui};

/// From here on a panic, in whichever thread, restores the terminal, says what it was and ends the
/// program.
pub(super) fn end_on_panic() {
    panic::set_hook(Box::new(|panic| {
        terminal::restore();
        let message = panic.payload_as_str().unwrap_or("for a reason without words");
        ui::last_words(&words(message, panic.location()));
        let trace = Backtrace::capture();
        if trace.status() == BacktraceStatus::Captured {
            ui::last_words(&trace.to_string());
        }
        std::process::exit(Kind::Other.code().into());
    }));
}

/// Harmless whatever the message holds; it may quote a server.
fn words(message: &str, location: Option<&Location<'_>>) -> String {
    let place = location.map(|place| format!(" at {}:{}", place.file(), place.line()));
    let (message, place) = (ui::escape(message), place.unwrap_or_default());
    format!("error: coderctl panicked{place}: {message}\nhint: this is a bug; please report it\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_what_and_where_and_nothing_to_the_terminal() {
        let here = Location::caller();
        assert_eq!(
            words("the server said \u{1b}]0;x\u{7}", Some(here)),
            format!(
                "error: coderctl panicked at {}:{}: the server said \\x1b]0;x\\x07\n\
                 hint: this is a bug; please report it\n",
                here.file(),
                here.line(),
            )
        );
    }
}
