//! A made-up run to report on, and a few short cuts. No assertions.

use chrono::{DateTime, TimeDelta, Utc};
use flashfleet::cause::{Cause, Class};
use flashfleet::identity::{BleIdentity, Identity, UsbIdentity};
use flashfleet::report::{
    Aggregate, DeviceId, Event, EventKind, ImageOutcome, ImageView, LimitedBy, Outcome, PlannedStep, Report,
    SCHEMA, Setting, StepDetail, StepFinished, UploadDiagnosis, UploadFigures, Verdict,
};

/// 2026-11-03 08:00:00 UTC and so many seconds.
pub(crate) fn at(seconds: f64) -> DateTime<Utc> {
    let start = DateTime::parse_from_rfc3339("2026-11-03T08:00:00Z").unwrap().to_utc();
    start + TimeDelta::milliseconds((seconds * 1e3).round() as i64)
}

pub(crate) fn cause(class: Class, code: &'static str) -> Cause {
    Cause::new(class, code, format!("expected better, got {code}"), "do something about it")
}

pub(crate) fn usb(serial: &str, hub_path: &str) -> Identity {
    let usb = UsbIdentity {
        vid: 0x2fe3,
        pid: 0x0004,
        interface: Some(0),
        serial_number: Some(serial.to_owned()),
        product: Some("Sensor".to_owned()),
        hub_path: Some(hub_path.to_owned()),
    };
    Identity { usb: Some(usb), ble: None }
}

pub(crate) fn ble(name: &str) -> Identity {
    Identity {
        usb: None,
        ble: Some(BleIdentity { name: Some(name.to_owned()), address: "C0:FF:EE:00:00:01".to_owned() }),
    }
}

pub(crate) fn view(version: &str, confirmed: bool) -> ImageView {
    let hash = version.bytes().map(|byte| format!("{byte:02x}")).collect::<String>().repeat(6);
    ImageView { version: version.to_owned(), hash: Some(hash), active: true, confirmed }
}

fn diagnosis() -> UploadDiagnosis {
    let setting = Setting {
        name: "CONFIG_MCUMGR_TRANSPORT_NETBUF_SIZE".to_owned(),
        value: "2048".to_owned(),
        bytes_per_s: Some(7_300.25),
    };
    UploadDiagnosis {
        limited_by: LimitedBy::BufferSize,
        setting: Some(setting),
        streaming_bytes_per_s: Some(5_100.5),
        erase_s: Some(0.25),
        chunk_bytes: 356,
        in_flight: 3,
        round_trip_s: Some(0.209),
        wire_s: Some(0.043),
        latency_s: Some(0.164),
        device_s: Some(0.002),
    }
}

pub(crate) fn figures(bytes: u64, duration_s: f64) -> UploadFigures {
    UploadFigures {
        image_number: 0,
        bytes,
        duration_s,
        bytes_per_s: bytes as f64 / duration_s,
        window: 1,
        frame_bytes: 380,
        resent: 0,
        link_limit_bytes_per_s: Some(8200.0),
        diagnosis: Some(Box::new(diagnosis())),
    }
}

/// Events in the making: gives `seq`, keeps the time.
#[derive(Debug, Default)]
pub(crate) struct Script {
    pub(crate) events: Vec<Event>,
    now: f64,
}

impl Script {
    /// Begins with a run of the plan `sensor-line`.
    pub(crate) fn started() -> Self {
        let mut script = Self::default();
        script.tell(EventKind::RunStarted {
            schema: SCHEMA.to_owned(),
            run_id: "0199a0c0-7d00-7000-8000-000000000001".to_owned(),
            plan: "sensor-line".to_owned(),
            plan_sha256: Some("3f9c".repeat(16)),
            tool_version: "0.1.0".to_owned(),
            host: "station-7".to_owned(),
        });
        script
    }

    pub(crate) fn wait(&mut self, seconds: f64) {
        self.now += seconds;
    }

    pub(crate) fn tell(&mut self, kind: EventKind) {
        self.push(None, kind);
    }

    pub(crate) fn about(&mut self, device: &str, kind: EventKind) {
        self.push(Some(DeviceId(device.to_owned())), kind);
    }

    fn push(&mut self, device: Option<DeviceId>, kind: EventKind) {
        let kind = kind.normalised();
        self.events.push(Event { seq: self.events.len() as u64, at: at(self.now), device, kind });
    }

    pub(crate) fn found(
        &mut self,
        device: &str,
        target: &str,
        address: &str,
        identity: Identity,
        steps: &[&str],
    ) {
        let steps = steps.iter().map(|name| PlannedStep { name: (*name).to_owned() }).collect();
        let (target, address) = (target.to_owned(), address.to_owned());
        self.about(device, EventKind::DeviceFound { target, address, identity, steps, carried_from: None });
    }

    pub(crate) fn step_started(&mut self, device: &str, step: usize, name: &str) {
        self.about(device, EventKind::StepStarted { step, name: name.to_owned() });
    }

    /// A step that takes so many seconds from now.
    pub(crate) fn step(&mut self, device: &str, step: usize, name: &str, seconds: f64, result: StepResult) {
        self.step_started(device, step, name);
        let started_at = at(self.now);
        self.now += seconds;
        let StepResult { verdict, attempts, cause, detail } = result;
        let name = name.to_owned();
        let finished =
            StepFinished { step, name, verdict, attempts, started_at, duration_s: seconds, cause, detail };
        self.about(device, EventKind::StepFinished(finished));
    }

    pub(crate) fn device_finished(
        &mut self,
        device: &str,
        verdict: Verdict,
        changed: Option<bool>,
        why: Option<Cause>,
    ) {
        self.about(
            device,
            EventKind::DeviceFinished {
                verdict,
                changed,
                cause: why,
                attempts: 1,
                images: Vec::new(),
                on_test: false,
                duration_s: 12.5,
            },
        );
    }

    pub(crate) fn run_finished(&mut self, outcome: Outcome, exit_code: u8) {
        let duration_s = self.now;
        self.tell(EventKind::RunFinished { outcome, exit_code, cause: None, duration_s });
    }

    pub(crate) fn report(&self) -> Report {
        fold(&self.events)
    }
}

pub(crate) struct StepResult {
    pub(crate) verdict: Verdict,
    pub(crate) attempts: u32,
    pub(crate) cause: Option<Cause>,
    pub(crate) detail: StepDetail,
}

pub(crate) fn passed() -> StepResult {
    StepResult { verdict: Verdict::Passed, attempts: 1, cause: None, detail: StepDetail::default() }
}

pub(crate) fn uploaded(bytes: u64, duration_s: f64) -> StepResult {
    let detail = StepDetail { upload: Some(figures(bytes, duration_s)), ..StepDetail::default() };
    StepResult { detail, ..passed() }
}

pub(crate) fn not_passed(verdict: Verdict, cause: Cause) -> StepResult {
    StepResult { verdict, cause: Some(cause), ..passed() }
}

pub(crate) fn fold(events: &[Event]) -> Report {
    let mut aggregate = Aggregate::new();
    events.iter().for_each(|event| aggregate.apply(event));
    aggregate.report()
}

/// The default steps.
pub(crate) const STEPS: [&str; 4] = ["upload app", "test-boot", "confirm", "reset"];

/// One run with one device of each kind: passed, already current, reverted, retried, port busy, timed out in a step,
/// never started, on test, interrupted after something was written.
pub(crate) fn sample() -> Script {
    let mut script = Script::started();
    for (id, slot) in [("d1", "1-2.1"), ("d2", "1-2.2"), ("d3", "1-2.3"), ("d4", "1-2.4"), ("d5", "1-2.5")] {
        let address = format!("serial:/dev/ttyACM{}", &id[1..]);
        script.found(id, "sensors", &address, usb(&format!("FF0{id}"), slot), &STEPS);
    }
    script.found("d6", "beacons", "ble:Beacon-0006", ble("Beacon-0006"), &STEPS);
    script.found("d7", "gateways", "udp:10.0.0.7:1337", Identity::default(), &STEPS);
    script.found("d8", "gateways", "udp:10.0.0.8:1337", Identity::default(), &STEPS[..2]);
    script.found("d9", "gateways", "udp:[fe80::9]:1337", Identity::default(), &STEPS);
    script.wait(1.0);
    for id in ["d1", "d2", "d3", "d4", "d5", "d6", "d8", "d9"] {
        script.about(id, EventKind::DeviceStarted { attempt: 1 });
    }
    updated(&mut script, "d1");
    already_current(&mut script, "d2");
    reverted(&mut script, "d3");
    retried(&mut script, "d4");
    let busy = cause(Class::Station, "station.port_busy");
    script.device_finished("d5", Verdict::Error, Some(false), Some(busy));
    script.step_started("d6", 0, "upload app");
    script.wait(30.0);
    let late = cause(Class::Device, "device.deadline");
    script.device_finished("d6", Verdict::TimedOut, Some(true), Some(late));
    on_test(&mut script, "d8");
    script.step_started("d9", 0, "upload app");
    script.about("d9", EventKind::Progress { step: 0, done: 1000, total: 2000 });
    let interrupted = cause(Class::Station, "run.interrupted");
    script.device_finished("d7", Verdict::Aborted, Some(false), Some(interrupted.clone()));
    script.device_finished("d9", Verdict::Aborted, Some(true), Some(interrupted));
    script.run_finished(Outcome::Interrupted, 130);
    script
}

fn updated(script: &mut Script, id: &str) {
    script.step(id, 0, "upload app", 10.0, uploaded(40_000, 8.0));
    let running = StepDetail { running: Some(view("2.0.0", false)), ..StepDetail::default() };
    script.step(id, 1, "test-boot", 3.0, StepResult { detail: running, ..passed() });
    script.step(id, 2, "confirm", 0.25, passed());
    script.step(id, 3, "reset", 2.5, passed());
    finish_with_images(script, id, "1.0.0", view("2.0.0", true), false);
}

fn already_current(script: &mut Script, id: &str) {
    for (at, name) in STEPS.iter().enumerate() {
        let skipped =
            StepDetail { skipped: Some("it runs and is confirmed".to_owned()), ..StepDetail::default() };
        script.step(id, at, name, 0.0, StepResult { detail: skipped, ..passed() });
    }
    script.device_finished(id, Verdict::Passed, Some(false), None);
}

fn reverted(script: &mut Script, id: &str) {
    let reverted = cause(Class::Image, "image.reverted");
    script.step(id, 0, "upload app", 10.0, uploaded(40_000, 10.0));
    let detail =
        StepDetail { notes: vec!["it left and came back twice".to_owned()], ..StepDetail::default() };
    let failed = StepResult { detail, ..not_passed(Verdict::Failed, reverted.clone()) };
    script.step(id, 1, "test-boot", 6.0, failed);
    script.device_finished(id, Verdict::Failed, Some(true), Some(reverted));
}

fn retried(script: &mut Script, id: &str) {
    script.step_started(id, 0, "upload app");
    let lost = cause(Class::Link, "link.no_answer");
    script.about(id, EventKind::StepRetried { step: 0, attempt: 1, cause: lost });
    script.step(id, 0, "upload app", 10.0, StepResult { attempts: 2, ..uploaded(40_000, 9.0) });
    let gone = cause(Class::Link, "link.disconnected");
    script.step(id, 1, "test-boot", 3.0, not_passed(Verdict::Error, gone));
    script.about(id, EventKind::DeviceStarted { attempt: 2 });
    for (at, name) in STEPS.iter().enumerate() {
        script.step(id, at, name, 1.0, passed());
    }
    finish_with_images(script, id, "1.0.0", view("2.0.0", true), false);
}

fn on_test(script: &mut Script, id: &str) {
    script.step(id, 0, "upload app", 2.0, uploaded(40_000, 2.0));
    script.step(id, 1, "test-boot", 3.0, passed());
    finish_with_images(script, id, "1.0.0", view("2.0.0", false), true);
}

fn finish_with_images(script: &mut Script, id: &str, before: &str, after: ImageView, on_test: bool) {
    let image =
        ImageOutcome { image_number: 0, before: Some(view(before, true)), after: Some(after), upload: None };
    script.about(
        id,
        EventKind::DeviceFinished {
            verdict: Verdict::Passed,
            changed: Some(true),
            cause: None,
            attempts: 1,
            images: vec![image],
            on_test,
            duration_s: 15.75,
        },
    );
}
