//! The simulated server and bootloader beyond what the transcripts hold: an update from end to end, and what depends on
//! how a device is built. Links in memory, in virtual time.

use crate::support::{Client, chunk, hash_of, image, reset, upload};
use flashfleet::sim::{BootMode, Fleet, ImageHash, Power, SimSpec};
use flashfleet::smp::Version;
use flashfleet::smp::message::image::{Erase, ListImages, SetState, SlotInfo, UploadChunk};
use flashfleet::smp::message::os::{BootloaderInfo, Echo, Params, Reset};
use rstest::rstest;
use sha2::{Digest, Sha256};

const NO_FREE_SLOT: i64 = 9;

async fn device(spec: SimSpec) -> (Fleet, Client) {
    let fleet = Fleet::new(&spec).unwrap();
    let client = Client::open(&*fleet.connector(0)).await;
    (fleet, client)
}

#[tokio::test(start_paused = true)]
async fn an_update_from_echo_to_confirmed() {
    let (fleet, mut client) = device(SimSpec::default()).await;
    let device = fleet.device(0);
    assert_eq!(client.get(&Echo { d: "hello".to_owned() }).await.r, "hello");
    assert_eq!(client.get(&Params {}).await.buf_size, 384);

    let new = image((2, 0, 0), &[7; 3000]);
    upload(&mut client, &new).await;
    assert_eq!(device.bytes_written(), new.len() as u64);
    let list = client.get(&ListImages {}).await.images;
    assert_eq!(list.len(), 2);
    assert_eq!((list[0].version.as_str(), list[0].active, list[0].confirmed), ("1.0.0", true, true));
    assert_eq!((list[1].version.as_str(), list[1].pending), ("2.0.0", false));
    assert_eq!(list[1].hash.as_deref(), Some(&hash_of(&new)[..]));

    client.get(&SetState { hash: Some(hash_of(&new)), confirm: false }).await;
    assert!(device.is_pending());
    assert_eq!(device.boots(), 0);
    reset(&mut client).await;
    assert_eq!(device.boots(), 1);
    let list = client.get(&ListImages {}).await.images;
    assert_eq!((list[0].version.as_str(), list[0].active, list[0].confirmed), ("2.0.0", true, false));
    assert!(!device.running().unwrap().confirmed);

    client.get(&SetState { hash: None, confirm: true }).await;
    reset(&mut client).await;
    let running = device.running().unwrap();
    assert_eq!((running.version.as_str(), running.confirmed, running.hash), ("2.0.0", true, hash_of(&new)));
    assert_eq!(device.boots(), 2);
}

#[rstest]
#[case(Version::V1, (None, 6))]
#[case(Version::V2, (Some(1), NO_FREE_SLOT))]
#[tokio::test(start_paused = true)]
async fn a_slot_that_is_needed_is_neither_erased_nor_written(
    #[case] version: Version,
    #[case] refusal: (Option<u16>, i64),
) {
    let (fleet, mut client) = device(SimSpec::default()).await;
    client.version = version;
    let new = image((2, 0, 0), &[7; 300]);
    upload(&mut client, &new).await;
    client.get(&SetState { hash: Some(hash_of(&new)), confirm: false }).await;
    let written = fleet.device(0).bytes_written();
    for state in ["pending", "on test"] {
        assert_eq!(client.refused(&Erase { slot: None }).await, refusal, "{state}");
        assert_eq!(client.refused(&Erase { slot: Some(1) }).await, refusal, "{state}");
        assert_eq!(client.refused(&chunk(&new, 0, 128)).await, refusal, "{state}");
        reset(&mut client).await;
    }
    assert_eq!(fleet.device(0).bytes_written(), written);
    // Two resets: into the test, and back. Now the slot is free again.
    assert_eq!(fleet.device(0).running().unwrap().version, "1.0.0");
    client.get(&Erase { slot: None }).await;
    assert_eq!(fleet.device(0).slot(1).bytes, 0);
}

#[tokio::test(start_paused = true)]
async fn the_image_to_go_back_to_can_be_erased_once_confirmed() {
    let (fleet, mut client) = device(SimSpec { mode: BootMode::SwapMove, ..SimSpec::default() }).await;
    let new = image((2, 0, 0), &[7; 300]);
    upload(&mut client, &new).await;
    client.get(&SetState { hash: Some(hash_of(&new)), confirm: false }).await;
    reset(&mut client).await;
    client.get(&SetState { hash: None, confirm: true }).await;
    assert_eq!(fleet.device(0).slot(1).version.as_deref(), Some("1.0.0"));
    client.get(&Erase { slot: None }).await;
    assert_eq!(fleet.device(0).slot(1).version, None);
}

#[tokio::test(start_paused = true)]
async fn overwriting_ignores_confirm_and_keeps_nothing() {
    let (fleet, mut client) = device(SimSpec { mode: BootMode::Overwrite, ..SimSpec::default() }).await;
    let new = image((2, 0, 0), &[7; 300]);
    upload(&mut client, &new).await;
    client.get(&SetState { hash: Some(hash_of(&new)), confirm: false }).await;
    reset(&mut client).await;
    let list = client.get(&ListImages {}).await.images;
    assert_eq!(list.len(), 1);
    assert_eq!((list[0].version.as_str(), list[0].confirmed), ("2.0.0", true));
    reset(&mut client).await;
    assert_eq!(fleet.device(0).running().unwrap().version, "2.0.0");
}

#[tokio::test(start_paused = true)]
async fn a_single_slot_takes_no_upload() {
    let (_fleet, mut client) = device(SimSpec { mode: BootMode::Single, ..SimSpec::default() }).await;
    assert_eq!(client.refused(&chunk(&image((2, 0, 0), &[7; 300]), 0, 128)).await, (Some(1), NO_FREE_SLOT));
    let slots = client.get(&SlotInfo {}).await.images.remove(0).slots;
    assert_eq!(slots.len(), 1);
}

/// The `match` of the last answers: of a whole upload, of one begun again, and of one whose `sha` is not the file's.
#[tokio::test(start_paused = true)]
async fn a_server_that_checks_images_says_whether_they_match() {
    let (fleet, mut client) = device(SimSpec { image_check: true, ..SimSpec::default() }).await;
    let new = image((2, 0, 0), &[7; 200]);
    let sha = Sha256::digest(&new).to_vec();
    let first = |sha: &[u8]| UploadChunk { sha: Some(sha.to_vec().leak()), ..chunk(&new, 0, 128) };
    let rest = || chunk(&new, 128, new.len() - 128);

    assert_eq!(client.get(&first(&sha)).await.matches, None);
    assert_eq!(client.get(&rest()).await.matches, Some(true));
    let again = client.get(&first(&sha)).await;
    assert_eq!((again.off, again.matches), (Some(new.len() as u64), Some(true)), "it is there already");
    let written = fleet.device(0).bytes_written();
    assert_eq!(written, new.len() as u64, "and is not written again");

    assert_eq!(client.get(&first(&[9; 32])).await.off, Some(128), "another sha starts over");
    let last = client.get(&rest()).await;
    assert_eq!((last.off, last.matches), (Some(new.len() as u64), Some(false)));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_checks_no_images_says_nothing() {
    let (_fleet, mut client) = device(SimSpec::default()).await;
    let new = image((2, 0, 0), &[7; 200]);
    client.get(&chunk(&new, 0, 128)).await;
    assert_eq!(client.get(&chunk(&new, 128, new.len() - 128)).await.matches, None);
}

#[tokio::test(start_paused = true)]
async fn data_beyond_the_end_ends_the_upload() {
    let (_fleet, mut client) = device(SimSpec::default()).await;
    let new = image((2, 0, 0), &[7; 300]);
    let short = UploadChunk { len: Some(150), ..chunk(&new, 0, 128) };
    assert_eq!(client.get(&short).await.off, Some(128));
    assert_eq!(client.refused(&chunk(&new, 128, 64)).await, (Some(1), 31));
    assert_eq!(client.get(&chunk(&new, 128, 22)).await.off, Some(0), "the upload is forgotten");
}

#[tokio::test(start_paused = true)]
async fn an_upload_under_way_does_not_survive_a_reset() {
    let (_fleet, mut client) = device(SimSpec::default()).await;
    let new = image((2, 0, 0), &[7; 300]);
    client.get(&chunk(&new, 0, 128)).await;
    reset(&mut client).await;
    assert_eq!(client.get(&chunk(&new, 128, 64)).await.off, Some(0));
}

#[tokio::test(start_paused = true)]
async fn chunks_are_trimmed_to_the_write_alignment() {
    let (fleet, mut client) = device(SimSpec { write_align: 32, ..SimSpec::default() }).await;
    let new = image((2, 0, 0), &[7; 101]);
    assert_eq!(client.get(&chunk(&new, 0, 100)).await.off, Some(96));
    assert_eq!(client.get(&chunk(&new, 96, new.len() - 96)).await.off, Some(new.len() as u64));
    assert_eq!(fleet.device(0).slot(1).hash, Some(hash_of(&new)));
}

/// A device built for another hash lists and takes images by that one, and does not see others.
#[rstest]
#[case(ImageHash::Sha384, 48)]
#[case(ImageHash::Sha512, 64)]
#[tokio::test(start_paused = true)]
async fn images_may_be_known_by_longer_hashes(#[case] image_hash: ImageHash, #[case] len: usize) {
    let (_fleet, mut client) = device(SimSpec { image_hash, ..SimSpec::default() }).await;
    upload(&mut client, &image((2, 0, 0), &[7; 300])).await;
    let list = client.get(&ListImages {}).await.images;
    assert_eq!(list.len(), 1, "an image with SHA-256 is none");
    let hash = list[0].hash.clone().unwrap();
    assert_eq!(hash.len(), len);
    client.get(&SetState { hash: Some(hash), confirm: true }).await;
    assert_eq!(client.refused(&SetState { hash: Some(vec![0; 32]), confirm: true }).await, (Some(1), 24));
    assert_eq!(client.refused(&SetState { hash: Some(vec![0; len]), confirm: true }).await, (Some(1), 8));
}

#[tokio::test(start_paused = true)]
async fn an_answer_larger_than_the_buffer_is_an_error() {
    let (_fleet, mut client) = device(SimSpec { buf_size: 96, ..SimSpec::default() }).await;
    assert_eq!(client.refused(&ListImages {}).await, (None, 7));
}

#[tokio::test(start_paused = true)]
async fn the_bootloader_is_told_where_it_is_built_in() {
    let spec = SimSpec { mode: BootMode::SwapMove, no_downgrade: true, ..SimSpec::default() };
    let (_fleet, mut client) = device(spec).await;
    let query = |query: &str| BootloaderInfo { query: Some(query.to_owned()) };
    assert_eq!(client.get(&BootloaderInfo::default()).await.bootloader.as_deref(), Some("MCUboot"));
    let mode = client.get(&query("mode")).await;
    assert_eq!((mode.mode, mode.no_downgrade), (Some(3), Some(true)));
    assert_eq!(client.refused(&query("weather")).await, (None, 3));
    let (_fleet, mut client) = device_without_bootloader_info().await;
    assert_eq!(client.refused(&BootloaderInfo::default()).await, (None, 8));
}

async fn device_without_bootloader_info() -> (Fleet, Client) {
    device(SimSpec { bootloader_info: false, params: false, ..SimSpec::default() }).await
}

#[tokio::test(start_paused = true)]
async fn successes_can_carry_rc_0() {
    let (_fleet, mut client) = device(SimSpec { legacy_rc: true, ..SimSpec::default() }).await;
    let new = image((2, 0, 0), &[7; 300]);
    assert_eq!(client.get(&chunk(&new, 0, 128)).await.off, Some(128));
    let message = client.message(&Erase { slot: None });
    client.link.send(&message).await.unwrap();
    let answer = client.recv().await.unwrap().unwrap();
    assert_eq!(answer[8..], [0xbf, 0x62, b'r', b'c', 0, 0xff]);
}

#[tokio::test(start_paused = true)]
async fn firmware_that_resets_goes_back_by_itself() {
    let mut payload = flashfleet::sim::Behaviour::Resets.marker();
    payload.resize(300, 0);
    let (fleet, mut client) = run_on_test(&image((2, 0, 0), &payload)).await;
    let device = fleet.device(0);
    assert_eq!((device.boots(), device.running().unwrap().version.as_str()), (2, "1.0.0"));
    assert_eq!(client.get(&Echo { d: "back".to_owned() }).await.r, "back");
}

/// A confirmed image that resets at once does so for ever; an hour of it takes no time here.
#[tokio::test(start_paused = true)]
async fn a_boot_loop_goes_on() {
    let (fleet, _client) = device(SimSpec { boot_ms: 400, ..SimSpec::default() }).await;
    let mut payload = flashfleet::sim::Behaviour::Resets.marker();
    payload.resize(400_000, 0);
    let device = fleet.device(0);
    device.program(0, &image((2, 0, 0), &payload));
    device.reset_line();
    tokio::time::sleep(std::time::Duration::from_secs(3600)).await;
    assert_eq!(device.boots(), 1 + 3600 * 1000 / 400);
    assert_eq!(device.power(), Power::Booting);
}

#[tokio::test(start_paused = true)]
async fn firmware_that_hangs_needs_its_reset_line() {
    let mut payload = flashfleet::sim::Behaviour::Hangs.marker();
    payload.resize(300, 0);
    let (fleet, mut client) = run_on_test(&image((2, 0, 0), &payload)).await;
    let device = fleet.device(0);
    assert!(client.ask(&Echo { d: "?".to_owned() }).await.is_none());
    assert_eq!((device.boots(), device.power()), (1, Power::Stuck));
    device.reset_line();
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert_eq!(client.get(&Echo { d: "back".to_owned() }).await.r, "back");
    assert_eq!((device.boots(), device.running().unwrap().version.as_str()), (2, "1.0.0"));
}

#[tokio::test(start_paused = true)]
async fn firmware_without_a_server_runs_and_is_silent() {
    let mut payload = flashfleet::sim::Behaviour::Mute.marker();
    payload.resize(300, 0);
    let (fleet, mut client) = run_on_test(&image((2, 0, 0), &payload)).await;
    assert!(client.ask(&Echo { d: "?".to_owned() }).await.is_none());
    assert_eq!(fleet.device(0).power(), Power::Mute);
    assert_eq!(fleet.device(0).running().unwrap().version, "2.0.0");
}

/// Uploads an image, marks it for test and resets; gives the device two seconds.
async fn run_on_test(new: &[u8]) -> (Fleet, Client) {
    let (fleet, mut client) = device(SimSpec::default()).await;
    upload(&mut client, new).await;
    client.get(&SetState { hash: Some(hash_of(new)), confirm: false }).await;
    client.get(&Reset::default()).await;
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    (fleet, client)
}

#[test]
fn the_contracts_example_parses_and_unknown_keys_do_not() {
    let spec: SimSpec = serde_yaml::from_str("{ count: 8, baud: 115200, fault: { lose: 0.01 } }").unwrap();
    assert_eq!((spec.count, spec.baud, spec.fault.lose), (8, Some(115_200), 0.01));
    assert!(spec.problems().is_empty());
    for wrong in ["{ cuont: 8 }", "{ fault: { loose: 1 } }", "{ mode: swap }", "{ count: -1 }"] {
        assert!(serde_yaml::from_str::<SimSpec>(wrong).is_err(), "{wrong}");
    }
}

#[rstest]
#[case("{ count: 0 }", "count")]
#[case("{ count: 10001 }", "count")]
#[case("{ baud: 0 }", "baud")]
#[case("{ buf_size: 31 }", "buf_size")]
#[case("{ buf_count: 1 }", "buf_count")]
#[case("{ slot_size: 4294967295 }", "slot_size")]
#[case("{ line_length: 3 }", "line_length")]
#[case("{ line_buffers: 0 }", "line_buffers")]
#[case("{ write_align: 0 }", "write_align")]
#[case("{ udp_mtu: 0 }", "udp_mtu")]
#[case("{ name: 'a b' }", "name")]
#[case("{ version: latest }", "version")]
#[case("{ fault: { lose: 1.5 } }", "fault.lose")]
#[case("{ fault: { corrupt: -0.1 } }", "fault.corrupt")]
#[case("{ fault: { duplicate: .nan } }", "fault.duplicate")]
#[case("{ count: 2, faults: [ { only: [3] } ] }", "fault.only")]
#[case("{ fault: { vanish_ms: 5 } }", "fault.vanish_ms")]
#[case("{ fault: { lose_answer: [ { group: 0, command: 0, nth: 0 } ] } }", "fault")]
#[tokio::test(start_paused = true)]
async fn what_cannot_be_simulated_is_told(#[case] text: &str, #[case] field: &str) {
    let spec: SimSpec = serde_yaml::from_str(text).unwrap();
    let problems = spec.problems();
    assert_eq!(problems.iter().map(|problem| problem.field).collect::<Vec<_>>(), [field], "{problems:?}");
    assert_eq!(Fleet::new(&spec).unwrap_err(), problems[0]);
}
