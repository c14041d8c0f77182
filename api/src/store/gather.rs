//! Requests of one kind that come at the same time, in one statement: they share its way to the server
//! and back, and, where they write, its commit.
//!
//! Nobody waits for company. While one statement is on its way, whatever comes in the meantime is
//! gathered for the next, so a single request is as quick as ever, and many are as many as fit.

use std::sync::Arc;

use ha_runtime::shutdown::Tasks;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::{self, Instant};

use super::Store;
use super::failure::Failure;
use super::primary::Primary;
use super::queries::Query;
use crate::trace;

/// The most requests in one statement: enough for every request that is worked on at once, by default,
/// and still a small statement.
const MOST: usize = 512;

/// What can be gathered.
pub(super) trait Item: Send + Sync + 'static {
    /// The statement.
    const QUERY: &'static Query;

    /// The most of them on their way at once, each for what has come meanwhile.
    const STATEMENTS: usize;

    /// What each of them is answered.
    type Answer: Send + 'static;

    /// Asks the server for all of them at once, and returns an answer for each, in their order.
    fn run(
        items: Vec<&Self>,
        store: &Store,
        deadline: Instant,
    ) -> impl Future<Output = Result<Vec<Self::Answer>, Failure>> + Send;
}

/// The place where requests are handed in.
#[derive(Debug)]
pub(super) struct Gather<T: Item> {
    // As many wait as there are requests, and no more: those are limited at the edge.
    queue: mpsc::UnboundedSender<Waiting<T>>,
}

/// The other end of it.
pub(super) type Queue<T> = Arc<Mutex<mpsc::UnboundedReceiver<Waiting<T>>>>;

/// One request, and who waits for its answer.
#[derive(Debug)]
pub(super) struct Waiting<T: Item> {
    item: T,
    deadline: Instant,
    answer: oneshot::Sender<Result<T::Answer, Arc<Failure>>>,
}

impl<T: Item> Clone for Gather<T> {
    fn clone(&self) -> Self {
        Self {
            queue: self.queue.clone(),
        }
    }
}

impl<T: Item> Gather<T> {
    pub(super) fn new() -> (Self, Queue<T>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self { queue: sender }, Arc::new(Mutex::new(receiver)))
    }

    /// Asks for `item` with whatever else is there. What it writes has been committed when this returns.
    pub(super) async fn submit(
        &self,
        item: T,
        deadline: Instant,
        primary: &Primary,
    ) -> Result<T::Answer, Arc<Failure>> {
        let mut span = trace::statement(T::QUERY.name);
        let began = Instant::now();
        let (answer, answered) = oneshot::channel();
        let waiting = Waiting {
            item,
            deadline,
            answer,
        };
        let unanswered = || {
            let absence = primary.absence();
            Arc::new(absence.unwrap_or_else(|| Failure::OutOfTime(began.elapsed())))
        };
        self.queue.send(waiting).map_err(|_closed| unanswered())?;
        let result = match time::timeout_at(deadline, answered).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) | Err(_) => Err(unanswered()),
        };
        if let Err(failure) = &result {
            span.failed(failure.sqlstate_class());
        }
        result
    }
}

/// Starts working on what is handed in.
pub(super) fn start<T: Item>(queue: &Queue<T>, store: &Store, tasks: &Tasks) {
    for _ in 0..T::STATEMENTS {
        let (queue, store) = (Arc::clone(queue), store.clone());
        tasks.start("gathered requests", |stop| async move {
            tokio::select! {
                () = work(&queue, &store) => {}
                () = stop.cancelled() => {}
            }
        });
    }
}

async fn work<T: Item>(queue: &Queue<T>, store: &Store) {
    loop {
        let mut gathered = Vec::new();
        if queue.lock().await.recv_many(&mut gathered, MOST).await == 0 {
            return;
        }
        // Nobody waits any more for those whose request has ended.
        gathered.retain(|it| !it.answer.is_closed());
        let Some(deadline) = gathered.iter().map(|it| it.deadline).max() else {
            continue;
        };
        let items: Vec<&T> = gathered.iter().map(|it| &it.item).collect();
        match T::run(items, store, deadline).await {
            Ok(answers) => {
                for (waiting, answer) in gathered.into_iter().zip(answers) {
                    // Whoever has gone in the meantime needs no answer.
                    waiting.answer.send(Ok(answer)).ok();
                }
            }
            Err(failure) => {
                let failure = Arc::new(failure);
                for waiting in gathered {
                    waiting.answer.send(Err(Arc::clone(&failure))).ok();
                }
            }
        }
    }
}
