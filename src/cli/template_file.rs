//! Templates that are files.

use std::{fs::File, io::Read, path::Path};

use crate::{
    error::{CommandError, Kind},
    ui::quoted,
};

/// Largest template file, in bytes; the deployment has the same limit.
const LARGEST: u64 = 1 << 20;

/// A template in a file: its name, which is the file's, and its text.
pub(super) struct TemplateFile {
    pub(super) name: String,
    pub(super) text: String,
}

impl TemplateFile {
    pub(super) fn read(path: &Path) -> Result<Self, CommandError> {
        let shown = quoted(&path.to_string_lossy());
        let mut text = String::new();
        let read =
            File::open(path).and_then(|file| file.take(LARGEST + 1).read_to_string(&mut text));
        read.map_err(|error| {
            let context = format!("the template {shown} cannot be read");
            CommandError::new(Kind::Usage, anyhow::Error::new(error).context(context))
        })?;
        if text.len() as u64 > LARGEST {
            let why = format!("the template {shown} is larger than {LARGEST} bytes");
            return Err(CommandError::msg(Kind::Usage, why));
        }
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { name, text })
    }
}
