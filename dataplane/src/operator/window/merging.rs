//! Which windows of a key have become one, and where their contents are.
//!
//! Owns: [`MergingWindows`]. Contents do not move when a session grows: they stay under the window they were first put into.
//! Invariant: no two windows of a key touch; each has the contents of one window of its past.
//! Left out: what merging means for triggers and contents ([`super::operator`]).
//!
//! Source: Flink `MergingWindowSet`.

use crate::error::Result;
use crate::operator::window::TimeWindow;
use crate::state::backend::KeyedStateBackend;
use crate::state::handles::{KeyedAccess, ValueState, ValueStateDescriptor};

/// A window, and the one that its contents are under.
type Held = (TimeWindow, TimeWindow);

/// What became of a window that was added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Added {
    /// It stands alone.
    Alone,
    /// There is a window that holds it.
    Within {
        /// That window.
        window: TimeWindow,
        /// Where its contents are.
        state: TimeWindow,
    },
    /// It and others, which are in [`MergingWindows::merged`], became one.
    Merged {
        /// The new window.
        window: TimeWindow,
        /// Where its contents are.
        state: TimeWindow,
    },
}

/// The windows of one key at a time: loaded, changed, stored.
#[derive(Debug, Default)]
pub(super) struct MergingWindows {
    state: Option<ValueState<Vec<Held>>>,
    held: Vec<Held>,
    merged: Vec<Held>,
    changed: bool,
}

impl MergingWindows {
    pub(super) fn open(&mut self, state: &mut KeyedStateBackend) -> Result<()> {
        let descriptor = ValueStateDescriptor::new("ringflow.window.merging-window-set");
        self.state = Some(descriptor.register(state)?);
        Ok(())
    }

    fn handle(&self) -> ValueState<Vec<Held>> {
        self.state
            .expect("`open` is the first call and makes the handle")
    }

    /// Reads the windows of the key of `access`.
    pub(super) fn load(&mut self, access: &mut KeyedAccess<'_>) -> Result<()> {
        self.held = self.handle().value(access)?.unwrap_or_default();
        self.changed = false;
        Ok(())
    }

    /// Writes them back, if they have changed.
    pub(super) fn store(&mut self, access: &mut KeyedAccess<'_>) -> Result<()> {
        if !std::mem::take(&mut self.changed) {
            return Ok(());
        }
        if self.held.is_empty() {
            return self.handle().clear(access);
        }
        self.handle().update(access, &self.held)
    }

    /// Where a window's contents are.
    pub(super) fn state_of(&self, window: TimeWindow) -> Option<TimeWindow> {
        let held = self.held.iter().find(|(held, _)| *held == window);
        held.map(|(_, state)| *state)
    }

    /// There is a window that `window` would be part of.
    pub(super) fn touches_any(&self, window: TimeWindow) -> bool {
        self.held.iter().any(|(held, _)| held.touches(&window))
    }

    /// Adds a window.
    pub(super) fn add(&mut self, window: TimeWindow) -> Added {
        self.merged.clear();
        let touching = self.held.iter().filter(|(held, _)| held.touches(&window));
        self.merged.extend(touching);
        let Some((first, state)) = self.merged.first().copied() else {
            self.held.push((window, window));
            self.changed = true;
            return Added::Alone;
        };
        let all = self.merged.iter();
        let cover = all.fold(window, |cover, (held, _)| cover.cover(held));
        if cover == first {
            return Added::Within {
                window: cover,
                state,
            };
        }
        self.held.retain(|(held, _)| !held.touches(&window));
        self.held.push((cover, state));
        self.changed = true;
        Added::Merged {
            window: cover,
            state,
        }
    }

    /// The windows that the last [`MergingWindows::add`] made one, with where their contents are.
    pub(super) fn merged(&self) -> &[Held] {
        &self.merged
    }

    /// Takes a window out.
    pub(super) fn retire(&mut self, window: TimeWindow) {
        self.held.retain(|(held, _)| *held != window);
        self.changed = true;
    }
}
