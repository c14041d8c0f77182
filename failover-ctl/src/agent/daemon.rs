//! `failover-ctl agent`: start-up of the agent, checked before it changes anything.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use causeway_core::agent::{Agent, AgentIdentity, LeaseReadResult};
use causeway_runtime::clock;
use causeway_runtime::shutdown::Tasks;
use nix::sys::prctl;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};

use crate::agent::event_loop::{AgentConnections, AgentLoop};
use crate::agent::host_id;
use crate::agent::http::{self, HttpState};
use crate::agent::http_server::{ConnectionLimits, serve};
use crate::agent::metrics::Metrics;
use crate::agent::preconditions;
use crate::agent::status_snapshot::StatusSnapshot;
use crate::clients::guard_client::GuardClient;
use crate::clients::lease_store::{LeaseStore, LeaseStoreError};
use crate::clients::postgres::{self, PostgresState};
use crate::config::{HostSettings, Settings, SettingsError};
use crate::data_directory;
use crate::error::Error;
use crate::highest_record;
use crate::process_lock;
use crate::protocol::node_status::HighestRecord;
use crate::protocol::signed_command::CommandSigningKey;
use crate::service_manager::ServiceManager;

/// Time for the tasks to end. None of them holds anything that PostgreSQL or its clients need.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// Number of signed commands that may wait for the event loop.
const COMMAND_QUEUE_LENGTH: usize = 8;

/// Runs the agent. Settings, key, data directory and lease store are checked before anything is changed.
///
/// # Errors
///
/// When a setting is wrong, another agent runs, or the lease belongs to another cluster or database.
pub(crate) async fn run(settings: Settings, key_from_stdin: bool) -> Result<(), Error> {
    // PostgreSQL runs as the same user, and a role that reads files through it must not read this memory.
    prctl::set_dumpable(false).context("could not close `/proc/self` to other processes")?;
    let host = settings.this_host()?.clone();
    let key = read_key(&settings, key_from_stdin)?;
    preconditions::check_data_directory(&host)?;
    let state = &host.agent.state_directory;
    fs::create_dir_all(state).with_context(|| format!("could not create `{}`", state.display()))?;
    let _process_lock = process_lock::lock(&state.join("agent.lock"), "agent")?;
    let highest = highest_record::read(state)?;
    let listener = bind_listener(&host).await?;
    let guard = GuardClient::open(&host).with_context(|| {
        let directory = host.guard.runtime_directory.display();
        format!("could not create a socket in `{directory}`: start the guard first, which creates the directory")
    })?;
    let store = LeaseStore::open(&settings).await;
    check_store(&settings, &host, &store).await?;

    let core = new_state_machine(&settings, &host, &highest)?;
    let registry =
        http::registry(&settings.cluster, &host.node).context("could not label the metrics")?;
    let metrics = Metrics::register(registry.clone()).context("could not register the metrics")?;
    metrics.initialize(&settings);
    let evicted = metrics.evicted.clone();
    let tasks = Tasks::new();
    let (postgres_sender, postgres) = watch::channel(PostgresState::default());
    let (status_sender, status) = watch::channel(StatusSnapshot::default());
    let (command_sender, commands) = mpsc::channel(COMMAND_QUEUE_LENGTH);
    let connections = AgentConnections {
        store,
        guard,
        postgres,
        commands,
        status: status_sender,
        metrics,
        tasks: tasks.clone(),
    };
    let (agent, events) =
        AgentLoop::new(core, highest, Arc::new(settings), host.clone(), connections);

    let connection_tasks = tasks.clone();
    tasks.start("watch PostgreSQL", |stop| {
        postgres::monitor(
            host.postgres.clone(),
            postgres_sender,
            connection_tasks,
            stop,
        )
    });
    tasks.start("event loop", |stop| agent.run(events, stop));
    let http_state = HttpState {
        status,
        commands: command_sender,
        key,
    };
    let routes = http::routes(http_state, registry);
    let http_tasks = tasks.clone();
    tasks.start("http", |stop| {
        let limits = ConnectionLimits::default();
        serve(listener, routes, limits, evicted, http_tasks, stop)
    });
    info!(node = %host.node.name, version = env!("CARGO_PKG_VERSION"), "agent started");
    notify_service_manager(&tasks)?;
    tasks
        .run_until_signalled(STOP_TIMEOUT)
        .await
        .context("could not handle signals")?;
    info!("agent stopped, PostgreSQL running until the guard's deadline");
    Ok(())
}

fn read_key(settings: &Settings, from_stdin: bool) -> Result<CommandSigningKey, SettingsError> {
    if from_stdin {
        CommandSigningKey::read_stdin()
    } else {
        CommandSigningKey::read(&settings.command_signing_key_file)
    }
}

/// Notifies the service manager, if there is one, that the agent has started, and later that it stops.
fn notify_service_manager(tasks: &Tasks) -> anyhow::Result<()> {
    let Some(service_manager) = ServiceManager::from_env()? else {
        return Ok(());
    };
    tasks.start("service manager", |stop| async move {
        let ready = service_manager.notify_ready();
        stop.cancelled().await;
        let stopping = service_manager.notify_stopping();
        if let Err(error) = ready.and(stopping) {
            warn!(%error, "service manager not notified");
        }
    });
    Ok(())
}

/// Binds the address at which the agent answers HTTP.
async fn bind_listener(host: &HostSettings) -> Result<TcpListener, Error> {
    let address = host.agent.listen.unwrap_or(host.node.agent);
    match TcpListener::bind(address).await {
        Ok(listener) => {
            info!(%address, "agent listening");
            Ok(listener)
        }
        Err(error) => Err(address_in_use(address, &error)),
    }
}

/// Creates the state machine with this node's identity and the highest lease record that it has trusted.
fn new_state_machine(
    settings: &Settings,
    host: &HostSettings,
    highest: &HighestRecord,
) -> Result<Agent, Error> {
    let identity = AgentIdentity {
        cluster: settings.cluster.clone(),
        node: host.node.name.clone(),
        host_id: host_id::read(host.agent.host_id_file.as_deref())?,
        boot_id: clock::boot_id().context("could not read the boot id")?,
        members: settings
            .nodes
            .iter()
            .map(|node| node.name.clone())
            .collect(),
    };
    let trusted = (highest.epoch, highest.sequence);
    let policy = settings.for_agent(&host.node);
    Ok(Agent::new(identity, policy, trusted, rand::random()))
}

/// Checks that the bucket honours conditional writes and that its lease belongs to this database. An
/// unreachable store does not prevent the start: the guard keeps the deadline.
async fn check_store(
    settings: &Settings,
    host: &HostSettings,
    store: &LeaseStore,
) -> Result<(), Error> {
    match store.probe(host.node.name.as_str()).await {
        Ok(()) => {}
        Err(error @ LeaseStoreError::NotConditional(_)) => return Err(error.into()),
        Err(error) => warn!(%error, "lease bucket probe failed"),
    }
    let control = data_directory::read_control_file(&host.postgres.data_directory).ok();
    match store.read_lease().await {
        LeaseReadResult::Found(_, record) => {
            let system_id = control.map(|control| control.system_id);
            record
                .belongs_to(&settings.cluster, system_id)
                .map_err(Error::Foreign)
        }
        LeaseReadResult::Unusable(why) => Err(LeaseStoreError::from(why).into()),
        LeaseReadResult::Missing | LeaseReadResult::Failed => Ok(()),
    }
}

fn address_in_use(address: SocketAddr, error: &io::Error) -> Error {
    let why = format!("is {address}, which cannot be bound ({error}): is another agent running?");
    SettingsError::setting("agent.listen", why).into()
}
