//! What one connection is doing, for those who look at it from different sides: the service that
//! answers, the wire that waits, and whoever needs its place.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// What one connection is doing.
#[derive(Debug)]
pub(super) struct Progress {
    /// When it was accepted.
    pub(super) began: Instant,
    /// Whether it is on a place of the reserve, which is had for one request.
    pub(super) is_spare: bool,
    stage: AtomicU8,
    /// Since when it waits, in milliseconds after it began.
    waits_since: AtomicU64,
    has_asked: AtomicBool,
    is_closing: AtomicBool,
    is_unwanted: AtomicBool,
    told: Notify,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Stage {
    /// For a request, or the rest of its head.
    Waiting,
    /// On a request, which may still have a body to come.
    Working,
    /// An answer is being written.
    Answering,
}

impl Progress {
    pub(super) fn new(is_spare: bool) -> Self {
        Self {
            began: Instant::now(),
            is_spare,
            stage: AtomicU8::new(Stage::Waiting as u8),
            waits_since: AtomicU64::new(0),
            has_asked: AtomicBool::new(false),
            is_closing: AtomicBool::new(false),
            is_unwanted: AtomicBool::new(false),
            told: Notify::new(),
        }
    }

    pub(super) fn stage(&self) -> Stage {
        match self.stage.load(Ordering::Relaxed) {
            0 => Stage::Waiting,
            1 => Stage::Working,
            _ => Stage::Answering,
        }
    }

    pub(super) fn works(&self) {
        self.has_asked.store(true, Ordering::Relaxed);
        self.stage.store(Stage::Working as u8, Ordering::Relaxed);
    }

    pub(super) fn answers(&self) {
        self.stage.store(Stage::Answering as u8, Ordering::Relaxed);
    }

    pub(super) fn waits(&self, now: Instant) {
        let since = now.saturating_duration_since(self.began).as_millis();
        let since = u64::try_from(since).unwrap_or(u64::MAX);
        self.waits_since.store(since, Ordering::Relaxed);
        self.stage.store(Stage::Waiting as u8, Ordering::Relaxed);
    }

    /// Returns for how long it has waited for a request, if it does.
    pub(super) fn waiting_for(&self, now: Instant) -> Option<Duration> {
        let since = Duration::from_millis(self.waits_since.load(Ordering::Relaxed));
        (self.stage() == Stage::Waiting).then(|| now.saturating_duration_since(self.began + since))
    }

    /// Returns whether there has been a request.
    pub(super) fn has_asked(&self) -> bool {
        self.has_asked.load(Ordering::Relaxed)
    }

    /// Ends the connection once the request that is on it has been answered. One that has arrived
    /// by now, or of which a part has, is on it.
    pub(super) fn close_soon(&self) {
        self.is_closing.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::Relaxed)
    }

    /// Tells the connection that somebody else needs its place.
    pub(super) fn give_way(&self) {
        self.is_unwanted.store(true, Ordering::Relaxed);
        self.told.notify_one();
    }

    /// Waits until somebody else needs its place.
    pub(super) async fn unwanted(&self) {
        self.told.notified().await;
    }

    pub(super) fn is_unwanted(&self) -> bool {
        self.is_unwanted.load(Ordering::Relaxed)
    }
}
