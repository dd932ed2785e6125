//! Terminal modes of a client (RFC 4254 section 8), applied to a terminal.

use coderctl_ssh::Modes;
use rustix::termios::{
    ControlModes, InputModes, LocalModes, OutputModes, SpecialCodeIndex, Termios,
};

/// A mode that is on or off.
enum Flag {
    Input(InputModes),
    Output(OutputModes),
    Control(ControlModes),
    Local(LocalModes),
}

/// Sets what the modes say; what this system does not have is passed over.
pub(super) fn apply(modes: &Modes, attributes: &mut Termios) {
    for (number, value) in modes.iter() {
        if let Some(index) = special(number) {
            // 255 disables a key, which is 0 here.
            let key = u8::try_from(value).ok().filter(|key| *key != 255).unwrap_or(0);
            attributes.special_codes[index] = key;
        } else if let Some(flag) = flag(number) {
            let on = value != 0;
            match flag {
                Flag::Input(flag) => attributes.input_modes.set(flag, on),
                Flag::Output(flag) => attributes.output_modes.set(flag, on),
                Flag::Control(flag) => attributes.control_modes.set(flag, on),
                Flag::Local(flag) => attributes.local_modes.set(flag, on),
            }
        } else {
            speed(number, value, attributes);
        }
    }
}

fn special(number: u8) -> Option<SpecialCodeIndex> {
    Some(match number {
        1 => SpecialCodeIndex::VINTR,
        2 => SpecialCodeIndex::VQUIT,
        3 => SpecialCodeIndex::VERASE,
        4 => SpecialCodeIndex::VKILL,
        5 => SpecialCodeIndex::VEOF,
        6 => SpecialCodeIndex::VEOL,
        7 => SpecialCodeIndex::VEOL2,
        8 => SpecialCodeIndex::VSTART,
        9 => SpecialCodeIndex::VSTOP,
        10 => SpecialCodeIndex::VSUSP,
        12 => SpecialCodeIndex::VREPRINT,
        13 => SpecialCodeIndex::VWERASE,
        14 => SpecialCodeIndex::VLNEXT,
        18 => SpecialCodeIndex::VDISCARD,
        _ => return None,
    })
}

fn flag(number: u8) -> Option<Flag> {
    Some(match number {
        30 => Flag::Input(InputModes::IGNPAR),
        31 => Flag::Input(InputModes::PARMRK),
        32 => Flag::Input(InputModes::INPCK),
        33 => Flag::Input(InputModes::ISTRIP),
        34 => Flag::Input(InputModes::INLCR),
        35 => Flag::Input(InputModes::IGNCR),
        36 => Flag::Input(InputModes::ICRNL),
        38 => Flag::Input(InputModes::IXON),
        39 => Flag::Input(InputModes::IXANY),
        40 => Flag::Input(InputModes::IXOFF),
        41 => Flag::Input(InputModes::IMAXBEL),
        #[cfg(target_os = "linux")]
        42 => Flag::Input(InputModes::IUTF8),
        50 => Flag::Local(LocalModes::ISIG),
        51 => Flag::Local(LocalModes::ICANON),
        53 => Flag::Local(LocalModes::ECHO),
        54 => Flag::Local(LocalModes::ECHOE),
        55 => Flag::Local(LocalModes::ECHOK),
        56 => Flag::Local(LocalModes::ECHONL),
        57 => Flag::Local(LocalModes::NOFLSH),
        58 => Flag::Local(LocalModes::TOSTOP),
        59 => Flag::Local(LocalModes::IEXTEN),
        60 => Flag::Local(LocalModes::ECHOCTL),
        61 => Flag::Local(LocalModes::ECHOKE),
        62 => Flag::Local(LocalModes::PENDIN),
        70 => Flag::Output(OutputModes::OPOST),
        72 => Flag::Output(OutputModes::ONLCR),
        73 => Flag::Output(OutputModes::OCRNL),
        74 => Flag::Output(OutputModes::ONOCR),
        75 => Flag::Output(OutputModes::ONLRET),
        90 => Flag::Control(ControlModes::CS7),
        91 => Flag::Control(ControlModes::CS8),
        92 => Flag::Control(ControlModes::PARENB),
        93 => Flag::Control(ControlModes::PARODD),
        _ => return None,
    })
}

/// Numbers 128 and 129. A speed that the system does not know leaves the old one: on a
/// pseudo-terminal it has no effect but what `stty` prints.
fn speed(number: u8, value: u32, attributes: &mut Termios) {
    let result = match number {
        128 => attributes.set_input_speed(value),
        129 => attributes.set_output_speed(value),
        _ => return,
    };
    if let Err(error) = result {
        tracing::debug!(%error, value, "no such terminal speed");
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;
    use crate::pty::{Size, Terminal};

    #[tokio::test]
    async fn the_terminal_is_as_the_client_says() {
        let modes = Modes::default()
            .with(53, 0)
            .with(51, 1)
            .with(36, 0)
            .with(3, 0x08)
            .with(1, 255)
            .with(41, 1)
            .with(128, 38400)
            .with(129, 38400)
            .with(19, 7);
        let terminal = Terminal::open(Size { cols: 80, rows: 24 }).unwrap();
        terminal.set_modes(|attributes| apply(&modes, attributes)).unwrap();
        let mut command = tokio::process::Command::new("stty");
        command.arg("-a");
        let mut attached = terminal.spawn(command).unwrap();
        let mut text = String::new();
        attached.output.read_to_string(&mut text).await.unwrap();
        for expected in ["speed 38400", "-echo ", " icanon", "-icrnl", "erase = ^H", "imaxbel"] {
            assert!(text.contains(expected), "{expected} in {text}");
        }
        assert!(text.contains("intr = <undef>"), "{text}");
    }
}
