//! The variables of a session: `-e` and `--env-file`.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use crate::{
    error::{CommandError, Kind},
    ui::quoted,
};

/// Largest file of variables, in bytes: what a process can be started with (Linux: a quarter of the
/// 8 MiB stack limit).
const LARGEST: u64 = 2 << 20;

/// Those of the files first, so that those of the command line count.
pub(super) fn read(
    files: &[PathBuf],
    settings: &[String],
) -> Result<Vec<(String, String)>, CommandError> {
    let mut all = Vec::new();
    for file in files {
        all.extend(of_file(file)?);
    }
    for setting in settings {
        all.push(split(setting).ok_or_else(|| {
            let text = format!("invalid environment variable setting {}", quoted(setting));
            CommandError::msg(Kind::Usage, text).hint("write -e NAME=VALUE")
        })?);
    }
    Ok(all)
}

fn split(setting: &str) -> Option<(String, String)> {
    let (name, value) = setting.split_once('=')?;
    let fine = !name.is_empty() && !setting.contains('\0');
    fine.then(|| (name.to_owned(), value.to_owned()))
}

fn of_file(path: &Path) -> Result<Vec<(String, String)>, CommandError> {
    let unreadable = |error: std::io::Error| {
        let what = format!("cannot read the variables in {}", path.display());
        CommandError::new(Kind::Local, anyhow::Error::new(error).context(what))
    };
    let mut text = String::new();
    let mut file = File::open(path).map_err(unreadable)?.take(LARGEST + 1);
    file.read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > LARGEST {
        let why = format!("it is larger than {} MiB", LARGEST >> 20);
        return Err(unreadable(std::io::Error::other(why)));
    }
    parse(&text).map_err(|line| {
        let text = format!("line {line} of {} is no variable", path.display());
        CommandError::msg(Kind::Usage, text).hint(
            "each line is NAME=VALUE, taken as it stands; empty ones and those that begin with # \
             are skipped",
        )
    })
}

/// The variables of a file, or the number of the line that is none.
fn parse(text: &str) -> Result<Vec<(String, String)>, usize> {
    let lines = text.lines().enumerate().filter(|(_, line)| {
        let line = line.trim_start();
        !line.is_empty() && !line.starts_with('#')
    });
    lines
        .map(|(index, line)| {
            let setting = split(line.trim_start()).filter(|(name, _)| !name.contains(' '));
            setting.ok_or(index + 1)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_variables() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        for (text, expected) in [
            ("", Ok(vec![])),
            ("# no=thing\n\n  \nA=1\n", Ok(vec![pair("A", "1")])),
            ("A=1\r\n  B='two = words' # all of it", {
                Ok(vec![pair("A", "1"), pair("B", "'two = words' # all of it")])
            }),
            ("A=", Ok(vec![pair("A", "")])),
            ("A=1\nB\n", Err(2)),
            ("=1", Err(1)),
            ("export A=1", Err(1)),
            ("A=\0", Err(1)),
        ] {
            assert_eq!(parse(text), expected, "{text:?}");
        }
    }

    #[test]
    fn the_command_line_comes_last() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("env");
        std::fs::write(&file, "A=file\nB=file\n").unwrap();
        let read = read(&[file], &["A=line".to_owned()]).unwrap();
        let names: Vec<_> = read.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(names, ["A=file", "B=file", "A=line"]);
        let error = super::read(&[directory.path().join("none")], &[]).unwrap_err();
        assert_eq!(error.kind.code(), 210, "{error}");
    }
}
