//! From a template to the rows of a build.

use std::{collections::BTreeMap, time::Duration};

use uuid::Uuid;

use super::template::{self, Occasion, Template};
use crate::model::{
    AgentScript, AgentSpec, AgentToken, App, AppHealth, DisplayApp, MetadataDescription, NewAgent,
    NewResource, ResourceMetadata, SharingLevel,
};

/// What a started workspace has: one resource, its directory, and the agents in it. `token` is
/// asked for the token of the agent with this name; parameters are complete.
pub(super) fn started(
    template: &Template,
    parameters: &BTreeMap<String, String>,
    token: impl Fn(&str) -> AgentToken,
) -> Vec<NewResource> {
    let agents =
        template.agents.iter().map(|agent| self::agent(template, agent, parameters, &token));
    vec![NewResource {
        id: Uuid::new_v4(),
        kind: "workspace_directory".to_owned(),
        name: "workspace".to_owned(),
        hide: false,
        icon: template.icon.clone(),
        metadata: parameters
            .iter()
            .map(|(name, value)| ResourceMetadata {
                key: name.clone(),
                value: value.clone(),
                sensitive: false,
            })
            .collect(),
        agents: agents.collect(),
    }]
}

fn agent(
    template: &Template,
    agent: &template::Agent,
    parameters: &BTreeMap<String, String>,
    token: impl Fn(&str) -> AgentToken,
) -> NewAgent {
    let mut environment: BTreeMap<String, String> = template
        .parameters
        .iter()
        .filter_map(|parameter| {
            Some((parameter.variable(), parameters.get(&parameter.name)?.clone()))
        })
        .collect();
    environment.extend(agent.environment.clone());
    NewAgent {
        id: Uuid::new_v4(),
        auth_token: token(agent.name.as_str()),
        spec: AgentSpec {
            name: agent.name.as_str().to_owned(),
            operating_system: std::env::consts::OS.to_owned(),
            architecture: architecture(std::env::consts::ARCH).to_owned(),
            directory: agent.directory.clone(),
            environment,
            motd_file: agent.motd.clone(),
            connection_timeout: Some(whole_seconds(agent.connection_timeout.get()))
                .filter(|timeout| !timeout.is_zero()),
            troubleshooting_url: agent.troubleshooting_url.clone(),
            display_apps: vec![DisplayApp::SshHelper],
        },
        scripts: agent.scripts.iter().map(script).collect(),
        apps: agent.apps.iter().map(app).collect(),
        metadata: agent.metadata.iter().map(metadata).collect(),
    }
}

fn script(script: &template::Script) -> AgentScript {
    AgentScript {
        id: Uuid::new_v4(),
        log_source_id: Uuid::new_v4(),
        display_name: script.name.clone(),
        icon: String::new(),
        log_path: String::new(),
        script: script.run.clone(),
        cron: script.cron.as_ref().map(|cron| cron.as_str().to_owned()).unwrap_or_default(),
        run_on_start: script.occasion() == Some(Occasion::Start),
        run_on_stop: script.occasion() == Some(Occasion::Stop),
        start_blocks_login: script.blocks_login,
        timeout: script.timeout.get(),
    }
}

fn app(app: &template::App) -> App {
    let slug = app.slug.as_str().to_owned();
    let (url, interval, threshold) = match &app.healthcheck {
        Some(check) => {
            (check.url.clone(), whole_seconds(check.interval.get()), i32::from(check.threshold))
        }
        None => (String::new(), Duration::ZERO, 0),
    };
    App {
        id: Uuid::new_v4(),
        display_name: if app.name.is_empty() { slug.clone() } else { app.name.clone() },
        slug,
        icon: String::new(),
        command: app.command.clone(),
        url: app.url.clone(),
        external: false,
        subdomain: false,
        sharing_level: SharingLevel::Owner,
        health: if url.is_empty() { AppHealth::Disabled } else { AppHealth::Initializing },
        healthcheck_url: url,
        healthcheck_interval: interval,
        healthcheck_threshold: threshold,
        hidden: false,
    }
}

fn metadata(metadata: &template::Metadata) -> MetadataDescription {
    MetadataDescription {
        key: metadata.key.clone(),
        display_name: if metadata.name.is_empty() {
            metadata.key.clone()
        } else {
            metadata.name.clone()
        },
        script: metadata.run.clone(),
        interval: whole_seconds(metadata.interval.get()),
        timeout: whole_seconds(metadata.timeout.get()),
    }
}

/// Rounded up, so that a fraction does not become "never" or "no limit".
fn whole_seconds(duration: Duration) -> Duration {
    let fraction = u64::from(duration.subsec_nanos() > 0);
    Duration::from_secs(duration.as_secs().saturating_add(fraction))
}

/// Go's names of architectures (`GOARCH`), which Coder uses.
fn architecture(rust: &str) -> &str {
    match rust {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "arm" => "armv7",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn rows_say_what_the_template_says() {
        let template = Template::parse(
            r#"
            [[parameters]]
            name = "disk-size"
            default = "10"
            [[agents]]
            name = "main"
            directory = "project"
            environment = { EDITOR = "vi" }
            connection_timeout = "1500ms"
            [[agents.scripts]]
            name = "a"
            run = "true"
            blocks_login = true
            timeout = "3s"
            [[agents.scripts]]
            name = "b"
            run = "true"
            on = "stop"
            [[agents.scripts]]
            name = "c"
            run = "true"
            cron = "* * * * *"
            [[agents.apps]]
            slug = "web"
            url = "http://localhost:1"
            healthcheck = { url = "http://localhost:1/health" }
            [[agents.apps]]
            slug = "top"
            name = "Processes"
            command = "top"
            [[agents]]
            name = "side"
            connection_timeout = "0"
            "#,
        )
        .unwrap();
        let parameters = template.parameter_values(&BTreeMap::new());
        let tokens: BTreeMap<&str, AgentToken> =
            ["main", "side"].map(|name| (name, AgentToken::generate())).into();
        let resources = started(&template, &parameters, |name| tokens[name]);
        let [main, side] = resources[0].agents.as_slice() else { panic!("two agents") };
        assert_eq!(main.auth_token, tokens["main"]);
        assert_eq!(side.auth_token, tokens["side"]);
        let environment: Vec<_> = main.spec.environment.iter().collect();
        assert_eq!(
            environment,
            [
                (&"EDITOR".to_owned(), &"vi".to_owned()),
                (&"PARAMETER_DISK_SIZE".to_owned(), &"10".to_owned())
            ]
        );
        assert_eq!(main.spec.connection_timeout, Some(Duration::from_secs(2)));
        assert_eq!(side.spec.connection_timeout, None);
        let runs: Vec<_> = main
            .scripts
            .iter()
            .map(|script| (script.run_on_start, script.run_on_stop, script.cron.as_str()))
            .collect();
        assert_eq!(runs, [(true, false, ""), (false, true, ""), (false, false, "* * * * *")]);
        assert!(main.scripts[0].start_blocks_login);
        let health: Vec<_> =
            main.apps.iter().map(|app| (app.display_name.as_str(), app.health)).collect();
        assert_eq!(health, [("web", AppHealth::Initializing), ("Processes", AppHealth::Disabled)]);
        assert_eq!(main.apps[0].healthcheck_interval, Duration::from_secs(10));
    }
}
