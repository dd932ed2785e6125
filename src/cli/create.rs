use std::{path::Path, time::Duration};

use http::StatusCode;
use uuid::Uuid;

use super::{
    Environment,
    build::{Builder, Parameters, Waiting},
    global::Headers,
    template_file::TemplateFile,
};
use crate::{
    api::{NewWorkspace, Organization, Preset, Template, Transition},
    error::{CommandError, Kind},
    ui::quoted,
};

/// Create a workspace, and wait until it runs
///
/// TEMPLATE is the name of a template, or a file (ending in .toml) that describes one: the latter
/// is for `coderctl server`, and becomes a template named like the file. With a preset a prebuilt
/// workspace is claimed where there is one.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Name of the new workspace
    workspace: String,

    /// Template, by name or as a file
    #[arg(short, long, value_name = "TEMPLATE", env = "CODER_TEMPLATE_NAME")]
    template: String,

    /// Preset of the template; `none` for none, by default the template's own default
    #[arg(long, value_name = "NAME", env = "CODER_PRESET_NAME")]
    preset: Option<String>,

    /// Organization of the template, where several have one of that name
    #[arg(short = 'O', long, value_name = "NAME", env = "CODER_ORGANIZATION")]
    org: Option<String>,

    #[command(flatten)]
    parameters: Parameters,

    #[command(flatten)]
    waiting: Waiting,

    /// Accepted; nothing is asked
    #[arg(short, long, hide_short_help = true)]
    yes: bool,

    #[command(flatten)]
    pub(super) headers: Headers,
}

/// Between looks at a template version that is being imported.
const PAUSE: Duration = Duration::from_millis(100);

pub(super) async fn run(args: Args, environment: &Environment) -> Result<u8, CommandError> {
    let parameters = args.parameters.read()?;
    let file = template_file(&args.template)?;
    let builder = Builder::open(environment, args.waiting).await?;
    let work = async {
        let organizations = organizations(&builder, args.org.as_deref()).await?;
        let template = match file {
            Some(file) => import(&builder, &organizations, file).await?,
            None => find(&builder, &organizations, &args.template).await?,
        };
        let preset = preset(&builder, &template, args.preset.as_deref()).await?;
        let new = NewWorkspace {
            name: args.workspace.clone(),
            template_id: template.id,
            template_version_preset_id: preset.map(|preset| preset.id),
            rich_parameter_values: parameters,
        };
        let workspace = builder.api().create_workspace(&new).await?;
        builder.finish(&workspace.name, Transition::Start, &workspace.latest_build).await
    };
    builder.bounded(work).await
}

/// The template's file, where it is one.
fn template_file(template: &str) -> Result<Option<TemplateFile>, CommandError> {
    let path = Path::new(template);
    let is_file = path.extension().is_some_and(|extension| extension == "toml");
    is_file.then(|| TemplateFile::read(path)).transpose()
}

async fn organizations(
    builder: &Builder<'_>,
    name: Option<&str>,
) -> Result<Vec<Organization>, CommandError> {
    let all = builder.api().organizations().await?;
    let Some(name) = name.filter(|name| !name.is_empty()) else { return Ok(all) };
    let known = names(all.iter().map(|one| one.name.as_str()));
    let id = Uuid::parse_str(name).ok();
    let found: Vec<_> =
        all.into_iter().filter(|one| one.name == name || Some(one.id) == id).collect();
    if found.is_empty() {
        let why = format!("you are in no organization {}", quoted(name));
        return Err(CommandError::msg(Kind::Usage, why).hint(format!("there are {known}")));
    }
    Ok(found)
}

async fn find(
    builder: &Builder<'_>,
    organizations: &[Organization],
    name: &str,
) -> Result<Template, CommandError> {
    for organization in organizations {
        match builder.api().template(organization.id, name).await {
            Err(error) if error.is(StatusCode::NOT_FOUND) => {}
            outcome => return Ok(outcome?),
        }
    }
    let why = format!("there is no template {}, or you have no access to it", quoted(name));
    let mut known = Vec::new();
    for organization in organizations {
        known.extend(builder.api().templates(organization.id).await?);
    }
    Err(CommandError::msg(Kind::Usage, why).hint(if known.is_empty() {
        "there are no templates yet: `--template FILE.toml` brings one to `coderctl server`, the \
         dashboard to others"
            .to_owned()
    } else {
        format!("there are {}", names(known.iter().map(|template| template.name.as_str())))
    }))
}

/// So many names are listed, in the order that they have.
const LISTED: usize = 20;

/// Names, for a hint.
fn names<'a>(all: impl ExactSizeIterator<Item = &'a str>) -> String {
    let more = all.len().saturating_sub(LISTED);
    let mut listed: Vec<String> = all.take(LISTED).map(quoted).collect();
    if more > 0 {
        listed.push(format!("and {more} more"));
    }
    listed.join(", ")
}

/// Makes the template, or its next version where there is one of that name.
async fn import(
    builder: &Builder<'_>,
    organizations: &[Organization],
    TemplateFile { name, text }: TemplateFile,
) -> Result<Template, CommandError> {
    let api = builder.api();
    let organization = organizations.first().ok_or_else(|| {
        CommandError::msg(Kind::Other, "you are in no organization")
            .hint("ask an administrator to add you to one")
    })?;
    let file = api.upload("application/toml", text.into()).await.map_err(|error| {
        let refused =
            error.is(StatusCode::BAD_REQUEST) || error.is(StatusCode::UNSUPPORTED_MEDIA_TYPE);
        let error = CommandError::from(error);
        if refused {
            error.hint(
                "only `coderctl server` takes templates in TOML: name a template of this \
                 deployment instead",
            )
        } else {
            error
        }
    })?;
    let existing = match api.template(organization.id, &name).await {
        Ok(template) => Some(template),
        Err(error) if error.is(StatusCode::NOT_FOUND) => None,
        Err(error) => return Err(error.into()),
    };
    let template = existing.as_ref().map(|template| template.id);
    let mut version = api.create_template_version(organization.id, template, file).await?;
    while matches!(version.job.status.as_str(), "pending" | "running") {
        tokio::time::sleep(PAUSE).await;
        version = api.template_version(version.id).await?;
    }
    if version.job.status != "succeeded" {
        let why = version.job.error.unwrap_or_default();
        let text = format!("the template {} cannot be used: {why}", quoted(&name));
        return Err(CommandError::msg(Kind::Usage, text).hint("repair the file"));
    }
    match existing {
        Some(template) => {
            api.activate_version(template.id, version.id).await?;
            Ok(Template { active_version_id: version.id, ..template })
        }
        None => Ok(api.create_template(organization.id, &name, version.id).await?),
    }
}

async fn preset(
    builder: &Builder<'_>,
    template: &Template,
    name: Option<&str>,
) -> Result<Option<Preset>, CommandError> {
    if name == Some("none") {
        return Ok(None);
    }
    let presets = match builder.api().presets(template.active_version_id).await {
        // Servers without presets have no such route.
        Err(error) if error.is(StatusCode::NOT_FOUND) => Vec::new(),
        outcome => outcome?,
    };
    let Some(name) = name.filter(|name| !name.is_empty()) else {
        return Ok(presets.into_iter().find(|preset| preset.default));
    };
    let hint = match names(presets.iter().map(|preset| preset.name.as_str())).as_str() {
        "" => "it has none".to_owned(),
        known => format!("it has {known}"),
    };
    let found = presets.into_iter().find(|preset| preset.name == name);
    found.map(Some).ok_or_else(|| {
        let why = format!("template {} has no preset {}", quoted(&template.name), quoted(name));
        CommandError::msg(Kind::Usage, why).hint(hint)
    })
}
