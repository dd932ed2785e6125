use super::write_data;
use crate::{error::CommandError, ui::Ui};

/// Show the version
#[derive(clap::Args)]
pub(super) struct Args {
    /// How to show it
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Debug, Clone, Copy, Default, clap::ValueEnum)]
enum Output {
    #[default]
    Text,
    Json,
}

pub(super) fn run(args: &Args, ui: &Ui) -> Result<u8, CommandError> {
    let version = env!("CARGO_PKG_VERSION");
    match args.output {
        Output::Text => write_data(ui, &format!("coderctl {version}\n")),
        Output::Json => write_data(ui, &format!("{}\n", serde_json::json!({ "version": version }))),
    }
}
