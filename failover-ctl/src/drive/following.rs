//! What the loop does so that this node follows: settings, a rewind, a new copy, one at a time and in the
//! background.

use std::time::Duration;

use ha_core::agent::Duty;
use ha_core::failover::observation::{Directory, Progress, ServerView};
use ha_core::problem::Problem;
use ha_core::{Moment, NodeId, Timeline};
use nix::sys::signal::{Signal, kill};
use tokio::sync::oneshot;
use tracing::{error, warn};

use super::Driver;
use crate::config::Rejoin;
use crate::data_directory;
use crate::follow::{Follower, Need};
use crate::guard::wire::Order as GuardWire;

/// How often a standby that does not stream is compared with its primary's history.
const COMPARE_EVERY: Duration = Duration::from_secs(2);

/// How long walsenders may drain when a standby is ended to be rewound.
const DRAIN: Duration = Duration::from_millis(1500);

/// What is under way to make this node follow.
#[derive(Debug, Default)]
pub(super) struct Following {
    pub(super) busy: Option<&'static str>,
    done: Option<oneshot::Receiver<anyhow::Result<Outcome>>>,
    compared_at: Option<Moment>,
    settled_for: Option<NodeId>,
    rewind: bool,
    pub(super) rebuild: bool,
    pub(super) asked: bool,
    /// The directory was rewound, or needed no rewinding, to follow this node: its control file may
    /// still say that it was a primary's.
    prepared_for: Option<NodeId>,
    failed_at: Option<Moment>,
}

#[derive(Debug)]
pub(super) enum Outcome {
    Prepared(NodeId),
    Compared(Need),
}

impl Following {
    /// Returns what keeps this node from following.
    #[expect(
        clippy::unused_self,
        reason = "what is known of following is told here"
    )]
    pub(super) fn problems(&self, _now: Moment) -> Vec<Problem> {
        Vec::new()
    }
}

impl Driver {
    /// Brings this node closer to following, if that is its duty.
    pub(super) fn follow(&mut self, now: Moment, server: ServerView) {
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

    fn compare(&mut self, follower: Follower, progress: Progress, timeline: Timeline) {
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
}
