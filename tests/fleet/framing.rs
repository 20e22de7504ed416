//! Whole runs over raw and COBS framing.

use flashfleet::report::{Outcome, Verdict};
use flashfleet::sim::{FaultSpec, SimFraming, SimSpec};
use rstest::rstest;

use super::line::{Line, in_virtual_time, new_image};

fn bare(framing: SimFraming, fault: FaultSpec) -> SimSpec {
    SimSpec { framing, baud: Some(115_200), fault, ..SimSpec::default() }
}

/// Image bytes in a full message of a 384-byte buffer: 8 of header, 1 of map, `off` 4 + 3, `data` 5 + 3.
#[rstest]
#[case(SimFraming::Raw, 384, 384 - 24)]
#[case(SimFraming::Cobs, 384 + 2 + 1 + 2, 384 - 24)]
#[case(SimFraming::Console, 527, 380 - 24)]
fn an_update_passes_and_the_wire_is_reckoned_as_it_is(
    #[case] framing: SimFraming,
    #[case] wire: u32,
    #[case] data: u32,
) {
    in_virtual_time(async {
        let line = Line::new(&bare(framing, FaultSpec::default()));
        let finished = line.run().await;
        assert_eq!(finished.outcome, Outcome::Passed, "{:?}", finished.report.devices[0].cause);
        let upload = finished.report.devices[0].images[0].upload.as_ref().expect("figures");
        let limit = 11_520.0 * f64::from(data) / f64::from(wire);
        let told = upload.link_limit_bytes_per_s.expect("a paced link");
        assert!((told - limit).abs() < 0.5, "{told} {limit}");
        assert_eq!(upload.frame_bytes, if framing == SimFraming::Console { 380 } else { 384 });
    });
}

/// Nothing tells damage on a bare line from what was sent: it is the proof of boot that does.
#[test]
fn what_a_bare_line_damages_never_passes() {
    in_virtual_time(async {
        let mut damaged = 0;
        for seed in 1..=12 {
            let fault = FaultSpec { seed, corrupt: 0.02, ..FaultSpec::default() };
            let line = Line::new(&bare(SimFraming::Raw, fault));
            let finished = line.run().await;
            let device = &finished.report.devices[0];
            let new = line.device(0).running().is_some_and(|runs| runs.hash == new_image().hash());
            assert_eq!(device.verdict == Verdict::Passed, new, "{:?}", device.cause);
            damaged += u32::from(!new);
        }
        assert!(damaged > 0, "a line that damages nothing shows nothing");
    });
}
