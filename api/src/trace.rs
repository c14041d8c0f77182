//! Which trace a request is a part of, and the spans that it leaves there.
//!
//! A request that arrives with a W3C trace context continues it. Where spans are exported, one that
//! arrives without begins a trace. Where they are not, and nobody sent a context, nothing is done.

mod context;
mod export;
mod otlp;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::HeaderMap;
use ha_runtime::shutdown::Tasks;

pub(crate) use self::context::TRACEPARENT;
use self::context::{RANDOM, SAMPLED};
use self::export::Exporter;
pub(crate) use self::otlp::Attribute;
use self::otlp::{Ended, Role};
use crate::config::{self, Sampler};
use crate::metrics::Metrics;

tokio::task_local! {
    /// The span of the request that this task works on, where it is recorded.
    static CURRENT: Arc<Span>;
}

/// Whether and where spans are recorded.
#[derive(Debug)]
pub(crate) struct Traces {
    exporter: Option<Exporter>,
    sampler: Sampler,
}

/// The span of one request.
#[derive(Debug)]
pub(crate) struct Span {
    pub(crate) trace_id: TraceId,
    pub(crate) span_id: SpanId,
    parent: Option<SpanId>,
    flags: u8,
    state: Option<String>,
    began: Began,
    /// Where it goes at its end, if it was chosen to be recorded.
    exporter: Option<Exporter>,
}

/// The number of a trace, never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TraceId(u128);

/// The number of a span, never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SpanId(u64);

/// When a span began, on the clock that others have too and on the one that never leaps.
#[derive(Clone, Copy, Debug)]
struct Began {
    wall: Duration,
    at: Instant,
}

impl Traces {
    /// Starts exporting where the settings say so.
    ///
    /// # Errors
    ///
    /// When TLS to the collector cannot be prepared.
    pub(crate) fn start(
        settings: config::Traces,
        metrics: &Metrics,
        tasks: &Tasks,
    ) -> Result<Self, native_tls::Error> {
        let sampler = settings.sampler;
        let exporter = match settings.collector {
            Some(collector) => Some(Exporter::start(collector, metrics.clone(), tasks)?),
            None => None,
        };
        Ok(Self { exporter, sampler })
    }

    /// Returns the span of a request, if it is a part of a trace.
    pub(crate) fn begin(&self, headers: &HeaderMap) -> Option<Arc<Span>> {
        let parent = context::read(headers);
        if parent.is_none() && self.exporter.is_none() {
            return None;
        }
        let trace_id = parent.as_ref().map_or_else(
            || TraceId(rand::random_range(1..=u128::MAX)),
            |it| it.trace_id,
        );
        let is_sampled = match &self.exporter {
            Some(_) => {
                let asked = parent.as_ref().map(|it| it.flags & SAMPLED != 0);
                is_sampled(self.sampler, asked, trace_id)
            }
            // Nothing is recorded here, so what was decided before stays true.
            None => parent.as_ref().is_some_and(|it| it.flags & SAMPLED != 0),
        };
        let random = parent.as_ref().map_or(RANDOM, |it| it.flags & RANDOM);
        Some(Arc::new(Span {
            trace_id,
            span_id: SpanId::draw(),
            parent: parent.as_ref().map(|it| it.parent),
            flags: random | if is_sampled { SAMPLED } else { 0 },
            state: parent.and_then(|it| it.state),
            began: Began::now(),
            exporter: self.exporter.clone().filter(|_| is_sampled),
        }))
    }
}

fn is_sampled(sampler: Sampler, asked: Option<bool>, trace_id: TraceId) -> bool {
    // The last digits are what every implementation draws at random, and 32 bits of them are fine
    // enough for a ratio.
    let drawn = u32::try_from(trace_id.0 & u128::from(u32::MAX)).unwrap_or(u32::MAX);
    let by_ratio = |ratio| f64::from(drawn) < ratio * f64::from(u32::MAX) + ratio;
    match sampler {
        Sampler::Ratio(ratio) => by_ratio(ratio),
        Sampler::ParentOrRatio(ratio) => asked.unwrap_or_else(|| by_ratio(ratio)),
    }
}

impl Span {
    /// Returns the context as the answer and the log show it.
    pub(crate) fn traceparent(&self) -> String {
        format!("00-{}-{}-{:02x}", self.trace_id, self.span_id, self.flags)
    }

    /// Runs the work of the request, of which statements are parts.
    pub(crate) async fn run<F: Future>(self: &Arc<Self>, work: F) -> F::Output {
        if self.exporter.is_none() {
            return work.await;
        }
        CURRENT.scope(Arc::clone(self), work).await
    }

    /// Ends the span. `attributes` is asked only if it is recorded.
    pub(crate) fn end(
        &self,
        name: String,
        is_error: bool,
        attributes: impl FnOnce() -> Vec<Attribute>,
    ) {
        let Some(exporter) = &self.exporter else {
            return;
        };
        exporter.take(Ended {
            trace_id: self.trace_id,
            span_id: self.span_id,
            parent: self.parent,
            is_parent_remote: true,
            state: self.state.clone(),
            flags: self.flags,
            name: name.into(),
            role: Role::Server,
            began: self.began.wall,
            took: self.began.at.elapsed(),
            attributes: attributes(),
            is_error,
        });
    }
}

/// One statement of the request at hand. It ends when it is dropped.
#[derive(Debug)]
#[must_use]
pub(crate) struct Statement(Option<Running>);

#[derive(Debug)]
struct Running {
    request: Arc<Span>,
    name: &'static str,
    began: Began,
    error: Option<String>,
}

/// Begins the span of a statement, if the request at hand is recorded.
pub(crate) fn statement(name: &'static str) -> Statement {
    let request = CURRENT.try_with(Arc::clone).ok();
    Statement(request.map(|request| Running {
        request,
        name,
        began: Began::now(),
        error: None,
    }))
}

/// Lets work be a part of the request at hand, whichever task carries it out.
pub(crate) fn carried<F: Future>(work: F) -> impl Future<Output = F::Output> {
    let request = CURRENT.try_with(Arc::clone).ok();
    async move {
        match request {
            Some(request) => CURRENT.scope(request, work).await,
            None => work.await,
        }
    }
}

impl Statement {
    /// Says how the statement failed: the class of its SQLSTATE, or a word of ours.
    pub(crate) fn failed(&mut self, class: &str) {
        if let Some(running) = &mut self.0 {
            running.error = Some(class.to_owned());
        }
    }
}

impl Drop for Statement {
    fn drop(&mut self) {
        let Some(running) = self.0.take() else {
            return;
        };
        let request = running.request;
        let Some(exporter) = &request.exporter else {
            return;
        };
        let mut attributes = vec![
            Attribute::text("db.system.name", "postgresql"),
            Attribute::text("db.query.summary", running.name),
        ];
        let is_error = running.error.is_some();
        attributes.extend(running.error.map(|it| Attribute::text("error.type", it)));
        exporter.take(Ended {
            trace_id: request.trace_id,
            span_id: SpanId::draw(),
            parent: Some(request.span_id),
            is_parent_remote: false,
            state: request.state.clone(),
            flags: request.flags,
            name: running.name.into(),
            role: Role::Client,
            began: running.began.wall,
            took: running.began.at.elapsed(),
            attributes,
            is_error,
        });
    }
}

impl Began {
    fn now() -> Self {
        Self {
            wall: ha_runtime::clock::wall(),
            at: Instant::now(),
        }
    }
}

impl SpanId {
    fn draw() -> Self {
        Self(rand::random_range(1..=u64::MAX))
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sampler_follows_the_caller_or_the_number_of_the_trace() {
        let low = TraceId(1 << 100);
        let high = TraceId(u128::MAX);
        for (ratio, of_low, of_high) in [(0.0, false, false), (0.5, true, false), (1.0, true, true)]
        {
            let sampler = Sampler::Ratio(ratio);
            assert_eq!(is_sampled(sampler, Some(true), low), of_low);
            assert_eq!(is_sampled(sampler, None, high), of_high);
            let sampler = Sampler::ParentOrRatio(ratio);
            assert!(is_sampled(sampler, Some(true), high));
            assert!(!is_sampled(sampler, Some(false), low));
            assert_eq!(is_sampled(sampler, None, high), of_high);
        }
    }
}
