//! The HTTP service: it stores its data in PostgreSQL, and stays correct and available across a failover.
//!
//! A request passes [`middleware`], is dispatched by [`app`] to one of [`routes`], which validates it with
//! [`domain`], and reaches PostgreSQL through [`store`], the only module that contains SQL and the
//! primary.

mod answer_memory;
mod body;
mod load_limit;
mod middleware;
mod openapi;
mod page;
mod problem;
mod routes;
mod serve;
mod shutdown;

pub mod app;
pub mod cache;
pub mod config;
pub mod domain;
pub mod healthcheck;
pub mod metrics;
pub mod store;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use causeway_runtime::shutdown::Tasks;
use tokio::net::TcpListener;
use tokio::time;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::answer_memory::AnswerMemory;
use crate::app::route_table;
use crate::app::state::AppState;
use crate::cache::{Cache, Redis};
use crate::config::{Config, Database};
use crate::load_limit::LoadLimit;
use crate::metrics::Metrics;
use crate::middleware::Middleware;
use crate::routes::about::About;
use crate::serve::{ConnectionLimit, HttpServer};
use crate::shutdown::{ShutdownMode, Signals};
use crate::store::Store;
use crate::store::birthdays::Birthdays;

/// Time within which connections to the database are closed.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
const NO_SCHEMA: &str = "could not prepare the database";
const NO_TLS: &str = "could not prepare TLS";
const NO_CACHE: &str =
    "could not prepare the cache: `REDIS_TLS_CA_FILE` is not a readable file of CA certificates";

/// Serves until a signal requests a stop, and then finishes the requests in progress.
///
/// # Errors
///
/// The reason why the service cannot run, such as a [`store::SchemaError`] when the database is not available at the
/// start.
pub async fn run(config: Config, tasks: Tasks) -> anyhow::Result<()> {
    let mut signals = Signals::install()?;
    let addresses = config.http.addresses().into_iter();
    let service = addresses
        .map(serve::listen)
        .collect::<anyhow::Result<Vec<_>>>()?;
    let metrics_only = config.http.metrics_listen.map(serve::listen).transpose()?;
    let metrics = Metrics::new().context("could not prepare the metrics")?;
    let state = start(config, &metrics, &tasks)?;
    let serving = Tasks::new();
    serve(&state, &metrics, service, metrics_only, &serving);

    let preparing = async {
        let prepared = state.store.prepare_schema(&state.config.database);
        prepared.await.context(NO_SCHEMA)?;
        std::future::pending::<anyhow::Result<()>>().await
    };
    let mode = tokio::select! {
        failed = preparing => return failed,
        mode = signals.next() => mode,
    };
    if mode == ShutdownMode::Graceful {
        let http = &state.config.http;
        let draining = async {
            state.draining.cancel();
            time::sleep(http.shutdown_delay).await;
            serving.stop(http.shutdown_timeout).await;
        };
        tokio::select! {
            () = draining => {}
            _second = signals.next() => warn!("immediate shutdown, requests in progress aborted"),
        }
    }
    state.store.close();
    tasks.stop(CLOSE_TIMEOUT).await;
    info!("stopped");
    Ok(())
}

/// Brings the schema up to date, independently of `MIGRATE`, and does nothing else.
///
/// # Errors
///
/// The reason why the schema is not up to date afterwards.
pub async fn migrate(mut database: Database, tasks: Tasks) -> anyhow::Result<()> {
    let mut signals = Signals::install()?;
    database.migrate = true;
    let store = Store::start(&database, Metrics::new()?, &tasks).context(NO_TLS)?;
    tokio::select! {
        prepared = store.prepare_schema(&database) => prepared.context(NO_SCHEMA)?,
        // PostgreSQL rolls a migration in progress back.
        _mode = signals.next() => bail!("stopped by a signal before the schema was up to date"),
    }
    store.close();
    tasks.stop(CLOSE_TIMEOUT).await;
    Ok(())
}

/// Starts the parts of the service.
fn start(config: Config, metrics: &Metrics, tasks: &Tasks) -> anyhow::Result<AppState> {
    let about = About::new(&config).context("could not describe the service")?;
    let store = Store::start(&config.database, metrics.clone(), tasks).context(NO_TLS)?;
    let expiring = store.clone();
    tasks.start("request expiry", |stop| expiring.expire_requests(stop));
    let redis = config.cache.redis.as_ref().map(Redis::new).transpose();
    let redis = redis.context(NO_CACHE)?;
    let cache = Cache::start(redis, config.cache.ttl, store.era(), metrics.clone(), tasks);
    let in_flight = metrics.http_requests_in_flight.clone();
    let load_limit = LoadLimit::new(in_flight, config.http.max_inflight);
    Ok(AppState {
        config: Arc::new(config),
        birthdays: Arc::new(Birthdays::start(&store, tasks)),
        store: Arc::new(store),
        cache: Arc::new(cache),
        about: Arc::new(about),
        load_limit: Arc::new(load_limit),
        answer_memory: Arc::new(AnswerMemory::new()),
        metrics: metrics.registry.clone(),
        draining: CancellationToken::new(),
    })
}

/// Starts to serve on each address.
fn serve(
    state: &AppState,
    metrics: &Metrics,
    service: Vec<TcpListener>,
    metrics_only: Option<TcpListener>,
    serving: &Tasks,
) {
    let config = &state.config;
    let max_connections =
        serve::max_connections(config.http.max_connections, config.database.pool_max);
    let limit = ConnectionLimit::new(max_connections, metrics.clone());
    let middleware = Arc::new(Middleware::new(state, metrics.clone()));
    let router = route_table::service(state);
    let service = service
        .into_iter()
        .map(|listener| (listener, router.clone()));
    let metrics_only = metrics_only.map(|listener| (listener, route_table::metrics(state)));
    for (listener, router) in service.chain(metrics_only) {
        if let Ok(address) = listener.local_addr() {
            info!(%address, "listening");
        }
        let server = HttpServer {
            middleware: Arc::clone(&middleware),
            router,
            answer_memory: Arc::clone(&state.answer_memory),
            metrics: metrics.clone(),
            limit: Arc::clone(&limit),
            tasks: serving.clone(),
        };
        serving.start("listener", |stop| server.accept(listener, stop));
    }
}
