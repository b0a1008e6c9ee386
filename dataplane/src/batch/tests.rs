use super::*;
use crate::element::{StopMode, Watermark};
use crate::limits::RECORD_BYTES_MAX;
use crate::record::{EventTime, RowKind};
use proptest::prelude::*;

fn record(bytes: &[u8], time: i64) -> RecordRef<'_> {
    RecordRef {
        bytes,
        timestamp: EventTime(time),
        key_hash: 0,
        kind: RowKind::Insert,
        origin_ns: 9,
    }
}

fn elements(bytes: &[u8]) -> (Vec<Element<'_>>, usize) {
    let mut offset = 0;
    let elements = std::iter::from_fn(|| layout::next_element(bytes, &mut offset)).collect();
    (elements, offset)
}

#[test]
fn elements_come_back_in_order_and_watermarks_coalesce() {
    let mut buffer = BufferPool::new(1).take().expect("one free");
    let at = |time| Control::Watermark {
        watermark: Watermark::At(EventTime(time)),
        origin_ns: 1,
    };
    assert!(buffer.push_record(&record(b"abc", 5), 77));
    let idle = Control::Watermark {
        watermark: Watermark::Idle,
        origin_ns: 0,
    };
    assert!(buffer.push_control(at(4)) && buffer.push_control(at(5)) && buffer.push_control(idle));
    assert!(buffer.push_control(idle) && buffer.push_control(at(6)));
    assert!(buffer.push_control(Control::EndOfInput(StopMode::Drain)));
    let scanned = layout::scan(buffer.as_slice()).expect("written by us");
    assert_eq!(
        (scanned.bytes, scanned.records, scanned.controls),
        (buffer.bytes(), 1, 2)
    );
    let (elements, end) = elements(buffer.as_slice());
    assert_eq!((elements.len(), end), (3, buffer.bytes()));
    let Element::Record(first) = elements[0] else {
        panic!("a record first")
    };
    assert_eq!(
        (
            first.bytes,
            first.timestamp,
            first.key_hash,
            first.origin_ns
        ),
        (&b"abc"[..], EventTime(5), 77, 9)
    );
    let controls = [at(6), Control::EndOfInput(StopMode::Drain)];
    for (element, expected) in elements[1..].iter().zip(controls) {
        assert!(matches!(element, Element::Control(control) if *control == expected));
    }
}

#[test]
fn what_a_record_means_travels_with_it_and_only_insertions_make_runs() {
    let mut buffer = BufferPool::new(1).take().expect("one free");
    let kinds: Vec<RowKind> = (0..8).map(RowKind::of).collect();
    for kind in kinds.iter().chain(&[RowKind::Insert; 3]) {
        let plain = RecordRef {
            kind: *kind,
            origin_ns: 0,
            ..record(&[1; 8], 5)
        };
        assert!(buffer.push_record(&plain, 3));
    }
    layout::scan(buffer.as_slice()).expect("written by us");
    let (mut offset, mut read, mut runs) = (0, Vec::new(), Vec::new());
    while let Some(piece) = layout::next_piece(buffer.as_slice(), &mut offset, 64) {
        match piece {
            layout::Piece::Run(run) => {
                runs.push(run.len());
                read.extend(run.records().map(|record| record.kind));
            }
            layout::Piece::Record(record) => read.push(record.kind),
            layout::Piece::Control(control) => panic!("{control:?}"),
        }
    }
    assert_eq!(read[..8], kinds);
    assert_eq!((read.len(), runs), (11, vec![1, 1, 3]));
}

#[test]
fn a_record_costs_what_it_carries() {
    let mut buffer = Buffer::exactly(200);
    let mut plain = record(&[7; 24], 0);
    (plain.timestamp, plain.origin_ns) = (EventTime::NONE, 0);
    assert!(buffer.push_record(&plain, 5));
    assert_eq!(buffer.bytes(), 32);
    let timed = RecordRef {
        timestamp: EventTime(3),
        ..plain
    };
    assert!(buffer.push_record(&timed, 5));
    assert_eq!(buffer.bytes(), 32 + 40);
    assert!(buffer.push_record(&record(&[7; 24], 3), 5));
    assert_eq!(buffer.bytes(), 32 + 40 + 48);
    let (elements, _) = elements(buffer.as_slice());
    let times = elements.iter().map(|element| match element {
        Element::Record(record) => (record.timestamp, record.origin_ns, record.key_hash),
        Element::Control(_) => panic!("records only"),
    });
    let expected = [(EventTime::NONE, 0), (EventTime(3), 0), (EventTime(3), 9)];
    assert!(times.eq(expected.map(|(time, origin)| (time, origin, 5))));
}

#[test]
fn a_full_buffer_refuses_and_keeps_what_it_has() {
    let mut buffer = BufferPool::new(1).take().expect("one free");
    let mut pushed = 0;
    while buffer.push_record(&record(&[1; 1000], 1), 0) {
        pushed += 1;
    }
    assert_eq!(pushed, Buffer::CAPACITY / Buffer::record_bytes(1000));
    assert_eq!(elements(buffer.as_slice()).0.len(), pushed);
    let header = [0xab; FRAME_HEADER_BYTES];
    let bytes = buffer.bytes();
    buffer.put_header(header);
    let framed = buffer.piece();
    assert_eq!(framed.len(), FRAME_HEADER_BYTES + bytes);
    assert_eq!(framed[..FRAME_HEADER_BYTES], header);
}

#[test]
fn a_pool_hands_out_its_capacity_and_takes_buffers_back() {
    let pool = BufferPool::new(2);
    let (a, b) = (pool.take(), pool.take());
    assert!(a.is_some() && b.is_some() && pool.take().is_none());
    drop(a);
    assert_eq!(pool.used(), 1);
    assert!(pool.take().is_some());
}

#[test]
#[allow(
    clippy::disallowed_methods,
    reason = "another thread is what is tested"
)]
fn a_pool_gives_its_owner_the_warmest_and_takes_from_everybody() {
    let pool = BufferPool::new(3);
    assert!(pool.own());
    let (mut first, second) = (pool.take().expect("free"), pool.take().expect("free"));
    assert!(first.push_record(&record(b"here", 1), 0));
    let address = first.as_slice().as_ptr();
    drop((second, first));
    let warmest = pool.take().expect("free");
    assert_eq!(warmest.storage()[FRAME_HEADER_BYTES..].as_ptr(), address);
    let others = pool.clone();
    let returned = std::thread::spawn(move || {
        assert!(!others.own(), "it has an owner");
        drop(warmest);
        let mine = others.take();
        (mine.is_some(), others.used())
    });
    assert_eq!(returned.join().expect("no panic"), (true, 1));
    assert_eq!(pool.used(), 0);
    let all: Vec<_> = std::iter::from_fn(|| pool.take()).collect();
    assert_eq!((all.len(), pool.used()), (3, 3));
}

#[test]
fn heads_of_no_element_are_refused() {
    let too_long = u64::try_from(RECORD_BYTES_MAX + 1).expect("small");
    for (head, text) in [
        (too_long, "no element starts at byte 0"),
        (1 << 30, "no element starts at byte 0"),
        (1 << 31, "unknown control element 0 at byte 0"),
        (1 << 31 | 9, "unknown control element 9 at byte 0"),
    ] {
        let error = layout::scan(&head.to_le_bytes()).expect_err("not an element");
        assert!(error.to_string().starts_with(text), "{error}");
    }
}

proptest! {
    #[test]
    fn any_bytes_scan_or_are_refused_and_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        elements(&bytes);
        if let Ok(scanned) = layout::scan(&bytes) {
            let (elements, end) = elements(&bytes[..scanned.bytes]);
            prop_assert_eq!(end, scanned.bytes);
            prop_assert_eq!(elements.len(), (scanned.records + scanned.controls) as usize);
        }
    }

    #[test]
    fn what_was_pushed_is_what_is_read(payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..50), cut in any::<prop::sample::Index>()) {
        let mut buffer = Buffer::on_heap(0);
        for payload in &payloads {
            prop_assert!(buffer.push_record(&record(payload, 1), 3));
        }
        let bytes = buffer.as_slice();
        let (read, end) = elements(bytes);
        prop_assert_eq!(end, bytes.len());
        prop_assert_eq!(read.len(), payloads.len());
        for (element, payload) in read.iter().zip(&payloads) {
            let Element::Record(read) = element else { panic!("a record") };
            prop_assert_eq!(read.bytes, &payload[..]);
        }
        // However the bytes are cut, the whole elements before the cut are found.
        let cut = &bytes[..cut.index(bytes.len() + 1)];
        let whole = layout::scan(cut).expect("a beginning of good bytes");
        prop_assert!(whole.bytes <= cut.len());
        prop_assert_eq!(elements(&cut[..whole.bytes]).0.len(), whole.records as usize);
        prop_assert!(layout::next_element(cut, &mut whole.bytes.clone()).is_none());
    }
}

#[test]
fn watermarks_and_idleness_in_turn_take_no_room() {
    let mut buffer = Buffer::exactly(64);
    let control = |watermark| Control::Watermark {
        watermark,
        origin_ns: 0,
    };
    for time in 0..1_000 {
        assert!(buffer.push_control(control(Watermark::At(EventTime(time)))));
        assert!(buffer.push_control(control(Watermark::Idle)));
    }
    let (elements, _) = elements(buffer.as_slice());
    let expected = [Watermark::At(EventTime(999)), Watermark::Idle].map(control);
    assert_eq!(elements.len(), 2);
    for (element, expected) in elements.iter().zip(expected) {
        assert!(matches!(element, Element::Control(control) if *control == expected));
    }
}
