//! Writes of one kind that come at the same time, in one statement: they share its commit.
//!
//! Nobody waits for company. While one statement is on its way, whatever comes in the meantime is
//! gathered for the next, so a single write is as quick as ever, and many are as many as fit.

use std::sync::Arc;

use ha_runtime::shutdown::Tasks;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::{self, Instant};

use super::Store;
use super::failure::Failure;
use super::queries::Query;
use crate::trace;

/// The most writes in one statement: enough for every request that is worked on at once, by default,
/// and still a small statement.
const MOST: usize = 512;
/// The statements on their way at once: one waits for its commit while another is made up.
const STATEMENTS: usize = 2;

/// What can be gathered.
pub(super) trait Item: Send + Sync + 'static {
    /// The statement that writes it.
    const QUERY: &'static Query;

    /// Writes them all, or none.
    fn write(
        items: Vec<&Self>,
        store: &Store,
        deadline: Instant,
    ) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// The place where writes are handed in.
#[derive(Debug)]
pub(super) struct Gather<T> {
    // As many wait as there are requests, and no more: those are limited at the edge.
    queue: mpsc::UnboundedSender<Waiting<T>>,
}

/// The other end of it.
pub(super) type Queue<T> = Arc<Mutex<mpsc::UnboundedReceiver<Waiting<T>>>>;

/// One write, and who waits for it.
#[derive(Debug)]
pub(super) struct Waiting<T> {
    item: T,
    deadline: Instant,
    answer: oneshot::Sender<Result<(), Arc<Failure>>>,
}

impl<T> Clone for Gather<T> {
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

    /// Writes `item` with whatever else is there. When this returns, it has been committed.
    pub(super) async fn submit(&self, item: T, deadline: Instant) -> Result<(), Arc<Failure>> {
        let mut span = trace::statement(T::QUERY.name);
        let began = Instant::now();
        let (answer, answered) = oneshot::channel();
        let waiting = Waiting {
            item,
            deadline,
            answer,
        };
        let unanswered = || Arc::new(Failure::Unanswered(began.elapsed()));
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

/// Starts writing what is handed in.
pub(super) fn start<T: Item>(queue: &Queue<T>, store: &Store, tasks: &Tasks) {
    for _ in 0..STATEMENTS {
        let (queue, store) = (Arc::clone(queue), store.clone());
        tasks.start("gathered writes", |stop| async move {
            tokio::select! {
                () = write_all(&queue, &store) => {}
                () = stop.cancelled() => {}
            }
        });
    }
}

async fn write_all<T: Item>(queue: &Queue<T>, store: &Store) {
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
        let result = T::write(items, store, deadline).await.map_err(Arc::new);
        for waiting in gathered {
            // Whoever has gone in the meantime needs no answer.
            waiting.answer.send(result.clone()).ok();
        }
    }
}
