//! Network namespaces: machines of their own on this machine. They need root.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use super::process::output_of;

/// A network namespace with `lo` up, removed on drop if it was made here.
pub(crate) struct Namespace {
    name: String,
    made_here: bool,
}

impl Namespace {
    /// Makes one.
    ///
    /// # Panics
    /// Without the right to (only root has it).
    #[track_caller]
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("btl{}n{number}", std::process::id());
        let made = ip(&["netns", "add", &name]).output();
        let made = made.unwrap_or_else(|e| panic!("the command ip (Debian package iproute2): {e}"));
        let errors = String::from_utf8_lossy(&made.stderr);
        assert!(made.status.success(), "a network namespace needs root: {}", errors.trim());
        let namespace = Self { name, made_here: true };
        output_of(&mut ip(&["-n", &namespace.name, "link", "set", "lo", "up"]));
        namespace
    }

    /// One that somebody else has made and will remove.
    #[allow(dead_code, reason = "not every target that shares this file has such hosts")]
    pub(crate) fn of_other(name: String) -> Self {
        Self { name, made_here: false }
    }

    /// Its name, as `ip netns` shows it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// A command that runs inside it.
    pub(crate) fn command(&self, program: &str) -> Command {
        ip(&["netns", "exec", &self.name, program])
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if self.made_here {
            let _ = ip(&["netns", "del", &self.name]).output();
        }
    }
}

/// A command that runs in the namespace, if there is one.
pub(crate) fn command_in(namespace: Option<&Namespace>, program: &str) -> Command {
    namespace.map_or_else(|| Command::new(program), |namespace| namespace.command(program))
}

/// Namespaces joined by one bridge: each a host with an address of its own in 10.98.0.0/24.
pub(crate) struct Lan {
    /// Holds the bridge; its own address is 10.98.0.1.
    pub(crate) hub: Namespace,
    /// The hosts, 10.98.0.11 and up.
    pub(crate) hosts: Vec<Namespace>,
}

impl Lan {
    /// Makes a bridge with `count` hosts (at most 200).
    ///
    /// # Panics
    /// Without root.
    #[track_caller]
    pub(crate) fn new(count: u8) -> Self {
        let hub = Namespace::new();
        let inside = |name: &str, args: &str| {
            output_of(ip(&["-n", name]).args(args.split_whitespace()));
        };
        inside(&hub.name, "link add br0 type bridge");
        inside(&hub.name, "addr add 10.98.0.1/24 dev br0");
        inside(&hub.name, "link set br0 up");
        let mut hosts = Vec::new();
        for number in 1..=count.min(200) {
            let host = Namespace::new();
            let port = format!("p{number}");
            let link = ["link", "add", "e0", "netns", &host.name, "type", "veth", "peer", "name"];
            output_of(ip(&link).args([&port, "netns", &hub.name]));
            inside(&hub.name, &format!("link set {port} master br0"));
            inside(&hub.name, &format!("link set {port} up"));
            inside(&host.name, &format!("addr add {}/24 dev e0", Self::address(number)));
            inside(&host.name, "link set e0 up");
            hosts.push(host);
        }
        Self { hub, hosts }
    }

    /// The address of host `number`, counted from 1.
    pub(crate) fn address(number: u8) -> std::net::Ipv4Addr {
        std::net::Ipv4Addr::new(10, 98, 0, 10 + number)
    }
}

fn ip(args: &[&str]) -> Command {
    let mut command = Command::new("ip");
    command.args(args);
    command
}
