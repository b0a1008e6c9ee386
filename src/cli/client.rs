//! Talks to a JobManager over REST.
//!
//! Owns: [`RestClient`] and the answers it reads. Invariant: what the JobManager says against a request reaches the user
//! in its words. Left out: retries; the caller knows what waiting is worth.

use std::time::Duration;

use anyhow::{Context, bail};
use ringflow_schemas::id::JobId;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(15);

/// One JobManager.
#[derive(Debug, Clone)]
pub struct RestClient {
    agent: ureq::Agent,
    address: String,
}

/// The JobManager did not answer; asking again may help.
#[derive(Debug)]
pub struct Unreachable(String);

impl std::fmt::Display for Unreachable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unreachable {}

/// A job that was accepted.
#[derive(Debug, Deserialize)]
pub struct Submitted {
    /// Its id.
    pub jobid: String,
    /// What the user should know.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// Quantiles of source-to-sink latency, in microseconds.
#[derive(Debug, Clone, Copy, Default, Deserialize, serde::Serialize)]
#[allow(missing_docs, reason = "named after the quantile")]
pub struct Latency {
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p99_9: u64,
    pub p99_99: u64,
    pub max: u64,
    /// Records measured.
    pub count: u64,
}

/// A row of a result.
#[derive(Debug, Clone, Deserialize)]
pub struct Row {
    /// What rows are sorted by.
    pub order: i64,
    /// The row, as JSON.
    pub text: String,
}

/// A named result.
#[derive(Debug, Clone, Deserialize)]
pub struct Accumulator {
    /// Its name.
    pub name: String,
    /// Sum, Max, Min or TopRows.
    pub kind: String,
    /// Its value; 0 where it has rows.
    pub value: u64,
    /// Its rows.
    #[serde(default)]
    pub rows: Vec<Row>,
}

/// How a job stands.
#[derive(Debug, Clone, Deserialize)]
#[allow(
    missing_docs,
    reason = "named as in the JSON of /ringflow/jobs/:id/progress"
)]
pub struct Progress {
    pub jid: String,
    pub name: String,
    pub state: String,
    #[serde(rename = "start-time")]
    pub start_time: i64,
    #[serde(rename = "running-time")]
    pub running_time: i64,
    #[serde(rename = "end-time")]
    pub end_time: i64,
    pub records_in: u64,
    pub records_out: u64,
    pub late_records_dropped: u64,
    pub bad_records: u64,
    pub pending_records: u64,
    pub state_bytes_max: u64,
    pub cpu_seconds: f64,
    pub latency_us: Option<Latency>,
    pub latency_us_interval: Option<Latency>,
    pub accumulators: Vec<Accumulator>,
    pub failure: Option<String>,
}

impl Progress {
    /// The job has ended.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        matches!(self.state.as_str(), "FINISHED" | "CANCELED" | "FAILED")
    }
}

/// One line of `list`.
#[derive(Debug, Deserialize)]
#[allow(missing_docs, reason = "named as in Flink's JSON")]
pub struct JobLine {
    pub jid: String,
    pub name: String,
    pub state: String,
    #[serde(rename = "start-time")]
    pub start_time: i64,
    pub duration: i64,
}

/// One entry of a job's exceptions.
#[derive(Debug, Deserialize)]
#[allow(missing_docs, reason = "named as in Flink's JSON")]
pub struct ExceptionEntry {
    #[serde(rename = "exceptionName")]
    pub exception_name: String,
    pub stacktrace: String,
}

impl RestClient {
    /// The JobManager at `address`: host:port, with or without `http://`.
    #[must_use]
    pub fn new(address: &str) -> Self {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(TIMEOUT))
            .http_status_as_error(false)
            .build();
        let address = address
            .trim_start_matches("http://")
            .trim_end_matches('/')
            .to_owned();
        Self {
            agent: config.into(),
            address,
        }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn unreachable(&self, error: &ureq::Error) -> anyhow::Error {
        anyhow::Error::new(Unreachable(format!(
            "cannot reach a JobManager's REST endpoint at {}: {error}; is it running there (`ringflow jobmanager`), and is \
             this its REST port (default 8081)?",
            self.address
        )))
    }

    fn read<T: DeserializeOwned>(
        &self,
        answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> crate::Result<T> {
        let mut answer = answer.map_err(|error| self.unreachable(&error))?;
        let status = answer.status();
        let text = answer
            .body_mut()
            .read_to_string()
            .map_err(|error| self.unreachable(&error))?;
        if status.is_success() {
            return serde_json::from_str(&text).with_context(|| {
                format!("{} does not answer as a JobManager: {text}", self.address)
            });
        }
        #[derive(Deserialize)]
        struct Errors {
            errors: Vec<String>,
        }
        match serde_json::from_str::<Errors>(&text) {
            Ok(Errors { errors }) => bail!("{}", errors.join("; ")),
            Err(_) => bail!("{} answers {status}: {text}", self.address),
        }
    }

    fn get<T: DeserializeOwned>(&self, path: &str) -> crate::Result<T> {
        self.read(self.agent.get(self.url(path)).call())
    }

    /// Submits a stream graph.
    ///
    /// # Errors
    /// The JobManager is unreachable or refuses the job.
    pub fn submit(&self, graph: &[u8]) -> crate::Result<Submitted> {
        let request = self
            .agent
            .post(self.url("/ringflow/jobs"))
            .header("Content-Type", "application/octet-stream");
        self.read(request.send(graph))
    }

    /// How a job stands.
    ///
    /// # Errors
    /// The JobManager is unreachable or does not know the job.
    pub fn progress(&self, job: &str) -> crate::Result<Progress> {
        self.get(&format!("/ringflow/jobs/{job}/progress"))
    }

    /// A job's latency histogram in microseconds, in HdrHistogram's V2 encoding; `None` when nothing was measured.
    ///
    /// # Errors
    /// The JobManager is unreachable or does not know the job.
    pub fn latency(&self, job: &str) -> crate::Result<Option<Vec<u8>>> {
        #[derive(Deserialize)]
        struct Answer {
            histogram: Option<String>,
        }
        let answer: Answer = self.get(&format!("/ringflow/jobs/{job}/latency"))?;
        let digit = |digit: u8| char::from(digit).to_digit(16);
        let byte = |pair: &[u8]| match pair {
            [high, low] => u8::try_from(digit(*high)? << 4 | digit(*low)?).ok(),
            _ => None,
        };
        let bytes = |text: String| text.as_bytes().chunks(2).map(byte).collect::<Option<_>>();
        answer
            .histogram
            .map(|text| bytes(text).context("the JobManager's histogram is not hexadecimal"))
            .transpose()
    }

    /// All jobs that the JobManager knows.
    ///
    /// # Errors
    /// The JobManager is unreachable.
    pub fn jobs(&self) -> crate::Result<Vec<JobLine>> {
        #[derive(Deserialize)]
        struct Jobs {
            jobs: Vec<JobLine>,
        }
        Ok(self.get::<Jobs>("/jobs/overview")?.jobs)
    }

    /// Why a job failed, the root first.
    ///
    /// # Errors
    /// The JobManager is unreachable or does not know the job.
    pub fn exceptions(&self, job: &str) -> crate::Result<Vec<ExceptionEntry>> {
        #[derive(Deserialize)]
        struct History {
            entries: Vec<ExceptionEntry>,
        }
        #[derive(Deserialize)]
        struct Exceptions {
            #[serde(rename = "exceptionHistory")]
            history: History,
        }
        Ok(self
            .get::<Exceptions>(&format!("/jobs/{job}/exceptions"))?
            .history
            .entries)
    }

    /// Free and existing slots.
    ///
    /// # Errors
    /// The JobManager is unreachable.
    pub fn slots(&self) -> crate::Result<(u32, u32)> {
        #[derive(Deserialize)]
        struct Overview {
            #[serde(rename = "slots-available")]
            available: u32,
            #[serde(rename = "slots-total")]
            total: u32,
        }
        let overview: Overview = self.get("/overview")?;
        Ok((overview.available, overview.total))
    }

    /// Asks for a job's cancellation.
    ///
    /// # Errors
    /// The JobManager is unreachable, does not know the job, or it has ended.
    pub fn cancel(&self, job: &str) -> crate::Result<()> {
        let job: JobId = job
            .parse()
            .with_context(|| format!("`{job}` is no job id; `ringflow list` shows them"))?;
        let url = self.url(&format!("/jobs/{job}?mode=cancel"));
        self.read::<serde_json::Value>(self.agent.patch(url).send_empty())
            .map(drop)
    }

    /// Has a job end in good order, with its event time or without; answers what the user should know.
    ///
    /// # Errors
    /// The JobManager is unreachable or does not know the job, or the job does not run.
    pub fn stop(&self, job: &str, drain: bool) -> crate::Result<Vec<String>> {
        #[derive(Deserialize)]
        struct Stopping {
            warnings: Vec<String>,
        }
        let job: JobId = job
            .parse()
            .with_context(|| format!("`{job}` is no job id; `ringflow list` shows them"))?;
        let request = self
            .agent
            .post(self.url(&format!("/jobs/{job}/stop")))
            .header("Content-Type", "application/json");
        let body = serde_json::json!({ "drain": drain }).to_string();
        Ok(self.read::<Stopping>(request.send(body))?.warnings)
    }
}
