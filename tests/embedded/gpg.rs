//! `ssh --forward-gpg`, with the GnuPG of this machine on both sides.

use std::{path::Path, process::Command};

use crate::support::{Server, has, run};

/// GnuPG's home, in a directory of a short name: sockets have to fit.
struct Gnupg(tempfile::TempDir);

impl Gnupg {
    fn new() -> Self {
        use std::os::unix::fs::PermissionsExt as _;
        let home = tempfile::Builder::new().prefix("g").tempdir_in("/tmp").unwrap();
        std::fs::set_permissions(home.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        Self(home)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let mut command = Command::new(program);
        run(command.args(arguments).env("GNUPGHOME", self.path())).ends(0);
    }
}

impl Drop for Gnupg {
    fn drop(&mut self) {
        // One that never ran is fine as well.
        let _ =
            Command::new("gpgconf").args(["--kill", "all"]).env("GNUPGHOME", self.path()).output();
    }
}

#[test]
fn programs_there_sign_with_the_keys_that_are_here() {
    if !(has("gpg") && has("gpgconf")) {
        return;
    }
    let (here, there) = (Gnupg::new(), Gnupg::new());
    let server = Server::empty();
    let environment = format!("environment = {{ GNUPGHOME = \"{}\" }}", there.path().display());
    server.create("dev", &format!("[[agents]]\nname = \"main\"\n{environment}\n"));
    let name = "Test <test@example.com>";
    here.run("gpg", &["--batch", "--passphrase", "", "--quick-gen-key", name, "ed25519", "sign"]);
    here.run("gpgconf", &["--launch", "gpg-agent"]);
    // An agent that runs there has to make room.
    there.run("gpgconf", &["--launch", "gpg-agent"]);
    let line = ["ssh", "dev", "-G", "--", "echo hello | gpg --batch --clearsign"];
    let seen = run(server.command(&line).env("GNUPGHOME", here.path())).ends(0);
    assert!(seen.stdout.starts_with("-----BEGIN PGP SIGNED MESSAGE-----"), "{seen:?}");
    let signed = here.path().join("signed");
    std::fs::write(&signed, &seen.bytes).unwrap();
    here.run("gpg", &["--batch", "--verify", signed.to_str().unwrap()]);
}

#[test]
fn without_an_agent_here_the_workspace_is_not_touched() {
    if !(has("gpg") && has("gpgconf")) {
        return;
    }
    let server = Server::with_dev();
    let here = Gnupg::new();
    let mut command = server.command(&["ssh", "dev", "-G", "--", "echo never"]);
    let seen = run(command.env("GNUPGHOME", here.path())).ends(210).prints("");
    seen.says("error: no GPG agent answers at /")
        .says("hint: start it: gpgconf --launch gpg-agent");
}
