//! OpenSSH with the configuration that `config-ssh` writes.

use std::fs;

use crate::support::{Server, has, run};

#[test]
fn openssh_reaches_a_workspace_and_knows_it_again() {
    if !has("ssh") {
        return;
    }
    let server = Server::with_dev();
    let home = server.home.path();
    let config = home.join(".ssh/config");
    server.run(&["config-ssh"]).ends(0).says("try: ssh WORKSPACE.coderctl");
    let ssh = |host: &str| {
        let arguments = ["-F", config.to_str().unwrap(), "-o", "BatchMode=yes", host, "echo here"];
        run(&mut server.program("ssh", &arguments))
    };
    ssh("dev.coderctl").ends(0).prints("here\n").says_nothing();
    let known_hosts = home.join(".ssh/coderctl/known_hosts");
    let pinned = fs::read_to_string(&known_hosts).unwrap();
    assert!(pinned.starts_with("dev.coderctl ssh-ed25519 "), "{pinned}");
    // Its key is the same after a restart.
    server.run(&["restart", "dev", "-y"]).ends(0);
    ssh("dev.coderctl").ends(0).prints("here\n");
    assert_eq!(fs::read_to_string(&known_hosts).unwrap(), pinned);
    ssh("main.dev.me.coderctl").ends(0).prints("here\n");
    // Another's is not taken for it.
    let key = pinned.split_whitespace().nth(2).unwrap();
    let flipped = if key.ends_with('A') { "B" } else { "A" };
    let other = format!("{}{flipped}", &key[..key.len() - 1]);
    fs::write(&known_hosts, pinned.replace(key, &other)).unwrap();
    ssh("dev.coderctl").ends(255).says("REMOTE HOST IDENTIFICATION HAS CHANGED");
    server.run(&["config-ssh", "--remove"]).ends(0);
    assert!(!known_hosts.exists());
    assert_eq!(fs::read_to_string(&config).unwrap(), "");
}
