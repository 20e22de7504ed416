//! Console framing and message codec, in nanoseconds per message. Criterion compares with the run before.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use flashfleet::smp::RawRequest;
use flashfleet::smp::console::{DEFAULT_LINE_LENGTH, Decoder, encode};
use flashfleet::smp::message::image::UploadChunk;

fn codec(criterion: &mut Criterion) {
    let data = [0x5a_u8; 2000];
    let chunk = UploadChunk { off: 4096, data: &data, ..UploadChunk::default() };
    let message = RawRequest::new(&chunk).expect("a message").encode(7);
    let wire = encode(&message, DEFAULT_LINE_LENGTH);
    let mut group = criterion.benchmark_group("codec");
    group.throughput(Throughput::Bytes(message.len() as u64));
    group.bench_function("upload chunk to message", |bench| {
        bench.iter(|| RawRequest::new(black_box(&chunk)).expect("a message").encode(7));
    });
    group.bench_function("message to lines", |bench| {
        bench.iter(|| encode(black_box(&message), DEFAULT_LINE_LENGTH))
    });
    group.bench_function("lines to message", |bench| {
        let mut decoder = Decoder::new();
        bench.iter(|| decoder.push(black_box(&wire)));
    });
    group.finish();
}

criterion_group!(benches, codec);
criterion_main!(benches);
