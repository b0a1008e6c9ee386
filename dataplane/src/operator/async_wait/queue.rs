//! The order in which results and control elements leave an async operator, pure.
//!
//! Owns: [`ElementQueue`]. It is a row of segments, each some records and the watermark behind them:
//! ```text
//!   ordered:    [r] [r] [r | wm] [r] ...      a segment for each record
//!   unordered:  [r r r | wm] [r r ...         a segment for the records between two watermarks
//! ```
//! Only the front segment gives results out, in the order in which they became ready; its control elements follow when
//! its last record is out, and then the next one is the front.
//! Invariant: what is kept is bounded by the records in it: control elements that follow each other become one
//! watermark, and idleness behind it, at most. No segment stays that is through.
//! Left out: what is done with records meanwhile.
//!
//! Source: Flink `OrderedStreamElementQueue`, `UnorderedStreamElementQueue` (its segments).

use std::collections::VecDeque;

use crate::element::{Control, Watermark};

/// Whether results may overtake each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputMode {
    /// Results leave in the order of the records that they were made from.
    Ordered,
    /// Results leave when they are ready, but never across a watermark.
    Unordered,
}

/// Number of a segment, counted from the first one that ever was.
pub(super) type SegmentNumber = u64;

#[derive(Debug)]
struct Segment<D> {
    /// Records of it that are not out, ready or not.
    records: usize,
    ready: VecDeque<D>,
    /// What follows its records: the newest watermark, then idleness.
    watermark: Option<Control>,
    idle: Option<Control>,
}

impl<D> Segment<D> {
    const fn new() -> Self {
        Self {
            records: 0,
            ready: VecDeque::new(),
            watermark: None,
            idle: None,
        }
    }

    const fn is_closed(&self) -> bool {
        self.watermark.is_some() || self.idle.is_some()
    }
}

/// What leaves next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next<'a, D> {
    /// Results of a record; [`ElementQueue::pop`] takes them out.
    Ready(&'a mut D),
    /// A control element, out of the queue with this.
    Control(Control),
}

/// Records on their way, as their places, with results `D` once they are ready, and control elements between them.
#[derive(Debug)]
pub(super) struct ElementQueue<D> {
    mode: OutputMode,
    /// Number of the front segment.
    first: SegmentNumber,
    segments: VecDeque<Segment<D>>,
    records: usize,
}

impl<D> ElementQueue<D> {
    /// Records may leave before others that came earlier.
    pub(super) fn overtakes(&self) -> bool {
        self.mode == OutputMode::Unordered
    }

    pub(super) const fn new(mode: OutputMode) -> Self {
        Self {
            mode,
            first: 0,
            segments: VecDeque::new(),
            records: 0,
        }
    }

    /// Records that are not out.
    pub(super) fn records(&self) -> usize {
        self.records
    }

    /// Neither records nor control elements are in it.
    pub(super) fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// [`ElementQueue::next`] has something.
    pub(super) fn is_ready(&self) -> bool {
        let ready = |front: &Segment<D>| front.records == 0 || !front.ready.is_empty();
        self.segments.front().is_some_and(ready)
    }

    /// A record has come: its place.
    pub(super) fn push(&mut self) -> SegmentNumber {
        let joins = |last: &Segment<D>| self.mode == OutputMode::Unordered && !last.is_closed();
        if !self.segments.back().is_some_and(joins) {
            self.segments.push_back(Segment::new());
        }
        if let Some(last) = self.segments.back_mut() {
            last.records += 1;
        }
        self.records += 1;
        self.first + self.segments.len() as u64 - 1
    }

    /// A watermark has come; false when nothing is before it, so that nothing has to be kept.
    pub(super) fn keep(&mut self, control: Control) -> bool {
        let Some(last) = self.segments.back_mut() else {
            return false;
        };
        let idles = matches!(
            control,
            Control::Watermark {
                watermark: Watermark::Idle,
                ..
            }
        );
        if idles {
            last.idle = Some(control);
        } else {
            // Whoever was idle is not any more, and a later time says all that an earlier one did.
            last.idle = None;
            last.watermark = Some(control);
        }
        true
    }

    /// A record's results are there.
    pub(super) fn complete(&mut self, place: SegmentNumber, results: D) {
        let index = usize::try_from(place - self.first).unwrap_or(usize::MAX);
        debug_assert!(index < self.segments.len(), "its record is not out");
        if let Some(segment) = self.segments.get_mut(index) {
            segment.ready.push_back(results);
        }
    }

    /// What leaves next, if it is there yet.
    pub(super) fn next(&mut self) -> Option<Next<'_, D>> {
        let front = self.segments.front_mut()?;
        if front.records == 0 {
            let control = front.watermark.take().or_else(|| front.idle.take());
            self.drop_front_if_through();
            return control.map(Next::Control);
        }
        let ready = self
            .segments
            .front_mut()
            .and_then(|front| front.ready.front_mut());
        ready.map(Next::Ready)
    }

    /// The results that [`ElementQueue::next`] showed are out.
    pub(super) fn pop(&mut self) {
        if let Some(front) = self.segments.front_mut()
            && front.ready.pop_front().is_some()
        {
            front.records -= 1;
            self.records -= 1;
            self.drop_front_if_through();
        }
    }

    fn drop_front_if_through(&mut self) {
        let through = |front: &Segment<D>| front.records == 0 && !front.is_closed();
        if self.segments.front().is_some_and(through) {
            self.segments.pop_front();
            self.first += 1;
        }
    }
}

#[cfg(test)]
mod tests;
