//! Network namespaces.

use std::{
    fs::File,
    os::fd::AsFd,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A network namespace that goes with the test.
pub(crate) struct Namespace(String);

impl Namespace {
    pub(crate) fn new(label: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("coderctl-{}-{count}-{label}", std::process::id());
        sh(&format!("ip netns add {name}"));
        let namespace = Self(name);
        namespace.sh("ip link set lo up; sysctl -qw net.ipv4.ip_forward=1");
        namespace
    }

    pub(crate) fn name(&self) -> &str {
        &self.0
    }

    /// Moves the current thread here for good. What it starts (threads, programs, sockets) is here,
    /// too, and stays where it was made.
    pub(crate) fn enter(&self) {
        let file = File::open(format!("/run/netns/{}", self.0)).unwrap();
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
    }

    /// Does something here.
    pub(crate) fn within<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        let done = std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                self.enter();
                act()
            });
            thread.join()
        });
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Runs a shell script here.
    pub(crate) fn sh(&self, script: &str) {
        self.within(|| sh(script));
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // It takes its devices with it.
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

/// Two devices with a cable between them.
pub(crate) fn cable(one: (&Namespace, &str), other: (&Namespace, &str)) {
    let ((here, name), (there, other)) = (one, other);
    let (here, there) = (here.name(), there.name());
    sh(&format!("ip link add {name} netns {here} type veth peer name {other} netns {there}"));
}

fn sh(script: &str) {
    let output = Command::new("sh").args(["-ec", script]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {said}");
}
