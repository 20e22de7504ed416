//! Golden bytes: every message of the groups besides image, and those of the OS group that `wire.rs` does not hold.
//! Written out by hand from `smp_groups/*.rst` and RFC 8949; answers as Zephyr writes them (`bf … ff`, maps of indefinite
//! length), with the fields in the order of its sources (`subsys/mgmt/mcumgr/grp`).

use flashfleet::smp::errors::DeviceError;
use flashfleet::smp::message::enumeration::{
    CountGroups, GroupCount, GroupDetail, GroupDetails, GroupDetailsResponse, GroupList, ListGroups,
    SingleGroup, SingleGroupResponse,
};
use flashfleet::smp::message::fs::{
    CloseFile, FileChunk, FileDownload, FileHash, FileHashResponse, FileHashTypes, FileHashTypesResponse,
    FileStatus, FileStatusResponse, FileUpload, FileUploadResponse, HashOutput, HashType,
};
use flashfleet::smp::message::os::{
    ApplicationInfo, ApplicationInfoResponse, DateTimeResponse, Empty, GetDateTime, MemoryPool, MemoryPools,
    MemoryPoolsResponse, SetDateTime, Task, TaskStatistics,
};
use flashfleet::smp::message::raw::{RawError, payload_from_json, payload_from_text, payload_to_json};
use flashfleet::smp::message::settings::{
    CommitSettings, DeleteSetting, LoadSettings, ReadSetting, SaveSettings, SettingValue, WriteSetting,
};
use flashfleet::smp::message::shell::{ShellCommand, ShellOutput};
use flashfleet::smp::message::stat::{ListStatistics, ShowStatistics, Statistics, StatisticsList};
use flashfleet::smp::message::zephyr::EraseStorage;
use flashfleet::smp::message::{DecodeError, Entries, Repeat, Request, decode_response};
use flashfleet::smp::{RawRequest, RequestId, Version};
use serde_json::json;

/// Bytes from hexadecimal text; blanks are for the reader.
fn bytes(text: &str) -> Vec<u8> {
    hex::decode(text.replace([' ', '\n'], "")).expect("the test's own hexadecimal is sound")
}

/// The request in version 1 and 2, with sequence number 0x42: `head` is operation, length, group and command in
/// hexadecimal, two, four, four and two digits.
#[track_caller]
fn assert_request<R: Request>(request: &R, head: &str, body: &str) {
    let [op, length, group, command] = head.split(' ').collect::<Vec<_>>()[..] else {
        panic!("expected four parts in {head:?}");
    };
    let raw = RawRequest::new(request).expect("a request that can be encoded");
    let rest = format!("00{length}{group}42{command}{}", body.replace(' ', ""));
    let v1 = raw.clone().with_version(Version::V1).encode(0x42);
    assert_eq!(hex::encode(v1), format!("{op}{rest}"), "version 1");
    // Bit 3 of the first byte is version 2.
    let op = if op == "00" { "08" } else { "0a" };
    assert_eq!(hex::encode(raw.encode(0x42)), format!("{op}{rest}"), "version 2");
    assert!(RequestId::of::<R>().name().is_some(), "the command has a name for messages");
}

/// What a payload holds as the answer to `R`.
fn answer<R: Request>(payload: &str) -> Result<R::Response, DecodeError> {
    decode_response(&bytes(payload))
}

fn entries<T>(list: Vec<(&str, T)>) -> Entries<T> {
    Entries(list.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

/// Both forms of an error, and an answer with something behind it, are told for what they are, whatever was asked.
#[track_caller]
fn assert_errors<R: Request>()
where
    R::Response: std::fmt::Debug + PartialEq,
{
    let error = |group, rc| Err(DecodeError::Device(DeviceError { group, rc, reason: None }));
    assert_eq!(answer::<R>("bf 627263 08 ff"), error(None, 8), "version 1");
    assert_eq!(answer::<R>("bf 63657272 bf 6567726f7570 08 627263 03 ff ff"), error(Some(8), 3), "version 2");
    assert!(matches!(answer::<R>("bf ff 00"), Err(DecodeError::Trailing { .. })));
    assert!(matches!(answer::<R>("80"), Err(DecodeError::Malformed(_))), "a list");
}

#[test]
fn every_command_reads_both_forms_of_errors() {
    assert_errors::<TaskStatistics>();
    assert_errors::<MemoryPools>();
    assert_errors::<GetDateTime>();
    assert_errors::<SetDateTime>();
    assert_errors::<ApplicationInfo>();
    assert_errors::<ShowStatistics>();
    assert_errors::<ListStatistics>();
    assert_errors::<ReadSetting>();
    assert_errors::<WriteSetting>();
    assert_errors::<DeleteSetting>();
    assert_errors::<CommitSettings>();
    assert_errors::<LoadSettings>();
    assert_errors::<SaveSettings>();
    assert_errors::<FileDownload>();
    assert_errors::<FileUpload<'_>>();
    assert_errors::<FileStatus>();
    assert_errors::<FileHash>();
    assert_errors::<FileHashTypes>();
    assert_errors::<CloseFile>();
    assert_errors::<ShellCommand>();
    assert_errors::<CountGroups>();
    assert_errors::<ListGroups>();
    assert_errors::<SingleGroup>();
    assert_errors::<GroupDetails>();
    assert_errors::<EraseStorage>();
}

#[test]
fn task_statistics() {
    assert_request(&TaskStatistics {}, "00 0001 0000 02", "a0");
    let tasks = answer::<TaskStatistics>(
        "bf 657461736b73 bf \
         6469646c65 bf 647072696f 0f 63746964 01 657374617465 00 6673746b73697a 1840 6673746b757365 1821 \
         6772756e74696d65 00 66637377636e74 00 6c6c6173745f636865636b696e 00 6c6e6578745f636865636b696e 00 ff \
         68737973776f726b71 bf 647072696f 1affffffff 63746964 00 657374617465 02 ff ff ff",
    )
    .expect("tasks")
    .tasks;
    let idle = Task {
        prio: 15,
        tid: 1,
        state: 0,
        stkuse: Some(33),
        stksiz: Some(64),
        cswcnt: Some(0),
        runtime: Some(0),
        last_checkin: Some(0),
        next_checkin: Some(0),
    };
    let work = Task { prio: 0xffff_ffff, state: 2, ..Task::default() };
    assert_eq!(tasks, entries(vec![("idle", idle.clone()), ("sysworkq", work.clone())]));
    // Words of four bytes.
    assert_eq!((idle.stack_used_bytes(), idle.stack_size_bytes()), (Some(132), Some(256)));
    assert_eq!((work.stack_used_bytes(), work.stack_size_bytes()), (None, None));
    assert_eq!((idle.priority(), work.priority()), (15, -1));
    assert_eq!(Task { prio: -2, ..Task::default() }.priority(), -2);
}

#[test]
fn tasks_of_one_name_are_all_kept() {
    let task = "bf 647072696f 00 63746964 00 657374617465 00 ff";
    let twice = format!("bf 657461736b73 bf 6161 {task} 6161 {task} ff ff");
    assert_eq!(answer::<TaskStatistics>(&twice).expect("tasks").tasks.0.len(), 2);
}

#[test]
fn memory_pools() {
    assert_request(&MemoryPools {}, "00 0001 0000 03", "a0");
    let pool = MemoryPool { blksiz: 292, nblks: 12, nfree: 9, min: 7 };
    let expected = MemoryPoolsResponse { pools: entries(vec![("msys", pool)]) };
    let specified =
        "bf 627263 00 646d737973 bf 66626c6b73697a 190124 656e626c6b73 0c 656e66726565 09 636d696e 07 ff ff";
    assert_eq!(answer::<MemoryPools>(specified), Ok(expected.clone()));
    // Under "mpools", with "nrfree".
    let mynewt = "bf 627263 00 666d706f6f6c73 bf 646d737973 bf 66626c6b73697a 190124 656e626c6b73 0c 666e7266726565 09 \
                  636d696e 07 ff ff ff";
    assert_eq!(answer::<MemoryPools>(mynewt), Ok(expected));
    assert!(matches!(answer::<MemoryPools>("bf 646d737973 bf ff ff"), Err(DecodeError::Malformed(_))));
}

#[test]
fn date_and_time() {
    assert_request(&GetDateTime {}, "00 0001 0000 04", "a0");
    let set = SetDateTime { datetime: "2026-11-25T20:52:29.123".to_owned() };
    let body = "a1 686461746574696d65 77323032362d31312d32355432303a35323a32392e313233";
    assert_request(&set, "02 0022 0000 04", body);
    let get = answer::<GetDateTime>("bf 686461746574696d65 73323032362d31312d32355432303a35323a3239 ff");
    assert_eq!(get, Ok(DateTimeResponse { datetime: "2026-11-25T20:52:29".to_owned() }));
    assert_eq!(answer::<SetDateTime>("bf ff"), Ok(Empty {}));
}

#[test]
fn application_information() {
    assert_request(&ApplicationInfo::default(), "00 0001 0000 07", "a0");
    let info = ApplicationInfo { format: Some("sv".to_owned()) };
    assert_request(&info, "00 000b 0000 07", "a1 66666f726d6174 627376");
    let output = answer::<ApplicationInfo>("bf 666f7574707574 6c5a657068797220342e342e30 ff");
    assert_eq!(output, Ok(ApplicationInfoResponse { output: "Zephyr 4.4.0".to_owned() }));
}

#[test]
fn statistics() {
    assert_request(&ShowStatistics { name: "smp".to_owned() }, "00 000a 0002 00", "a1 646e616d65 63736d70");
    assert_request(&ListStatistics {}, "00 0001 0002 01", "a0");
    let smp = answer::<ShowStatistics>(
        "bf 646e616d65 63736d70 666669656c6473 bf 627278 07 627478 1b0000000100000000 ff ff",
    );
    let fields = entries(vec![("rx", 7), ("tx", 1 << 32)]);
    assert_eq!(smp, Ok(Statistics { name: "smp".to_owned(), fields }));
    let list = answer::<ListStatistics>("bf 69737461745f6c697374 9f 63736d70 63626c65 ff ff");
    assert_eq!(list, Ok(StatisticsList { stat_list: vec!["smp".to_owned(), "ble".to_owned()] }));
}

#[test]
fn settings() {
    let name = || "id/sn".to_owned();
    let read = ReadSetting { name: name(), max_size: Some(16) };
    assert_request(&read, "00 0016 0003 00", "a2 646e616d65 6569642f736e 686d61785f73697a65 10");
    let read = ReadSetting { name: name(), max_size: None };
    assert_request(&read, "00 000c 0003 00", "a1 646e616d65 6569642f736e");
    let write = WriteSetting { name: name(), val: vec![0, 0xff] };
    assert_request(&write, "02 0013 0003 00", "a2 646e616d65 6569642f736e 6376616c 4200ff");
    assert_request(&DeleteSetting { name: name() }, "02 000c 0003 01", "a1 646e616d65 6569642f736e");
    assert_request(&CommitSettings {}, "02 0001 0003 02", "a0");
    assert_request(&LoadSettings {}, "00 0001 0003 03", "a0");
    assert_request(&SaveSettings::default(), "02 0001 0003 03", "a0");
    let save = SaveSettings { name: Some("id".to_owned()) };
    assert_request(&save, "02 0009 0003 03", "a1 646e616d65 626964");

    let value = answer::<ReadSetting>("bf 6376616c 4200ff 686d61785f73697a65 1820 ff");
    assert_eq!(value, Ok(SettingValue { val: vec![0, 0xff], max_size: Some(32) }));
    assert_eq!(answer::<ReadSetting>("bf 6376616c 40 ff"), Ok(SettingValue::default()));
    assert_eq!(answer::<WriteSetting>("bf ff"), Ok(Empty {}));
    assert_eq!(answer::<DeleteSetting>("bf ff"), Ok(Empty {}));
    assert_eq!(answer::<CommitSettings>("bf ff"), Ok(Empty {}));
    assert_eq!(answer::<LoadSettings>("bf ff"), Ok(Empty {}));
    assert_eq!(answer::<SaveSettings>("bf ff"), Ok(Empty {}));
}

#[test]
fn file_download() {
    let request = FileDownload { off: 512, name: "/lfs/a".to_owned() };
    assert_request(&request, "00 0014 0008 00", "a2 636f6666 190200 646e616d65 662f6c66732f61");
    let first = answer::<FileDownload>("bf 636f6666 00 6464617461 43010203 636c656e 19012c ff");
    assert_eq!(first, Ok(FileChunk { off: 0, data: vec![1, 2, 3], len: Some(300) }));
    let last = answer::<FileDownload>("bf 636f6666 190129 6464617461 43010203 ff");
    assert_eq!(last, Ok(FileChunk { off: 297, data: vec![1, 2, 3], len: None }));
}

#[test]
fn file_upload() {
    let first = FileUpload { off: 0, data: &[1, 2, 3], name: "/lfs/a", len: Some(300) };
    let body = "a4 636f6666 00 6464617461 43010203 646e616d65 662f6c66732f61 636c656e 19012c";
    assert_request(&first, "02 0022 0008 00", body);
    let last = FileUpload { off: 297, len: None, ..first };
    let body = "a3 636f6666 190129 6464617461 43010203 646e616d65 662f6c66732f61";
    assert_request(&last, "02 001d 0008 00", body);
    assert_eq!(FileUpload::REPEAT, Repeat::Once, "a first piece that comes twice is appended to itself");
    let done = Ok(FileUploadResponse { off: 300 });
    assert_eq!(answer::<FileUpload<'_>>("bf 636f6666 19012c ff"), done);
    assert_eq!(answer::<FileUpload<'_>>("bf 627263 00 636f6666 19012c ff"), done, "with rc 0");
    // {"err": {"group": 8, "rc": 11}, "len": 256}: what the client does with `len` is shown in `groups.rs`.
    let wrong = answer::<FileUpload<'_>>("bf 63657272 bf 6567726f7570 08 627263 0b ff 636c656e 190100 ff");
    let Err(DecodeError::Device(error)) = wrong else { panic!("expected a no, got {wrong:?}") };
    assert_eq!(error.code(), "smp.fs_mgmt.file_offset_not_valid");
}

#[test]
fn file_status_and_hash() {
    let name = || "/lfs/a".to_owned();
    assert_request(&FileStatus { name: name() }, "00 000d 0008 01", "a1 646e616d65 662f6c66732f61");
    assert_eq!(answer::<FileStatus>("bf 636c656e 19012c ff"), Ok(FileStatusResponse { len: 300 }));
    let hash = FileHash { name: name(), kind: Some("crc32".to_owned()), off: Some(1), len: Some(2) };
    let body = "a4 646e616d65 662f6c66732f61 6474797065 656372633332 636f6666 01 636c656e 02";
    assert_request(&hash, "00 0022 0008 02", body);
    let hash = FileHash { name: name(), ..FileHash::default() };
    assert_request(&hash, "00 000d 0008 02", "a1 646e616d65 662f6c66732f61");

    let crc =
        answer::<FileHash>("bf 6474797065 656372633332 636f6666 01 636c656e 02 666f7574707574 1acbf43926 ff");
    let output = HashOutput::Number(0xcbf4_3926);
    assert_eq!(output.to_string(), "cbf43926");
    assert_eq!(crc, Ok(FileHashResponse { kind: "crc32".to_owned(), off: Some(1), len: 2, output }));
    let digest = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
    let sha = answer::<FileHash>(&format!(
        "bf 6474797065 66736861323536 636c656e 03 666f7574707574 5820{digest} ff"
    ));
    let output = HashOutput::Bytes(bytes(digest));
    assert_eq!(output.to_string(), digest);
    assert_eq!(sha, Ok(FileHashResponse { kind: "sha256".to_owned(), off: None, len: 3, output }));
    let text = answer::<FileHash>("bf 6474797065 6161 636c656e 03 666f7574707574 6161 ff");
    assert!(matches!(text, Err(DecodeError::Malformed(_))), "{text:?}");
}

#[test]
fn file_hash_types_and_close() {
    assert_request(&FileHashTypes {}, "00 0001 0008 03", "a0");
    let types = answer::<FileHashTypes>(
        "bf 657479706573 bf 656372633332 bf 66666f726d6174 00 6473697a65 04 ff \
         66736861323536 bf 66666f726d6174 01 6473697a65 1820 ff ff ff",
    );
    let expected = entries(vec![
        ("crc32", HashType { format: 0, size: 4 }),
        ("sha256", HashType { format: 1, size: 32 }),
    ]);
    assert_eq!(types, Ok(FileHashTypesResponse { types: expected }));
    assert_request(&CloseFile {}, "02 0001 0008 04", "a0");
    assert_eq!(answer::<CloseFile>("bf ff"), Ok(Empty {}));
}

#[test]
fn shell() {
    let command = ShellCommand { argv: vec!["echo".to_owned(), "hi".to_owned()] };
    assert_request(&command, "02 000f 0009 00", "a1 6461726776 82 646563686f 626869");
    assert_eq!(ShellCommand::REPEAT, Repeat::Once, "a command may do anything");
    let output = |o: &str, ret| Ok(ShellOutput { o: o.to_owned(), ret });
    assert_eq!(answer::<ShellCommand>("bf 616f 6368690a 63726574 00 ff"), output("hi\n", 0));
    assert_eq!(answer::<ShellCommand>("bf 616f 626e6f 63726574 34 ff"), output("no", -21));
}

#[test]
fn enumeration() {
    assert_request(&CountGroups {}, "00 0001 000a 00", "a0");
    assert_eq!(answer::<CountGroups>("bf 65636f756e74 07 ff"), Ok(GroupCount { count: 7 }));
    assert_request(&ListGroups {}, "00 0001 000a 01", "a0");
    let list = answer::<ListGroups>("bf 6667726f757073 9f 00 01 1840 ff ff");
    assert_eq!(list, Ok(GroupList { groups: vec![0, 1, 64] }));
    assert_request(&SingleGroup::default(), "00 0001 000a 02", "a0");
    assert_request(&SingleGroup { index: Some(2) }, "00 0008 000a 02", "a1 65696e646578 02");
    let last = answer::<SingleGroup>("bf 6567726f7570 183f 63656e64 f5 ff");
    assert_eq!(last, Ok(SingleGroupResponse { group: 63, end: true }));
    assert_eq!(answer::<SingleGroup>("bf 6567726f7570 00 ff"), Ok(SingleGroupResponse::default()));
    assert_request(&GroupDetails::default(), "00 0001 000a 03", "a0");
    let some = GroupDetails { groups: Some(vec![0, 64]) };
    assert_request(&some, "00 000c 000a 03", "a1 6667726f757073 82 00 1840");
    let details = answer::<GroupDetails>(
        "bf 6667726f757073 9f bf 6567726f7570 00 646e616d65 676f73206d676d74 6868616e646c657273 09 ff \
         bf 6567726f7570 1840 ff ff ff",
    );
    let os = GroupDetail { group: 0, name: Some("os mgmt".to_owned()), handlers: Some(9) };
    let own = GroupDetail { group: 64, ..GroupDetail::default() };
    assert_eq!(details, Ok(GroupDetailsResponse { groups: vec![os, own] }));
}

#[test]
fn erase_storage() {
    assert_request(&EraseStorage {}, "02 0001 003f 00", "a0");
    assert_eq!(answer::<EraseStorage>("bf ff"), Ok(Empty {}));
}

#[test]
fn raw_payloads_from_json_and_hexadecimal() {
    let from = |text: &str| payload_from_text(text).map(hex::encode);
    assert_eq!(from("").as_deref(), Ok("a0"));
    assert_eq!(from("{}").as_deref(), Ok("a0"));
    assert_eq!(from("a16164626869").as_deref(), Ok("a16164626869"));
    assert_eq!(from(r#"{"d": "hi"}"#).as_deref(), Ok("a16164626869"));
    // {"off": 300, "n": -1, "f": 1.5, "b": true, "z": null, "data": h'00ff', "l": [1]}
    let all =
        r#"{"off": 300, "n": -1, "f": 1.5, "b": true, "z": null, "data": {"$bytes": "00ff"}, "l": [1]}"#;
    let payload = payload_from_text(all).expect("a payload");
    let mut json = payload_to_json(&payload).expect("JSON");
    assert_eq!(json["data"].take(), json!({ "$bytes": "00ff" }));
    assert_eq!(json, json!({ "off": 300, "n": -1, "f": 1.5, "b": true, "z": null, "data": null, "l": [1] }));
    let data = payload_from_json(&json!({ "data": { "$bytes": "00ff" } })).map(hex::encode);
    assert_eq!(data.as_deref(), Ok("a164646174614200ff"));
}

#[test]
fn raw_payloads_that_are_none_are_refused() {
    for text in ["[1]", "01", "zz", "a1", "{\"a\": }", "\"text\"", "a0a0", "{\"$bytes\": \"00\"}"] {
        assert!(matches!(payload_from_text(text), Err(RawError::Syntax(_))), "{text}");
    }
    for text in [r#"{"d": {"$bytes": "0"}}"#, r#"{"d": {"$bytes": 1}}"#] {
        assert!(matches!(payload_from_text(text), Err(RawError::Bytes(_))), "{text}");
    }
    assert!(payload_to_json(&[0xff]).is_err());
}

#[test]
fn answers_that_json_cannot_hold_become_text() {
    // {1: 2, "big": tag 24 on h'00', "nan": NaN}
    let json = payload_to_json(&bytes("a3 01 02 63626967 d8184100 636e616e f97e00")).expect("JSON");
    assert_eq!(json["1"], 2);
    assert_eq!(json["nan"], "NaN");
    assert_eq!(json["big"], json!({ "$bytes": "00" }));
    assert_eq!(payload_to_json(&[]), Ok(json!({})), "no payload at all is an empty map");
}
