//! `failover-ctl agent`: runs the agent until told to stop.

use std::fs;
use std::io;
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
use crate::agent::status_snapshot::StatusSnapshot;
use crate::clients::guard_client::GuardClient;
use crate::clients::lease_store::{LeaseStore, LeaseStoreError};
use crate::clients::postgres::{self, PostgresState};
use crate::config::{HostSettings, Settings, SettingsError};
use crate::data_directory;
use crate::error::Error;
use crate::highest_record;
use crate::process_lock;
use crate::protocol::signed_command::CommandSigningKey;

/// How long tasks may take to end. None of them holds anything that PostgreSQL or its clients need.
const GRACE: Duration = Duration::from_secs(2);

/// Runs the agent. Everything that can be wrong is found before anything is changed.
pub(crate) async fn run(settings: Settings, key_from_stdin: bool) -> Result<(), Error> {
    // PostgreSQL runs as the same user, and whoever reads files through it must not read this memory.
    prctl::set_dumpable(false).context("could not close `/proc/self` to others")?;
    let host = settings.this_host()?.clone();
    let node = host.node.clone();
    let key = if key_from_stdin {
        CommandSigningKey::from_stdin()?
    } else {
        CommandSigningKey::read(&settings.command_signing_key_file)?
    };
    check_data_directory(&host)?;
    let state = &host.agent.state_directory;
    fs::create_dir_all(state).with_context(|| format!("could not make `{}`", state.display()))?;
    let _only_one = process_lock::lock(&state.join("agent.lock"), "agent")?;
    let highest = highest_record::read(state)?;
    let listen = host.agent.listen.unwrap_or(node.agent);
    let listener = TcpListener::bind(listen)
        .await
        .map_err(|error| in_use(listen, &error))?;
    let guard = GuardClient::open(&host).with_context(|| {
        let directory = host.guard.runtime_directory.display();
        format!("could not listen in `{directory}`: start guard first, which makes it")
    })?;
    let store = LeaseStore::open(&settings).await;
    check_store(&settings, &host, &store).await?;

    let identity = AgentIdentity {
        cluster: settings.cluster.clone(),
        node: node.name.clone(),
        host_id: host_id::read(host.agent.host_id_file.as_deref())?,
        boot_id: clock::boot_id().context("could not read the boot id")?,
        members: settings.nodes.iter().map(|node| node.name.clone()).collect(),
    };
    let trusted = (highest.epoch, highest.sequence);
    let core = Agent::new(identity, settings.for_agent(&node), trusted, rand::random());

    let tasks = Tasks::new();
    let registry =
        http::registry(&settings.cluster, &node).context("the metrics have no labels")?;
    let metrics = Metrics::new(&registry).context("the metrics could not be made")?;
    let evicted = metrics.evicted.clone();
    let (said, says) = watch::channel(PostgresState::default());
    let (show, shown) = watch::channel(StatusSnapshot::default());
    let (ordered, orders) = mpsc::channel(8);
    let with = AgentConnections {
        store,
        guard,
        said: says,
        orders,
        shown: show,
        metrics,
        tasks: tasks.clone(),
    };
    let settings = Arc::new(settings);
    let (driver, happens) = AgentLoop::new(core, highest, settings, host.clone(), with);

    let for_watch = tasks.clone();
    tasks.start("watch", |stop| {
        postgres::watch(host.postgres.clone(), said, for_watch, stop)
    });
    tasks.start("drive", |stop| driver.run(happens, stop));
    let front = HttpState {
        shown,
        commands: ordered,
        key,
    };
    let routes = http::routes(front, registry);
    let connections = tasks.clone();
    tasks.start("http", |stop| async move {
        serve(
            listener,
            routes,
            ConnectionLimits::default(),
            evicted,
            connections,
            stop,
        )
        .await;
    });
    info!(node = %node.name, %listen, version = env!("CARGO_PKG_VERSION"), "agent started");
    tasks
        .run_until_signalled(GRACE)
        .await
        .context("could not handle signals")?;
    info!("agent stopped, PostgreSQL running until the guard's deadline");
    Ok(())
}

/// Checks that the bucket can keep a lease, and that the lease in it is this database's. A store that
/// does not answer now is no reason to stay down: the deadline is guard's.
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
    let control = data_directory::control(&host.postgres.data_directory).ok();
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

/// Checks that the data directory, if it is one, is of the release whose programs are set.
fn check_data_directory(host: &HostSettings) -> Result<(), Error> {
    let data = &host.postgres.data_directory;
    let version = fs::read_to_string(data.join("PG_VERSION"));
    let entries = fs::read_dir(data).map_or(0, Iterator::count);
    match version {
        Ok(version) => {
            let program = host.program("postgres");
            let said = std::process::Command::new(&program)
                .arg("--version")
                .output()
                .with_context(|| {
                    format!(
                        "could not run `{}`: check `postgres.bin-directory`",
                        program.display()
                    )
                })?;
            let said = String::from_utf8_lossy(&said.stdout).into_owned();
            let major = format!(" {}", version.trim());
            let matches = said
                .split(['.', '\n', '\r'])
                .next()
                .is_some_and(|word| word.ends_with(&major));
            if !matches {
                let why = format!(
                    "is PostgreSQL {}, and the data directory is of release {}",
                    said.trim(),
                    version.trim()
                );
                return Err(SettingsError::setting("postgres.bin-directory", why).into());
            }
            Ok(())
        }
        Err(_) if entries == 0 || host.rewinding_marker().exists() => Ok(()),
        Err(_) => {
            let why = format!(
                "is `{}`, which holds files and is not a data directory: name the right one, or an empty one to be \
                 filled",
                data.display()
            );
            Err(SettingsError::setting("postgres.data-directory", why).into())
        }
    }
}

fn in_use(listen: std::net::SocketAddr, error: &io::Error) -> Error {
    SettingsError::setting(
        "agent.listen",
        format!("is {listen}, which cannot be listened on ({error}): is another agent running?"),
    )
    .into()
}
