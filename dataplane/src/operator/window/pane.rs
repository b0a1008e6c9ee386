//! The state of one pane: an accumulator per key.
//!
//! Owns: [`Pane`], [`KeyTable`] and its hasher. Invariant: a key is there once per pane.
//! Left out: snapshots; the compact table per key group comes with checkpoints.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Accumulators by key.
pub type KeyTable<K, V> = HashMap<K, V, BuildHasherDefault<KeyHasher>>;

/// A piece of event time that belongs to the same windows throughout.
#[derive(Debug)]
pub struct Pane<K, V> {
    /// Its first millisecond.
    pub start: i64,
    /// What it holds.
    pub table: KeyTable<K, V>,
}

/// A fast hash for keys that already passed the edge's key-group arithmetic: fold and multiply, not for hostile keys that
/// know the constant (they can slow one key group down, no more).
///
/// Source: the multiplier is 2^64 / golden ratio, Knuth 6.4.
#[derive(Debug, Default, Clone, Copy)]
pub struct KeyHasher(u64);

const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        // The table takes its bits from both ends of the word.
        self.0 ^ (self.0 >> 32)
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(23) ^ word).wrapping_mul(MULTIPLIER);
    }

    fn write_u32(&mut self, word: u32) {
        self.write_u64(u64::from(word));
    }

    fn write_u8(&mut self, word: u8) {
        self.write_u64(u64::from(word));
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }
}
