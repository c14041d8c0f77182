//! The loop around the agent: what happened goes in, what to do comes out and is done.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use ha_core::agent::{Action, Agent, Duty, Event, Fenced, GuardOrder, Look, Write};
use ha_core::failover::decision::Decision;
use ha_core::failover::observation::{Directory, PeerView, ServerView};
use ha_core::guard::Server;
use ha_core::lease::Nonce;
use ha_core::{Epoch, Moment, NodeId, Timeline};
use ha_runtime::clock;
use ha_runtime::shutdown::Tasks;
use nix::sys::signal::{Signal, kill};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::config::{HostSettings, Rejoin, Settings};
use crate::data_directory;
use crate::follow::{self, Follower, Need};
use crate::guard::wire::{Order as GuardWire, Report, Request};
use crate::metrics::Metrics;
use crate::status::{GuardSeen, LeaseSeen, NodeStatus, Role, Written};
use crate::world::agents::Agents;
use crate::world::guard_link::GuardLink;
use crate::world::lease_store::LeaseStore;
use crate::world::orders::{Order, What};
use crate::world::postgres::ServerSaid;
use crate::world::route53::Records;

/// How often the loop turns when nothing happens.
const TURN: Duration = Duration::from_millis(100);

/// How old an answer of the server may be to count as its state now: three questions, or one probe
/// and the time it may take.
const FRESH: Duration = Duration::from_secs(1);
const FRESH_PROBE: Duration = Duration::from_secs(3);

/// How often a standby that does not stream is compared with its primary's history.
const COMPARE_EVERY: Duration = Duration::from_secs(2);

/// How often a record that could not be moved is tried again: Route 53 throttles at five calls a second
/// for an account.
const RECORD_EVERY: Duration = Duration::from_secs(3);

/// How long walsenders may drain when a standby is ended to be rewound.
const DRAIN: Duration = Duration::from_millis(1500);

/// An order, and where its answer goes.
pub(crate) type Asked = (Order, oneshot::Sender<Result<(), String>>);

/// What the agent shows to whoever asks over HTTP.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shown {
    pub(crate) status: Option<Arc<NodeStatus>>,
    /// Until when this node is the primary, as far as is known now.
    pub(crate) primary_until: Option<Moment>,
    pub(crate) is_standby: bool,
}

/// What the loop is connected to.
pub(crate) struct Connections {
    pub(crate) store: LeaseStore,
    pub(crate) guard: GuardLink,
    pub(crate) said: watch::Receiver<ServerSaid>,
    pub(crate) orders: mpsc::Receiver<Asked>,
    pub(crate) shown: watch::Sender<Shown>,
    pub(crate) metrics: Metrics,
    pub(crate) tasks: Tasks,
}

/// The highest record that was ever believed, as it is kept on disk.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Highest {
    pub(crate) epoch: Epoch,
    pub(crate) sequence: u64,
}

/// One node's agent at work.
pub(crate) struct Driver {
    core: Agent,
    settings: Arc<Settings>,
    host: HostSettings,
    with: Connections,
    happened: mpsc::Sender<Event>,
    /// When a server that could accept writes last proved it, or else when it became one.
    heard_at: Option<Moment>,
    following: Following,
    remembered: Epoch,
    last_said: String,
    /// The epoch under which the records were last sent on their way.
    pointed: Option<Epoch>,
}

/// What is under way to make this node follow.
#[derive(Debug, Default)]
struct Following {
    busy: Option<&'static str>,
    done: Option<oneshot::Receiver<anyhow::Result<Outcome>>>,
    compared_at: Option<Moment>,
    settled_for: Option<NodeId>,
    rewind: bool,
    rebuild: bool,
    asked: bool,
    /// The directory was rewound, or needed no rewinding, to follow this node: its control file may
    /// still say that it was a primary's.
    prepared_for: Option<NodeId>,
    failed_at: Option<Moment>,
}

#[derive(Debug)]
enum Outcome {
    Prepared(NodeId),
    Compared(Need),
}

impl Driver {
    pub(crate) fn new(
        core: Agent,
        settings: Arc<Settings>,
        host: HostSettings,
        with: Connections,
    ) -> (Self, mpsc::Receiver<Event>) {
        let (happened, happens) = mpsc::channel(64);
        let driver = Self {
            core,
            settings,
            host,
            with,
            happened,
            heard_at: None,
            following: Following::default(),
            remembered: Epoch::default(),
            last_said: String::new(),
            pointed: None,
        };
        (driver, happens)
    }

    /// Runs until told to stop. PostgreSQL goes on without the agent, until guard's deadline.
    pub(crate) async fn run(mut self, mut happens: mpsc::Receiver<Event>, stop: CancellationToken) {
        self.ask_peers();
        let mut turn = time::interval(TURN);
        turn.set_missed_tick_behavior(time::MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                Some(event) = happens.recv() => self.take_in(event),
                heard = self.with.guard.hear() => match heard {
                    Ok(report) => heard_guard(&report),
                    Err(error) => warn!(%error, "guard could not be heard"),
                },
                Some((order, answer)) = self.with.orders.recv() => {
                    let result = self.obey(&order);
                    answer.send(result).ok();
                }
                _ = turn.tick() => self.turn(),
            }
        }
    }

    fn turn(&mut self) {
        let now = clock::now();
        self.with.guard.end_if_silent();
        let look = self.look(now);
        self.take_in(Event::Looked(look.clone()));
        self.follow(now, look.server);
        let order = self.guard_order();
        self.with.guard.send(&Request {
            feed: self.core.deadline(),
            order,
        });
        self.point_records(now, &look);
        self.show(now, &look);
    }

    /// Moves the DNS records to this node once it accepts writes, and tries until it has, or until the
    /// lease is another's. Clients do not wait for it: they take several hosts.
    fn point_records(&mut self, now: Moment, look: &Look) {
        let epoch = self.core.lease(now).map(|(it, _)| it.epoch);
        if look.primary.is_none() || !self.core.is_primary(now) || self.pointed == epoch {
            return;
        }
        self.pointed = epoch;
        let (Some(dns), Some(epoch)) = (self.settings.dns.clone(), epoch) else {
            return;
        };
        let wanted = Records::wanted(&self.settings, &self.host.node);
        let shown = self.with.shown.subscribe();
        self.with.tasks.start("point records", |stop| async move {
            let records = Records::open(&dns).await;
            for (name, target) in wanted {
                while let Err(error) = records.point(&name, &target, epoch).await {
                    warn!(
                        error = format!("{error:#}"),
                        name, "a record is not moved yet"
                    );
                    let current = shown
                        .borrow()
                        .status
                        .as_ref()
                        .and_then(|it| it.lease.clone());
                    if current.is_some_and(|it| it.record.epoch != epoch) {
                        return;
                    }
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = time::sleep(RECORD_EVERY) => {}
                    }
                }
                info!(name, target, %epoch, "the record points here");
            }
        });
    }

    /// Hands an event to the core, and carries out what it answers.
    fn take_in(&mut self, event: Event) {
        let held = self.core.holds();
        let confirmed = self.core.deadline();
        let actions = self.core.handle(clock::now(), event);
        for action in actions {
            self.act(action);
        }
        if self.core.holds() != held {
            let epoch = self.core.lease(clock::now()).map(|(it, _)| it.epoch.get());
            info!(epoch, holds = self.core.holds(), "the lease changed hands");
        }
        // A renewal is worth nothing before guard knows of it.
        if self.core.deadline() != confirmed {
            let order = self.guard_order();
            self.with.guard.send(&Request {
                feed: self.core.deadline(),
                order,
            });
        }
        self.tell_decision();
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Read => self.read(),
            Action::Write(write) => self.write(*write),
            Action::Remember(epoch, sequence) => self.remember(epoch, sequence),
            Action::Alarm(alarm) => {
                self.with.metrics.alarms.inc();
                error!(error = &alarm as &dyn std::error::Error, "alarm");
            }
        }
    }

    fn read(&self) {
        let (store, happened) = (self.with.store.clone(), self.happened.clone());
        self.with.tasks.start("read lease", |_stop| async move {
            let asked_at = clock::now();
            let answer = store.read_lease().await;
            happened.send(Event::Read { asked_at, answer }).await.ok();
        });
    }

    fn write(&self, write: Write) {
        let (store, happened) = (self.with.store.clone(), self.happened.clone());
        self.with.tasks.start("write lease", |_stop| async move {
            let nonce: Nonce = write.record.nonce.clone();
            let answer = store.write_lease(&write.record, &write.condition).await;
            happened.send(Event::Wrote { nonce, answer }).await.ok();
        });
    }

    /// Keeps the highest record on disk, durably when the epoch is new: within one, the sequence only
    /// serves to notice a store that went back.
    fn remember(&mut self, epoch: Epoch, sequence: u64) {
        let path = self.host.agent.state_directory.join("highest.json");
        let written = write_highest(&path, Highest { epoch, sequence }, epoch != self.remembered);
        match written {
            Ok(()) => self.remembered = epoch,
            Err(error) => error!(
                error = format!("{error:#}"),
                "the highest record could not be kept"
            ),
        }
    }

    /// Returns what this node's server is at this moment, from what guard sees and what it says.
    fn look(&mut self, now: Moment) -> Look {
        let said = *self.with.said.borrow();
        let Some(report) = self.with.guard.report(now) else {
            return Look {
                server: ServerView::Unguarded,
                armed: None,
                wants_renewal_since: None,
                primary: None,
                silent_for: Duration::ZERO,
                starting: false,
            };
        };
        let started_at = report.started_at.unwrap_or(now);
        let fresh =
            |at: Moment, within| at.has_reached(started_at) && now.longest_since(at) < within;
        let server = match (report.server, said) {
            (Server::Ended, _) => ServerView::Ended(report.directory),
            (Server::MayWrite, _) => ServerView::MayWrite,
            (Server::Following, ServerSaid::Following(at, standby)) if fresh(at, FRESH) => {
                ServerView::Following(standby.progress)
            }
            (Server::Following | Server::Foreign, _) => ServerView::Silent,
        };
        let primary = match said {
            ServerSaid::Writing(at, primary)
                if server == ServerView::MayWrite && fresh(at, FRESH_PROBE) =>
            {
                Some(primary)
            }
            ServerSaid::Writing(..)
            | ServerSaid::Nothing
            | ServerSaid::NotYet(_)
            | ServerSaid::Following(..) => None,
        };
        // A server whose postmaster has ended is not silent: guard is sweeping up after it.
        if server != ServerView::MayWrite || report.started_at.is_none() {
            self.heard_at = None;
        } else if let ServerSaid::Writing(at, _) = said
            && at.has_reached(started_at)
        {
            self.heard_at = Some(at);
        } else if self.heard_at.is_none() {
            self.heard_at = Some(now);
        }
        let starting = match said {
            ServerSaid::NotYet(at) | ServerSaid::Following(at, _) => fresh(at, FRESH),
            ServerSaid::Nothing | ServerSaid::Writing(..) => false,
        };
        Look {
            server,
            armed: report.armed,
            wants_renewal_since: report.wants_renewal_since,
            primary,
            silent_for: self
                .heard_at
                .map_or(Duration::ZERO, |it| now.shortest_since(it)),
            starting,
        }
    }

    /// Returns the order for guard, after what has to be done before it.
    fn guard_order(&self) -> Option<GuardWire> {
        let order = match self.core.guard_order()? {
            GuardOrder::StartPrimary(epoch) => GuardWire::StartPrimary(epoch),
            GuardOrder::StartStandby => GuardWire::StartStandby,
            GuardOrder::End(drain) => {
                GuardWire::End(u64::try_from(drain.as_millis()).unwrap_or(u64::MAX))
            }
            GuardOrder::Promote(epoch, reserved) => {
                let own = match *self.with.said.borrow() {
                    ServerSaid::Following(_, standby) => standby.progress.timeline,
                    ServerSaid::Nothing | ServerSaid::NotYet(_) | ServerSaid::Writing(..) => {
                        return None;
                    }
                };
                let data = &self.host.postgres.data_directory;
                if let Err(error) = follow::fill_histories(data, own, reserved) {
                    error!(
                        error = format!("{error:#}"),
                        "the history files could not be filled"
                    );
                    return None;
                }
                GuardWire::Promote(epoch)
            }
        };
        Some(order)
    }

    /// Brings this node closer to following, if that is its duty.
    fn follow(&mut self, now: Moment, server: ServerView) {
        if self.finish_following(now) {
            return; // What `server` was seen as is no longer true.
        }
        let Duty::Follow { primary, timeline } = self.core.duty() else {
            self.following.prepared_for = None;
            return;
        };
        let recently = |it: Moment| now.longest_since(it) < COMPARE_EVERY;
        if self.following.done.is_some() || self.following.failed_at.is_some_and(recently) {
            return;
        }
        let node = primary.and_then(|it| self.settings.node(&it).cloned());
        let Some(node) = node else {
            if server == ServerView::Ended(Directory::Standby) {
                self.tell_guard(GuardWire::StartStandby);
            }
            return;
        };
        let follower = Follower {
            host: self.host.clone(),
            primary: node,
            tasks: self.with.tasks.clone(),
        };
        match server {
            ServerView::Ended(directory) => self.come_back(follower, directory),
            ServerView::Following(progress) => {
                self.following.prepared_for = None;
                let by_command = self.following.rebuild;
                if by_command {
                    self.tell_guard(GuardWire::End(1500));
                    return;
                }
                if self.following.settled_for.as_ref() != Some(&follower.primary.name) {
                    self.settle(&follower);
                }
                let due = self.following.compared_at.is_none_or(|it| !recently(it));
                if due && progress.timeline < timeline {
                    self.following.compared_at = Some(now);
                    self.compare(follower, progress, timeline);
                }
            }
            ServerView::Unguarded | ServerView::Silent | ServerView::MayWrite => {}
        }
    }

    fn come_back(&mut self, follower: Follower, directory: Directory) {
        let prepared = self.following.prepared_for.as_ref() == Some(&follower.primary.name);
        let was_primary = directory == Directory::Primary && !prepared;
        let diverged = self.following.rewind || was_primary;
        let allowed = self.settings.policy.rejoin == Rejoin::Automatic || self.following.asked;
        if diverged && !allowed {
            return;
        }
        let whole = matches!(directory, Directory::Standby | Directory::Primary);
        let ready = whole && !diverged && !self.following.rebuild;
        if ready {
            if self.settle(&follower) {
                self.tell_guard(GuardWire::StartStandby);
            }
            return;
        }
        let directory = match directory {
            Directory::Standby if self.following.rewind => Directory::Primary,
            found @ (Directory::Empty
            | Directory::Primary
            | Directory::Standby
            | Directory::Rewinding) => found,
        };
        let rebuild = self.following.rebuild;
        let primary = follower.primary.name.clone();
        self.begin("rewinding or copying the data directory", async move {
            let prepared = follower.prepare(directory, rebuild).await;
            prepared.map(|()| Outcome::Prepared(primary))
        });
    }

    fn compare(
        &mut self,
        follower: Follower,
        progress: ha_core::failover::observation::Progress,
        timeline: Timeline,
    ) {
        self.begin("comparing with the primary's history", async move {
            follower
                .need(progress, timeline)
                .await
                .map(Outcome::Compared)
        });
    }

    fn begin<F>(&mut self, what: &'static str, work: F)
    where
        F: Future<Output = anyhow::Result<Outcome>> + Send + 'static,
    {
        let (done, is_done) = oneshot::channel();
        self.following.busy = Some(what);
        self.following.done = Some(is_done);
        self.with.tasks.start("follow", |stop| async move {
            tokio::select! {
                () = stop.cancelled() => {}
                result = work => { done.send(result).ok(); }
            }
        });
    }

    /// Takes in the result of what was under way, and says whether there was one.
    fn finish_following(&mut self, now: Moment) -> bool {
        let Some(done) = &mut self.following.done else {
            return false;
        };
        let result = match done.try_recv() {
            Err(oneshot::error::TryRecvError::Empty) => return false,
            Err(oneshot::error::TryRecvError::Closed) => {
                Err(anyhow::anyhow!("the work was cut off"))
            }
            Ok(result) => result,
        };
        self.following.done = None;
        self.following.busy = None;
        self.with.guard.forget(); // Its last report shows the directory as it was before.
        match result {
            Ok(Outcome::Prepared(primary)) => {
                self.following = Following {
                    prepared_for: Some(primary),
                    ..Following::default()
                };
            }
            Ok(Outcome::Compared(Need::Ready)) => {}
            Ok(Outcome::Compared(Need::EndFirst)) => {
                self.following.rewind = true;
                self.tell_guard(GuardWire::End(
                    u64::try_from(DRAIN.as_millis()).unwrap_or(0),
                ));
            }
            Err(error) => {
                warn!(error = format!("{error:#}"), "following is tried again");
                self.following.failed_at = Some(now);
            }
        }
        true
    }

    /// Writes replication's settings, and has a running server read them.
    fn settle(&mut self, follower: &Follower) -> bool {
        match follower.settle() {
            Ok(changed) => {
                self.following.settled_for = Some(follower.primary.name.clone());
                if changed
                    && let Some(postmaster) =
                        data_directory::postmaster(&self.host.postgres.data_directory)
                {
                    kill(postmaster, Signal::SIGHUP).ok();
                }
                true
            }
            Err(error) => {
                error!(
                    error = format!("{error:#}"),
                    "replication's settings could not be written"
                );
                false
            }
        }
    }

    fn tell_guard(&self, order: GuardWire) {
        self.with.guard.send(&Request {
            feed: self.core.deadline(),
            order: Some(order),
        });
    }

    fn obey(&mut self, order: &Order) -> Result<(), String> {
        if order.cluster != self.settings.cluster || order.node != self.host.node.name {
            return Err("the order is for another node".to_owned());
        }
        let now = clock::now();
        match order.what {
            What::Take { vouched } => {
                let fenced = if vouched {
                    Fenced::Vouched
                } else {
                    Fenced::LeaseOver
                };
                let actions = self
                    .core
                    .take(now, order.planned, fenced)
                    .map_err(|it| it.to_string())?;
                for action in actions {
                    self.act(action);
                }
            }
            What::Release => self
                .core
                .release(order.planned)
                .map_err(|it| it.to_string())?,
            What::Rejoin { rebuild } => {
                if self.core.holds() {
                    return Err("this node holds the lease".to_owned());
                }
                let current = self.core.lease(now).map(|(it, _)| it.epoch);
                if current != Some(order.planned) {
                    return Err("the lease has another epoch by now: try again".to_owned());
                }
                self.following.asked = true;
                self.following.rebuild |= rebuild;
            }
        }
        info!(what = ?order.what, planned = %order.planned, "order accepted");
        Ok(())
    }

    /// Asks the other nodes once a second how far they are.
    fn ask_peers(&self) {
        let (settings, happened) = (Arc::clone(&self.settings), self.happened.clone());
        let own = self.host.node.name.clone();
        self.with.tasks.start("peers", |stop| async move {
            let agents = Agents::new();
            let mut every = time::interval(Duration::from_secs(1));
            every.set_missed_tick_behavior(time::MissedTickBehavior::Skip);
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    _ = every.tick() => {}
                }
                let statuses = agents.statuses(&settings).await;
                let others = statuses.into_iter().flatten().filter(|it| it.node != own);
                let peers = others.map(|it| PeerView {
                    node: it.node,
                    automatic: it.automatic,
                    progress: it.progress,
                });
                happened.send(Event::Heard(peers.collect())).await.ok();
            }
        });
    }

    /// Logs a decision once, when it is another than the one before.
    fn tell_decision(&mut self) {
        let (said, is_escalation) = match self.core.decision() {
            Some(Decision::Hold(ha_core::failover::decision::Hold::LeaseInForce(_))) => {
                ("the lease is in force".to_owned(), false)
            }
            Some(Decision::Hold(ha_core::failover::decision::Hold::StandsBack(_))) => {
                ("this node stands back".to_owned(), false)
            }
            Some(Decision::Hold(why)) => (why.to_string(), false),
            Some(Decision::Escalate(why)) => (why.to_string(), true),
            Some(Decision::TakeOver(taken)) => (
                format!("takes over at epoch {} ({:?})", taken.epoch, taken.how),
                false,
            ),
            None => return,
        };
        if said == self.last_said {
            return;
        }
        if is_escalation {
            self.with.metrics.alarms.inc();
            error!(reason = said, "a person is needed");
        } else {
            info!(reason = said, "decided");
        }
        self.last_said = said;
    }

    fn show(&mut self, now: Moment, look: &Look) {
        let status = self.status(now, look);
        self.with.metrics.show(&status);
        let primary_until = self
            .core
            .deadline()
            .filter(|_| self.core.is_primary(now) && look.primary.is_some())
            .map(|it| it.soft);
        let is_standby = matches!(look.server, ServerView::Following(_)) && status.streaming;
        let status = Some(Arc::new(status));
        self.with.shown.send_replace(Shown {
            status,
            primary_until,
            is_standby,
        });
    }

    fn status(&self, now: Moment, look: &Look) -> NodeStatus {
        let report = self.with.guard.report(now);
        let said = *self.with.said.borrow();
        let standby = match said {
            ServerSaid::Following(_, standby)
                if matches!(look.server, ServerView::Following(_)) =>
            {
                Some(standby)
            }
            ServerSaid::Following(..)
            | ServerSaid::Nothing
            | ServerSaid::NotYet(_)
            | ServerSaid::Writing(..) => None,
        };
        let role = match look.server {
            _ if self.core.is_primary(now) && look.primary.is_some() => Role::Primary,
            _ if self.core.holds() => Role::Promoting,
            ServerView::Following(_) => Role::Standby,
            ServerView::Unguarded
            | ServerView::Ended(_)
            | ServerView::Silent
            | ServerView::MayWrite => Role::Stopped,
        };
        let armed = report.and_then(|it| it.armed);
        let term = self.settings.timing.term;
        let lease = self.core.lease(now).map(|(record, age)| LeaseSeen {
            record: record.clone(),
            age_secs: age.as_secs_f64(),
            over: !self.core.holds()
                && (record.state == ha_core::lease::LeaseState::Released || age >= term),
        });
        NodeStatus {
            format: 1,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            node: self.host.node.name.clone(),
            region: self.host.node.region.clone(),
            zone: self.host.node.zone.clone(),
            role,
            automatic: self.settings.is_automatic(&self.host.node),
            system_id: report.and_then(|it| it.system_id),
            directory: report.map(|it| it.directory),
            server: report.map(|it| it.server),
            progress: standby.map(|it| it.progress),
            streaming: standby.is_some_and(|it| it.streaming),
            replayed_commit_at_micros: standby.and_then(|it| it.replayed_commit_at_micros),
            written: look.primary.map(|it| Written {
                timeline: it.position.timeline,
                flush_lsn: it.position.flush_lsn,
                last_commit_at_micros: it.position.last_commit_at_micros,
            }),
            lease,
            guard: GuardSeen {
                answers: report.is_some(),
                epoch: armed.map(|it| it.epoch),
                time_left_secs: armed.map_or(0.0, |it| now.time_left(it.soft).as_secs_f64()),
            },
            decision: if self.core.holds() {
                None
            } else {
                Some(self.last_said.clone())
            },
            following: self.following.busy.map(str::to_owned),
        }
    }
}

fn heard_guard(report: &Report) {
    if let Some(why) = &report.refused {
        warn!(
            why = why as &dyn std::error::Error,
            "guard did not carry out an order"
        );
    }
}

/// Reads the highest record from the state directory; nothing was believed yet if there is none.
///
/// # Errors
///
/// When the file is there and cannot be read: believing a record below it could make two primaries.
pub(crate) fn read_highest(state: &Path) -> anyhow::Result<Highest> {
    let path = state.join("highest.json");
    let text = match std::fs::read_to_string(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Highest::default()),
        read => read.with_context(|| format!("could not read `{}`", path.display()))?,
    };
    let hint =
        "is not what the agent wrote; restore it, or remove it once you know the lease's epoch";
    serde_json::from_str(&text).with_context(|| format!("`{}` {hint}", path.display()))
}

fn write_highest(path: &Path, highest: Highest, durable: bool) -> anyhow::Result<()> {
    let text = serde_json::to_string(&highest)?;
    if durable {
        return follow::write_private(path, &text);
    }
    let temporary = path.with_extension("new");
    std::fs::write(&temporary, text)?;
    std::fs::rename(&temporary, path)?;
    Ok(())
}
