//! What the report says of why an upload was slow, for devices with exactly one bottleneck each; and that the setting it
//! names gives the rate that it foretells.

use std::sync::Arc;

use flashfleet::image::{Image, ImageBuilder};
use flashfleet::plan::{Auto, LinkOptions, Step};
use flashfleet::report::{LimitedBy, Outcome, UploadDiagnosis, UploadFigures};
use flashfleet::sim::{BleSpec, FaultSpec, SimSpec, SimTransport};

use super::line::{Line, in_virtual_time, upload};

/// How far a rate may be from what was foretold: how the window finds its size is only roughly in the model.
const NEAR: f64 = 0.06;

fn image(seed: u8) -> Arc<Image> {
    let payload: Vec<u8> = (0..120_000_u32).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1] ^ seed).collect();
    let bytes = ImageBuilder::new().version("2.0.0").payload(&payload).build();
    Arc::new(Image::from_bytes(bytes).expect("a valid image"))
}

/// The last upload's figures: of one, or of one that has to erase another first.
fn figures(spec: &SimSpec, link: impl Fn(&mut LinkOptions), erase: bool) -> UploadFigures {
    in_virtual_time(async {
        let mut line = Line::new(spec);
        line.plan.images.insert("app".to_owned(), Arc::new(image(1).into()));
        line.plan.images.insert("other".to_owned(), Arc::new(image(2).into()));
        link(&mut line.plan.targets[0].link);
        let other =
            Step::Upload { image: "other".to_owned(), image_number: 0, upgrade_only: false, force: false };
        line.plan.targets[0].steps = if erase { vec![other, upload()] } else { vec![upload()] };
        let finished = line.run().await;
        let device = &finished.report.devices[0];
        assert_eq!(finished.outcome, Outcome::Passed, "{:?}", device.cause);
        device.steps.last().expect("steps").detail.upload.clone().expect("figures")
    })
}

fn plain(spec: &SimSpec) -> UploadFigures {
    figures(spec, |_| {}, false)
}

fn diagnosis(figures: &UploadFigures) -> &UploadDiagnosis {
    figures.diagnosis.as_ref().expect("a diagnosis")
}

/// What limits, the setting that lifts it, and the rate that it would give.
fn told(figures: &UploadFigures) -> (LimitedBy, String, f64) {
    let diagnosis = diagnosis(figures);
    let setting = diagnosis.setting.as_ref();
    let assignment = setting.map(|setting| format!("{}={}", setting.name, setting.value));
    let rate = setting.and_then(|setting| setting.bytes_per_s).unwrap_or(f64::NAN);
    (diagnosis.limited_by, assignment.unwrap_or_default(), rate)
}

fn assert_foretold(before: &UploadFigures, after: &UploadFigures) {
    let (_, setting, foretold) = told(before);
    let ratio = after.bytes_per_s / foretold;
    assert!(
        (1.0 - NEAR..=1.0 + NEAR).contains(&ratio),
        "{setting}: foretold {foretold:.0} B/s instead of {:.0}, got {:.0}: {:?}",
        before.bytes_per_s,
        after.bytes_per_s,
        diagnosis(before)
    );
}

/// A line without latency, whose server can hold all lines: nothing limits but what a test puts in.
fn spec() -> SimSpec {
    SimSpec { baud: Some(1_000_000), line_buffers: 64, ..SimSpec::default() }
}

#[test]
fn slow_line_is_named_and_a_faster_one_gives_what_was_foretold() {
    let before = plain(&SimSpec { baud: Some(115_200), ..spec() });
    let (limited_by, setting, _) = told(&before);
    assert_eq!((limited_by, setting.as_str()), (LimitedBy::BaudRate, "link.baud=921600"));
    assert_foretold(&before, &plain(&SimSpec { baud: Some(921_600), ..spec() }));
}

#[test]
fn small_buffers_over_latency_are_named_and_larger_ones_give_what_was_foretold() {
    let slow = SimSpec { latency_ms: 20, ..spec() };
    let before = plain(&slow);
    let (limited_by, setting, _) = told(&before);
    let expected = (LimitedBy::BufferSize, "CONFIG_MCUMGR_TRANSPORT_NETBUF_SIZE=2048");
    assert_eq!((limited_by, setting.as_str()), expected, "{before:?}");
    assert_foretold(&before, &plain(&SimSpec { buf_size: 2048, ..slow }));
}

#[test]
fn few_buffers_over_latency_are_named_and_more_give_what_was_foretold() {
    let slow = SimSpec { latency_ms: 20, buf_size: 2048, buf_count: 2, ..spec() };
    let before = plain(&slow);
    let (limited_by, setting, _) = told(&before);
    let expected = (LimitedBy::BufferCount, "CONFIG_MCUMGR_TRANSPORT_NETBUF_COUNT=4");
    assert_eq!((limited_by, setting.as_str()), expected, "{before:?}");
    assert_foretold(&before, &plain(&SimSpec { buf_count: 4, ..slow }));
}

#[test]
fn datagrams_over_latency_are_few_and_nothing_is_said_of_a_wire() {
    let slow =
        SimSpec { transport: SimTransport::Udp, latency_ms: 20, buf_size: 2048, buf_count: 2, ..spec() };
    let before = plain(&slow);
    let (limited_by, setting, _) = told(&before);
    assert_eq!(limited_by, LimitedBy::BufferCount, "{before:?}");
    assert_eq!(setting, "CONFIG_MCUMGR_TRANSPORT_NETBUF_COUNT=8");
    assert_eq!((before.link_limit_bytes_per_s, diagnosis(&before).wire_s), (None, None));
    assert_foretold(&before, &plain(&SimSpec { buf_count: 8, ..slow }));
}

#[test]
fn window_of_the_plan_is_named_and_auto_gives_what_was_foretold() {
    let slow = SimSpec { latency_ms: 20, buf_size: 2048, ..spec() };
    let before = figures(&slow, |link| link.window = Auto::Fixed(1), false);
    let (limited_by, setting, _) = told(&before);
    assert_eq!((limited_by, setting.as_str()), (LimitedBy::Window, "link.window=auto"), "{before:?}");
    assert_foretold(&before, &plain(&slow));
}

#[test]
fn buffer_of_the_plan_is_named_and_auto_gives_what_was_foretold() {
    let slow = SimSpec { latency_ms: 20, buf_size: 1024, ..spec() };
    let before = figures(&slow, |link| link.buffer = Auto::Fixed(256), false);
    let (limited_by, setting, _) = told(&before);
    assert_eq!((limited_by, setting.as_str()), (LimitedBy::BufferSize, "link.buffer=auto"), "{before:?}");
    assert_foretold(&before, &plain(&slow));
}

#[test]
fn what_the_plan_would_not_use_is_not_proposed() {
    let slow = SimSpec { latency_ms: 20, buf_size: 2048, buf_count: 2, ..spec() };
    let (_, setting, _) = told(&figures(&slow, |link| link.window = Auto::Fixed(1), false));
    assert_eq!(setting, "", "more buffers than the plan's window");
    let slow = SimSpec { latency_ms: 20, buf_size: 512, ..spec() };
    let (_, setting, _) = told(&figures(&slow, |link| link.buffer = Auto::Fixed(512), false));
    assert!(!setting.contains("NETBUF_SIZE"), "larger buffers than the plan's: {setting}");
}

#[test]
fn long_round_trips_that_large_buffers_do_not_make_up_for_are_latency() {
    let far = SimSpec { latency_ms: 500, buf_size: 2048, buf_count: 8, ..spec() };
    let before = plain(&far);
    assert_eq!(told(&before).0, LimitedBy::Latency, "{before:?}");
    assert_eq!(told(&before).1, "", "no setting is known to lift it");
    let latency = diagnosis(&before).latency_s.expect("a latency");
    assert!((1.0..1.01).contains(&latency), "{latency}");
}

#[test]
fn slow_server_is_named_and_longer_messages_give_what_was_foretold() {
    let slow = SimSpec { process_us: 30_000, ..spec() };
    let before = plain(&slow);
    let (limited_by, setting, _) = told(&before);
    let expected = (LimitedBy::Device, "CONFIG_MCUMGR_TRANSPORT_NETBUF_SIZE=2048");
    assert_eq!((limited_by, setting.as_str()), expected, "{before:?}");
    assert_foretold(&before, &plain(&SimSpec { buf_size: 2048, ..slow }));
}

#[test]
fn slow_flash_is_named_and_no_setting_makes_it_faster() {
    let before = plain(&SimSpec { baud: Some(115_200), write_kib_us: 300_000, ..spec() });
    let (limited_by, setting, _) = told(&before);
    assert_eq!((limited_by, setting.as_str()), (LimitedBy::Device, ""), "{before:?}");
    let device = diagnosis(&before).device_s.expect("a time");
    assert!((device / (0.3 * 356.0 / 1024.0) - 1.0).abs() < 0.1, "356 bytes at 300 ms per KiB: {device} s");
    let latency = diagnosis(&before).latency_s.expect("a time");
    assert!(latency < 0.002, "the bytes of a small request are not latency: {latency} s");
}

#[test]
fn slow_erase_is_named_where_it_takes_most_of_the_time() {
    let fault = FaultSpec { slow_erase_ms: 8_000, ..FaultSpec::default() };
    let before = figures(&SimSpec { fault: fault.clone(), ..spec() }, |_| {}, true);
    assert_eq!(told(&before).0, LimitedBy::Erase, "{before:?}");
    let erase = diagnosis(&before).erase_s.expect("a time");
    assert!((8.0..8.2).contains(&erase), "{erase}");
    let fault = FaultSpec { slow_erase_ms: 1_000, ..FaultSpec::default() };
    let line = figures(&SimSpec { baud: Some(115_200), fault, ..spec() }, |_| {}, true);
    assert_eq!(told(&line).0, LimitedBy::BaudRate, "an erase of a second is not what limits 15");
}

#[test]
fn small_writes_are_named_and_reassembly_gives_what_was_foretold() {
    let ble = |reassembly| SimSpec {
        transport: SimTransport::Ble,
        latency_ms: 15,
        ble: BleSpec { mtu: 100, reassembly, ..BleSpec::default() },
        ..SimSpec::default()
    };
    let before = plain(&ble(false));
    let (limited_by, setting, _) = told(&before);
    let expected = (LimitedBy::Mtu, "CONFIG_MCUMGR_TRANSPORT_BT_REASSEMBLY=y");
    assert_eq!((limited_by, setting.as_str()), expected, "{before:?}");
    assert_foretold(&before, &plain(&ble(true)));
}

#[test]
fn server_that_does_not_tell_its_buffers_is_asked_to_and_nothing_is_foretold() {
    let before = plain(&SimSpec { params: false, latency_ms: 20, ..spec() });
    let (limited_by, setting, foretold) = told(&before);
    let expected = (LimitedBy::BufferCount, "CONFIG_MCUMGR_GRP_OS_MCUMGR_PARAMS=y");
    assert_eq!((limited_by, setting.as_str()), expected, "{before:?}");
    assert!(foretold.is_nan(), "how many buffers there are is not known");
}

#[test]
fn losses_are_named_where_waiting_for_them_takes_the_time() {
    let fault = FaultSpec { lose: 0.1, ..FaultSpec::default() };
    let before = plain(&SimSpec { fault, ..spec() });
    assert_eq!(told(&before).0, LimitedBy::Loss, "{before:?}");
    assert!(before.resent > 0);
}
