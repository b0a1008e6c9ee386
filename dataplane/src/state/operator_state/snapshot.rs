//! The operator state of one subtask at one moment, as bytes.
//!
//! Owns: [`OperatorStateSnapshot`], [`NamedState`], [`Redistribution`], and their layout:
//! ```text
//! | "rfos" 4 | version 2 | count of states 4 | each state |
//! state: | name | redistribution 1 | type | count of items 4 | each item: length 4, bytes |
//! texts are their length in 4 bytes and UTF-8; numbers are little endian
//! ```
//! Invariant: what `encode` wrote `decode` reads back, whole; any other bytes are an error that says what is wrong.
//! Left out: where the bytes are kept; a checksum, which belongs to what keeps them.

use std::fmt;

use crate::error::{Error, Result};
use crate::state::value::{Corrupt, PlainValue, decode_whole};

const MAGIC: [u8; 4] = *b"rfos";
/// Grows when the layout changes; older ones are read as long as somebody may have them.
const VERSION: u16 = 1;

/// How the items of a state come to the subtasks that restore it.
///
/// Source: Flink `OperatorStateHandle.Mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Redistribution {
    /// Each item to one subtask: all of them are dealt out evenly (Flink's SPLIT_DISTRIBUTE).
    Split,
    /// All items to every subtask.
    Union,
    /// Every subtask had all of it: each takes one whole copy.
    Broadcast,
}

impl fmt::Display for Redistribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Split => "list state",
            Self::Union => "union list state",
            Self::Broadcast => "broadcast state",
        })
    }
}

impl PlainValue for Redistribution {
    const FIXED_BYTES: Option<usize> = Some(1);
    fn encode(&self, out: &mut Vec<u8>) {
        let number: u8 = match self {
            Self::Split => 0,
            Self::Union => 1,
            Self::Broadcast => 2,
        };
        number.encode(out);
    }
    fn decode(from: &mut &[u8]) -> Result<Self, Corrupt> {
        match u8::decode(from)? {
            0 => Ok(Self::Split),
            1 => Ok(Self::Union),
            2 => Ok(Self::Broadcast),
            other => Err(Corrupt::Invalid {
                expected: "redistribution",
                found: other.to_string(),
            }),
        }
    }
}

/// One state of one subtask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedState {
    /// Its name: unique in the operator.
    pub name: String,
    /// How it is dealt out again.
    pub redistribution: Redistribution,
    /// The type of its items, by its path in Rust.
    pub type_name: String,
    /// The items, in order. One of broadcast state is the map key's bytes, with their length before them, and the
    /// value's.
    pub items: Vec<Vec<u8>>,
}
crate::plain_value!(NamedState {
    name,
    redistribution,
    type_name,
    items
});

/// All operator state of one operator in one subtask.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OperatorStateSnapshot {
    /// The states. No two have one name.
    pub states: Vec<NamedState>,
}

impl OperatorStateSnapshot {
    /// The snapshot as bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        VERSION.encode(&mut bytes);
        self.states.encode(&mut bytes);
        bytes
    }

    /// Reads a snapshot from bytes of any origin.
    ///
    /// # Errors
    /// They are no snapshot, one of a newer version, or damaged.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let Some((MAGIC, mut rest)) = bytes.split_first_chunk().map(|(head, rest)| (*head, rest))
        else {
            return Err(unreadable("it does not begin as one"));
        };
        let version = u16::decode(&mut rest).map_err(unreadable)?;
        if version != VERSION {
            return Err(unreadable(format!(
                "it is of version {version}, and this ringflow reads version {VERSION}: restore it with the ringflow that \
                 wrote it, or a newer one"
            )));
        }
        let states: Vec<NamedState> = decode_whole(rest).map_err(unreadable)?;
        let mut names: Vec<&str> = states.iter().map(|state| state.name.as_str()).collect();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(unreadable(format!("it holds `{}` twice", twice[0])));
        }
        Ok(Self { states })
    }

    /// The state of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&NamedState> {
        self.states.iter().find(|state| state.name == name)
    }
}

#[cold]
fn unreadable(why: impl fmt::Display) -> Error {
    Error::operator(format!(
        "a snapshot of operator state cannot be read: {why}"
    ))
}
