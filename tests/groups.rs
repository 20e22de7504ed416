//! Every group's commands through the library against the simulator, in virtual time. Where the simulator's answers come
//! from, its own sources say.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use flashfleet::client::{Client, ClientError, ClientOptions, Conversation, FileError};
use flashfleet::sim::{FaultSpec, Fleet, NthAnswer, Refusal, SimSpec};
use flashfleet::smp::message::enumeration::{CountGroups, GroupDetails, ListGroups, SingleGroup};
use flashfleet::smp::message::fs::{CloseFile, FileHash, FileHashTypes, FileStatus, FileUpload, HashOutput};
use flashfleet::smp::message::os::{
    ApplicationInfo, GetDateTime, MemoryPools, Reset, SetDateTime, TaskStatistics,
};
use flashfleet::smp::message::settings::{
    CommitSettings, DeleteSetting, LoadSettings, ReadSetting, SaveSettings, WriteSetting,
};
use flashfleet::smp::message::stat::{ListStatistics, ShowStatistics};
use flashfleet::smp::message::zephyr::EraseStorage;
use flashfleet::smp::message::{Repeat, Request};
use flashfleet::smp::{RawRequest, Version, group};
use rstest::rstest;

const PATH: &str = "/lfs1/config.bin";

fn every_group() -> SimSpec {
    SimSpec {
        groups: vec![0, 1, 2, 3, 8, 9, 10, 63],
        statistics: vec!["smp".to_owned(), "ble".to_owned()],
        memory_pools: true,
        ..SimSpec::default()
    }
}

async fn device(spec: SimSpec) -> (Fleet, Client) {
    let fleet = Fleet::new(&spec).unwrap();
    let link = fleet.connector(0).connect().await.unwrap();
    (fleet, Client::new(link, ClientOptions::default(), Conversation::default()))
}

/// The code of the device's no.
#[track_caller]
fn refusal<T: std::fmt::Debug>(result: Result<T, ClientError>) -> String {
    match result {
        Err(ClientError::Device { error, .. }) => error.code(),
        other => panic!("expected a no of the device, got {other:?}"),
    }
}

/// The same request in version 1: errors have the other form and other numbers.
async fn refusal_v1<R: Request>(client: &mut Client, request: &R) -> String
where
    R::Response: std::fmt::Debug,
{
    let raw = RawRequest::new(request).unwrap().with_version(Version::V1);
    let answer = client.send(raw, None).await.unwrap();
    refusal(answer.decode::<R>().map_err(ClientError::from))
}

/// Bytes without a period that divides a chunk's length.
fn content(len: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from((at * 31 + at / 251) % 256).unwrap()).collect()
}

fn lose(command: u8, nth: &[u64]) -> SimSpec {
    let lose_answer = nth.iter().map(|&nth| NthAnswer { group: group::FS, command, nth }).collect();
    SimSpec { fault: FaultSpec { lose_answer, ..FaultSpec::default() }, ..every_group() }
}

#[tokio::test(start_paused = true)]
async fn os_statistics_time_and_information() {
    let (_fleet, mut client) = device(every_group()).await;
    let tasks = client.request(&TaskStatistics {}).await.unwrap().tasks;
    let work = tasks.get("sysworkq").unwrap();
    assert_eq!(
        (work.priority(), work.stack_used_bytes(), work.stack_size_bytes()),
        (-1, Some(232), Some(1024))
    );
    let pools = client.request(&MemoryPools {}).await.unwrap().pools;
    assert_eq!((pools.get("netbuf").unwrap().blksiz, pools.get("netbuf").unwrap().nblks), (384, 4));

    assert_eq!(refusal(client.request(&GetDateTime {}).await), "smp.os_mgmt.rtc_not_set");
    assert_eq!(refusal_v1(&mut client, &GetDateTime {}).await, "smp.mgmt.no_entry");
    let set = |text: &str| SetDateTime { datetime: text.to_owned() };
    client.request(&set("2026-11-25T20:52:29.123")).await.unwrap();
    assert_eq!(client.request(&GetDateTime {}).await.unwrap().datetime, "2026-11-25T20:52:29");
    assert_eq!(refusal(client.request(&set("2026-13-25T20:52:29")).await), "smp.mgmt.invalid_value");

    let info = |format: &str| ApplicationInfo { format: Some(format.to_owned()) };
    assert_eq!(client.request(&ApplicationInfo::default()).await.unwrap().output, "Zephyr");
    assert_eq!(client.request(&info("vs")).await.unwrap().output, "Zephyr 4.4.0");
    assert_eq!(refusal(client.request(&info("sx")).await), "smp.os_mgmt.invalid_format");
    assert_eq!(refusal_v1(&mut client, &info("sx")).await, "smp.mgmt.invalid_value");
}

#[tokio::test(start_paused = true)]
async fn zephyrs_server_has_no_memory_pools() {
    let (_fleet, mut client) = device(SimSpec::default()).await;
    assert_eq!(refusal(client.request(&MemoryPools {}).await), "smp.mgmt.not_supported");
}

#[tokio::test(start_paused = true)]
async fn statistics() {
    let (fleet, mut client) = device(every_group()).await;
    assert_eq!(client.request(&ListStatistics {}).await.unwrap().stat_list, ["smp", "ble"]);
    let smp = client.request(&ShowStatistics { name: "smp".to_owned() }).await.unwrap();
    assert_eq!((smp.name.as_str(), smp.fields.get("requests")), ("smp", Some(&2)));
    assert_eq!(fleet.device(0).requests().len(), 2);
    let unknown = ShowStatistics { name: "x".to_owned() };
    assert_eq!(refusal(client.request(&unknown).await), "smp.stat_mgmt.invalid_stat_name");
}

#[tokio::test(start_paused = true)]
async fn settings_live_in_memory_until_they_are_saved() {
    let (_fleet, mut client) = device(every_group()).await;
    let read = |name: &str| ReadSetting { name: name.to_owned(), max_size: None };
    let write = |name: &str, val: &[u8]| WriteSetting { name: name.to_owned(), val: val.to_vec() };
    client.request(&write("id/sn", b"0042")).await.unwrap();
    client.request(&write("net/ip", &[10, 0, 0, 1])).await.unwrap();
    client.request(&CommitSettings {}).await.unwrap();
    assert_eq!(client.request(&read("id/sn")).await.unwrap().val, b"0042");
    client.request(&SaveSettings { name: Some("id".to_owned()) }).await.unwrap();
    reset(&mut client).await;
    assert_eq!(client.request(&read("id/sn")).await.unwrap().val, b"0042");
    assert_eq!(refusal(client.request(&read("net/ip")).await), "smp.settings_mgmt.key_not_found");
    assert_eq!(refusal_v1(&mut client, &read("net/ip")).await, "smp.mgmt.no_entry");

    client.request(&write("id/sn", b"other")).await.unwrap();
    client.request(&LoadSettings {}).await.unwrap();
    assert_eq!(client.request(&read("id/sn")).await.unwrap().val, b"0042");
    client.request(&SaveSettings::default()).await.unwrap();
    client.request(&DeleteSetting { name: "id/sn".to_owned() }).await.unwrap();
    assert_eq!(client.request(&read("id/sn")).await.unwrap().val, b"0042", "still in memory");
    reset(&mut client).await;
    assert_eq!(refusal(client.request(&read("id/sn")).await), "smp.settings_mgmt.key_not_found");
}

#[tokio::test(start_paused = true)]
async fn settings_have_limits() {
    let (_fleet, mut client) = device(every_group()).await;
    let name = || "a".to_owned();
    client.request(&WriteSetting { name: name(), val: vec![7; 40] }).await.unwrap();
    let value = client.request(&ReadSetting { name: name(), max_size: Some(100) }).await.unwrap();
    assert_eq!((value.val.len(), value.max_size), (32, Some(32)));
    let value = client.request(&ReadSetting { name: name(), max_size: Some(3) }).await.unwrap();
    assert_eq!((value.val.len(), value.max_size), (3, None));
    let long = DeleteSetting { name: "a".repeat(32) };
    assert_eq!(refusal(client.request(&long).await), "smp.settings_mgmt.key_too_long");
    assert_eq!(refusal_v1(&mut client, &long).await, "smp.mgmt.invalid_value");
}

#[tokio::test(start_paused = true)]
async fn erasing_the_storage_takes_the_settings_with_it() {
    let (_fleet, mut client) = device(every_group()).await;
    let read = ReadSetting { name: "a".to_owned(), max_size: None };
    client.request(&WriteSetting { name: "a".to_owned(), val: vec![1] }).await.unwrap();
    client.request(&SaveSettings::default()).await.unwrap();
    client.request(&EraseStorage {}).await.unwrap();
    assert_eq!(client.request(&read).await.unwrap().val, [1], "the application keeps it");
    reset(&mut client).await;
    assert_eq!(refusal(client.request(&read).await), "smp.settings_mgmt.key_not_found");
}

async fn reset(client: &mut Client) {
    client.request(&Reset::default()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
}

#[tokio::test(start_paused = true)]
async fn enumeration() {
    let (_fleet, mut client) = device(every_group()).await;
    let all = [0, 1, 2, 3, 8, 9, 10, 63];
    assert_eq!(client.request(&CountGroups {}).await.unwrap().count, 8);
    assert_eq!(client.request(&ListGroups {}).await.unwrap().groups, all);
    let mut one_by_one = Vec::new();
    for index in 0.. {
        let single = client.request(&SingleGroup { index: Some(index) }).await.unwrap();
        one_by_one.push(single.group);
        if single.end {
            break;
        }
    }
    assert_eq!(one_by_one, all);
    assert_eq!(client.request(&SingleGroup::default()).await.unwrap().group, 0);
    let beyond = SingleGroup { index: Some(8) };
    assert_eq!(refusal(client.request(&beyond).await), "smp.enum_mgmt.index_too_large");
    let details = client.request(&GroupDetails { groups: Some(vec![9, 3, 77]) }).await.unwrap().groups;
    let told: Vec<_> =
        details.iter().map(|group| (group.group, group.name.as_deref(), group.handlers)).collect();
    assert_eq!(told, [(3, Some("settings mgmt"), Some(4)), (9, Some("shell mgmt"), Some(1))]);
    assert_eq!(client.request(&GroupDetails::default()).await.unwrap().groups.len(), 8);
}

#[tokio::test(start_paused = true)]
async fn shell_commands_run_once() {
    let spec = |nth| SimSpec {
        fault: FaultSpec {
            lose_answer: vec![NthAnswer { group: group::SHELL, command: 0, nth }],
            ..FaultSpec::default()
        },
        ..every_group()
    };
    let argv = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let (fleet, mut client) = device(spec(3)).await;
    let output = client.shell(argv("echo a b"), Repeat::Once, None).await.unwrap();
    assert_eq!((output.o.as_str(), output.ret), ("\r\na b\r\n", 0));
    let output = client.shell(argv("nothing"), Repeat::Once, None).await.unwrap();
    assert_eq!(
        (output.o.as_str(), output.ret),
        ("\r\n\u{1b}[1;31mnothing: command not found\r\n\u{1b}[m", -8)
    );
    let lost = client.shell(argv("selftest"), Repeat::Once, None).await;
    assert!(matches!(lost, Err(ClientError::Unanswered(_))), "{lost:?}");
    assert_eq!(fleet.device(0).request_count(group::SHELL, 0), 3);
    assert_eq!(refusal(client.shell(Vec::new(), Repeat::Once, None).await), "smp.shell_mgmt.empty_command");
    let long = vec!["x".repeat(300)];
    assert_eq!(refusal(client.shell(long, Repeat::Once, None).await), "smp.shell_mgmt.command_too_long");

    let (fleet, mut client) = device(spec(1)).await;
    assert_eq!(client.shell(argv("selftest"), Repeat::Safe, None).await.unwrap().o, "\r\nPASS\r\n");
    assert_eq!(fleet.device(0).request_count(group::SHELL, 0), 2, "sent again on request alone");
}

/// Sizes around a piece's: nothing, one byte, a piece and one more or less, many pieces.
#[rstest]
#[tokio::test(start_paused = true)]
async fn files_go_there_and_back(#[values(0, 1, 327, 328, 329, 330, 331, 656, 5000)] len: usize) {
    let (fleet, mut client) = device(every_group()).await;
    let data = content(len);
    let mut seen = Vec::new();
    let put = client.put_file(PATH, &data, |done| seen.push(done)).await.unwrap();
    assert_eq!((put.bytes, put.resumed), (len as u64, 0));
    assert_eq!(put.checked.as_deref(), (len > 0).then_some("crc32"));
    assert_eq!(seen.last(), Some(&(len as u64)));
    assert_eq!(fleet.device(0).file(PATH), Some(data.clone()));

    let (mut got, mut last) = (Vec::new(), (0, 0));
    let write = |data: &[u8]| {
        got.extend_from_slice(data);
        Ok(())
    };
    let bytes = client.get_file(PATH, write, |done, total| last = (done, total)).await.unwrap();
    assert_eq!((bytes, last), (len as u64, (len as u64, len as u64)));
    assert_eq!(got, data);
}

#[tokio::test(start_paused = true)]
async fn a_shorter_file_replaces_a_longer_one() {
    let (fleet, mut client) = device(every_group()).await;
    client.put_file(PATH, &content(3000), |_| {}).await.unwrap();
    client.put_file(PATH, &content(100), |_| {}).await.unwrap();
    assert_eq!(fleet.device(0).file(PATH), Some(content(100)));
    // An empty piece shortens nothing, on real servers too: that is told, and not taken for done.
    let empty = client.put_file(PATH, &[], |_| {}).await;
    assert!(matches!(empty, Err(FileError::Differs { .. })), "{empty:?}");
}

/// The answers to the first, a middle and the last piece are lost, alone and together, several times in a row too.
#[rstest]
#[case::first(&[1])]
#[case::first_again(&[1, 2, 3])]
#[case::second(&[2])]
#[case::middle(&[4, 5, 6])]
#[case::last(&[7])]
#[case::many(&[1, 3, 4, 7, 9])]
#[tokio::test(start_paused = true)]
async fn a_put_survives_lost_answers(#[case] nth: &[u64]) {
    let (fleet, mut client) = device(lose(0, nth)).await;
    let data = content(328 * 7);
    let put = client.put_file(PATH, &data, |_| {}).await.unwrap();
    assert!(put.resumed > 0, "{put:?}");
    assert_eq!(put.checked.as_deref(), Some("crc32"));
    assert_eq!(fleet.device(0).file(PATH), Some(data));
}

#[tokio::test(start_paused = true)]
async fn a_put_survives_a_bad_link() {
    let mut resumed = 0;
    for seed in 0..20 {
        let fault = FaultSpec { lose: 0.04, seed, ..FaultSpec::default() };
        let (fleet, mut client) = device(SimSpec { fault, ..every_group() }).await;
        let data = content(3000);
        resumed += client.put_file(PATH, &data, |_| {}).await.unwrap().resumed;
        assert_eq!(fleet.device(0).file(PATH), Some(data), "seed {seed}");
    }
    assert!(resumed > 0, "some answers were lost");
}

/// What the puts above have to avoid, seen here: a first piece that comes twice into an open file is appended to itself.
#[tokio::test(start_paused = true)]
async fn beginning_again_in_an_open_file_appends() {
    let (fleet, mut client) = device(every_group()).await;
    let first = FileUpload { off: 0, data: &[1, 2], name: PATH, len: Some(6) };
    assert_eq!(client.request(&first).await.unwrap().off, 2);
    assert_eq!(client.request(&first).await.unwrap().off, 4);
    client.request(&CloseFile {}).await.unwrap();
    assert_eq!(fleet.device(0).file(PATH), Some(vec![1, 2, 1, 2]));
    client.request(&first).await.unwrap();
    client.request(&CloseFile {}).await.unwrap();
    assert_eq!(fleet.device(0).file(PATH), Some(vec![1, 2]), "after a close it is shortened");
}

/// A put finds its file open and half written by somebody else, and begins it anew.
#[tokio::test(start_paused = true)]
async fn a_put_closes_what_is_open() {
    let (fleet, mut client) = device(every_group()).await;
    client.request(&FileUpload { off: 0, data: &[1, 2], name: PATH, len: Some(6) }).await.unwrap();
    let put = client.put_file(PATH, &content(10), |_| {}).await.unwrap();
    assert_eq!(put.resumed, 0, "closed before, not repaired after");
    assert_eq!(fleet.device(0).file(PATH), Some(content(10)));
}

#[tokio::test(start_paused = true)]
async fn a_put_does_not_try_for_ever() {
    let (fleet, mut client) = device(lose(0, &(1..100).collect::<Vec<_>>())).await;
    let put = client.put_file(PATH, &content(1000), |_| {}).await;
    assert!(matches!(put, Err(FileError::Client(ClientError::Unanswered(_)))), "{put:?}");
    assert_eq!(fleet.device(0).request_count(group::FS, 0), 5);
    let refuse = vec![Refusal { group: group::FS, command: 0, rc: 11, of_group: true, from: 2, times: None }];
    let fault = FaultSpec { refuse, ..FaultSpec::default() };
    let (_fleet, mut client) = device(SimSpec { fault, ..every_group() }).await;
    let put = client.put_file(PATH, &content(1000), |_| {}).await;
    assert!(matches!(put, Err(FileError::Stuck { .. })), "{put:?}");
}

#[tokio::test(start_paused = true)]
async fn files_that_cannot_be_are_refused_by_name() {
    let (_fleet, mut client) = device(every_group()).await;
    let put = |error: FileError| flashfleet::cause::Cause::from(error).code.into_owned();
    let nowhere = client.put_file("/nowhere/a", &[1], |_| {}).await.unwrap_err();
    assert_eq!(put(nowhere), "smp.fs_mgmt.mount_point_not_found");
    let missing = client.get_file("/lfs1/none", |_| Ok(()), |_, _| {}).await.unwrap_err();
    assert_eq!(put(missing), "smp.fs_mgmt.file_not_found");
    let folder = FileStatus { name: "/lfs1".to_owned() };
    assert_eq!(refusal(client.request(&folder).await), "smp.fs_mgmt.file_is_directory");
    let missing = FileStatus { name: "/lfs1/none".to_owned() };
    assert_eq!(refusal_v1(&mut client, &missing).await, "smp.mgmt.no_entry");
    let long = format!("/lfs1/{}", "a".repeat(400));
    let room = client.put_file(&long, &[1], |_| {}).await.unwrap_err();
    assert_eq!(put(room), "fs.path_too_long");
}

#[tokio::test(start_paused = true)]
async fn status_hash_and_types() {
    let (_fleet, mut client) = device(every_group()).await;
    client.put_file(PATH, b"123456789", |_| {}).await.unwrap();
    let name = || PATH.to_owned();
    assert_eq!(client.request(&FileStatus { name: name() }).await.unwrap().len, 9);
    // The check value of CRC-32/ISO-HDLC, and SHA-256 of the same text.
    let hash = client.request(&FileHash { name: name(), ..FileHash::default() }).await.unwrap();
    assert_eq!((hash.kind.as_str(), hash.len, hash.output), ("crc32", 9, HashOutput::Number(0xcbf4_3926)));
    let sha = FileHash { name: name(), kind: Some("sha256".to_owned()), ..FileHash::default() };
    assert_eq!(
        client.request(&sha).await.unwrap().output.to_string(),
        "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225"
    );
    let part = FileHash { off: Some(2), len: Some(3), ..sha.clone() };
    let part = client.request(&part).await.unwrap();
    assert_eq!((part.off, part.len), (Some(2), 3));
    let beyond = FileHash { off: Some(9), ..sha.clone() };
    assert_eq!(refusal(client.request(&beyond).await), "smp.fs_mgmt.file_offset_larger_than_file");
    let unknown = FileHash { kind: Some("md5".to_owned()), ..sha };
    assert_eq!(refusal(client.request(&unknown).await), "smp.fs_mgmt.checksum_hash_not_found");
    assert_eq!(refusal_v1(&mut client, &unknown).await, "smp.mgmt.invalid_value");
    let types = client.request(&FileHashTypes {}).await.unwrap().types;
    let told: Vec<_> = types.iter().map(|(name, kind)| (name, kind.format, kind.size)).collect();
    assert_eq!(told, [("crc32", 0, 4), ("sha256", 1, 32)]);
}

#[tokio::test(start_paused = true)]
async fn groups_that_a_device_does_not_have_are_told() {
    let (_fleet, mut client) = device(SimSpec::default()).await;
    let status = FileStatus { name: PATH.to_owned() };
    assert_eq!(refusal(client.request(&status).await), "smp.mgmt.not_supported");
    assert_eq!(
        refusal(client.shell(vec!["a".to_owned()], Repeat::Once, None).await),
        "smp.mgmt.not_supported"
    );
    assert_eq!(refusal(client.request(&EraseStorage {}).await), "smp.mgmt.not_supported");
    let put = client.put_file(PATH, &[1], |_| {}).await;
    assert!(matches!(put, Err(FileError::Client(ClientError::Device { .. }))), "{put:?}");
}
