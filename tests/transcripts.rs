//! Replays what real servers answered (`tests/data/transcripts`) against simulated devices built alike: every answer must
//! be the same, byte for byte. Where they differ the simulator is wrong.
//!
//! The transcripts leave out most chunks of the images. So each image is replaced by a twin of the same header, size and
//! TLVs, with a payload and hash of its own, and the hashes are exchanged on the way in and out.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use ciborium::Value;
use flashfleet::sim::{BootMode, Fleet, RecoverySpec, SimSpec, SimTransport};
use flashfleet::smp::HEADER_LEN;
use flashfleet::transport::Link;
use rstest::rstest;
use serde::Deserialize;
use sha2::{Digest, Sha256};

#[derive(Deserialize)]
struct Transcript {
    server: String,
    facts: Facts,
    images: BTreeMap<String, RecordedImage>,
    exchanges: Vec<Exchange>,
}

#[derive(Deserialize)]
struct Facts {
    buf_size: u32,
    buf_count: u32,
    groups: Vec<String>,
    line_length_max: Option<usize>,
}

#[derive(Deserialize)]
struct RecordedImage {
    #[serde(with = "hex::serde")]
    hash: Vec<u8>,
    #[serde(with = "hex::serde")]
    file_sha256: Vec<u8>,
    #[serde(with = "hex::serde")]
    head: Vec<u8>,
    #[serde(with = "hex::serde")]
    tail: Vec<u8>,
    size: usize,
}

#[derive(Deserialize)]
struct Exchange {
    note: String,
    request: Option<String>,
    #[serde(default)]
    responses: Vec<String>,
    upload: Option<LeftOut>,
    event: Option<String>,
}

/// Chunks that the transcript leaves out.
#[derive(Deserialize)]
struct LeftOut {
    image: String,
    from: usize,
    to: usize,
    chunk: usize,
}

/// An image of a transcript, and what stands for it here.
struct Twin {
    recorded_hash: Vec<u8>,
    file_sha256: Vec<u8>,
    head: Vec<u8>,
    bytes: Vec<u8>,
    hash: Vec<u8>,
}

impl Twin {
    /// `broken` makes a twin whose hash TLV is not that of its content.
    fn new(recorded: &RecordedImage, broken: bool) -> Self {
        let (tlv_headers, hash) = recorded.tail.split_at(recorded.tail.len() - 32);
        assert_eq!(hash, recorded.hash, "the image ends with its hash TLV");
        let mut bytes = recorded.head.clone();
        bytes.resize(recorded.size - recorded.tail.len(), 0);
        let mut hash = Sha256::digest(&bytes).to_vec();
        if broken {
            hash[0] ^= 1;
        }
        bytes.extend_from_slice(tlv_headers);
        bytes.extend_from_slice(&hash);
        Self {
            recorded_hash: recorded.hash.clone(),
            file_sha256: recorded.file_sha256.clone(),
            head: recorded.head.clone(),
            bytes,
            hash,
        }
    }
}

fn replace(bytes: &mut [u8], from: &[u8], to: &[u8]) {
    assert_eq!(from.len(), to.len());
    let mut at = 0;
    while let Some(found) = bytes[at..].windows(from.len()).position(|window| window == from) {
        bytes[at + found..at + found + to.len()].copy_from_slice(to);
        at += found + to.len();
    }
}

/// What a server in the transcripts was built with.
fn spec_of(transcript: &Transcript) -> SimSpec {
    // In the order in which Zephyr's servers have them: of their names in the linker's sections.
    let known = [
        ("enum", 10),
        ("fs", 8),
        ("img", 1),
        ("os", 0),
        ("settings", 3),
        ("shell", 9),
        ("stat", 2),
        ("zbasic", 63),
    ];
    let offered = &transcript.facts.groups;
    assert!(
        offered.iter().all(|name| known.iter().any(|(known, _)| known == name)),
        "unknown group: {offered:?}"
    );
    let groups = known.iter().filter(|(name, _)| offered.iter().any(|offered| offered == name));
    let ram_load = transcript.server.starts_with("mps2_");
    let in_recovery = transcript.server == "mps2_recovery";
    SimSpec {
        buf_size: transcript.facts.buf_size,
        buf_count: transcript.facts.buf_count,
        groups: groups.map(|(_, number)| *number).collect(),
        statistics: ["flash_sim_stats", "flash_sim_thresholds", "smp_svr_stats"].map(str::to_owned).to_vec(),
        line_length: transcript.facts.line_length_max.unwrap_or(128),
        transport: match transcript.facts.line_length_max {
            Some(_) => SimTransport::Serial,
            None => SimTransport::Udp,
        },
        params: transcript.server != "native_noparams",
        bootloader_info: false,
        verbose_errors: true,
        mode: if ram_load { BootMode::RamLoad } else { BootMode::SwapOffset },
        slot_size: if ram_load { 524_288 } else { 106_496 },
        // That board's flash is simulated in RAM.
        erase_page_us: if ram_load { 1 } else { SimSpec::default().erase_page_us },
        allow_erase_pending: true,
        recovery: in_recovery.then(|| RecoverySpec { starts: true, ..RecoverySpec::default() }),
        ..SimSpec::default()
    }
}

struct Replay {
    link: Box<dyn Link>,
    twins: BTreeMap<String, Twin>,
    /// Name of the image that is being uploaded.
    uploading: Option<String>,
}

impl Replay {
    /// The request as it is sent here: hashes exchanged, and chunks of an image replaced by its twin's.
    fn request(&mut self, recorded: &[u8]) -> Vec<u8> {
        let mut message = recorded.to_vec();
        let is_upload = message.len() > HEADER_LEN && message[4..6] == [0, 1] && message[7] == 1;
        if is_upload && let Ok(Value::Map(map)) = ciborium::from_reader(&message[HEADER_LEN..]) {
            let field =
                |name: &str| map.iter().find(|(key, _)| key.as_text() == Some(name)).map(|(_, value)| value);
            let data = field("data").and_then(Value::as_bytes).cloned().unwrap_or_default();
            let off = field("off").and_then(Value::as_integer).and_then(|off| usize::try_from(off).ok());
            let sha = field("sha").and_then(Value::as_bytes);
            if off == Some(0) {
                let found = self.twins.iter().find(|(_, twin)| Some(&twin.file_sha256) == sha);
                if let Some((name, _)) = found {
                    self.uploading = Some(name.clone());
                }
            }
            if let (Some(off), Some(name)) = (off, &self.uploading) {
                let twin = &self.twins[name];
                let whole = off > 0 || data.starts_with(&twin.head);
                if whole
                    && !data.is_empty()
                    && let Some(own) = twin.bytes.get(off..off + data.len())
                {
                    replace(&mut message, &data, own);
                }
            }
            return message;
        }
        for twin in self.twins.values() {
            replace(&mut message, &twin.recorded_hash, &twin.hash);
        }
        message
    }

    /// Sends a message; gives every answer, with hashes as recorded.
    async fn exchange(&mut self, message: &[u8]) -> Vec<Vec<u8>> {
        self.link.send(message).await.unwrap();
        let mut answers = Vec::new();
        while let Ok(answer) = tokio::time::timeout(Duration::from_millis(200), self.link.recv()).await {
            let mut answer = answer.unwrap();
            for twin in self.twins.values() {
                replace(&mut answer, &twin.hash, &twin.recorded_hash);
            }
            answers.push(answer);
        }
        answers
    }

    /// Sends the chunks that the transcript leaves out.
    async fn left_out(&mut self, chunks: &LeftOut) {
        let mut off = chunks.from;
        while off < chunks.to {
            let end = (off + chunks.chunk).min(chunks.to);
            let data = self.twins[&chunks.image].bytes[off..end].to_vec();
            let body = Value::Map(vec![
                (Value::from("data"), Value::Bytes(data)),
                (Value::from("off"), Value::from(off as u64)),
            ]);
            let mut payload = Vec::new();
            ciborium::into_writer(&body, &mut payload).unwrap();
            let [high, low] = u16::try_from(payload.len()).unwrap().to_be_bytes();
            let message = [&[0x0a, 0, high, low, 0, 1, 0, 1][..], &payload].concat();
            let answers = self.exchange(&message).await;
            let [answer] = &answers[..] else { panic!("expected one answer, got {}", answers.len()) };
            let next: Value = ciborium::from_reader(&answer[HEADER_LEN..]).unwrap();
            assert_eq!(next, Value::Map(vec![(Value::from("off"), Value::from(end as u64))]));
            off = end;
        }
    }
}

fn shown(message: &[u8]) -> String {
    let body = message.get(HEADER_LEN..).unwrap_or_default();
    let value =
        ciborium::from_reader::<Value, _>(body).map_or_else(|error| error.to_string(), |v| format!("{v:?}"));
    format!("{} = {value}", hex::encode(message))
}

#[rstest]
#[case("microbit_os")]
#[case("microbit_upload")]
#[case("microbit_update")]
#[case("microbit_pending")]
#[case("microbit_on_test")]
#[case("microbit_permanent")]
#[case("mps2_ram_load_slots")]
#[case("mps2_ram_load_boots")]
#[case("mps2_recovery")]
#[case("native_serial")]
#[case("native_groups")]
#[case("native_noparams")]
#[case("native_buf96")]
#[case("native_buf256")]
#[case("native_buf512")]
#[case("native_buf1024")]
#[case("native_buf2048")]
#[case("native_small")]
#[case("udp")]
#[case("udp6")]
#[tokio::test(start_paused = true)]
async fn the_simulator_answers_as_the_real_server(#[case] name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/transcripts/{name}.json"));
    let transcript: Transcript = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let fleet = Fleet::new(&spec_of(&transcript)).unwrap();
    let twin =
        |(name, recorded): (&String, &RecordedImage)| (name.clone(), Twin::new(recorded, name == "broken"));
    let twins: BTreeMap<_, _> = transcript.images.iter().map(twin).collect();
    if let Some(stock) = twins.get("stock") {
        fleet.device(0).program(0, &stock.bytes);
    }
    let link = fleet.connector(0).connect().await.unwrap();
    let mut replay = Replay { link, twins, uploading: None };
    let (mut compared, mut differences) = (0, Vec::new());
    for exchange in &transcript.exchanges {
        if let Some(chunks) = &exchange.upload {
            replay.left_out(chunks).await;
        } else if let Some(event) = &exchange.event {
            assert_eq!(event, "booted");
            tokio::time::sleep(Duration::from_secs(2)).await;
        } else if let Some(request) = &exchange.request {
            let request = replay.request(&hex::decode(request).unwrap());
            let answers = replay.exchange(&request).await;
            let expected: Vec<_> =
                exchange.responses.iter().map(|answer| hex::decode(answer).unwrap()).collect();
            let text = |answers: &[Vec<u8>]| answers.iter().map(|answer| shown(answer)).collect::<Vec<_>>();
            if text(&answers) != text(&expected) {
                differences.push(format!(
                    "{}:\n    simulated {:?}\n    real      {:?}",
                    exchange.note,
                    text(&answers),
                    text(&expected)
                ));
            }
            compared += 1;
        }
    }
    assert!(differences.is_empty(), "{name}: {} differ:\n{}", differences.len(), differences.join("\n"));
    assert!(compared >= 9, "{name}: only {compared} exchanges were compared");
}

/// Every transcript is replayed: a new one that no case names would be a check that is skipped.
#[test]
fn every_transcript_has_its_case() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/transcripts");
    let source = include_str!("transcripts.rs");
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let name = path.file_stem().unwrap().to_str().unwrap();
            assert!(source.contains(&format!("#[case(\"{name}\")]")), "{name} is not replayed");
        }
    }
}
