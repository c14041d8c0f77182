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
mod trace;

pub mod cache;
pub mod config;
pub mod domain;
pub mod healthcheck;
pub mod metrics;
pub mod problem;
pub mod routes;
pub mod shutdown;
pub mod store;

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use ha_runtime::postgres::TlsError;
use ha_runtime::shutdown::Tasks;
use tokio::net::TcpListener;
use tokio::time;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::answer_memory::AnswerMemory;
use crate::cache::Cache;
use crate::config::{Company, Config, Database, MembersKeys, Migrate, Surface};
use crate::edge::Edge;
use crate::metrics::Metrics;
use crate::routes::About;
use crate::serve::{ConnectionLimit, Server};
use crate::shutdown::{Haste, Signals};
use crate::store::{SchemaError, Store};

/// How long connections to the database may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(1);

/// Why the program could not start, or had to end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// An address cannot be listened on.
    #[error("could not listen on `{address}`; is another program there, or may this user not?")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The handlers of signals cannot be installed.
    #[error("could not listen for signals")]
    Signals(#[source] io::Error),
    /// The trusted authorities cannot be used.
    #[error("could not prepare TLS")]
    Tls(#[from] TlsError),
    /// The cache cannot be used as it is described.
    #[error("could not prepare the cache")]
    Cache(#[from] cache::Unusable),
    /// The schema could not be brought up to date.
    #[error("could not prepare the database")]
    Schema(#[from] SchemaError),
    /// A signal came before the schema was up to date. What had begun is rolled back.
    #[error("asked to stop before the schema was up to date")]
    Interrupted,
    /// Two series have one name.
    #[error("could not prepare the metrics")]
    Metrics(#[from] prometheus::Error),
    /// The description of the service is not JSON.
    #[error("could not describe the service")]
    Description(#[from] serde_json::Error),
}

/// The sockets on which the service is reached.
#[derive(Debug)]
pub struct Listeners {
    service: Vec<TcpListener>,
    metrics: Option<TcpListener>,
}

/// What every handler has at hand.
#[derive(Clone, Debug)]
pub(crate) struct App(Arc<Shared>);

#[derive(Debug)]
pub(crate) struct Shared {
    store: Store,
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

impl Deref for App {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl Listeners {
    /// Binds every address, or none.
    ///
    /// # Errors
    ///
    /// [`Failure::Listen`], with the address.
    pub fn bind(config: &Config) -> Result<Self, Failure> {
        let service: Result<Vec<_>, _> = config.listen.iter().copied().map(bind).collect();
        let metrics = config.metrics_listen.map(bind).transpose()?;
        Ok(Self {
            service: service?,
            metrics,
        })
    }
}

fn bind(address: SocketAddr) -> Result<TcpListener, Failure> {
    let failed = |source| Failure::Listen { address, source };
    serve::listen(address).map_err(failed)
}

/// Serves until a signal asks to stop, and then finishes what is under way.
///
/// # Errors
///
/// [`Failure`] when the service cannot do its work: above all when the database stays away at start.
pub async fn run(
    config: Config,
    listeners: Listeners,
    mut signals: Signals,
    tasks: Tasks,
) -> Result<(), Failure> {
    let about = About::new(&config)?;
    let metrics = Metrics::new()?;
    let ready_grace = config.database.ready_grace;
    let most_connections =
        serve::max_connections(config.edge.max_connections, config.database.pool_max);
    let store = Store::start(config.database, metrics.clone(), &tasks)?;
    tasks.start("request expiry", |stop| store.clone().expire_requests(stop));
    let cache = Cache::start(&config.cache, store.era(), metrics.clone(), &tasks)?;
    let app = App(Arc::new(Shared {
        store: store.clone(),
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
    }));
    let serving = Tasks::new();
    let limit = ConnectionLimit::new(most_connections, app.metrics.clone());
    serve(&app, listeners, &limit, &serving);

    let preparing = async {
        store.prepare_schema().await?;
        std::future::pending::<Result<(), Failure>>().await
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
/// [`Failure`] when it is not up to date afterwards.
pub async fn migrate(
    database: Database,
    mut signals: Signals,
    tasks: Tasks,
) -> Result<(), Failure> {
    let database = Database {
        migrate: Migrate::AtStart,
        ..database
    };
    let store = Store::start(database, Metrics::new()?, &tasks)?;
    tokio::select! {
        prepared = store.prepare_schema() => prepared?,
        _haste = signals.next() => return Err(Failure::Interrupted),
    }
    store.close();
    tasks.stop(GOODBYE).await;
    Ok(())
}

fn serve(app: &App, listeners: Listeners, limit: &Arc<ConnectionLimit>, serving: &Tasks) {
    let router = routes::all(app, listeners.metrics.is_some());
    let service = listeners.service.into_iter().map(|it| (it, router.clone()));
    let metrics = listeners.metrics.map(|it| (it, routes::metrics(app)));
    for (listener, router) in service.chain(metrics) {
        if let Ok(address) = listener.local_addr() {
            info!(%address, "listening");
        }
        let server = Server {
            app: app.clone(),
            router,
            limit: Arc::clone(limit),
            tasks: serving.clone(),
        };
        serving.start("listener", |stop| server.accept(listener, stop));
    }
}
