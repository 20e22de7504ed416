//! The simulator from outside: links in memory, in virtual time.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod sim_support;

use std::time::Duration;

use flashfleet::sim::{Fleet, SimSpec};
use flashfleet::smp::message::image::{ListImages, SetState, UploadChunk};
use flashfleet::smp::message::os::{Echo, Params, Reset};
use sim_support::{Client, hash_of, image};

/// Uploads in chunks of 128 bytes; every answer must be the offset of the next.
async fn upload(client: &mut Client, image: &[u8]) {
    for (index, chunk) in image.chunks(128).enumerate() {
        let off = u32::try_from(index * 128).unwrap();
        let len = (off == 0).then(|| u32::try_from(image.len()).unwrap());
        let answer = client.get(&UploadChunk { off, len, data: chunk, ..UploadChunk::default() }).await;
        assert_eq!(answer.off, Some(off + u32::try_from(chunk.len()).unwrap()));
    }
}

async fn reset_and_wait(client: &mut Client) {
    client.get(&Reset::default()).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
}

#[tokio::test(start_paused = true)]
async fn an_update_from_echo_to_confirmed() {
    let fleet = Fleet::new(&SimSpec::default()).unwrap();
    let device = fleet.device(0);
    let mut client = Client::open(&*fleet.connector(0)).await;
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
    reset_and_wait(&mut client).await;
    assert_eq!(device.boots(), 1);
    let list = client.get(&ListImages {}).await.images;
    assert_eq!((list[0].version.as_str(), list[0].active, list[0].confirmed), ("2.0.0", true, false));
    assert!(!device.running().unwrap().confirmed);

    client.get(&SetState { hash: None, confirm: true }).await;
    reset_and_wait(&mut client).await;
    let running = device.running().unwrap();
    assert_eq!((running.version.as_str(), running.confirmed, running.hash), ("2.0.0", true, hash_of(&new)));
    assert_eq!(device.boots(), 2);
}
