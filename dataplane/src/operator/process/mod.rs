//! Process functions: user code with state, timers and side outputs.
//!
//! Owns: the traits that users implement ([`ProcessFunction`], [`KeyedProcessFunction`], [`KeyedCoProcessFunction`],
//! [`KeyedBroadcastProcessFunction`]), the contexts they are given, and the operators that call them, each with its
//! operator state: [`Process`] on any stream, [`KeyedProcess`] on keyed ones.
//! Invariant: a function is called by one core only, for one record or timer at a time, and sees state of that record's or
//! timer's key. Event-time timers fire in order, before the watermark that made them due goes on.
//! Left out: processing-time timers that are open when the input ends: they do not fire, as in Flink.

mod context;
mod function;
mod keyed;
mod one_input;
mod two_inputs;
mod unkeyed;
mod with_broadcast;

pub use context::{KeyedContext, ProcessContext, RuntimeContext, Timers};
pub use function::{
    KeyedBroadcastProcessFunction, KeyedCoProcessFunction, KeyedProcessFunction, ProcessFunction,
};
pub use keyed::KeyedProcess;
pub use one_input::OneInput;
pub use two_inputs::TwoInputs;
pub use unkeyed::Process;
pub use with_broadcast::WithBroadcast;

pub use crate::state::operator_state::{BroadcastAccess, BroadcastState, BroadcastView};
