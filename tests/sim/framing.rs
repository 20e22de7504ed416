//! Raw and COBS framing of simulated devices, and how they are found out: in virtual time against the device itself, and
//! through real endpoints.

#[path = "../common/bare.rs"]
mod bare;

use std::sync::Arc;
use std::time::Duration;

use crate::support::Client;
use flashfleet::plan::{FramingChoice, LinkOptions};
use flashfleet::sim::{Device, Endpoint, EndpointKind, Fleet, Power, SimFraming, SimSpec};
use flashfleet::smp::detect::{Detector, Encoding, ROUND};
use flashfleet::smp::message::os::{Echo, Params};
use flashfleet::smp::{Time, group};
use flashfleet::transport::{
    Address, Connector, Firmware, Framing, SerialConnector, SerialOptions, TcpConnector,
};
use rstest::rstest;

fn quick(framing: SimFraming) -> SimSpec {
    SimSpec { framing, boot_ms: 50, reset_ms: 20, process_us: 0, ..SimSpec::default() }
}

/// Everything that the device says by `until`.
fn output(device: &mut Device, until: Time) -> Vec<u8> {
    std::iter::from_fn(|| device.poll_output(until)).flat_map(|(_, bytes)| bytes).collect()
}

#[test]
fn a_bare_server_finds_back_into_step_as_the_real_one() {
    for (name, sent, answer) in bare::SCENARIOS {
        let mut device = Device::new(&Arc::new(quick(SimFraming::Raw)), 0);
        let mut now = Time::ZERO;
        for (silence, bytes) in sent {
            now += Duration::from_millis(*silence);
            device.host_write(now, &hex::decode(bytes).unwrap());
            device.advance(now);
        }
        let answered = output(&mut device, now + Duration::from_secs(1));
        assert_eq!(hex::encode(answered), answer, "{name}");
    }
}

/// Asks a device that has some bytes of something already; tells what it was found to speak, and after how long.
fn detect(framing: SimFraming, input_timeout_ms: u64, junk: &[u8]) -> (Option<Encoding>, Time) {
    let mut device = Device::new(&Arc::new(SimSpec { input_timeout_ms, ..quick(framing) }), 0);
    device.host_write(Time::ZERO, junk);
    let mut detector = Detector::new();
    let mut now = Time::ZERO;
    detector.start(now, !junk.is_empty());
    let mut found = None;
    loop {
        if let Some(bytes) = detector.poll_transmit(now) {
            device.host_write(now, &bytes);
        }
        while let Some((at, bytes)) = device.poll_output(now) {
            found = found.or_else(|| detector.push(at, &bytes));
        }
        if found.is_some() {
            break;
        }
        match [detector.next_timeout(), device.next_timeout()].into_iter().flatten().min() {
            Some(next) => now = next.max(now),
            None => break,
        }
    }
    assert_eq!(device.power(), Power::Running);
    (found.map(|found| found.encoding), now)
}

#[rstest]
#[case(SimFraming::Console, Encoding::Console, 10)]
#[case(SimFraming::Raw, Encoding::Raw, 560)]
#[case(SimFraming::Cobs, Encoding::Cobs, 1010)]
fn each_framing_is_found_soon_and_whatever_came_before(
    #[case] framing: SimFraming,
    #[case] encoding: Encoding,
    #[case] within_ms: u64,
) {
    let (found, time) = detect(framing, 3000, &[]);
    assert_eq!(found, Some(encoding));
    assert!(time <= Duration::from_millis(within_ms), "{time:?}");
    // The end of something that the device did not see the beginning of.
    for length in 1..40 {
        for byte in [0x00, 0x01, b'A', 0x82] {
            let (found, time) = detect(framing, 3000, &vec![byte; length]);
            assert_eq!(found, Some(encoding), "{length} times {byte}");
            assert!(time <= ROUND, "{time:?}");
        }
    }
}

#[test]
fn a_server_that_never_gives_up_a_message_is_found_in_step() {
    assert_eq!(detect(SimFraming::Raw, 0, &[]).0, Some(Encoding::Raw));
}

fn connector(endpoint: &Endpoint, framing: FramingChoice) -> Box<dyn Connector> {
    let link = LinkOptions { framing, ..LinkOptions::default() };
    match endpoint.address().parse().unwrap() {
        Address::Serial(path) => Box::new(SerialConnector::new(path, SerialOptions::from(&link))),
        Address::Tcp(place) => Box::new(TcpConnector::new(place, &link)),
        other => panic!("no endpoint has the address {other}"),
    }
}

async fn open(connector: &dyn Connector) -> Client {
    for _ in 0..100 {
        if let Ok(link) = connector.connect().await {
            return Client::new(link);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{} does not open", connector.address());
}

fn tcp() -> EndpointKind {
    EndpointKind::Tcp("127.0.0.1:0".parse().unwrap())
}

fn echo(text: &str) -> Echo {
    Echo { d: text.to_owned() }
}

#[rstest]
#[case(SimFraming::Console, FramingChoice::Auto, tcp())]
#[case(SimFraming::Raw, FramingChoice::Raw, tcp())]
#[case(SimFraming::Raw, FramingChoice::Raw, EndpointKind::Pty { link: None })]
#[case(SimFraming::Raw, FramingChoice::Auto, EndpointKind::Pty { link: None })]
#[case(SimFraming::Raw, FramingChoice::Auto, tcp())]
#[case(SimFraming::Cobs, FramingChoice::Cobs, tcp())]
#[case(SimFraming::Cobs, FramingChoice::Auto, tcp())]
#[tokio::test]
async fn devices_answer_through_endpoints(
    #[case] framing: SimFraming,
    #[case] choice: FramingChoice,
    #[case] kind: EndpointKind,
) {
    let fleet = Fleet::new(&quick(framing)).unwrap();
    let endpoint = fleet.serve(0, kind).unwrap();
    let connector = connector(&endpoint, choice);
    let mut client = open(&*connector).await;
    assert_eq!(client.get(&echo("one")).await.r, "one");
    let expected = match framing {
        SimFraming::Console => Framing::Console { line_length: 128 },
        SimFraming::Raw => Framing::Raw,
        SimFraming::Cobs => Framing::Cobs,
    };
    assert_eq!(client.link.properties().framing, expected);
    // Buffers are filled to the byte, and what is longer is not answered.
    let params = client.get(&Params {}).await;
    let most = usize::try_from(params.buf_size).unwrap() - client.link.properties().buffer_overhead;
    let text = "x".repeat(most - 8 - 6);
    assert_eq!(client.message(&echo(&text)).len(), most);
    // It has no room for the answer, and says so.
    assert!(client.ask(&echo(&text)).await.is_some());
    client.timeout = Duration::from_millis(200);
    assert!(client.ask(&echo(&format!("{text}x"))).await.is_none());
    client.link.close().await;

    // Nothing but the question and what was asked for has reached the server.
    let asked: Vec<_> = fleet.device(0).requests().iter().map(|seen| (seen.group, seen.command)).collect();
    let question = [(group::OS, 6)];
    let questions = if choice == FramingChoice::Auto { &question[..] } else { &[] };
    assert_eq!(asked, [questions, &[(group::OS, 0), (group::OS, 6), (group::OS, 0)]].concat());
}

#[tokio::test]
async fn what_was_found_is_kept_for_the_device_and_for_each_of_its_firmwares() {
    let fleet = Fleet::new(&quick(SimFraming::Raw)).unwrap();
    let endpoint = fleet.serve(0, tcp()).unwrap();
    let connector = connector(&endpoint, FramingChoice::Auto);
    let questions = || fleet.device(0).request_count(group::OS, 6);
    for firmware in
        [Firmware::Application, Firmware::Application, Firmware::Bootloader, Firmware::Application]
    {
        connector.expect(firmware);
        let mut client = open(&*connector).await;
        client.get(&echo("hi")).await;
        client.link.close().await;
    }
    assert_eq!(questions(), 2, "one question for each firmware");
}
