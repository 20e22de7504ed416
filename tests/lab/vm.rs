//! The guest: one for all scenarios of a test process, which have it one after the other.

use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::agent::{Agent, Job};
use crate::error::{Result, RigError};
use crate::image::image;
use crate::leash::Leash;

/// It takes 7 s on two idle cores.
const BOOT: Duration = Duration::from_secs(120);
/// For scripts that look at something or set it.
const SHORT: Duration = Duration::from_secs(60);

static GUEST: Mutex<Option<Guest>> = Mutex::new(None);

/// The guest, as one scenario has it.
#[derive(Debug)]
pub(crate) struct Lab {
    guest: MutexGuard<'static, Option<Guest>>,
}

/// A running virtual machine, switched off when this is dropped or the test process ends.
#[derive(Debug)]
struct Guest {
    agent: Arc<Agent>,
    station: PathBuf,
    _process: Leash,
}

impl Lab {
    /// Waits until no other scenario has the guest; starts one where none runs.
    pub(crate) fn take() -> Result<Self> {
        // A scenario that failed leaves the guest to the next, as one that passed does.
        let mut guest = GUEST.lock().unwrap_or_else(PoisonError::into_inner);
        if guest.as_ref().is_none_or(|guest| guest.agent.is_gone()) {
            *guest = None;
            *guest = Some(Guest::boot()?);
        }
        Ok(Self { guest })
    }

    /// Starts a bash script in the guest, in the folder that it shares with this machine.
    pub(crate) fn start(&self, script: &str) -> Result<Job> {
        self.guest().agent.start(script)
    }

    /// Runs a short script that has to succeed, and gives what it printed.
    pub(crate) fn run(&self, script: &str) -> Result<String> {
        self.start(script)?.wait(SHORT)?.success()
    }

    /// The folder on this machine that is `/station` in the guest.
    pub(crate) fn station(&self) -> &Path {
        &self.guest().station
    }

    fn guest(&self) -> &Guest {
        self.guest.as_ref().unwrap()
    }
}

impl Guest {
    fn boot() -> Result<Self> {
        let image = image()?;
        let folder = tempfile::Builder::new().prefix("lab-").tempdir()?;
        let path = |name: &str| folder.path().join(name);
        let station = path("station");
        std::fs::create_dir(&station)?;
        let listener = UnixListener::bind(path("agent"))?;
        listener.set_nonblocking(true)?;
        let console = path("console");
        let arguments = arguments(image, folder.path(), &station);
        let process = Leash::start_owning("qemu-system-x86_64", &arguments, folder)?;

        let until = Instant::now() + BOOT;
        let stream = loop {
            match listener.accept() {
                Ok((stream, _)) => break stream,
                Err(_) if Instant::now() < until && !process.is_over() => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(error) => {
                    let printed = process.printed();
                    return Err(RigError::new(format!("QEMU did not start: {error}\n{printed}")));
                }
            }
        };
        stream.set_nonblocking(false)?;
        let agent = Agent::over(stream, console, until.saturating_duration_since(Instant::now()))?;
        Ok(Self { agent, station, _process: process })
    }
}

/// Software emulation: it runs everywhere, in containers too.
fn arguments(image: &crate::image::Image, folder: &Path, station: &Path) -> Vec<String> {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lab/guest");
    let program = Path::new(env!("CARGO_BIN_EXE_flashfleet")).parent().unwrap();
    let share = |tag: &str, path: &Path, how: &str| {
        let path = path.display();
        [
            "-virtfs".to_owned(),
            format!("local,path={path},mount_tag={tag},security_model=none,multidevs=remap{how}"),
        ]
    };
    let mut arguments: Vec<String> = [
        "-accel",
        "tcg,thread=multi,tb-size=512",
        "-machine",
        "pc",
        "-cpu",
        "max",
        "-smp",
        "2",
        "-m",
        "2048",
        "-display",
        "none",
        "-vga",
        "none",
        "-no-reboot",
        "-append",
        // The kernel tells of each transfer of each board that is pulled; the rest must not be lost over that.
        "console=ttyS0 quiet panic=-1 log_buf_len=8M",
        "-nic",
        "user,model=virtio-net-pci",
        "-device",
        "virtio-rng-pci",
        "-device",
        "virtio-serial-pci",
        "-device",
        "virtserialport,chardev=agent,name=agent",
    ]
    .map(str::to_owned)
    .into();
    let named = [
        ("-kernel", image.kernel.display().to_string()),
        ("-initrd", image.initrd.display().to_string()),
        ("-drive", format!("file={},if=virtio,format=raw,readonly=on", image.root.display())),
        ("-serial", format!("file:{}", folder.join("console").display())),
        ("-chardev", format!("socket,id=agent,path={}", folder.join("agent").display())),
    ];
    arguments.extend(named.into_iter().flat_map(|(option, value)| [option.to_owned(), value]));
    arguments.extend(share("lab", &scripts, ",readonly=on"));
    arguments.extend(share("program", program, ",readonly=on"));
    arguments.extend(share("station", station, ""));
    arguments
}
