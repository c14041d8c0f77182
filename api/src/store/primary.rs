//! Who the primary is. One task asks the servers, so that a thousand requests need not.
//!
//! While a primary is known it is asked once a second whether it still takes writes. Whoever finds it
//! gone says so with [`Primary::heed`]; then every server is asked at once, over and over, and the
//! first that takes writes is the primary. Requests wait for that, and are woken by it.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use ha_runtime::shutdown::Tasks;
use tokio::sync::watch;
use tokio::time::{self, Instant};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::connect::{Address, Answer, ConnectError, Connection, Connector};
use super::failure::{Failure, Meaning};
use crate::config::Server;
use crate::metrics::Metrics;

/// How often a primary that is known is asked whether it still is one.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// How long its answer may take before others are asked too. A frozen server is suspected after at
/// most `ASK_EVERY` and this.
const ASK_TIMEOUT: Duration = Duration::from_secs(1);
/// How often a standby is asked whether it has been promoted: a promotion is seen after at most this.
const STANDBY_POLL: Duration = Duration::from_millis(25);
/// How long one standby's connection is asked before its name is resolved again.
const RESOLVE_EVERY: Duration = Duration::from_secs(1);
/// The pause before a server that refused is tried again, and how much chance adds to it.
const REFUSED_PAUSE: Duration = Duration::from_millis(40);
/// How often the time without a primary is added to its metric.
const COUNT_EVERY: Duration = Duration::from_millis(500);

/// A server that accepts writes, or did when it was last asked.
#[derive(Debug)]
pub(super) struct Known {
    /// Rises whenever connections that were opened before must not be used again.
    pub(super) generation: u64,
    /// Where it is.
    pub(super) address: Address,
    /// Which run of the server it is.
    started_at: String,
    /// Ends every connection of this generation.
    pub(super) ends: CancellationToken,
}

/// What is known about the primary.
#[derive(Clone, Debug)]
pub(super) enum View {
    /// It answers and accepts writes.
    Known(Arc<Known>),
    /// It has not answered in time. Others are asked too, and nothing new is sent to it.
    Suspected(Arc<Known>),
    /// There is none.
    Searching {
        /// Whether some server answers.
        read_only: bool,
    },
}

/// The place where the primary is looked up, reported missing, and found again.
#[derive(Clone, Debug)]
pub(super) struct Primary {
    view: Arc<watch::Sender<View>>,
    /// The last primary that was found: what identifies this run of its server. Empty before the first.
    found: Arc<watch::Sender<String>>,
    last_writable: Arc<Mutex<Instant>>,
    /// When the primary that is known came, or came back to its senses.
    came: Arc<Mutex<Instant>>,
    /// Why each server cannot be used, as it was last seen.
    troubles: Arc<Mutex<BTreeMap<String, String>>>,
}

impl Primary {
    /// Starts looking for the primary, and never stops.
    pub(super) fn start(
        servers: Vec<Server>,
        connector: Connector,
        metrics: Metrics,
        tasks: &Tasks,
    ) -> Self {
        let (view, _) = watch::channel(View::Searching { read_only: false });
        let primary = Self {
            view: Arc::new(view),
            found: Arc::new(watch::Sender::new(String::new())),
            last_writable: Arc::new(Mutex::new(Instant::now())),
            came: Arc::new(Mutex::new(Instant::now())),
            troubles: Arc::default(),
        };
        let keeper = Keeper {
            servers,
            connector,
            metrics,
            primary: primary.clone(),
            before: None,
        };
        tasks.start("primary", |stop| async move {
            tokio::select! {
                never = keeper.run() => match never {},
                () = stop.cancelled() => {}
            }
        });
        primary
    }

    /// Returns the primary, waiting for one until `deadline`.
    pub(super) async fn known(&self, deadline: Instant) -> Result<Arc<Known>, Failure> {
        if let View::Known(known) = &*self.view.borrow() {
            return Ok(Arc::clone(known));
        }
        let mut view = self.view.subscribe();
        let mut read_only = false;
        loop {
            match &*view.borrow_and_update() {
                View::Known(known) => return Ok(Arc::clone(known)),
                View::Suspected(_) => {}
                View::Searching { read_only: seen } => read_only = *seen,
            }
            match time::timeout_at(deadline, view.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return Err(Failure::NoPrimary { read_only }),
            }
        }
    }

    /// Returns why nothing can be sent to the primary now, or `None` if it can.
    pub(super) fn absence(&self) -> Option<Failure> {
        match &*self.view.borrow() {
            View::Known(_) => None,
            View::Suspected(_) => Some(Failure::NoPrimary { read_only: false }),
            View::Searching { read_only } => Some(Failure::NoPrimary {
                read_only: *read_only,
            }),
        }
    }

    /// Returns since when statements could be sent to the primary, which is now if they cannot be.
    pub(super) fn well_since(&self) -> Instant {
        match self.absence() {
            None => *lock(&self.came),
            Some(_) => Instant::now(),
        }
    }

    /// Returns whether the primary of `generation` is still believed in.
    pub(super) fn is_known(&self, generation: u64) -> bool {
        matches!(&*self.view.borrow(), View::Known(it) if it.generation == generation)
    }

    /// Returns what identifies the run of the last primary that was found.
    pub(super) fn found(&self) -> watch::Receiver<String> {
        self.found.subscribe()
    }

    /// Returns what is known now.
    pub(super) fn view(&self) -> View {
        self.view.borrow().clone()
    }

    /// Returns how long ago a server last said that it accepts writes.
    pub(super) fn away_for(&self) -> Duration {
        lock(&self.last_writable).elapsed()
    }

    /// Returns why each server cannot be used, as it was last seen.
    pub(super) fn troubles(&self) -> String {
        let troubles = lock(&self.troubles);
        let each = troubles.iter().map(|(it, why)| format!("{it}: {why}"));
        each.collect::<Vec<_>>().join("; ")
    }

    /// Draws the conclusion from a failure on a connection of `generation`.
    pub(super) fn heed(&self, generation: u64, meaning: Meaning) {
        match meaning {
            Meaning::ServerLost => self.leave(generation, false),
            Meaning::ServerReadOnly => self.leave(generation, true),
            Meaning::ServerSilent => self.suspect(generation),
            Meaning::ConnectionSpent | Meaning::Passing | Meaning::Final | Meaning::Bug => {}
        }
    }

    /// Gives up the primary of `generation`: it is gone, or accepts no writes. If there is another
    /// by now, nothing happens.
    fn leave(&self, generation: u64, read_only: bool) {
        self.view.send_if_modified(|view| match view {
            View::Known(known) | View::Suspected(known) if known.generation == generation => {
                *view = View::Searching { read_only };
                true
            }
            View::Known(_) | View::Suspected(_) | View::Searching { .. } => false,
        });
    }

    /// Says that the primary of `generation` does not answer.
    fn suspect(&self, generation: u64) {
        self.view.send_if_modified(|view| match view {
            View::Known(known) if known.generation == generation => {
                *view = View::Suspected(Arc::clone(known));
                true
            }
            View::Known(_) | View::Suspected(_) | View::Searching { .. } => false,
        });
    }

    fn answered(&self, generation: u64) {
        *lock(&self.last_writable) = Instant::now();
        self.view.send_if_modified(|view| match view {
            View::Suspected(known) if known.generation == generation => {
                *lock(&self.came) = Instant::now();
                *view = View::Known(Arc::clone(known));
                true
            }
            View::Known(_) | View::Suspected(_) | View::Searching { .. } => false,
        });
    }

    fn some_server_answers(&self) {
        self.view.send_if_modified(|view| match view {
            View::Searching { read_only } if !*read_only => {
                *read_only = true;
                true
            }
            View::Known(_) | View::Suspected(_) | View::Searching { .. } => false,
        });
    }
}

/// The task that asks.
struct Keeper {
    servers: Vec<Server>,
    connector: Connector,
    metrics: Metrics,
    primary: Primary,
    /// The primary before the one that is looked for.
    before: Option<Arc<Known>>,
}

/// A server that accepts writes, and the connection on which it said so.
struct Found {
    address: Address,
    answer: Answer,
    connection: Connection,
    ends: CancellationToken,
}

impl Keeper {
    async fn run(mut self) -> Infallible {
        let mut found = self.search().await;
        loop {
            self.publish(&found);
            found = match self.watch(&found).await {
                Some(found) => found,
                None => self.search().await,
            };
        }
    }

    /// Makes what was found the primary.
    fn publish(&mut self, found: &Found) {
        let generation = self.before.as_ref().map_or(1, |it| it.generation + 1);
        let known = Arc::new(Known {
            generation,
            address: found.address.clone(),
            started_at: found.answer.started_at.clone(),
            ends: found.ends.clone(),
        });
        let before = self.before.replace(Arc::clone(&known));
        let moved = before
            .as_ref()
            .is_some_and(|it| it.address != known.address);
        if moved {
            self.metrics.db_failovers.inc();
        }
        info!(address = %known.address, generation, moved, "primary found");
        lock(&self.primary.troubles).clear();
        *lock(&self.primary.last_writable) = Instant::now();
        *lock(&self.primary.came) = Instant::now();
        let silent = matches!(self.primary.view(), View::Suspected(_));
        self.primary
            .view
            .send_replace(View::Known(Arc::clone(&known)));
        // Afterwards, so that no row of the server before is cached as one of this server.
        self.primary.found.send_replace(known.started_at.clone());
        // What waits on a server that answers may still be answered; what waits on one that does
        // not, or that has been replaced, is better repeated.
        if let Some(before) = before {
            let same_run = !moved && before.started_at == found.answer.started_at;
            if silent || !same_run {
                before.ends.cancel();
            }
        }
    }

    /// Asks the primary until it has to be left. Returns another if one was found on the way.
    async fn watch(&self, found: &Found) -> Option<Found> {
        let known = self.before.as_ref()?;
        let generation = known.generation;
        let mut view = self.primary.view.subscribe();
        loop {
            let now = view.borrow_and_update().clone();
            match now {
                View::Known(_) => {
                    tokio::select! {
                        () = time::sleep(ASK_EVERY) => {}
                        _ = view.changed() => continue,
                    }
                    match time::timeout(ASK_TIMEOUT, found.connection.ask()).await {
                        Ok(answer) => self.judge(generation, answer),
                        Err(_elapsed) => {
                            warn!(address = %known.address, "primary does not answer");
                            self.primary.suspect(generation);
                        }
                    }
                }
                View::Suspected(_) => {
                    tokio::select! {
                        answer = found.connection.ask() => self.judge(generation, answer),
                        other = self.search() => return Some(other),
                        _ = view.changed() => {}
                    }
                }
                View::Searching { .. } => return None,
            }
        }
    }

    fn judge(&self, generation: u64, answer: Result<Answer, tokio_postgres::Error>) {
        match answer {
            Ok(answer) if answer.writable => self.primary.answered(generation),
            Ok(_read_only) => {
                warn!(generation, "primary accepts no writes any more");
                self.primary.leave(generation, true);
            }
            Err(error) => {
                warn!(generation, %error, "primary is gone");
                self.primary.leave(generation, false);
            }
        }
    }

    /// Asks every server at once until one accepts writes.
    async fn search(&self) -> Found {
        let mut servers: FuturesUnordered<_> =
            self.servers.iter().map(|it| self.ask_server(it)).collect();
        loop {
            let began = Instant::now();
            let next = time::timeout(COUNT_EVERY, servers.next()).await;
            if matches!(self.primary.view(), View::Searching { read_only: true }) {
                let seconds = began.elapsed().as_secs_f64();
                self.metrics.db_read_only_seconds.inc_by(seconds);
            }
            if let Ok(Some(found)) = next {
                return found;
            }
        }
    }

    /// Asks one server, under every address that its name has, until it accepts writes.
    async fn ask_server(&self, server: &Server) -> Found {
        loop {
            match self.connector.resolve(server).await {
                Ok(addresses) => {
                    let mut asked: FuturesUnordered<_> =
                        addresses.iter().map(|it| self.ask_address(it)).collect();
                    while let Some(result) = asked.next().await {
                        match result {
                            Ok(found) => return found,
                            Err(why) => self.note(server, &why),
                        }
                    }
                }
                Err(error) => self.note(server, &NotPrimary::Away(error)),
            }
            time::sleep(REFUSED_PAUSE.mul_f64(rand::random_range(0.5..1.5))).await;
        }
    }

    /// Asks the server at one address until it accepts writes, ends the connection, or has been
    /// asked for as long as its name is believed.
    async fn ask_address(&self, address: &Address) -> Result<Found, NotPrimary> {
        let ends = CancellationToken::new();
        let (connection, mut answer) = self.connector.connect(address, &ends).await?;
        let until = Instant::now() + RESOLVE_EVERY;
        while !answer.writable {
            self.primary.some_server_answers();
            if Instant::now() >= until {
                return Err(NotPrimary::ReadOnly);
            }
            time::sleep(STANDBY_POLL).await;
            let asked = time::timeout(ASK_TIMEOUT, connection.ask()).await;
            answer = asked
                .map_err(|_elapsed| ConnectError::OutOfTime(ASK_TIMEOUT))?
                .map_err(ConnectError::Refused)?;
        }
        Ok(Found {
            address: address.clone(),
            answer,
            connection,
            ends,
        })
    }

    fn note(&self, server: &Server, why: &NotPrimary) {
        let text = match why {
            NotPrimary::ReadOnly => "it accepts no writes".to_owned(),
            NotPrimary::Away(error) => ha_runtime::telemetry::chain(error),
        };
        debug!(
            host = server.host,
            port = server.port,
            why = text,
            "not the primary"
        );
        let name = format!("`{}:{}`", server.host, server.port);
        lock(&self.primary.troubles).insert(name, text);
    }
}

/// Why a server is not the primary.
enum NotPrimary {
    ReadOnly,
    Away(ConnectError),
}

impl From<ConnectError> for NotPrimary {
    fn from(error: ConnectError) -> Self {
        Self::Away(error)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
