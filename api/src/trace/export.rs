//! Ended spans, on their way to a collector: gathered, sent by one task, and let go when nobody
//! takes them. A request never waits for any of this.

use std::time::Duration;

use axum::body::Bytes;
use axum::http::{Request, header};
use ha_runtime::shutdown::Tasks;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use prometheus::IntCounter;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::otlp::{Attribute, Ended, encode};
use crate::config::Collector;
use crate::metrics::Metrics;

/// The most spans that wait to be sent, about 1 MiB of them, and the most that are sent at once.
const MOST_WAITING: usize = 2048;
const MOST_AT_ONCE: usize = 512;
/// How long the first span of a batch waits for others.
const GATHER: Duration = Duration::from_secs(1);
/// How long a collector may take for a batch. Until then the next ones wait.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long the last batches may take at the end of the program, which waits for a second.
const LAST_TIMEOUT: Duration = Duration::from_millis(800);
/// What is read of an answer of which only the status matters.
const LONGEST_ANSWER_BYTES: usize = 64 * 1024;

/// Takes ended spans.
#[derive(Clone, Debug)]
pub(super) struct Exporter {
    waiting: mpsc::Sender<Ended>,
    dropped: IntCounter,
}

impl Exporter {
    /// Starts the task that sends.
    pub(super) fn start(
        collector: Collector,
        metrics: Metrics,
        tasks: &Tasks,
    ) -> Result<Self, native_tls::Error> {
        let tls = if collector.is_https {
            Some(native_tls::TlsConnector::new()?.into())
        } else {
            None
        };
        let (waiting, spans) = mpsc::channel(MOST_WAITING);
        let dropped = metrics.trace_spans.with_label_values(&["dropped"]);
        let sender = Sender {
            resource: resource(&collector),
            collector,
            tls,
            metrics,
            is_answering: true,
        };
        tasks.start("span exporter", |stop| sender.run(spans, stop));
        Ok(Self { waiting, dropped })
    }

    /// Takes a span, or counts it as dropped when too many wait.
    pub(super) fn take(&self, span: Ended) {
        if self.waiting.try_send(span).is_err() {
            self.dropped.inc();
        }
    }
}

/// Returns what all spans have in common.
fn resource(collector: &Collector) -> Vec<Attribute> {
    let instance = uuid::Uuid::new_v4().to_string();
    let ours = [
        Attribute::text("service.name", collector.service_name.as_str()),
        Attribute::text("service.version", env!("CARGO_PKG_VERSION")),
        Attribute::text("service.instance.id", instance),
        Attribute::text("telemetry.sdk.name", "causeway"),
        Attribute::text("telemetry.sdk.language", "rust"),
        Attribute::text("telemetry.sdk.version", env!("CARGO_PKG_VERSION")),
    ];
    let given = collector.resource.iter().cloned();
    let given = given.map(|(key, value)| Attribute::text(key, value));
    ours.into_iter().chain(given).collect()
}

struct Sender {
    collector: Collector,
    resource: Vec<Attribute>,
    tls: Option<tokio_native_tls::TlsConnector>,
    metrics: Metrics,
    /// Whether the last batch was taken: only changes are logged.
    is_answering: bool,
}

#[derive(Debug, thiserror::Error)]
enum Unsent {
    #[error("the connection failed")]
    Connection(#[from] std::io::Error),
    #[error("TLS failed")]
    Tls(#[from] native_tls::Error),
    #[error("the request failed")]
    Http(#[from] hyper::Error),
    #[error("the request could not be written")]
    Request(#[from] axum::http::Error),
    #[error("the collector answered {0}")]
    Refused(axum::http::StatusCode),
    #[error("the collector did not answer in time")]
    TooLate,
}

impl Sender {
    async fn run(mut self, mut spans: mpsc::Receiver<Ended>, stop: CancellationToken) {
        let mut batch = Vec::with_capacity(MOST_AT_ONCE);
        loop {
            tokio::select! {
                received = spans.recv_many(&mut batch, MOST_AT_ONCE) => if received == 0 { return },
                () = stop.cancelled() => break,
            }
            let gathered = async {
                while batch.len() < MOST_AT_ONCE {
                    let more = MOST_AT_ONCE - batch.len();
                    if spans.recv_many(&mut batch, more).await == 0 {
                        return;
                    }
                }
            };
            tokio::select! {
                _full_or_late = time::timeout(GATHER, gathered) => {}
                () = stop.cancelled() => break,
            }
            tokio::select! {
                () = self.send(&mut batch) => {}
                () = stop.cancelled() => break,
            }
        }
        spans.close();
        let last = async {
            while !batch.is_empty() || spans.recv_many(&mut batch, MOST_AT_ONCE).await > 0 {
                self.send(&mut batch).await;
            }
        };
        if time::timeout(LAST_TIMEOUT, last).await.is_err() {
            let left = batch.len() + spans.len();
            warn!(left, "the last spans were not taken in time");
        }
    }

    /// Sends a batch, once. A collector that is away gets the next one.
    async fn send(&mut self, batch: &mut Vec<Ended>) {
        let body = encode(&self.resource, batch);
        let sent = time::timeout(TIMEOUT, self.post(body)).await;
        let sent = sent.unwrap_or(Err(Unsent::TooLate));
        let result = if sent.is_ok() { "exported" } else { "failed" };
        let spans = self.metrics.trace_spans.with_label_values(&[result]);
        spans.inc_by(u64::try_from(batch.len()).unwrap_or_default());
        batch.clear();
        match sent {
            Ok(()) if !self.is_answering => info!("the collector takes spans again"),
            Err(why) if self.is_answering => {
                let error = ha_runtime::telemetry::chain(&why);
                warn!(error, "the collector takes no spans");
            }
            Ok(()) | Err(_) => {}
        }
        self.is_answering = result == "exported";
    }

    async fn post(&self, body: Vec<u8>) -> Result<(), Unsent> {
        let collector = &self.collector;
        let stream = TcpStream::connect((collector.host.as_str(), collector.port)).await?;
        match &self.tls {
            Some(tls) => {
                let stream = tls.connect(&collector.host, stream).await?;
                self.exchange(stream, body).await
            }
            None => self.exchange(stream, body).await,
        }
    }

    async fn exchange<S>(&self, stream: S, body: Vec<u8>) -> Result<(), Unsent>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let collector = &self.collector;
        let mut request = Request::post(collector.path.as_str())
            .header(header::HOST, collector.authority.as_str())
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::CONNECTION, "close")
            .body(Full::new(Bytes::from(body)))?;
        for (name, value) in &collector.headers {
            request.headers_mut().insert(name, value.clone());
        }
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let asking = async {
            let answer = sender.send_request(request).await?;
            let status = answer.status();
            // Whatever it says is read, so that it need not be told that nobody listens.
            let body = Limited::new(answer.into_body(), LONGEST_ANSWER_BYTES);
            body.collect().await.ok();
            if status.is_success() {
                return Ok(());
            }
            Err(Unsent::Refused(status))
        };
        tokio::pin!(asking);
        tokio::select! {
            answered = &mut asking => answered,
            ended = connection => {
                ended?;
                asking.await
            }
        }
    }
}
