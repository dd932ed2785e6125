use std::ffi::OsString;

use super::{
    Environment, Session,
    deadlines::Deadlines,
    global::{Headers, TextOrJson},
    target::Target,
};
use crate::{
    apps::cp::{
        Copy, Options,
        spec::{Place, Plan},
    },
    error::CommandError,
    tunnel::{self, Request, Wait},
};

const EXAMPLES: &str = "Examples:
  coderctl cp notes.txt dev:
  coderctl cp -r src dev:work/
  coderctl cp dev:out.tgz dev:/var/log/app.log .
  coderctl cp -r --resume dev:data data";

/// Copy files into a workspace, or out of it
///
/// WORKSPACE:PATH is a path in a workspace, relative to where its sessions begin; everything else is
/// a path here, and one that looks like the other is written ./WORKSPACE:PATH. No shell reads the
/// paths: blanks, quotes and asterisks are what they are. As with `cp`, a DESTINATION that is a
/// directory gets the sources into it.
///
/// A file gets its name when it is whole, and replaces nothing without --force. Symbolic links in
/// directories are copied as links. What cannot be copied is told, and the rest goes on; the exit
/// code is 1 then. A stopped workspace is started.
///
/// With -o json it is one object, at the end: files, directories, links, skipped, failed, bytes and
/// seconds. Fields may be added, never removed.
#[derive(clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct Args {
    /// What to copy
    #[arg(required = true, value_name = "SOURCE")]
    sources: Vec<OsString>,

    /// Where to
    #[arg(required = true, value_name = "DESTINATION")]
    destination: OsString,

    /// Copy directories with all that is in them
    #[arg(short, long)]
    recursive: bool,

    /// Keep permissions and times
    #[arg(short, long)]
    preserve: bool,

    /// Go on where an earlier copy ended, and pass over files that are whole; implies -p
    #[arg(long)]
    resume: bool,

    /// Replace files that are there
    #[arg(short, long)]
    force: bool,

    /// What to write to standard output at the end: nothing, or what became of it
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    output: TextOrJson,

    /// Do not start a stopped workspace
    #[arg(long, env = "CODER_SSH_DISABLE_AUTOSTART")]
    disable_autostart: bool,

    #[command(flatten)]
    deadlines: Deadlines,

    #[command(flatten)]
    pub(super) headers: Headers,
}

pub(super) async fn run(args: Args, environment: &Environment) -> Result<u8, CommandError> {
    let sources: Vec<_> = args.sources.iter().map(|source| Place::parse(source)).collect();
    let plan = Plan::new(&sources, &Place::parse(&args.destination))?;
    let target = Target::parse(&plan.workspace)?;
    let session = Session::open(environment).await?;
    let options = Options {
        recursive: args.recursive,
        preserve: args.preserve,
        resume: args.resume,
        force: args.force,
    };
    let request = Request {
        target,
        wait: Wait::Auto,
        autostart: !args.disable_autostart,
        follow: false,
        restart: false,
        limits: args.deadlines.limits(),
        usage_app: Some("ssh".to_owned()),
        app: Box::new(Copy::new(plan, options, args.output == TextOrJson::Json)),
    };
    tunnel::run(&session, &environment.ui, request).await
}
