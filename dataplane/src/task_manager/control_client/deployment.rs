//! A deployment, from its message to its cores.
//!
//! Owns: building on housekeeping threads and dialling peers meanwhile, wiring, placing. Invariant: each attempt of a
//! deployment that gets no further is reported, or was answered when it was cancelled; what was built and does not run
//! is dropped on housekeeping threads.
//! Left out: the steps themselves ([`deploy`], [`hand_over`]), what happens on cores.

use std::sync::Arc;

use ringflow_schemas::control as wire;
use ringflow_schemas::id::ExecutionAttemptId;
use ringflow_schemas::rpc::{FromJobManager, Message};

use crate::error::{Error, Result};
use crate::runtime::housekeeping::{Housekeeping, OffCore};
use crate::subtask::spec::SubtaskSpec;
use crate::task_manager::connections::{self, Dialed};
use crate::task_manager::deploy::{self, BuiltDeployment, Deployment, Peer};
use crate::task_manager::hand_over::{Refused, hand_over};

use super::ControlClient;
use super::reports::{Outbound, say_failed, say_status};
use super::session::{Internal, Internals};

impl ControlClient {
    /// The JobManager deploys: what it says is built elsewhere, and comes back to [`ControlClient::on_built`].
    pub(super) fn on_deploy(
        &mut self,
        message: &Message<FromJobManager>,
        deployment: Result<Deployment>,
        cluster_id: &str,
        internal: &Internals,
        outbound: &Outbound,
    ) {
        let deployment = match deployment {
            Ok(deployment) => deployment,
            Err(error) => {
                return say_failed(outbound, &Deployment::attempts(message), &error);
            }
        };
        let attempts: Vec<ExecutionAttemptId> = deployment
            .subtasks
            .iter()
            .map(|subtask| subtask.attempt)
            .collect();
        for attempt in &attempts {
            self.building.insert(*attempt);
            say_status(outbound, *attempt, wire::SubtaskStatus::Initializing);
        }
        let needed = deployment.remote_outputs(&self.id, &self.config.placement.slots);
        let peers = self.connections.missing(needed);
        let (resolver, id, cluster_id) = (
            Arc::clone(&self.config.resolver),
            self.id.clone(),
            cluster_id.to_owned(),
        );
        let (local_bind, peer_silence_ms) = (self.config.data_bind, self.peer_silence_ms);
        let (internal, futures) = (internal.clone(), self.futures.clone());
        tokio::spawn(async move {
            let handle = tokio::runtime::Handle::current();
            let housekeeping = Housekeeping::with_futures(handle, futures);
            let built = tokio::task::spawn_blocking(move || {
                let build = || {
                    let built = deploy::build(deployment, resolver.as_ref(), &housekeeping)?;
                    // Whatever becomes of it, it is not dropped on the control thread unawares.
                    Ok(OffCore::new(built, housekeeping.clone()))
                };
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(build)).unwrap_or_else(|_| {
                    Err(Error::operator("building the job's operators panicked"))
                })
            });
            let built = built
                .await
                .unwrap_or_else(|error| Err(Error::deployment(error.to_string())));
            let result = match built {
                Ok(built) => {
                    connections::dial_all(peers, &cluster_id, &id, local_bind, peer_silence_ms)
                        .await
                        .map(|dialed| (built, dialed))
                }
                Err(error) => Err(error),
            };
            drop(internal.send(Internal::Built { attempts, result }));
        });
    }

    /// A deployment is built, or could not be.
    pub(super) fn on_built(
        &mut self,
        attempts: &[ExecutionAttemptId],
        result: Result<(OffCore<BuiltDeployment>, Vec<Dialed>)>,
        outbound: &Outbound,
    ) {
        // A job is cancelled as a whole: what was built for it goes, and nothing of it ever ran here.
        let waiting: Vec<ExecutionAttemptId> = attempts
            .iter()
            .copied()
            .filter(|attempt| self.building.remove(attempt))
            .collect();
        if waiting.len() < attempts.len() {
            for attempt in waiting {
                say_status(outbound, attempt, wire::SubtaskStatus::Canceled);
            }
            return;
        }
        match result.and_then(|(built, dialed)| self.wire(built, dialed)) {
            Ok(specs) => self.place(specs, outbound),
            Err(error) => say_failed(outbound, attempts, &error),
        }
    }

    fn wire(
        &mut self,
        built: OffCore<BuiltDeployment>,
        dialed: Vec<Dialed>,
    ) -> Result<Vec<(u32, SubtaskSpec)>> {
        self.connections.take_over(&self.cores, dialed)?;
        let find = |core: u32, peer: &Peer| self.connections.find(core, peer);
        let slots = &self.config.placement.slots;
        // A connection may have been lost meanwhile: what was built is whole yet, and goes to housekeeping.
        let mut outputs = built.deployment.remote_outputs(&self.id, slots);
        if let Some((_, peer)) = outputs.find(|(core, peer)| find(*core, peer).is_none()) {
            return Err(deploy::not_connected(peer));
        }
        drop(outputs);
        let wired = deploy::wire(built.into_inner(), &self.id, slots, &self.cores, find);
        wired.map_err(|unwired| {
            Housekeeping::new(tokio::runtime::Handle::current()).dispose(unwired.leftover);
            unwired.error
        })
    }

    /// Puts subtasks on their cores. When a core takes none, what is on no core has failed; what is on others runs, and
    /// is cancelled: its core has the last word.
    pub(super) fn place(&mut self, specs: Vec<(u32, SubtaskSpec)>, outbound: &Outbound) {
        self.aligned.add(&specs);
        let (placed, refused) = hand_over(&self.cores, specs);
        self.running.extend(&placed);
        let Some(Refused {
            error,
            attempts,
            specs,
        }) = refused
        else {
            return;
        };
        Housekeeping::new(tokio::runtime::Handle::current()).dispose(specs);
        for attempt in &attempts {
            self.aligned.remove(*attempt);
        }
        say_failed(outbound, &attempts, &error);
        self.send_cancel(&placed);
    }
}
