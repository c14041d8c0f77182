//! The HTTP service of the platform: it uses the database, and stays correct and available across a
//! failover.
//!
//! A request passes [`edge`], which every request has in common, one of [`routes`], which reads it
//! by the rules of [`domain`], and [`store`], which alone speaks SQL and knows where the primary is.

mod answer_memory;
mod body;
mod edge;
mod openapi;
mod page;
mod serve;
mod shutdown;
mod trace;

pub mod cache;
pub mod config;
pub mod domain;
pub mod healthcheck;
pub mod metrics;
pub mod problem;
pub mod routes;
pub mod store;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use axum::http::StatusCode;
use causeway_runtime::shutdown::Tasks;
use tokio::net::TcpListener;
use tokio::time;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::answer_memory::AnswerMemory;
use crate::cache::{Cache, Redis};
use crate::config::{Company, Config, Database, MembersKeys, Migrate, Surface};
use crate::edge::Edge;
use crate::metrics::Metrics;
use crate::routes::About;
use crate::serve::{ConnectionLimit, Server};
use crate::shutdown::{Haste, Signals};
use crate::store::Store;
use crate::store::birthdays::Birthdays;

/// How long connections to the database may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(1);
const NO_SCHEMA: &str = "could not prepare the database";
const NO_TLS: &str = "could not prepare TLS";

/// What every handler has at hand.
pub(crate) type App = Arc<Shared>;

#[derive(Debug)]
pub(crate) struct Shared {
    store: Store,
    birthdays: Birthdays,
    cache: Cache,
    metrics: Metrics,
    hello: config::Hello,
    company: Company,
    surfaces: BTreeSet<Surface>,
    members_keys: MembersKeys,
    list_max: usize,
    validation_status: StatusCode,
    request_timeout: Duration,
    ready_grace: Duration,
    edge: Edge,
    answer_memory: AnswerMemory,
    about: About,
    draining: CancellationToken,
}

/// Serves until a signal asks to stop, and then finishes what is under way.
///
/// # Errors
///
/// Why the service cannot do its work: above all a [`store::SchemaError`], when the database stays
/// away at start.
pub async fn run(config: Config, tasks: Tasks) -> anyhow::Result<()> {
    let mut signals = Signals::install()?;
    let service = config.listen.iter().copied().map(serve::listen);
    let service = service.collect::<anyhow::Result<Vec<_>>>()?;
    let metrics_only = config.metrics_listen.map(serve::listen).transpose()?;
    let about = About::new(&config).context("could not describe the service")?;
    let metrics = Metrics::new().context("could not prepare the metrics")?;
    let ready_grace = config.database.ready_grace;
    let most_connections =
        serve::max_connections(config.edge.max_connections, config.database.pool_max);
    let store = Store::start(&config.database, metrics.clone(), &tasks).context(NO_TLS)?;
    tasks.start("request expiry", |stop| store.clone().expire_requests(stop));
    let redis = config.cache.redis.as_ref().map(Redis::new).transpose();
    let redis = redis.context("could not prepare the cache")?;
    let cache = Cache::start(redis, config.cache, store.era(), metrics.clone(), &tasks);
    let app = Arc::new(Shared {
        store: store.clone(),
        birthdays: Birthdays::start(&store, &tasks),
        cache,
        metrics,
        hello: config.hello,
        company: config.company,
        surfaces: config.surfaces,
        members_keys: config.members_keys,
        list_max: config.list_max,
        validation_status: config.validation_status,
        request_timeout: config.request_timeout,
        ready_grace,
        edge: Edge::new(config.edge),
        answer_memory: AnswerMemory::new(),
        about,
        draining: CancellationToken::new(),
    });
    let serving = Tasks::new();
    let limit = ConnectionLimit::new(most_connections, app.metrics.clone());
    serve(&app, service, metrics_only, &limit, &serving);

    let preparing = async {
        store.prepare_schema().await.context(NO_SCHEMA)?;
        std::future::pending::<anyhow::Result<()>>().await
    };
    let haste = tokio::select! {
        failed = preparing => return failed,
        haste = signals.next() => haste,
    };
    if haste == Haste::Orderly {
        let draining = async {
            app.draining.cancel();
            time::sleep(config.shutdown_delay).await;
            serving.stop(config.shutdown_timeout).await;
        };
        tokio::select! {
            () = draining => {}
            _again = signals.next() => warn!("stopping at once; what was under way is cut off"),
        }
    }
    store.close();
    tasks.stop(GOODBYE).await;
    info!("stopped");
    Ok(())
}

/// Brings the schema up to date, whatever `MIGRATE` says, and does nothing else.
///
/// # Errors
///
/// Why it is not up to date afterwards.
pub async fn migrate(database: Database, tasks: Tasks) -> anyhow::Result<()> {
    let mut signals = Signals::install()?;
    let database = Database {
        migrate: Migrate::AtStart,
        ..database
    };
    let store = Store::start(&database, Metrics::new()?, &tasks).context(NO_TLS)?;
    tokio::select! {
        prepared = store.prepare_schema() => prepared.context(NO_SCHEMA)?,
        // What had begun is rolled back.
        _haste = signals.next() => bail!("asked to stop before the schema was up to date"),
    }
    store.close();
    tasks.stop(GOODBYE).await;
    Ok(())
}

fn serve(
    app: &App,
    service: Vec<TcpListener>,
    metrics_only: Option<TcpListener>,
    limit: &Arc<ConnectionLimit>,
    serving: &Tasks,
) {
    let routes = routes::all(app, metrics_only.is_some());
    let service = service.into_iter().map(|it| (it, routes.clone()));
    let metrics_only = metrics_only.map(|it| (it, routes::metrics(app)));
    for (listener, routes) in service.chain(metrics_only) {
        if let Ok(address) = listener.local_addr() {
            info!(%address, "listening");
        }
        let server = Server {
            app: app.clone(),
            routes,
            limit: Arc::clone(limit),
            tasks: serving.clone(),
        };
        serving.start("listener", |stop| server.accept(listener, stop));
    }
}
