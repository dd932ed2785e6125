#![allow(clippy::unwrap_used, reason = "tests")]

use std::{os::unix::fs::PermissionsExt, time::Duration};

use coderctl_agent::Services;
use coderctl_transport::Transport;
use tempfile::TempDir;

use super::*;

/// Longer than anything takes on a loaded machine.
const LIMIT: Duration = Duration::from_secs(60);

const WORKSPACE: Uuid = Uuid::from_u128(1);

/// A program in the place of `coderctl agent`: notes that it began and how it ended.
const AGENT: &str = r#"#!/bin/sh
echo "began $1 $CODER_AGENT_TOKEN" >> "$HOME/log"
trap 'echo ended >> "$HOME/log"; exit 0' TERM
while :; do sleep 0.01; done
"#;

struct Fixture {
    directory: TempDir,
    agents: Agents,
}

impl Fixture {
    fn new(program: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("program");
        // A file that is being written cannot be run, which a child of another test may prolong.
        let staged = directory.path().join("staged");
        fs::write(&staged, program).unwrap();
        fs::set_permissions(&staged, fs::Permissions::from_mode(0o700)).unwrap();
        fs::rename(&staged, &path).unwrap();
        let agents = Self::agents(&directory, AgentMode::Process(path));
        Self { directory, agents }
    }

    fn agents(directory: &TempDir, mode: AgentMode) -> Agents {
        Agents::new(Settings {
            server: "http://127.0.0.1:1/".parse().unwrap(),
            transport: Transport::new(coderctl_transport::Options::default()).unwrap(),
            workspaces: directory.path().join("workspaces"),
            mode,
            services: Services::default(),
        })
    }

    fn home(&self) -> PathBuf {
        self.directory.path().join("workspaces").join(WORKSPACE.to_string())
    }

    /// The program's notes, once they satisfy.
    async fn log(&self, satisfies: impl Fn(&str) -> bool) -> String {
        let look = async {
            let mut again = tokio::time::interval(Duration::from_millis(5));
            loop {
                again.tick().await;
                let text = fs::read_to_string(self.home().join("log")).unwrap_or_default();
                if satisfies(&text) {
                    return text;
                }
            }
        };
        tokio::time::timeout(LIMIT, look).await.expect("the program's notes")
    }
}

fn wanted(name: &str) -> Wanted {
    Wanted { name: name.to_owned(), token: AgentToken::generate() }
}

#[tokio::test]
async fn a_process_is_started_left_alone_replaced_and_ended() {
    let fixture = Fixture::new(AGENT);
    let agents = &fixture.agents;
    let first = wanted("main");
    let begun = |agent: &Wanted| format!("began agent {}\n", agent.token.expose());
    assert_eq!(agents.start(WORKSPACE, std::slice::from_ref(&first)).await.unwrap(), Started::Here);
    assert!(agents.runs(WORKSPACE));
    fixture.log(|log| log == begun(&first)).await;
    // The same token, as after a claim.
    agents.start(WORKSPACE, std::slice::from_ref(&first)).await.unwrap();

    let second = wanted("main");
    agents.start(WORKSPACE, std::slice::from_ref(&second)).await.unwrap();
    let replaced = format!("{}ended\n{}", begun(&first), begun(&second));
    fixture.log(|log| log == replaced).await;

    assert!(agents.stop(WORKSPACE).await);
    assert_eq!(fixture.log(|log| log.len() > replaced.len()).await, replaced + "ended\n");
    assert!(!agents.runs(WORKSPACE) && !agents.stop(WORKSPACE).await);
}

#[tokio::test]
async fn a_process_that_ends_by_itself_is_started_again() {
    let fixture = Fixture::new("#!/bin/sh\necho x >> \"$HOME/log\"\n");
    fixture.agents.start(WORKSPACE, &[wanted("main")]).await.unwrap();
    fixture.log(|log| log.len() >= 4).await;
    fixture.agents.shutdown().await;
}

#[tokio::test]
async fn a_process_ends_when_its_server_is_gone() {
    let fixture = Fixture::new(AGENT);
    let agent = wanted("main");
    let home = fixture.home();
    fs::create_dir_all(&home).unwrap();
    let AgentMode::Process(program) = &fixture.agents.0.settings.mode else { panic!("not ours") };
    let mut command = fixture.agents.command(program, &home, agent.token);
    let mut child = command.kill_on_drop(false).spawn().unwrap();
    fixture.log(|log| log.starts_with("began")).await;
    // All that is left of a server that was killed: the end of the pipe.
    drop(child.stdin.take());
    fixture.log(|log| log.ends_with("ended\n")).await;
    tokio::time::timeout(LIMIT, child.wait()).await.unwrap().unwrap();
}

#[tokio::test]
async fn agents_run_in_one_process_at_a_time() {
    let fixture = Fixture::new(AGENT);
    let other = Fixture::agents(&fixture.directory, fixture.agents.0.settings.mode.clone());
    let agent = [wanted("main")];
    assert_eq!(fixture.agents.start(WORKSPACE, &agent).await.unwrap(), Started::Here);
    assert_eq!(other.start(WORKSPACE, &agent).await.unwrap(), Started::Elsewhere);
    assert!(!other.gone(WORKSPACE).unwrap());
    assert!(!other.stop(WORKSPACE).await, "they are not its");
    fixture.agents.stop(WORKSPACE).await;
    assert!(other.gone(WORKSPACE).unwrap());
    assert_eq!(other.start(WORKSPACE, &agent).await.unwrap(), Started::Here);
    other.shutdown().await;
}

#[tokio::test]
async fn by_hand_only_the_directory_is_made() {
    let fixture = Fixture::new(AGENT);
    let agents = Fixture::agents(&fixture.directory, AgentMode::ByHand);
    assert_eq!(agents.start(WORKSPACE, &[wanted("main")]).await.unwrap(), Started::Elsewhere);
    let mode = fs::metadata(fixture.home()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    assert!(agents.gone(WORKSPACE).unwrap());
}

#[tokio::test]
async fn what_is_removed_is_the_workspace_and_nothing_else() {
    let fixture = Fixture::new(AGENT);
    let precious = fixture.directory.path().join("precious");
    fs::create_dir(&precious).unwrap();
    fs::write(precious.join("file"), "kept").unwrap();
    let home = fixture.home();
    fs::create_dir_all(home.join("deep")).unwrap();
    std::os::unix::fs::symlink(&precious, home.join("deep/link")).unwrap();
    fixture.agents.remove(WORKSPACE).await.unwrap();
    assert!(!home.exists());
    assert_eq!(fs::read_to_string(precious.join("file")).unwrap(), "kept");
    // Nothing there is fine; a link in its place is not followed.
    fixture.agents.remove(WORKSPACE).await.unwrap();
    std::os::unix::fs::symlink(&precious, &home).unwrap();
    let error = fixture.agents.remove(WORKSPACE).await.unwrap_err().to_string();
    assert!(error.contains("cannot be removed"), "{error}");
    assert_eq!(fs::read_to_string(precious.join("file")).unwrap(), "kept");
}
