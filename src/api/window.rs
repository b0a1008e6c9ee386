//! Windows: which there are, when they fire, what they keep.
//!
//! Owns: nothing; the names that programs use for windows, in one place. Sizes are checked when the job is executed.

pub use ringflow_dataplane::operator::window::assigner::{
    GlobalWindows, SlidingEventTimeWindows, SlidingProcessingTimeWindows, TumblingEventTimeWindows,
    TumblingProcessingTimeWindows, WindowAssigner,
};
pub use ringflow_dataplane::operator::window::evictor::{
    CountEvictor, DeltaEvictor, EvictableElements, Evictor, EvictorContext, TimeEvictor,
};
pub use ringflow_dataplane::operator::window::function::{
    Aggregated, Elements, ProcessWindowFunction, WindowContext, WindowElements,
};
pub use ringflow_dataplane::operator::window::session::{
    EventTimeSessionWindows, ProcessingTimeSessionWindows,
};
pub use ringflow_dataplane::operator::window::trigger::{
    ContinuousEventTimeTrigger, ContinuousProcessingTimeTrigger, CountTrigger, DeltaTrigger,
    EventTimeTrigger, MergeContext, NeverTrigger, ProcessingTimeTrigger, PurgingTrigger, Trigger,
    TriggerContext, TriggerResult,
};
pub use ringflow_dataplane::operator::window::{
    AggregateFunction, Count, TimeWindow, WindowResult,
};
