//! Zephyr servers that run as programs of this machine (native_sim), behind a pseudo-terminal or UDP.
//!
//! A UDP server always takes port 1337 of every address, so each gets a network namespace of its own, reached
//! over a pair of virtual interfaces. That needs root.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use tempfile::TempDir;

use crate::error::{Result, RigError};
use crate::fixtures::{Server, fixtures, require, run};
use crate::leash::Leash;

/// The SMP port over UDP. Source: Zephyr `CONFIG_MCUMGR_TRANSPORT_UDP_PORT`.
const PORT: u16 = 1337;
/// A native_sim program is up in well under a second; a loaded machine may take longer.
const START: Duration = Duration::from_secs(30);

const INSTALL_I386: &str = "dpkg --add-architecture i386 && apt-get update && apt-get install -y libc6:i386";

/// A serial server, ended when this is dropped.
#[derive(Debug)]
pub(crate) struct SerialServer {
    pub(crate) server: &'static Server,
    terminal: PathBuf,
    _process: Leash,
    _folder: TempDir,
}

impl SerialServer {
    /// Starts `native_sim` with this configuration, for example `serial_buf96`.
    pub(crate) fn start(config: &str) -> Result<Self> {
        let fixtures = fixtures()?;
        let server = fixtures.server("native_sim", config)?;
        let program = program(server)?;
        let folder = tempfile::Builder::new().prefix("rig-native-").tempdir()?;
        let process = Leash::start(&program.to_string_lossy(), &[], folder.path())?;
        let terminal = process.wait_for_line("pseudo-terminal", START, |line| {
            line.split("connected to pseudotty: ").nth(1).map(|path| PathBuf::from(path.trim()))
        })?;
        Ok(Self { server, terminal, _process: process, _folder: folder })
    }

    /// The pseudo-terminal that the server's UART is at.
    pub(crate) fn terminal(&self) -> &Path {
        &self.terminal
    }
}

/// A UDP server in its own network namespace, ended when this is dropped.
#[derive(Debug)]
pub(crate) struct UdpServer {
    pub(crate) server: &'static Server,
    v4: Ipv4Addr,
    v6: Ipv6Addr,
    _process: Leash,
    _folder: TempDir,
    // Last: the namespace goes after the server in it.
    _namespace: Namespace,
}

impl UdpServer {
    /// Starts `native_sim` with this configuration: `udp` (IPv4) or `udp6`.
    pub(crate) fn start(config: &str) -> Result<Self> {
        let fixtures = fixtures()?;
        let server = fixtures.server("native_sim", config)?;
        let program = program(server)?;
        let namespace = Namespace::new()?;
        let folder = tempfile::Builder::new().prefix("rig-native-").tempdir()?;
        let arguments = ["netns", "exec", &namespace.name, &program.to_string_lossy()].map(str::to_owned);
        let process = Leash::start("ip", &arguments, folder.path())?;
        process.wait_for_line("start of its UDP server", START, |line| {
            line.contains("smp_udp: Started").then_some(())
        })?;
        let (v4, v6) = (namespace.v4, namespace.v6);
        Ok(Self { server, v4, v6, _process: process, _folder: folder, _namespace: namespace })
    }

    /// The address to talk to, of the family that this server listens to.
    pub(crate) fn address(&self) -> SocketAddr {
        let ip = match self.server.ip_family.as_deref() {
            Some("ipv6") => IpAddr::V6(self.v6),
            _ => IpAddr::V4(self.v4),
        };
        SocketAddr::new(ip, PORT)
    }
}

/// A network namespace joined to this one by a pair of virtual interfaces.
#[derive(Debug)]
struct Namespace {
    name: String,
    v4: Ipv4Addr,
    v6: Ipv6Addr,
}

impl Namespace {
    fn new() -> Result<Self> {
        require("ip", "apt-get install -y iproute2")?;
        static NEXT: AtomicU8 = AtomicU8::new(1);
        let number = NEXT.fetch_add(1, Ordering::SeqCst);
        let process = std::process::id();
        let name = format!("rig-{process}-{number}");
        remove_orphans();
        // Interface names hold 15 characters. The networks differ by test process and by server; the process's
        // number is folded, so two test runs at once may meet in rare cases, and then `ip` says so.
        let net = u8::try_from(process % 250).unwrap_or_default();
        let host_side = format!("rig{process}-{number}");
        let ip = |arguments: String| {
            let help = "UDP servers need network namespaces: run as root, in a container with NET_ADMIN and SYS_ADMIN";
            run(Command::new("ip").args(arguments.split(' ')), help).map(drop)
        };
        ip(format!("netns add {name}"))?;
        // From here on dropping it removes what was made.
        let namespace = Self {
            name: name.clone(),
            v4: Ipv4Addr::new(10, net, number, 2),
            v6: Ipv6Addr::new(0xfd00, 0x5249, net.into(), number.into(), 0, 0, 0, 2),
        };
        ip(format!("link add {host_side} type veth peer name eth0 netns {name}"))?;
        // `nodad`: without it an IPv6 address stays unusable for a second or two.
        ip(format!("addr add 10.{net}.{number}.1/24 dev {host_side}"))?;
        ip(format!("-6 addr add fd00:5249:{net:x}:{number:x}::1/64 dev {host_side} nodad"))?;
        ip(format!("link set {host_side} up"))?;
        ip(format!("-n {name} link set lo up"))?;
        ip(format!("-n {name} addr add {}/24 dev eth0", namespace.v4))?;
        ip(format!("-n {name} -6 addr add {}/64 dev eth0 nodad", namespace.v6))?;
        ip(format!("-n {name} link set eth0 up"))?;
        Ok(namespace)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = run(Command::new("ip").args(["netns", "del", &self.name]), "");
    }
}

/// Removes namespaces of test runs that were killed.
fn remove_orphans() {
    let Ok(list) = run(Command::new("ip").args(["netns", "list"]), "") else { return };
    for name in list.lines().filter_map(|line| line.split_whitespace().next()) {
        let owner = name.strip_prefix("rig-").and_then(|rest| rest.split('-').next());
        if owner.is_some_and(|process| !Path::new("/proc").join(process).exists()) {
            let _ = run(Command::new("ip").args(["netns", "del", name]), "");
        }
    }
}

/// The program of a server, made executable; an error where 32-bit programs cannot run here.
fn program(server: &Server) -> Result<PathBuf> {
    if !Path::new("/lib/ld-linux.so.2").exists() && !Path::new("/lib32/ld-linux.so.2").exists() {
        return Err(
            RigError::new("32-bit programs cannot run here: libc6:i386 is not installed").help(INSTALL_I386)
        );
    }
    let path = fixtures()?.path(server)?;
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
    Ok(path)
}
