//! The local environment: JobManager and TaskManager in this process.
//!
//! Owns: [`LocalCluster`]. It is not a second implementation: the real roles run on loopback ports of their own and talk
//! through the same messages as on a cluster.
//! Invariant: dropping it ends both roles.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use ringflow_control::{JobManager, JobManagerConfig, RunningJobManager};
use ringflow_dataplane::program::Topology;
use ringflow_dataplane::runtime::core::SpinPolicy;
use ringflow_dataplane::runtime::placement::{
    Placement, PlacementRequest, allowed_cpus, confine_to_housekeeping,
};
use ringflow_dataplane::task_manager::{Registration, TaskManager, TaskManagerConfig};
use tokio::runtime::Runtime;

use crate::cli::memory::{MemoryPlan, StateArgs};
use crate::jobs::Programs;

/// How the local cluster runs.
#[derive(Debug, Clone)]
pub struct LocalOptions {
    /// Which CPUs do what.
    pub placement: PlacementRequest,
    /// When cores sleep.
    pub spin: SpinPolicy,
    /// Network memory, in bytes; `None`: as the flag's default.
    pub network_memory_bytes: Option<usize>,
    /// Where state is kept, and memory in all.
    pub state: StateArgs,
    /// Receive by one operation at a time even where the kernel can do better.
    pub single_receive: bool,
    /// Slots at least; the job's parallelism decides otherwise.
    pub slots_min: u32,
    /// Port of the REST endpoint; 0: any free one.
    pub rest_port: u16,
}

impl Default for LocalOptions {
    fn default() -> Self {
        Self {
            placement: PlacementRequest::default(),
            spin: SpinPolicy::For(ringflow_dataplane::limits::SPIN_AUTO_NS),
            network_memory_bytes: None,
            state: StateArgs::default(),
            single_receive: false,
            slots_min: 1,
            rest_port: 0,
        }
    }
}

/// A cluster of one, in this process.
#[derive(Debug)]
pub struct LocalCluster {
    task_manager: TaskManager,
    job_manager: Option<RunningJobManager>,
    runtime: Option<Runtime>,
    rest_address: SocketAddr,
}

impl LocalCluster {
    /// Starts both roles and waits until the TaskManager has registered.
    ///
    /// # Errors
    /// A port, a CPU or a kernel feature is missing.
    pub fn start(
        options: &LocalOptions,
        application: Option<(String, Arc<Topology>)>,
    ) -> crate::Result<Self> {
        let allowed = allowed_cpus().context("cannot tell which CPUs this process may use")?;
        let mut request = options.placement.clone();
        if request.slots.is_none() && request.slots_per_core.is_none() {
            let cores = request
                .cores
                .as_ref()
                .map_or(1, |cores| u32::try_from(cores.0.len()).unwrap_or(1));
            request.slots = Some(options.slots_min.max(cores));
        }
        let placement = Placement::decide(&request, &allowed).map_err(anyhow::Error::msg)?;
        for warning in &placement.warnings {
            tracing::warn!("{warning}");
        }
        let cores = placement.data.len();
        let memory = MemoryPlan::decide(&options.state, options.network_memory_bytes, cores)?;
        confine_to_housekeeping(&placement).context("cannot move to the housekeeping cores")?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("rf-jobmanager")
            .enable_all()
            .build()?;
        let loopback = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
        let config = JobManagerConfig {
            rpc_bind: loopback(0),
            rest_bind: loopback(options.rest_port),
            cluster_id: "local".to_owned(),
            version: crate::VERSION.to_owned(),
            ..JobManagerConfig::default()
        };
        let job_manager = runtime.block_on(JobManager::start(config))?;
        let rest_address = job_manager.rest_address();
        let task_manager = TaskManager::start(TaskManagerConfig {
            id: Some("local".to_owned()),
            job_manager: job_manager.rpc_address().to_string(),
            data_bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
            data_host: None,
            data_ports: Vec::new(),
            placement,
            spin: options.spin,
            network_memory_bytes: memory.network_bytes,
            disk_state: memory.disk_state,
            single_receive: options.single_receive,
            zero_copy_send: false,
            strict: false,
            resolver: Arc::new(Programs::new(application)),
            version: crate::VERSION.to_owned(),
            preempt_timer: None,
        })?;
        let mut registration = task_manager.registration();
        let registered = runtime.block_on(async {
            let wait = registration.wait_for(|state| !matches!(state, Registration::Connecting(_)));
            tokio::time::timeout(Duration::from_secs(30), wait)
                .await
                .map(|state| state.map(|state| state.clone()))
        });
        match registered {
            Ok(Ok(Registration::Registered { .. })) => {}
            other => anyhow::bail!("the local TaskManager did not register: {other:?}"),
        }
        Ok(Self {
            task_manager,
            job_manager: Some(job_manager),
            runtime: Some(runtime),
            rest_address,
        })
    }

    /// Where its REST endpoint is.
    #[must_use]
    pub fn rest_address(&self) -> SocketAddr {
        self.rest_address
    }
}

impl Drop for LocalCluster {
    fn drop(&mut self) {
        self.task_manager.stop("the local environment ends");
        if let (Some(runtime), Some(job_manager)) = (self.runtime.take(), self.job_manager.take()) {
            runtime.block_on(job_manager.shutdown());
            runtime.shutdown_timeout(Duration::from_secs(2));
        }
    }
}
