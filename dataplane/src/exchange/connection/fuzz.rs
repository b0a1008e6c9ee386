//! Fuzzing of everything that a peer can reach: decoders, the connection's state machine, the credit protocol.
//!
//! Owns: three targets, each with a budget of time ([`budget`]): any bytes into the decoders; a real conversation with
//! damage in it, into either end ([`hostile`]); correct ends under any order of events against a model ([`pair`]).
//! Run longer: `scripts/fuzz.sh SECONDS`. Left out: the control plane's RPC, sockets.

use proptest::prelude::*;

use super::*;
use crate::element::Element;
use crate::exchange::frame::Hello;
use ringflow_schemas::id::JobId;

mod budget;
mod hostile;
mod pair;

use pair::Pair;

fn key(edge: u32) -> ChannelKey {
    ChannelKey {
        job: JobId(1),
        edge,
        producer: (0, 0),
        consumer: (0, 0),
    }
}

fn connection(direction: Direction, peer: &str) -> Connection {
    let (pool, dirty) = (BufferPool::new(512), Dirty::default());
    Connection::new(0, direction, peer.to_owned(), pool, dirty)
}

/// Words that look like heads of elements, and some that do not.
fn word() -> impl Strategy<Value = u64> {
    let flags = 0u64..16;
    let length = prop_oneof![4 => 0u64..5, 4 => 0u64..200, 1 => 0u64..1 << 28];
    prop_oneof![
        4 => (flags, length, any::<u32>())
            .prop_map(|(flags, length, hash)| flags << 28 | length | u64::from(hash) << 32),
        1 => any::<u64>(),
    ]
}

#[test]
fn bytes() {
    let header = (
        any::<[u8; FRAME_HEADER_BYTES]>(),
        0..=FRAME_HEADER_BYTES,
        0u8..8,
    );
    let words = proptest::collection::vec(word(), 0..40);
    let input = (header, words, 0usize..8, any::<u8>(), 0usize..200);
    budget::run(
        "bytes",
        &input,
        |((noise, keep, kind), words, less, byte, at)| {
            let mut head = Frame::CloseChannel { channel: 1 }.encode();
            head[keep..].copy_from_slice(&noise[keep..]);
            if keep > 5 {
                head[5] = kind;
            }
            if let Ok(frame) = Frame::decode(head) {
                let again = Frame::decode(frame.encode());
                assert_eq!(again, Ok(frame), "what was understood can be said");
            }
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            let bytes = &bytes[..bytes.len().saturating_sub(less)];
            elements(bytes);
            drop(Hello::decode(bytes));
            let mut hello = Hello {
                cluster_id: "cluster".into(),
                from: ("tm-1".into(), 0),
                to: ("tm-2".into(), 1),
            }
            .encode();
            let at = at % hello.len();
            hello[at] = byte;
            drop(Hello::decode(&hello[FRAME_HEADER_BYTES..]));
        },
    );
}

/// What scanning accepts, reading reads: the same elements, to the same end. Unscanned bytes are read without a panic.
fn elements(bytes: &[u8]) {
    let (mut offset, mut steps) = (0, 0);
    while layout::next_element(bytes, &mut offset).is_some() {
        steps += 1;
        assert!(offset <= bytes.len() && steps <= bytes.len() / layout::HEAD);
    }
    let Ok(scanned) = layout::scan(bytes) else {
        return;
    };
    let (mut offset, mut records, mut controls) = (0, 0, 0);
    while let Some(element) = layout::next_element(&bytes[..scanned.bytes], &mut offset) {
        match element {
            Element::Record(_) => records += 1,
            Element::Control(_) => controls += 1,
        }
    }
    assert_eq!(
        (offset, records, controls),
        (scanned.bytes, scanned.records, scanned.controls)
    );
}

#[test]
fn credit_model() {
    let steps = proptest::collection::vec(pair::step(), 1..300);
    let stalled = proptest::collection::vec(any::<bool>(), 6);
    budget::run("credit_model", &(steps, stalled), |(steps, stalled)| {
        let mut pair = Pair::new();
        for step in &steps {
            pair.apply(step);
        }
        pair.finish(&stalled);
    });
}

#[test]
fn hostile_peer() {
    budget::run("hostile_peer", &hostile::attack(), |attack| attack.run());
}
