use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::element::{Control, Watermark};
use crate::operator::chain::{Captured, Chain, ChainNode, Signal, test_context};
use crate::record::RowKind;

/// A record of one key: 8 bytes.
#[derive(Debug, Clone, Copy)]
struct Key(u64);

// SAFETY: any 8 bytes are a key.
unsafe impl Record for Key {
    type View<'a> = Self;
    const NAME: &'static str = "Key";
    fn verify(bytes: &[u8]) -> Result<(), String> {
        (bytes.len() == 8)
            .then_some(())
            .ok_or_else(|| "8 bytes".to_owned())
    }
    unsafe fn view(bytes: &[u8]) -> Self {
        Self(bytemuck::pod_read_unaligned(bytes))
    }
}

fn chain(size: u64, slide: u64) -> (Chain, Rc<SubtaskMetrics>) {
    let windows = SlidingWindows::new(Duration::from_millis(size), Duration::from_millis(slide), 0)
        .expect("legal");
    let operator = WindowOperator::<Key, u64, Count, WindowResult<u64, u64>, _, _>::new(
        windows,
        |row: Row<'_, Key>| row.0,
        Count,
        |key: &u64, count: u64, window, out: &mut Collector<'_, WindowResult<u64, u64>>| {
            out.collect_window_result(key, &count, window);
        },
    );
    let metrics = Rc::new(SubtaskMetrics::default());
    let node = ChainNode::new("window", Box::new(operator), Output::Capture(Vec::new()));
    let mut chain = Chain::new(Output::Chained(Box::new(node)));
    chain
        .open(&test_context(Rc::clone(&metrics)))
        .expect("opens");
    (chain, metrics)
}

fn rows(chain: &Chain) -> Vec<(i64, i64, u64, u64)> {
    let row = |captured: &Captured| match captured {
        Captured::Record(bytes, time) => {
            // SAFETY: the window operator above writes window results.
            let result = unsafe { WindowResult::<u64, u64>::view(bytes) };
            assert_eq!(*time, result.window().max_timestamp());
            Some((
                result.window().start(),
                result.window().end(),
                *result.key(),
                *result.value(),
            ))
        }
        Captured::Signal(_) | Captured::Change(..) => None,
    };
    let mut rows: Vec<_> = chain.captured().iter().filter_map(row).collect();
    rows.sort_unstable();
    rows
}

fn send(chain: &mut Chain, key: u64, time: i64) {
    let bytes = key.to_le_bytes();
    let record = RecordRef {
        bytes: &bytes,
        timestamp: EventTime(time),
        key_hash: 0,
        kind: RowKind::Insert,
        origin_ns: 0,
    };
    chain.on_record(&record).expect("a record with a timestamp");
}

fn watermark(chain: &mut Chain, time: i64) {
    let signal = Control::Watermark {
        watermark: Watermark::At(EventTime(time)),
        origin_ns: 0,
    };
    let signal = Signal::Control(signal);
    assert_eq!(chain.on_signal(signal).expect("fires"), Progress::Done);
}

#[test]
fn a_window_fires_when_the_watermark_reaches_its_last_millisecond() {
    let (mut chain, metrics) = chain(10, 10);
    send(&mut chain, 1, 0);
    send(&mut chain, 1, 9);
    watermark(&mut chain, 8);
    assert_eq!(rows(&chain), []);
    watermark(&mut chain, 9);
    assert_eq!(rows(&chain), [(0, 10, 1, 2)]);
    send(&mut chain, 1, 9);
    assert_eq!(metrics.late_records_dropped.get(), 1);
    watermark(&mut chain, i64::MAX);
    assert_eq!(rows(&chain).len(), 1);
}

#[test]
fn a_record_without_a_timestamp_is_an_error_that_says_what_to_do() {
    let (mut chain, _) = chain(10, 10);
    let record = RecordRef {
        bytes: &[0; 8],
        timestamp: EventTime::NONE,
        key_hash: 0,
        kind: RowKind::Insert,
        origin_ns: 0,
    };
    let error = chain
        .on_record(&record)
        .expect_err("no timestamp")
        .to_string();
    assert!(
        error.contains("operator `window`") && error.contains("timestamp assigner"),
        "{error}"
    );
}

proptest! {
    /// Windows of a random stream with late records equal those of a naive model that keeps every record.
    #[test]
    fn windows_equal_a_naive_model(
        shape in prop_oneof![Just((10u64, 10u64)), Just((10, 2)), Just((10, 3)), Just((5, 20))],
        steps in proptest::collection::vec((0u64..4, -60i64..60, any::<bool>()), 0..120),
    ) {
        let (size, slide) = (i64::try_from(shape.0).expect("small"), i64::try_from(shape.1).expect("small"));
        let (mut chain, metrics) = chain(shape.0, shape.1);
        let (mut model, mut fired, mut late, mut now) = (BTreeMap::new(), Vec::new(), 0, i64::MIN);
        let mut fire = |model: &mut BTreeMap<(i64, u64), u64>, now: i64| {
            let due: Vec<_> = model.iter().filter(|((start, _), _)| start + size - 1 <= now).map(|(k, v)| (*k, *v)).collect();
            for ((start, key), count) in due {
                model.remove(&(start, key));
                fired.push((start, start + size, key, count));
            }
        };
        for (key, time, advance) in steps {
            if advance {
                now = now.max(time);
                watermark(&mut chain, time.max(now));
                fire(&mut model, now);
            } else {
                let mut taken = false;
                for start in (time - size + 1)..=time {
                    if start.rem_euclid(slide) == 0 && start + size - 1 > now {
                        *model.entry((start, key)).or_insert(0) += 1;
                        taken = true;
                    }
                }
                late += u64::from(!taken && time <= now);
                send(&mut chain, key, time);
            }
        }
        watermark(&mut chain, i64::MAX);
        fire(&mut model, i64::MAX - 1);
        fired.sort_unstable();
        prop_assert_eq!(rows(&chain), fired);
        prop_assert_eq!(metrics.late_records_dropped.get(), late);
    }
}
