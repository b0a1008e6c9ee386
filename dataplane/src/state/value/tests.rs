//! What is written is read back, and no bytes make a reader panic.

use std::fmt::Debug;

use proptest::prelude::*;

use super::*;
use crate::operator::window::WindowResult;

#[derive(Debug, Clone, PartialEq)]
struct Sample {
    sum: u64,
    names: Vec<String>,
    last: Option<EventTime>,
}
plain_value!(Sample { sum, names, last });

#[derive(Debug, Clone, PartialEq)]
struct Fixed {
    window: TimeWindow,
    flag: bool,
    pair: (u8, i16),
    array: [u32; 3],
}
plain_value!(Fixed {
    window,
    flag,
    pair,
    array
});

#[derive(Debug, Clone, PartialEq)]
struct Nothing {}
plain_value!(Nothing {});

fn encoded<T: PlainValue>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    value.encode(&mut bytes);
    bytes
}

/// Every cut is an error, and so is a byte more.
fn round<T: PlainValue + PartialEq + Debug>(value: &T) {
    let mut bytes = encoded(value);
    assert_eq!(decode_whole::<T>(&bytes).as_ref(), Ok(value));
    if let Some(fixed) = T::FIXED_BYTES {
        assert_eq!(bytes.len(), fixed, "{value:?}");
    }
    for cut in 0..bytes.len() {
        assert!(
            matches!(decode_whole::<T>(&bytes[..cut]), Err(Corrupt::Short { .. })),
            "{value:?} of {cut} bytes"
        );
    }
    bytes.push(0);
    assert_eq!(decode_whole::<T>(&bytes), Err(Corrupt::Rest { rest: 1 }));
}

#[test]
fn values_are_read_back() {
    round(&(1u8, 2u16, 3u32, 4u64, 5u128, 6usize));
    round(&(-1i8, -2i16, -3i32, -4i64, -5i128, -6isize));
    round(&(1.5f32, -0.0f64, true, 'ß', (), (7u8,)));
    round(&vec![
        String::from("a"),
        String::new(),
        String::from("größe"),
    ]);
    round(&(vec![1u8, 2, 3], Box::<[u8]>::from([4, 5])));
    round(&Some(vec![None, Some(9u64)]));
    round(&None::<u64>);
    round(&vec![(); 3]);
    round(&[[1u16, 2], [3, 4]]);
    round(&[const { String::new() }; 2]);
    round(&Nothing {});
    round(&Fixed {
        window: TimeWindow::new(-5, 5),
        flag: true,
        pair: (1, -2),
        array: [1, 2, 3],
    });
    round(&Sample {
        sum: u64::MAX,
        names: vec!["x".into()],
        last: Some(EventTime::NONE),
    });
}

#[test]
fn lengths_are_known_where_they_are_fixed() {
    assert_eq!(Fixed::FIXED_BYTES, Some(16 + 1 + 3 + 12));
    assert_eq!(Sample::FIXED_BYTES, None);
    assert_eq!(Nothing::FIXED_BYTES, Some(0));
    assert_eq!(<(u64, [f64; 4])>::FIXED_BYTES, Some(40));
    assert_eq!(<(u64, Option<u8>)>::FIXED_BYTES, None);
}

#[test]
fn the_layout_is_little_endian_without_gaps() {
    let value = (0x0102u16, String::from("ab"), Some(3u8), false);
    assert_eq!(encoded(&value), [2, 1, 2, 0, 0, 0, b'a', b'b', 1, 3, 0]);
}

#[test]
fn bytes_of_no_value_are_refused_and_named() {
    let refused = |corrupt: Corrupt, text: &str| {
        let message = Error::from(corrupt).to_string();
        assert!(message.contains(text), "{message}");
    };
    refused(
        decode_whole::<bool>(&[2]).expect_err("no bool"),
        "2, which is no bool",
    );
    refused(
        decode_whole::<char>(&[0, 0xd8, 0, 0]).expect_err("a surrogate"),
        "55296, which is no char",
    );
    refused(
        decode_whole::<Option<u8>>(&[7, 1]).expect_err("no tag"),
        "which is no bool",
    );
    refused(
        decode_whole::<String>(&[1, 0, 0, 0, 0xff]).expect_err("no text"),
        "UTF-8",
    );
    // A damaged length reserves nothing, and ends at once.
    let huge = [0xff, 0xff, 0xff, 0xff, 1];
    refused(
        decode_whole::<Vec<u64>>(&huge).expect_err("too short"),
        "before the value does",
    );
    refused(
        decode_whole::<Vec<String>>(&huge).expect_err("too short"),
        "before the value does",
    );
}

type Event = WindowResult<u64, u64>;

fn record(bytes: &[u8], timestamp: i64) -> RecordRef<'_> {
    RecordRef {
        bytes,
        timestamp: EventTime(timestamp),
        key_hash: 3,
        kind: RowKind::Insert,
        origin_ns: 4,
    }
}

#[test]
fn a_stored_record_keeps_its_event_time() {
    let mut bytes = Vec::new();
    Event::encode(&1, &2, TimeWindow::new(3, 4), &mut bytes);
    let given = RecordOf::<Event>::verified(record(&bytes, -9)).expect("an event");
    let mut stored = Vec::new();
    Stored::<Event>::write(&given, &mut stored);
    assert_eq!(stored.len(), Stored::<Event>::HEAD_BYTES + bytes.len());
    let row = Stored::<Event>::view(&stored).expect("as written");
    assert_eq!(
        (row.timestamp(), *row.key(), *row.value()),
        (EventTime(-9), 1, 2)
    );

    for cut in 0..stored.len() {
        assert!(
            Stored::<Event>::view(&stored[..cut]).is_err(),
            "{cut} bytes"
        );
    }
    stored[8] = 9;
    assert!(Stored::<Event>::view(&stored).is_err(), "no row kind");
    assert!(RecordOf::<Event>::verified(record(&bytes[1..], 0)).is_err());
}

proptest! {
    #[test]
    fn random_bytes_give_a_value_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        // Whatever comes out, it is written as it was read.
        if let Ok(value) = decode_whole::<Sample>(&bytes) {
            prop_assert_eq!(encoded(&value), bytes.clone());
        }
        if let Ok(value) = decode_whole::<Vec<Option<(char, Box<[u8]>)>>>(&bytes) {
            prop_assert_eq!(encoded(&value), bytes.clone());
        }
        if let Ok(value) = decode_whole::<[(bool, u16); 4]>(&bytes) {
            prop_assert_eq!(encoded(&value), bytes.clone());
        }
        prop_assert!(Stored::<Event>::view(&bytes).is_err() || bytes.len() == 48);
    }
}
