//! The jobs in `examples/ci/`, step by step, against a deployment.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use tempfile::TempDir;

use crate::support::{Seen, Server, has, reverse, run, service};

/// The blocks of shell in a job, in their order.
fn scripts(file: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/ci").join(file);
    let text = fs::read_to_string(path).unwrap();
    let mut scripts = Vec::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if !line.ends_with("run: |") && line.trim() != "- |" {
            continue;
        }
        let indent = line.len() - line.trim_start().len();
        let mut script = String::new();
        let within = |line: &&str| line.starts_with(&" ".repeat(indent + 1));
        while let Some(line) = lines.next_if(within) {
            script += &format!("{}\n", line.trim_start());
        }
        scripts.push(script);
    }
    scripts
}

/// A checked-out project with tests that find a service, and a workspace that has results.
struct Job {
    server: Server,
    project: TempDir,
    port: u16,
}

impl Job {
    fn new(port: u16) -> Self {
        let server = Server::with_dev();
        let project = TempDir::new().unwrap();
        let tests = project.path().join("integration-tests");
        let text = "#!/bin/bash\nexec 4<>/dev/tcp/127.0.0.1/$CODERCTL_PORT; echo tested; exit 7\n";
        fs::write(&tests, text).unwrap();
        fs::set_permissions(&tests, fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(server.file("dev", "results")).unwrap();
        fs::write(server.file("dev", "results/report"), "fine").unwrap();
        Self { server, project, port }
    }

    fn step(&self, script: &str) -> Seen {
        let binary = Path::new(crate::support::binary()).parent().unwrap();
        let path = format!("{}:{}", binary.display(), std::env::var("PATH").unwrap());
        let mut command = self.server.program("bash", &["-eo", "pipefail", "-c", script]);
        command.env("PATH", path).env("CI", "true").current_dir(self.project.path());
        command.env("WORKSPACE", "dev").env("SERVICE_PORT", self.port.to_string());
        run(&mut command)
    }

    fn collected(&self) {
        let report = fs::read_to_string(self.project.path().join("results/report")).unwrap();
        assert_eq!(report, "fine");
        assert!(self.project.path().join("workspace.log").exists());
        self.server.api().in_status("dev", "stopped");
    }
}

#[test]
fn a_github_job() {
    if !has("bash") {
        return;
    }
    let job = Job::new(service(reverse));
    let [start, test, collect, stop] = &scripts("github.yml")[..] else { panic!("other steps") };
    job.server.run(&["stop", "dev", "-y"]).ends(0);
    job.step(start).ends(0).says("Starting workspace dev");
    // The tests' own status.
    job.step(test).ends(7).prints("tested\n").says("Ready!");
    let events = fs::read_to_string(job.project.path().join("events.jsonl")).unwrap();
    assert!(
        events.contains("\"event\":\"ready\",\"workspace\":\"dev\",\"forwards\":[{"),
        "{events}"
    );
    let last: serde_json::Value = serde_json::from_str(events.lines().last().unwrap()).unwrap();
    assert_eq!((&last["event"], &last["code"]), (&"finished".into(), &7.into()), "{events}");
    job.step(collect).ends(0);
    job.step(stop).ends(0);
    job.collected();
}

#[test]
fn a_github_job_whose_service_is_not_there() {
    if !has("bash") {
        return;
    }
    // Nobody listens at the port of a listener that is gone.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let job = Job::new(nobody.local_addr().unwrap().port());
    drop(nobody);
    let test = scripts("github.yml")[1].replace("60s", "1s");
    let seen = job.step(&test).ends(211);
    assert!(seen.stdout.contains("::error::the service does not answer"), "{seen:?}");
}

#[test]
fn a_gitlab_job() {
    if !has("bash") {
        return;
    }
    let job = Job::new(service(reverse));
    let [script, after] = &scripts("gitlab.yml")[..] else { panic!("other steps") };
    let seen = job.step(script).ends(7);
    assert!(seen.stdout.contains("tested\n"), "{seen:?}");
    job.step(after).ends(0);
    job.collected();
}
