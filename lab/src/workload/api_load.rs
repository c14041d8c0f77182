//! Load on the API: all kinds of requests at a steady rate, independent of earlier responses, with
//! a history of the responses.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use causeway_runtime::http_client::HttpClient;
use causeway_runtime::shutdown::Tasks;
use hyper::header::RETRY_AFTER;
use serde_json::Value;
use tokio::time::{self, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::cluster::topology::{API_NAME, API_PORT};
use crate::network::dns_name::DnsName;
use crate::wait;
use crate::workload::api_request::{ApiResponse, LoadRequest, RequestGenerator, RequestOutcome};
use crate::workload::history::History;

/// Interval between two requests: at most 200 a second.
const PACE: Duration = Duration::from_millis(5);

/// Timeout of a response: three times the API's own (8 s), so that its error is received on a slow
/// machine too.
const TIMEOUT: Duration = Duration::from_secs(24);

/// Timeout of requests in progress when the load ends.
const LAST_RESPONSES_TIMEOUT: Duration = Duration::from_secs(30);

/// Running load.
#[derive(Debug)]
pub struct ApiLoad {
    outcomes: Arc<Mutex<Vec<RequestOutcome>>>,
    sending: Tasks,
    under_way: Tasks,
}

#[derive(Clone)]
struct LoadSender {
    http: HttpClient,
    name: DnsName,
    history: History,
    outcomes: Arc<Mutex<Vec<RequestOutcome>>>,
    under_way: Tasks,
}

impl ApiLoad {
    /// Starts the load on the API's DNS name, resolved by `resolver`.
    pub fn start(resolver: SocketAddr, history: &History) -> Self {
        let load = Self {
            outcomes: Arc::default(),
            sending: Tasks::new(),
            under_way: Tasks::new(),
        };
        let sender = LoadSender {
            http: HttpClient::new(TIMEOUT),
            name: DnsName::new(resolver, API_NAME),
            history: history.clone(),
            outcomes: Arc::clone(&load.outcomes),
            under_way: load.under_way.clone(),
        };
        load.sending
            .start("load", |stop| sender.send_steadily(stop));
        load
    }

    /// Waits until `many` requests sent since `since` have had the expected response.
    ///
    /// # Errors
    ///
    /// When that takes longer than `timeout`.
    pub async fn answered(
        &self,
        many: usize,
        since: Duration,
        timeout: Duration,
    ) -> anyhow::Result<()> {
        wait::until("the API to answer", timeout, || async {
            let outcomes = lock_outcomes(&self.outcomes);
            let right =
                |outcome: &&RequestOutcome| outcome.sent >= since && outcome.is_acknowledged();
            match outcomes.iter().filter(right).count() {
                right if right >= many => Ok(()),
                right => Err(format!("{right} of {many} right answers")),
            }
        })
        .await?;
        Ok(())
    }

    /// Stops the load, waits for the last responses, and returns the outcome of each request.
    pub async fn end(self) -> Vec<RequestOutcome> {
        self.sending.stop(Duration::from_secs(1)).await;
        self.under_way.stop(LAST_RESPONSES_TIMEOUT).await;
        lock_outcomes(&self.outcomes).clone()
    }
}

impl LoadSender {
    async fn send_steadily(self, stop: CancellationToken) {
        let mut pace = time::interval(PACE);
        // A delay is not made up by a burst of requests.
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut requests = RequestGenerator::default();
        while stop.run_until_cancelled(pace.tick()).await.is_some() {
            let request = requests.next(&lock_outcomes(&self.outcomes));
            let sender = self.clone();
            self.under_way
                .start("request", |_stop| sender.send(request));
        }
    }

    async fn send(self, request: LoadRequest) {
        let sent = self.history.now();
        let (instance, answer) = match self.name.address().await {
            Ok(instance) => (Some(instance), self.ask(instance, &request).await),
            Err(error) => (None, Err(error)),
        };
        let ended = self.history.now();
        lock_outcomes(&self.outcomes).push(RequestOutcome {
            request,
            instance,
            sent,
            ended,
            answer: answer.map_err(|error| format!("{error:#}")),
        });
    }

    async fn ask(&self, instance: IpAddr, request: &LoadRequest) -> anyhow::Result<ApiResponse> {
        let request = request.to_http(SocketAddr::new(instance, API_PORT))?;
        let response = self.http.send(request, TIMEOUT).await?;
        Ok(ApiResponse {
            status: response.status().as_u16(),
            says_when_to_retry: response.headers().contains_key(RETRY_AFTER),
            body: serde_json::from_slice(response.body()).unwrap_or(Value::Null),
        })
    }
}

fn lock_outcomes(outcomes: &Mutex<Vec<RequestOutcome>>) -> MutexGuard<'_, Vec<RequestOutcome>> {
    // A panic leaves the outcomes valid: they are only appended to.
    outcomes.lock().unwrap_or_else(PoisonError::into_inner)
}
