//! A job graph as Flink's plan JSON.
//!
//! Owns: the shape of `/jobs/:id/plan`, and [`plan_json`], which shows it before anything is submitted.
//! Left out: the stream graph behind it.
//!
//! Source: Flink `JsonPlanGenerator`, `JobPlanInfo`.

use serde_json::{Value, json};

use super::StreamGraph;
use super::job_graph::{JobGraph, JobVertex};
use crate::submit::{self, Rejected};

/// The plan that `graph` would get on a cluster with `slots` free slots (`None`: as many as it likes).
///
/// Shape: `{"plan": {...}}` as `/jobs/:id/plan`, the job id all zeros, and `"warnings"`.
///
/// # Errors
/// The graph would be refused at submission, for these reasons.
pub fn plan_json(graph: &StreamGraph, slots: Option<u32>) -> Result<Value, Rejected> {
    let plan = submit::plan(graph, slots)?;
    let mut value = job_plan(&format!("{:032x}", 0), &graph.name, &plan.job_graph);
    value["warnings"] = json!(plan.warnings);
    Ok(value)
}

/// `{"plan": {...}}`.
pub(crate) fn job_plan(job: &str, name: &str, graph: &JobGraph) -> Value {
    let nodes: Vec<Value> = graph
        .vertices
        .iter()
        .map(|vertex| node(graph, vertex))
        .collect();
    json!({ "plan": { "jid": job, "name": name, "type": "STREAMING", "nodes": nodes } })
}

fn node(graph: &JobGraph, vertex: &JobVertex) -> Value {
    let inputs: Vec<Value> = vertex
        .inputs
        .iter()
        .enumerate()
        .map(|(number, &edge)| {
            let edge = &graph.edges[edge];
            json!({
                "num": number,
                "id": graph.vertices[edge.producer as usize].id.to_string(),
                "ship_strategy": edge.partitioner.name(),
                "exchange": "pipelined_bounded",
            })
        })
        .collect();
    let mut node = json!({
        "id": vertex.id.to_string(),
        "parallelism": vertex.parallelism,
        "operator": "",
        "operator_strategy": "",
        "description": vertex.name,
        "optimizer_properties": {},
    });
    if !inputs.is_empty() {
        node["inputs"] = Value::Array(inputs);
    }
    node
}
