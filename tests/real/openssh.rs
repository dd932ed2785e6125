//! OpenSSH and what runs over it, through `ssh --stdio` as ProxyCommand.

use std::process::{Command, Output};

use crate::{
    openssh_options::{options, ssh_line},
    support::{Deployment, feed, noise, shared, skipped},
};

fn run<G>(
    deployment: &Deployment<G>,
    program: &str,
    arguments: &[&str],
    input: &[u8],
) -> Option<Output> {
    if Command::new(program).arg("-V").output().is_err() {
        skipped(&format!("{program} is not installed"));
        return None;
    }
    let mut command = Command::new(program);
    command.args(options(program)).args(arguments);
    deployment.equip(&mut command);
    command.env("GIT_SSH_COMMAND", ssh_line());
    let output = feed(command, input);
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Some(output)
}

#[test]
fn ssh_runs_a_command() {
    let Some(deployment) = shared() else { return };
    let Some(output) = run(&deployment, "ssh", &["dev", "cat; echo done"], b"in\x00\xff") else {
        return;
    };
    assert_eq!(output.stdout, b"in\x00\xffdone\n");
}

#[test]
fn scp_sftp_rsync_and_git_carry_files() {
    let Some(deployment) = shared() else { return };
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let data = noise(11, 8 << 20);
    std::fs::write(path("source"), &data).unwrap();

    run(&deployment, "scp", &[&path("source"), &format!("dev:{}", path("by-scp"))], b"");
    assert!(std::fs::read(path("by-scp")).unwrap() == data);

    let batch = format!("put {} {}\n", path("source"), path("by-sftp"));
    run(&deployment, "sftp", &["-b", "-", "dev"], batch.as_bytes());
    assert!(std::fs::read(path("by-sftp")).unwrap() == data);

    run(
        &deployment,
        "rsync",
        &["-e", &ssh_line(), &path("source"), &format!("dev:{}", path("by-rsync"))],
        b"",
    );
    assert!(std::fs::read(path("by-rsync")).unwrap() == data);

    let git = |arguments: &[&str]| {
        let status = Command::new("git").args(["-C", &path("")]).args(arguments).output().unwrap();
        assert!(status.status.success(), "{status:?}");
    };
    git(&["init", "-q", "repository"]);
    git(&["-C", "repository", "add", "-f", "--intent-to-add", "."]);
    std::fs::write(path("repository/file"), &data).unwrap();
    git(&["-C", "repository", "add", "file"]);
    git(&[
        "-C",
        "repository",
        "-c",
        "user.name=t",
        "-c",
        "user.email=t@example.com",
        "commit",
        "-qm",
        "t",
    ]);
    run(
        &deployment,
        "git",
        &["clone", "-q", &format!("ssh://dev{}", path("repository")), &path("clone")],
        b"",
    );
    assert!(std::fs::read(path("clone/file")).unwrap() == data);
}
