//! Every fault of simulated devices, one by one: that it happens, and that nothing else does. Links in memory, in virtual
//! time.

use std::time::Duration;

use crate::support::{Client, chunk, hash_of, image, reset, upload};
use flashfleet::sim::{FaultSpec, Fleet, Power, SimSpec, SimTransport};
use flashfleet::smp::Version;
use flashfleet::smp::message::image::{ListImages, SetState};
use flashfleet::smp::message::os::{Echo, Reset};
use flashfleet::transport::LinkErrorKind;
use rstest::rstest;
use tokio::time::{Instant, sleep};

fn faulty(fault: &str) -> SimSpec {
    let fault: FaultSpec = serde_yaml::from_str(fault).unwrap();
    let spec = SimSpec { image_check: fault.upload_mismatch, fault, ..SimSpec::default() };
    assert_eq!(spec.problems(), []);
    spec
}

async fn device(spec: SimSpec) -> (Fleet, Client) {
    let fleet = Fleet::new(&spec).unwrap();
    let mut client = Client::open(&*fleet.connector(0)).await;
    client.timeout = Duration::from_millis(500);
    (fleet, client)
}

fn hello() -> Echo {
    Echo { d: "hello".to_owned() }
}

fn new_image() -> Vec<u8> {
    image((2, 0, 0), &[7; 300])
}

/// Uploads, marks for test, resets; gives the device two seconds.
async fn test_boot(client: &mut Client) {
    let new = new_image();
    upload(client, &new).await;
    client.get(&SetState { hash: Some(hash_of(&new)), confirm: false }).await;
    client.get(&Reset::default()).await;
    sleep(Duration::from_secs(2)).await;
}

/// Which of `count` echoes are answered.
async fn answered(client: &mut Client, count: usize) -> Vec<bool> {
    let mut answered = Vec::new();
    for _ in 0..count {
        answered.push(client.ask(&hello()).await.is_some());
    }
    answered
}

/// The same seed loses the same messages; another seed, or another device, loses others.
#[rstest]
#[case("{ lose: 0.1, seed: 1 }")]
#[case("{ corrupt: 0.1, seed: 1 }")]
#[tokio::test(start_paused = true)]
async fn losses_repeat_by_seed(#[case] fault: &str) {
    let losses = async |fault: &str, index: usize| {
        let fleet = Fleet::new(&SimSpec { count: 2, ..faulty(fault) }).unwrap();
        let mut client = Client::open(&*fleet.connector(index)).await;
        client.timeout = Duration::from_millis(50);
        answered(&mut client, 500).await
    };
    let first = losses(fault, 0).await;
    assert_eq!(first, losses(fault, 0).await);
    assert_ne!(first, losses(fault, 1).await);
    assert_ne!(first, losses(&fault.replace("seed: 1", "seed: 2"), 0).await);
    // Lost on the way there or back: 1 − 0.9² = 0.19.
    let lost = first.iter().filter(|answered| !**answered).count();
    assert!((65..130).contains(&lost), "{lost} of 500");
}

#[tokio::test(start_paused = true)]
async fn without_faults_nothing_is_lost() {
    let (_fleet, mut client) = device(SimSpec::default()).await;
    assert!(answered(&mut client, 500).await.into_iter().all(|answered| answered));
}

/// Over datagrams nothing checks the content: a corrupted answer arrives, and is not what it should be.
#[tokio::test(start_paused = true)]
async fn corrupted_datagrams_arrive() {
    let spec = SimSpec { transport: SimTransport::Udp, ..faulty("{ corrupt: 1 }") };
    let (_fleet, mut client) = device(spec).await;
    let message = client.message(&hello());
    client.link.send(&message).await.unwrap();
    let answer = client.recv().await.unwrap().unwrap();
    let (_fleet, mut client) = device(SimSpec { transport: SimTransport::Udp, ..SimSpec::default() }).await;
    client.link.send(&message).await.unwrap();
    assert_ne!(answer, client.recv().await.unwrap().unwrap());
}

#[tokio::test(start_paused = true)]
async fn messages_can_come_twice() {
    let (fleet, mut client) = device(faulty("{ duplicate: 1 }")).await;
    let message = client.message(&hello());
    client.link.send(&message).await.unwrap();
    let mut answers = Vec::new();
    while let Some(answer) = client.recv().await {
        answers.push(answer.unwrap());
    }
    assert_eq!(fleet.device(0).request_count(0, 0), 2, "the request came twice");
    assert_eq!(answers.len(), 4, "and each answer twice");
    assert!(answers.iter().all(|answer| *answer == answers[0]));
}

#[tokio::test(start_paused = true)]
async fn answers_can_come_late() {
    let (_fleet, mut client) = device(faulty("{ delay: 1, delay_ms: 300 }")).await;
    let start = Instant::now();
    client.get(&hello()).await;
    assert!((300..303).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn exactly_the_resets_answer_is_lost_and_the_board_boots_once() {
    let (fleet, mut client) = device(faulty("{ lose_reset_answer: true }")).await;
    client.get(&hello()).await;
    assert!(client.ask(&Reset::default()).await.is_none());
    sleep(Duration::from_secs(1)).await;
    client.get(&hello()).await;
    assert_eq!(fleet.device(0).boots(), 1);
    reset(&mut client).await;
    assert_eq!(fleet.device(0).boots(), 2, "only the first is lost");
}

#[tokio::test(start_paused = true)]
async fn exactly_the_last_uploads_answer_is_lost_and_the_image_is_there() {
    let (fleet, mut client) = device(faulty("{ lose_last_upload_answer: true }")).await;
    let new = new_image();
    let last = u32::try_from(new.len() / 128 * 128).unwrap();
    for off in (0..last).step_by(128) {
        client.get(&chunk(&new, off, 128)).await;
    }
    let rest = chunk(&new, last, new.len() - last as usize);
    assert!(client.ask(&rest).await.is_none());
    assert_eq!(fleet.device(0).slot(1).hash, Some(hash_of(&new)));
    assert_eq!(client.get(&rest).await.off, Some(0), "sent again it looks like a fresh start");
    upload(&mut client, &new).await;
}

#[tokio::test(start_paused = true)]
async fn the_nth_answer_to_a_command_is_lost() {
    let fault = "{ lose_answer: [ { group: 0, command: 0, nth: 2 }, { group: 1, command: 0 } ] }";
    let (_fleet, mut client) = device(faulty(fault)).await;
    assert_eq!(answered(&mut client, 4).await, [true, false, true, true]);
    assert!(client.ask(&ListImages {}).await.is_none());
    assert!(client.ask(&ListImages {}).await.is_some());
}

#[tokio::test(start_paused = true)]
async fn requests_are_refused_without_being_done() {
    let fault = "{ refuse: [ { group: 1, command: 1, rc: 13, of_group: true, from: 2, times: 1 },
                             { group: 0, command: 5, rc: 10 } ] }";
    let (fleet, mut client) = device(faulty(fault)).await;
    let new = new_image();
    client.get(&chunk(&new, 0, 128)).await;
    assert_eq!(client.refused(&chunk(&new, 128, 128)).await, (Some(1), 13));
    client.get(&chunk(&new, 128, 128)).await;
    assert_eq!(fleet.device(0).bytes_written(), 256);
    assert_eq!(client.refused(&Reset::default()).await, (None, 10));
    sleep(Duration::from_secs(1)).await;
    assert_eq!(fleet.device(0).boots(), 0);
}

#[tokio::test(start_paused = true)]
async fn version_1_gets_a_groups_refusal_translated() {
    let (_fleet, mut client) =
        device(faulty("{ refuse: [ { group: 1, command: 0, rc: 28, of_group: true } ] }")).await;
    client.version = Version::V1;
    assert_eq!(client.refused(&ListImages {}).await, (None, 6));
}

#[tokio::test(start_paused = true)]
async fn a_device_vanishes_in_mid_upload_and_comes_back_with_nothing_under_way() {
    let (fleet, mut client) = device(faulty("{ vanish_at_byte: 200, vanish_ms: 3000 }")).await;
    let new = new_image();
    client.get(&chunk(&new, 0, 128)).await;
    let message = client.message(&chunk(&new, 128, 128));
    client.link.send(&message).await.unwrap();
    assert_eq!(client.recv().await.unwrap().unwrap_err().kind, LinkErrorKind::Disconnected);
    drop(client);
    let connector = fleet.connector(0);
    assert_eq!(connector.connect().await.err().unwrap().kind, LinkErrorKind::NotFound);
    sleep(Duration::from_secs(4)).await;
    let mut client = Client::open(&*connector).await;
    assert_eq!(client.get(&chunk(&new, 256, 1)).await.off, Some(0));
    upload(&mut client, &new).await;
    assert_eq!(fleet.device(0).boots(), 1, "it vanishes once");
}

#[tokio::test(start_paused = true)]
async fn a_device_vanishes_for_ever() {
    let (fleet, mut client) = device(faulty("{ vanish_at_byte: 1 }")).await;
    let message = client.message(&chunk(&new_image(), 0, 128));
    client.link.send(&message).await.unwrap();
    assert_eq!(client.recv().await.unwrap().unwrap_err().kind, LinkErrorKind::Disconnected);
    drop(client);
    sleep(Duration::from_secs(3600)).await;
    assert_eq!(fleet.connector(0).connect().await.err().unwrap().kind, LinkErrorKind::NotFound);
}

#[tokio::test(start_paused = true)]
async fn firmware_hangs_in_mid_upload() {
    let (fleet, mut client) = device(faulty("{ hang_at_byte: 200 }")).await;
    let new = new_image();
    client.get(&chunk(&new, 0, 128)).await;
    assert!(client.ask(&chunk(&new, 128, 128)).await.is_none());
    assert!(client.ask(&hello()).await.is_none());
    fleet.device(0).reset_line();
    sleep(Duration::from_secs(1)).await;
    upload(&mut client, &new).await;
}

#[tokio::test(start_paused = true)]
async fn a_server_forgets_the_upload_under_way() {
    let (_fleet, mut client) = device(faulty("{ forget_upload_at_byte: 200 }")).await;
    let new = new_image();
    client.get(&chunk(&new, 0, 128)).await;
    client.get(&chunk(&new, 128, 128)).await;
    assert_eq!(client.get(&chunk(&new, 256, 64)).await.off, Some(0));
    upload(&mut client, &new).await;
}

#[tokio::test(start_paused = true)]
async fn a_device_never_returns() {
    let (fleet, mut client) = device(faulty("{ never_return: true }")).await;
    client.get(&Reset::default()).await;
    sleep(Duration::from_secs(3600)).await;
    assert!(client.ask(&hello()).await.is_none());
    fleet.device(0).reset_line();
    sleep(Duration::from_secs(10)).await;
    assert_eq!(fleet.device(0).power(), Power::Dead);
}

#[tokio::test(start_paused = true)]
async fn a_reset_is_answered_and_ignored() {
    let (fleet, mut client) = device(faulty("{ ignore_reset: true }")).await;
    reset(&mut client).await;
    assert_eq!(fleet.device(0).boots(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_boot_takes_longer() {
    let (_fleet, mut client) = device(faulty("{ slow_boot_ms: 30000 }")).await;
    reset(&mut client).await;
    sleep(Duration::from_secs(29)).await;
    assert!(client.ask(&hello()).await.is_none());
    sleep(Duration::from_secs(1)).await;
    assert!(client.ask(&hello()).await.is_some());
}

#[tokio::test(start_paused = true)]
async fn an_erase_takes_longer() {
    let (_fleet, mut client) = device(faulty("{ slow_erase_ms: 20000 }")).await;
    client.timeout = Duration::from_secs(40);
    let new = new_image();
    client.get(&chunk(&new, 0, 128)).await;
    let start = Instant::now();
    client.get(&chunk(&new, 0, 128)).await;
    assert!(start.elapsed() >= Duration::from_secs(20), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_new_image_crashes_and_the_old_one_comes_back() {
    let (fleet, mut client) = device(faulty("{ crash_on_test_boot: true }")).await;
    test_boot(&mut client).await;
    let list = client.get(&ListImages {}).await.images;
    assert_eq!((list[0].version.as_str(), list[0].confirmed), ("1.0.0", true));
    assert_eq!(fleet.device(0).boots(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_new_image_hangs_until_the_reset_line_is_pulled() {
    let (fleet, mut client) = device(faulty("{ hang_on_test_boot: true }")).await;
    test_boot(&mut client).await;
    assert!(client.ask(&hello()).await.is_none());
    fleet.device(0).reset_line();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(client.get(&ListImages {}).await.images[0].version, "1.0.0");
}

#[tokio::test(start_paused = true)]
async fn a_new_image_has_no_server() {
    let (fleet, mut client) = device(faulty("{ mute_on_test_boot: true }")).await;
    test_boot(&mut client).await;
    assert!(client.ask(&hello()).await.is_none());
    assert_eq!(fleet.device(0).power(), Power::Mute);
}

#[tokio::test(start_paused = true)]
async fn a_bootloader_leaves_the_image_pending() {
    let (fleet, mut client) = device(faulty("{ ignore_swap: true }")).await;
    test_boot(&mut client).await;
    let list = client.get(&ListImages {}).await.images;
    assert_eq!((list[0].version.as_str(), list[1].pending), ("1.0.0", true));
    assert_eq!(fleet.device(0).boots(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_hash_of_the_new_image_reads_wrong() {
    let (fleet, mut client) = device(faulty("{ wrong_hash: true }")).await;
    let before = client.get(&ListImages {}).await.images.remove(0).hash;
    assert_eq!(before, fleet.device(0).running().map(|running| running.hash));
    test_boot(&mut client).await;
    let after = client.get(&ListImages {}).await.images.remove(0);
    assert_eq!(after.version, "2.0.0");
    assert_ne!(after.hash, Some(hash_of(&new_image())));
}

#[tokio::test(start_paused = true)]
async fn an_upload_does_not_match() {
    let (_fleet, mut client) =
        device(SimSpec { image_check: true, ..faulty("{ upload_mismatch: true }") }).await;
    let new = new_image();
    let sha = <sha2::Sha256 as sha2::Digest>::digest(&new).to_vec();
    let mut first = chunk(&new, 0, 128);
    first.sha = Some(&sha);
    client.get(&first).await;
    let last = client.get(&chunk(&new, 128, new.len() - 128)).await;
    assert_eq!((last.off, last.matches), (Some(new.len() as u64), Some(false)));
}

#[tokio::test(start_paused = true)]
async fn a_confirm_is_not_kept() {
    let (fleet, mut client) = device(faulty("{ forget_confirm: true }")).await;
    test_boot(&mut client).await;
    let list = client.get(&SetState { hash: None, confirm: true }).await.images;
    assert!(!list[0].confirmed);
    reset(&mut client).await;
    assert_eq!(fleet.device(0).running().unwrap().version, "1.0.0");
}

#[tokio::test(start_paused = true)]
async fn early_bytes_make_some_parts_deaf() {
    let (fleet, mut client) = device(faulty("{ wedge_on_early_bytes: true }")).await;
    client.get(&Reset::default()).await;
    sleep(Duration::from_millis(300)).await;
    assert!(client.ask(&hello()).await.is_none());
    sleep(Duration::from_secs(60)).await;
    assert!(client.ask(&hello()).await.is_none());
    fleet.device(0).reset_line();
    sleep(Duration::from_secs(1)).await;
    client.get(&hello()).await;
    reset(&mut client).await;
    client.get(&hello()).await;
}

#[tokio::test(start_paused = true)]
async fn text_comes_between_the_answers_and_takes_its_time() {
    let time = async |fault: &str| {
        let (_fleet, mut client) = device(SimSpec { baud: Some(9_600), ..faulty(fault) }).await;
        let start = Instant::now();
        assert!(answered(&mut client, 20).await.into_iter().all(|answered| answered));
        start.elapsed()
    };
    let (quiet, chatty) = (time("{}").await, time("{ chatter: 1 }").await);
    assert!(chatty > quiet + Duration::from_millis(20 * 30), "{quiet:?} and {chatty:?}");
}

#[tokio::test(start_paused = true)]
async fn faults_are_of_the_devices_named() {
    let spec = SimSpec {
        count: 5,
        faults: vec![
            FaultSpec { only: vec![2, 5], ignore_reset: true, ..FaultSpec::default() },
            FaultSpec { only: vec![3], lose: 1.0, ..FaultSpec::default() },
        ],
        ..SimSpec::default()
    };
    let fleet = Fleet::new(&spec).unwrap();
    let mut boots = Vec::new();
    for (index, connector) in fleet.connectors().iter().enumerate() {
        let mut client = Client::open(&**connector).await;
        client.timeout = Duration::from_millis(500);
        let _ = client.ask(&Reset::default()).await;
        sleep(Duration::from_secs(1)).await;
        boots.push(fleet.device(index).boots());
    }
    assert_eq!(boots, [1, 0, 0, 1, 0]);
}
