//! What a device, or whatever is at the other end of the line, may send: console framing, SMP header, CBOR of each group's
//! answers; and what a person may write as the data of a raw request.

#![no_main]

use std::time::Duration;

use flashfleet::cause::Cause;
use flashfleet::smp::exchange::{Exchange, ExchangeConfig, Policy};
use flashfleet::smp::message::raw::{payload_from_text, payload_to_json};
use flashfleet::smp::message::{
    DecodeError, Request, decode_response, enumeration, fs, image, os, settings, shell, stat,
};
use flashfleet::smp::{HEADER_LEN, Header, RawRequest, console};
use libfuzzer_sys::fuzz_target;

/// The answer to `R`, read, and told.
fn answer<R: Request>(payload: &[u8])
where
    R::Response: std::fmt::Debug,
{
    match decode_response::<R::Response>(payload) {
        Ok(response) => drop(format!("{response:?}")),
        Err(DecodeError::Device(error)) => {
            let cause = error.to_cause(flashfleet::smp::RequestId::of::<R>());
            assert!(cause.code.starts_with("smp.") && !cause.help.is_empty(), "{cause:?}");
        }
        Err(error) => drop(error.to_string()),
    }
}

fn answers(payload: &[u8]) {
    answer::<os::Echo>(payload);
    answer::<os::TaskStatistics>(payload);
    answer::<os::MemoryPools>(payload);
    answer::<os::GetDateTime>(payload);
    answer::<os::Params>(payload);
    answer::<os::ApplicationInfo>(payload);
    answer::<os::BootloaderInfo>(payload);
    answer::<image::ListImages>(payload);
    answer::<image::UploadChunk<'_>>(payload);
    answer::<image::SlotInfo>(payload);
    answer::<stat::ShowStatistics>(payload);
    answer::<stat::ListStatistics>(payload);
    answer::<settings::ReadSetting>(payload);
    answer::<fs::FileDownload>(payload);
    answer::<fs::FileUpload<'_>>(payload);
    answer::<fs::FileStatus>(payload);
    answer::<fs::FileHash>(payload);
    answer::<fs::FileHashTypes>(payload);
    answer::<shell::ShellCommand>(payload);
    answer::<enumeration::CountGroups>(payload);
    answer::<enumeration::ListGroups>(payload);
    answer::<enumeration::SingleGroup>(payload);
    answer::<enumeration::GroupDetails>(payload);
    if let Ok(json) = payload_to_json(payload) {
        drop(json.to_string());
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((&kind, data)) = data.split_first() else { return };
    match kind % 4 {
        // A message as it comes out of a datagram or a frame.
        0 => {
            if let Ok((header, payload)) = Header::split(data) {
                let mut read = data[..HEADER_LEN].to_vec();
                // The reserved bits are not looked at.
                read[0] &= 0x1f;
                assert_eq!(header.encode()[..], read, "a header is written as it was read");
                answers(payload);
            }
            let mut exchange = Exchange::new(ExchangeConfig::default());
            let policy = Policy { timeout: Duration::from_secs(1), retries: 1 };
            exchange.submit(Duration::ZERO, RawRequest::new(&os::Params {}).expect("a request"), policy);
            let _ = exchange.poll_transmit(Duration::ZERO);
            let _ = format!("{:?}", exchange.handle_message(Duration::from_millis(1), data));
            if let Some((_, Ok(done))) = exchange.poll_outcome() {
                let _ = done.decode::<os::Params>().map_err(|error| Cause::from(error).to_string());
            }
        }
        1 => answers(data),
        // A line: frames among noise, and frames that are sound come through.
        2 => {
            let mut decoder = console::Decoder::new();
            let mut stream = data.to_vec();
            stream.push(b'\n');
            let whole = decoder.push(&stream);
            let mut bytewise = console::Decoder::new();
            let found: Vec<_> = stream.iter().flat_map(|byte| bytewise.push(&[*byte])).collect();
            assert_eq!(whole, found, "it does not matter in which pieces it comes");
            for message in &whole {
                let mut again = console::Decoder::new();
                assert_eq!(again.push(&console::encode(message, 128)), std::slice::from_ref(message));
                if let Ok((_, payload)) = Header::split(message) {
                    answers(payload);
                }
            }
            let message = &data[..data.len().min(1000)];
            if !message.is_empty() {
                assert_eq!(decoder.push(&console::encode(message, 128)), [message], "the line has recovered");
            }
        }
        _ => {
            if let Ok(text) = std::str::from_utf8(data)
                && let Ok(payload) = payload_from_text(text)
            {
                payload_to_json(&payload).expect("what was taken can be shown");
            }
        }
    }
});
