//! The servers of manifest.json, each asked every command that it offers. A server, a group or a command that nothing
//! here covers is a failure, so that a newer manifest cannot bring one in unseen.

use std::collections::BTreeSet;
use std::path::Path;

use flashfleet::client::{Client, ClientOptions, Conversation};
use flashfleet::plan::{Auto, FramingChoice, LinkOptions};
use flashfleet::smp::message::Repeat;
use flashfleet::smp::message::enumeration::{GroupDetails, ListGroups};
use flashfleet::smp::{Op, RawRequest, RequestId, Version};
use flashfleet::transport::{Connector, HostPort, SerialConnector, SerialOptions, UdpConnector, UdpHub};

use crate::error::{Context, Result, RigError};
use crate::fixtures::{Server, fixtures};
use crate::native::{SerialServer, UdpServer};
use crate::qemu::Board;
use crate::survey::{self, Answers, Asked};
use crate::terminal::Terminal;

/// How a server of the manifest is shown to work with flashfleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    Native,
    NativeRaw,
    Udp,
    Microbit,
    Mps2,
    /// It needs a board that nothing here emulates.
    Hardware,
}

/// None for a server of a kind that these tests do not know.
fn shown(server: &Server) -> Option<Shown> {
    Some(match (server.target.as_str(), server.transport.as_str()) {
        // The shell's UART carries SMP among what the shell prints.
        ("native_sim", "serial" | "shell") => Shown::Native,
        ("native_sim", "udp") => Shown::Udp,
        ("qemu_cortex_m0", "serial") => Shown::Microbit,
        ("native_sim", "serial_raw") => Shown::NativeRaw,
        ("mps2_an385", "serial" | "serial_raw" | "shell") => Shown::Mps2,
        ("nrf52840dk", "serial" | "bt") => Shown::Hardware,
        _ => return None,
    })
}

/// Number of a group that manifest.json names.
fn number(group: &str) -> Option<u16> {
    Some(match group {
        "os" => 0,
        "img" => 1,
        "stat" => 2,
        "settings" => 3,
        "fs" => 8,
        "shell" => 9,
        "enum" => 10,
        "zbasic" => 63,
        _ => return None,
    })
}

/// Every command of the groups, with the beginning of what covers it in the survey, or with the test that does where the
/// survey cannot ask it.
const COVERED: &[(u16, Op, u8, &str)] = &[
    (0, Op::Read, 0, "os echo"),
    (0, Op::Write, 0, "os echo"),
    (0, Op::Read, 2, "os tasks"),
    (0, Op::Read, 3, "os memory-pools"),
    (0, Op::Read, 4, "os time get"),
    (0, Op::Write, 4, "os time set"),
    (0, Op::Write, 5, "=real_images::a_whole_update"),
    (0, Op::Read, 6, "os params"),
    (0, Op::Read, 7, "os info"),
    (0, Op::Read, 8, "os bootloader"),
    (1, Op::Read, 0, "image list"),
    (1, Op::Write, 0, "=real_images::a_whole_update"),
    (1, Op::Write, 1, "=real_images::a_whole_update"),
    (1, Op::Write, 5, "image erase"),
    (1, Op::Read, 6, "=real_images::a_whole_update"),
    (2, Op::Read, 0, "stat show"),
    (2, Op::Read, 1, "stat list"),
    (3, Op::Read, 0, "settings read"),
    (3, Op::Write, 0, "settings write"),
    (3, Op::Write, 1, "settings delete"),
    (3, Op::Write, 2, "settings commit"),
    (3, Op::Read, 3, "settings load"),
    (3, Op::Write, 3, "settings save"),
    (8, Op::Read, 0, "=real_files::every_size"),
    (8, Op::Write, 0, "=real_files::every_size"),
    (8, Op::Read, 1, "fs status"),
    (8, Op::Read, 2, "fs hash"),
    (8, Op::Read, 3, "fs hash-types"),
    (8, Op::Write, 4, "fs close"),
    (9, Op::Write, 0, "shell"),
    (10, Op::Read, 0, "enum count"),
    (10, Op::Read, 1, "enum list"),
    (10, Op::Read, 2, "enum show"),
    (10, Op::Read, 3, "enum details"),
    (63, Op::Write, 0, "=real_servers::every_command"),
];

/// Groups that the manifest promises and the server does not have, neither by its own word nor by its answers.
const MISSING: &[(&str, &str)] = &[("native_sim serial_raw", "zbasic")];

/// A server that runs.
struct Running {
    server: &'static Server,
    address: String,
    /// Held for as long as it is to run.
    _process: Process,
}

#[expect(dead_code, reason = "held until the server is to end")]
enum Process {
    Native(SerialServer),
    Udp(UdpServer),
    Board(Board, Terminal),
}

impl Running {
    fn start(server: &'static Server, shown: Shown) -> Result<Self> {
        let serial = |path: &Path| format!("serial:{}", path.display());
        let (address, process) = match shown {
            Shown::Native => {
                let native = SerialServer::start(&server.config)?;
                (serial(native.terminal()), Process::Native(native))
            }
            Shown::NativeRaw => {
                let native = SerialServer::start(&server.config)?;
                (format!("raw:{}", native.terminal().display()), Process::Native(native))
            }
            Shown::Udp => {
                let udp = UdpServer::start(&server.config)?;
                (format!("udp:{}", udp.address().ip()), Process::Udp(udp))
            }
            Shown::Microbit | Shown::Mps2 => {
                let board = match shown {
                    Shown::Microbit => Board::microbit_with(&fixtures()?.path(server)?)?,
                    _ => Board::mps2(&server.config)?,
                };
                let terminal = Terminal::to(board.uart())?;
                // Some of these speak COBS, but in their bootloader.
                let kind = if server.transport == "serial_raw" { "raw" } else { "serial" };
                (format!("{kind}:{}", terminal.path().display()), Process::Board(board, terminal))
            }
            Shown::Hardware => {
                return Err(RigError::new(format!("{} is not run here", server.artifact)));
            }
        };
        Ok(Self { server, address, _process: process })
    }

    fn asked(&self, version: u8, wanted: impl Fn(&str) -> bool) -> Asked {
        let groups = self.server.groups.iter().filter(|group| wanted(group)).cloned().collect();
        Asked { address: self.address.clone(), groups, version }
    }

    fn name(&self) -> String {
        format!("{} {}", self.server.target, self.server.config)
    }

    async fn client(&self) -> Result<Client> {
        let link = match self.address.split_once(':') {
            Some(("udp", host)) => {
                let place = HostPort { host: host.to_owned(), port: 1337 };
                UdpConnector::new(std::sync::Arc::new(UdpHub::new()), place, Auto::Auto).connect().await
            }
            Some(("raw", path)) => {
                let link = LinkOptions { framing: FramingChoice::Raw, ..LinkOptions::default() };
                SerialConnector::new(path, SerialOptions::from(&link)).connect().await
            }
            Some((_, path)) => {
                SerialConnector::new(path, SerialOptions::from(&LinkOptions::default())).connect().await
            }
            None => return Err(RigError::new(format!("{} is no address", self.address))),
        };
        Ok(Client::new(link.context(&self.address)?, ClientOptions::default(), Conversation::default()))
    }
}

/// Every server of the manifest that is carried and can run here.
fn start_all() -> Result<Vec<Running>> {
    let servers = fixtures()?.servers();
    std::thread::scope(|scope| {
        let mut starts = Vec::new();
        for server in servers {
            let Some(shown) = shown(server) else {
                return Err(RigError::new(format!("no test knows {} {}", server.target, server.transport)));
            };
            if shown == Shown::Hardware || !fixtures()?.carries(server) {
                continue;
            }
            starts.push(scope.spawn(move || Running::start(server, shown).context(&server.artifact)));
        }
        starts.into_iter().map(|start| start.join().unwrap()).collect()
    })
}

/// Asks through both programs; what the two do not agree on is a failure. Gives what smpclient read.
fn agree(asked: &[(String, Asked)]) -> Result<Vec<Answers>> {
    let servers: Vec<_> = asked.iter().map(|(_, asked)| asked.clone()).collect();
    let answers = survey::smpclient(&servers)?;
    let differences: Vec<String> = std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for ((name, asked), answers) in asked.iter().zip(&answers) {
            threads.push(scope.spawn(move || {
                let found = survey::differences(asked, answers)?;
                let named =
                    found.into_iter().map(|found| format!("{name}, version {}: {found}", asked.version));
                Ok(named.collect())
            }));
        }
        let found: Result<Vec<Vec<String>>> =
            threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        found.map(|found| found.concat())
    })?;
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
    Ok(answers)
}

/// Everything that the server's groups hold is in the survey, or is covered elsewhere; what it does not have it refuses.
async fn assert_complete(running: &Running, answers: &Answers) -> Result<()> {
    let name = running.name();
    let mut client = running.client().await?;
    let groups = client.request(&ListGroups {}).await.context(&name)?.groups;
    let mut details = Vec::new();
    for group in &groups {
        // One at a time: all of them are too much for buffers of 96 bytes.
        let request = GroupDetails { groups: Some(vec![*group]) };
        details.extend(client.request(&request).await.context(&name)?.groups);
    }
    let offered: BTreeSet<u16> = details.iter().map(|group| group.group).collect();
    let promised = running.server.groups.iter().filter(|group| !MISSING.contains(&(&*name, group.as_str())));
    let manifest: Option<BTreeSet<u16>> = promised.map(|group| number(group)).collect();
    assert_eq!(Some(&offered), manifest.as_ref(), "{name}: the groups of the server and of its manifest");
    for group in &details {
        for command in 0..u8::try_from(group.handlers.unwrap_or(0)).unwrap() {
            for op in [Op::Read, Op::Write] {
                let covered =
                    |entry: &&(u16, Op, u8, &str)| (entry.0, entry.1, entry.2) == (group.group, op, command);
                if let Some((.., by)) = COVERED.iter().find(covered) {
                    let surveyed = answers.keys().any(|command| command.starts_with(by));
                    assert!(by.starts_with('=') || surveyed, "{name}: nothing asks {by}");
                    continue;
                }
                for version in [Version::V1, Version::V2] {
                    let id = RequestId { op, group: group.group, command };
                    let request = RawRequest::from_parts(id, Repeat::Safe, vec![0xa0]).context("request")?;
                    let answer = client.send(request.with_version(version), None).await.context(&name)?;
                    // {"rc": 8}: not supported.
                    assert_eq!(hex::encode(answer.payload), "bf62726308ff", "{name}: nothing covers {id:?}");
                }
            }
        }
    }
    client.close().await;
    Ok(())
}

#[tokio::test]
async fn every_command() -> Result<()> {
    let servers = start_all()?;
    let round = |version: u8, server: &dyn Fn(&Running) -> bool, group: &dyn Fn(&str) -> bool| {
        let asked = servers.iter().filter(|running| server(running));
        agree(&asked.map(|running| (running.name(), running.asked(version, group))).collect::<Vec<_>>())
    };
    // The file system lies in what `erase-storage` erases, so that comes last.
    let basic = |group: &str| group == "zbasic";
    let answers = round(2, &|_| true, &|group| !basic(group))?;
    // Error numbers are all that differs: one server of each kind that has many groups.
    let both = ["native_sim serial", "native_sim udp", "qemu_cortex_m0 serial"];
    round(1, &|running| both.contains(&running.name().as_str()), &|group| !basic(group))?;
    round(2, &|running| running.server.groups.iter().any(|group| basic(group)), &basic)?;
    for (running, answers) in servers.iter().zip(&answers) {
        assert_complete(running, answers).await?;
    }
    // The last release's manifest: fewer would mean that some were passed over.
    assert!(servers.len() >= 15, "{}", servers.len());
    Ok(())
}

/// What is covered by name elsewhere is there.
#[test]
fn tests_that_cover_commands_exist() -> Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop");
    for (group, _, command, by) in COVERED {
        let Some((module, test)) = by.strip_prefix('=').and_then(|name| name.split_once("::")) else {
            continue;
        };
        let source = std::fs::read_to_string(folder.join(format!("{module}.rs"))).context(module)?;
        assert!(source.contains(&format!("fn {test}(")), "group {group} command {command}: no test {by}");
    }
    Ok(())
}
