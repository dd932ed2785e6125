//! What a template must be beyond its grammar.

use std::collections::{BTreeMap, BTreeSet};

use super::{MAX_TEMPLATE, Template};

/// Agents of one template; each is a process or a set of tasks.
const MAX_AGENTS: usize = 16;

/// Workspaces that one preset keeps built ahead.
const MAX_PREBUILDS: usize = 100;

/// What is wrong with a template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// Its grammar.
    #[error("line {line}, column {column}: {message}")]
    Syntax {
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
        /// What.
        message: String,
    },
    /// Its sense.
    #[error("{0}")]
    Sense(String),
}

/// Reads and checks one.
pub(super) fn parse(text: &str) -> Result<Template, TemplateError> {
    if text.len() > MAX_TEMPLATE {
        return Err(TemplateError::Sense(format!(
            "the template has {} bytes, more than the {MAX_TEMPLATE} that are read",
            text.len()
        )));
    }
    let template: Template = toml::from_str(text).map_err(|error| {
        let message = error.message().to_owned();
        let start = error.span().map_or(0, |span| span.start);
        let before = text.get(..start).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        TemplateError::Syntax { line, column, message }
    })?;
    sense(&template).map_err(TemplateError::Sense)?;
    Ok(template)
}

/// What the grammar cannot say.
fn sense(template: &Template) -> Result<(), String> {
    if template.agents.len() > MAX_AGENTS {
        return Err(format!(
            "{} agents are more than the {MAX_AGENTS} that one template may have",
            template.agents.len()
        ));
    }
    unique("agent", template.agents.iter().map(|agent| agent.name.as_str()))?;
    unique("parameter", template.parameters.iter().map(|parameter| parameter.name.as_str()))?;
    unique("preset", template.presets.iter().map(|preset| preset.name.as_str()))?;
    unique(
        "app",
        template.agents.iter().flat_map(|agent| &agent.apps).map(|app| app.slug.as_str()),
    )?;
    for agent in &template.agents {
        self::agent(agent)
            .map_err(|problem| format!("agent {:?}: {problem}", agent.name.as_str()))?;
    }
    for (number, failure) in template.failures.iter().enumerate() {
        let steps = template.steps(failure.transition).len();
        if let Some(step) = failure.step
            && !(1..=steps).contains(&step)
        {
            return Err(format!(
                "failure {} is at step {step}, but [[{}]] has {steps}",
                number + 1,
                failure.transition
            ));
        }
    }
    for parameter in &template.parameters {
        if parameter.name.is_empty() {
            return Err("a parameter has an empty name".to_owned());
        }
        if let Some(default) = &parameter.default
            && !allowed(&parameter.options, default)
        {
            return Err(format!(
                "parameter {:?}: its default {default:?} is not among its options",
                parameter.name
            ));
        }
    }
    unique("variable", template.parameters.iter().map(super::Parameter::variable))?;
    if template.presets.iter().filter(|preset| preset.default).count() > 1 {
        return Err("more than one preset is the default".to_owned());
    }
    for preset in &template.presets {
        let about = |problem| format!("preset {:?}: {problem}", preset.name);
        named(template, &preset.parameters).map_err(about)?;
        if preset.prebuilds > MAX_PREBUILDS {
            return Err(about(format!(
                "{} prebuilt workspaces are more than the {MAX_PREBUILDS} that one preset may have",
                preset.prebuilds
            )));
        }
        if preset.prebuilds > 0 {
            // Nobody is there to ask.
            complete(template, &preset.parameters).map_err(about)?;
        }
    }
    Ok(())
}

fn agent(agent: &super::Agent) -> Result<(), String> {
    unique("script", agent.scripts.iter().map(|script| script.name.as_str()))?;
    unique("metadata key", agent.metadata.iter().map(|metadata| metadata.key.as_str()))?;
    for script in &agent.scripts {
        let about = |problem| Err(format!("script {:?}: {problem}", script.name));
        if script.on.is_some() && script.cron.is_some() {
            return about("`on` and `cron` exclude each other");
        }
        if script.blocks_login && script.occasion() != Some(super::Occasion::Start) {
            return about("`blocks_login` is only for scripts that run at the start");
        }
    }
    for metadata in &agent.metadata {
        let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if metadata.key.is_empty() || !metadata.key.bytes().all(fine) {
            return Err(format!(
                "metadata key {:?}: letters, digits, dashes, underscores and dots only",
                metadata.key
            ));
        }
        // They travel as whole seconds.
        if metadata.interval.get().as_secs() == 0 || metadata.timeout.get().as_secs() == 0 {
            return Err(format!(
                "metadata {:?}: interval and timeout are at least a second",
                metadata.key
            ));
        }
    }
    for app in &agent.apps {
        if app.url.is_empty() == app.command.is_empty() {
            return Err(format!(
                "app {:?}: it has either a `url` or a `command`",
                app.slug.as_str()
            ));
        }
    }
    for name in agent.environment.keys() {
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(format!("environment: {name:?} cannot be the name of a variable"));
        }
    }
    let outside = |part: &str| part == ".." || part.starts_with('~');
    if agent.directory.starts_with('/') || agent.directory.split('/').any(outside) {
        return Err(format!(
            "directory {:?} is not below the workspace's directory",
            agent.directory
        ));
    }
    Ok(())
}

/// Whether a workspace can be made with these values.
pub(super) fn parameters(
    template: &Template,
    values: &BTreeMap<String, String>,
) -> Result<(), TemplateError> {
    named(template, values).and_then(|()| complete(template, values)).map_err(TemplateError::Sense)
}

/// Every named parameter exists and may have its value.
fn named(template: &Template, values: &BTreeMap<String, String>) -> Result<(), String> {
    for (name, value) in values {
        let parameter = template
            .parameters
            .iter()
            .find(|parameter| parameter.name == *name)
            .ok_or_else(|| format!("parameter {name:?} is not one of the template"))?;
        if !allowed(&parameter.options, value) {
            return Err(format!(
                "parameter {name:?} cannot be {value:?}; it is one of: {}",
                parameter.options.join(", ")
            ));
        }
    }
    Ok(())
}

/// Every parameter has a value.
fn complete(template: &Template, values: &BTreeMap<String, String>) -> Result<(), String> {
    let missing = template
        .parameters
        .iter()
        .find(|parameter| parameter.default.is_none() && !values.contains_key(&parameter.name));
    match missing {
        Some(parameter) => Err(format!("parameter {:?} needs a value", parameter.name)),
        None => Ok(()),
    }
}

fn allowed(options: &[String], value: &str) -> bool {
    options.is_empty() || options.iter().any(|option| option == value)
}

fn unique<T: Ord + std::fmt::Debug>(
    what: &str,
    names: impl Iterator<Item = T>,
) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    for name in names {
        if seen.contains(&name) {
            return Err(format!("{what} {name:?} is there twice"));
        }
        seen.insert(name);
    }
    Ok(())
}
