//! `/taskmanagers` and `/taskmanagers/:id`.
//!
//! Heaps, garbage collectors and the like do not exist here: their fields are 0, so that Flink's clients find them.

use serde_json::{Value, json};

use ringflow_schemas::network::BUFFER_BYTES;

use super::metrics::Buffers;
use crate::cluster::TaskManager;
use crate::engine::Engine;

pub(crate) fn list(engine: &Engine) -> Value {
    let mut members: Vec<&TaskManager> = engine.cluster.iter().map(|(_, member)| member).collect();
    members.sort_by(|a, b| a.address.id.cmp(&b.address.id));
    let members: Vec<Value> = members.into_iter().map(one).collect();
    json!({ "taskmanagers": members })
}

pub(crate) fn details(engine: &Engine, id: &str) -> Option<Value> {
    let (_, member) = engine.cluster.find(id)?;
    let mut details = one(member);
    let allocated: Vec<Value> = member
        .slots
        .iter()
        .filter_map(|slot| slot.job())
        .map(|job| json!({ "jobId": job.to_string(), "resource": resource(1.0) }))
        .collect();
    details["allocatedSlots"] = Value::Array(allocated);
    details["metrics"] = metrics(&Buffers::of(member));
    Some(details)
}

fn one(member: &TaskManager) -> Value {
    let registration = &member.registration;
    let slots: Vec<Value> = member
        .slots
        .iter()
        .map(|slot| json!({ "slot": slot.slot, "core": slot.core, "jobId": slot.job().map(|job| job.to_string()) }))
        .collect();
    let count = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    json!({
        "id": &*member.address.id,
        "path": member.address.endpoint(),
        "dataPort": member.address.data_ports.first().copied().unwrap_or(0),
        "jmxPort": -1,
        // The name is Flink's; so is the meaning: the moment of the last sign of life.
        "timeSinceLastHeartbeat": member.heard_at.0,
        "slotsNumber": member.slots.len(),
        "freeSlots": member.free_slots(),
        "totalResource": resource(count(member.address.data_ports.len())),
        "freeResource": resource(count(member.free_slots())),
        "hardware": {
            "cpuCores": registration.cpu_cores,
            "physicalMemory": registration.physical_memory_bytes,
            "freeMemory": member.free_memory_bytes,
            "managedMemory": 0,
        },
        "memoryConfiguration": {
            "frameworkHeap": 0,
            "taskHeap": 0,
            "frameworkOffHeap": 0,
            "taskOffHeap": 0,
            "networkMemory": registration.network_memory_bytes,
            "managedMemory": 0,
            "jvmMetaspace": 0,
            "jvmOverhead": 0,
            "totalFlinkMemory": registration.network_memory_bytes,
            "totalProcessMemory": registration.network_memory_bytes,
        },
        "blocked": false,
        "pid": registration.pid,
        "version": registration.version,
        "dataPorts": registration.data_ports,
        "coreCpus": registration.core_cpus,
        "processCpuNs": member.process_cpu_ns,
        "slots": slots,
    })
}

fn resource(cpu_cores: f64) -> Value {
    json!({
        "cpuCores": cpu_cores,
        "taskHeapMemory": 0,
        "taskOffHeapMemory": 0,
        "managedMemory": 0,
        "networkMemory": 0,
        "extendedResources": {},
    })
}

fn metrics(buffers: &Buffers) -> Value {
    let mut metrics: serde_json::Map<String, Value> = [
        "heapUsed",
        "heapCommitted",
        "heapMax",
        "nonHeapUsed",
        "nonHeapCommitted",
        "nonHeapMax",
        "directCount",
        "directUsed",
        "directMax",
        "mappedCount",
        "mappedUsed",
        "mappedMax",
    ]
    .into_iter()
    .map(|name| (name.to_owned(), json!(0)))
    .collect();
    for (name, segments) in [
        ("Available", buffers.available()),
        ("Used", buffers.used),
        ("Total", buffers.total),
    ] {
        let bytes = segments * BUFFER_BYTES as u64;
        metrics.insert(format!("nettyShuffleMemorySegments{name}"), json!(segments));
        metrics.insert(format!("nettyShuffleMemory{name}"), json!(bytes));
    }
    metrics.insert("garbageCollectors".to_owned(), json!([]));
    Value::Object(metrics)
}
