//! Batching: requests of one kind that come at the same time share one statement, its round trip and, where
//! they write, its commit (group commit).
//!
//! No request waits for others. Requests that come while a statement is under way are batched for the next,
//! so a single request is not delayed.
//!
//! A row is written by one statement at a time: requests for a row that is being written wait for it. If
//! another session has locked a row, or a row violates a constraint, each row of its batch is written
//! alone, and a locked one again until it succeeds.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use causeway_runtime::retry::RetryPolicy;
use causeway_runtime::shutdown::Tasks;
use tokio::sync::{Mutex as AsyncMutex, Semaphore, mpsc, oneshot};
use tokio::time::{self, Instant};

use super::lock::lock;
use super::primary::Primary;
use super::queries::Query;
use super::query_error::QueryError;

/// The most requests in one statement: by default, all requests in flight.
const MOST: usize = 512;
/// A request with less time left is not sent with others that have more: a statement ends with the first
/// deadline of its requests.
pub(crate) const LEAST_TIME: Duration = Duration::from_millis(250);
/// The most rows that are written alone at once.
const ALONE: usize = 2;
/// The pauses before a locked row is written again.
const LOCKED: RetryPolicy = RetryPolicy::constant(Duration::from_millis(75));

/// Runs batches of one kind of request.
pub(super) trait BatchRunner: std::fmt::Debug + Send + Sync + 'static {
    const QUERY: &'static Query;

    /// The most statements under way at once.
    const STATEMENTS: usize;

    type Item: std::fmt::Debug + Send + Sync + 'static;

    type Answer: std::fmt::Debug + Send + 'static;

    /// Returns the row that a request writes, if it writes.
    fn row(item: &Self::Item) -> Option<&str>;

    /// Runs one statement for all requests, and returns an answer for each, in their order. The first
    /// request ends at `first_ends`, and the last at `deadline`.
    fn run(
        &self,
        items: Vec<&Self::Item>,
        first_ends: Instant,
        deadline: Instant,
    ) -> impl Future<Output = Result<Vec<Self::Answer>, QueryError>> + Send;
}

/// The queue of requests that are batched.
#[derive(Debug)]
pub(super) struct Batcher<R: BatchRunner> {
    pub(super) runner: R,
    // Not bounded here: the number of requests in flight is.
    queue: mpsc::UnboundedSender<Waiting<R>>,
    waiting: AsyncMutex<mpsc::UnboundedReceiver<Waiting<R>>>,
    busy: Mutex<Busy<R>>,
    batches: AtomicU64,
    alone: Semaphore,
    primary: Primary,
    tasks: Tasks,
}

/// The rows that are being written, each with the number of its batch and the requests that wait for it.
type Busy<R> = BTreeMap<String, (u64, Vec<Waiting<R>>)>;

/// A request that waits for its answer.
#[derive(Debug)]
struct Waiting<R: BatchRunner> {
    item: R::Item,
    deadline: Instant,
    answer: oneshot::Sender<Result<R::Answer, Arc<QueryError>>>,
}

impl<R: BatchRunner> Batcher<R> {
    /// Starts the tasks that run the statements.
    pub(super) fn start(runner: R, primary: &Primary, tasks: &Tasks) -> Arc<Self> {
        let (queue, waiting) = mpsc::unbounded_channel();
        let batcher = Arc::new(Self {
            runner,
            queue,
            waiting: AsyncMutex::new(waiting),
            busy: Mutex::default(),
            batches: AtomicU64::new(0),
            alone: Semaphore::new(ALONE),
            primary: primary.clone(),
            tasks: tasks.clone(),
        });
        for _ in 0..R::STATEMENTS {
            let batcher = Arc::clone(&batcher);
            tasks.start("batched requests", |stop| async move {
                stop.run_until_cancelled(batcher.work()).await;
            });
        }
        batcher
    }

    /// Runs a request in the next batch. Its write is committed when this returns.
    pub(super) async fn submit(
        &self,
        item: R::Item,
        deadline: Instant,
    ) -> Result<R::Answer, Arc<QueryError>> {
        let began = Instant::now();
        let (answer, answered) = oneshot::channel();
        let waiting = Waiting {
            item,
            deadline,
            answer,
        };
        let unanswered = || {
            let absence = self.primary.absence();
            Arc::new(absence.unwrap_or_else(|| QueryError::OutOfTime(began.elapsed())))
        };
        self.queue.send(waiting).map_err(|_closed| unanswered())?;
        match time::timeout_at(deadline, answered).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) | Err(_) => Err(unanswered()),
        }
    }

    async fn work(self: Arc<Self>) {
        loop {
            let mut waiting = Vec::new();
            let mut queue = self.waiting.lock().await;
            queue.recv_many(&mut waiting, MOST).await;
            drop(queue);
            let batch = self.claim(waiting);
            if batch.is_empty() {
                continue;
            }
            let result = self.run(&batch).await;
            // An error of one row does not concern the others.
            let is_of_one = |error: &QueryError| {
                error.is_lock_timeout() || batch.len() > 1 && error.constraint().is_some()
            };
            if matches!(&result, Err(error) if is_of_one(error)) {
                self.write_each_alone(batch);
            } else {
                self.finish(batch, result);
            }
        }
    }

    /// Makes a batch of the requests whose rows are not being written.
    fn claim(&self, mut waiting: Vec<Waiting<R>>) -> Vec<Waiting<R>> {
        let number = self.batches.fetch_add(1, Ordering::Relaxed);
        drop_expired(&mut waiting);
        let mut busy = lock(&self.busy);
        let mut batch = Vec::with_capacity(waiting.len());
        for request in waiting {
            let row = R::row(&request.item).map(str::to_owned);
            let claimed = row.map(|row| busy.entry(row).or_insert_with(|| (number, Vec::new())));
            match claimed {
                Some((by, behind)) if *by != number => behind.push(request),
                Some(_) | None => batch.push(request),
            }
        }
        batch
    }

    /// Answers a batch, and queues the requests that wait for its rows.
    fn finish(&self, batch: Vec<Waiting<R>>, result: Result<Vec<R::Answer>, QueryError>) {
        let mut busy = lock(&self.busy);
        let rows = batch.iter().filter_map(|waiting| R::row(&waiting.item));
        let behind = rows
            .filter_map(|row| busy.remove(row))
            .flat_map(|(_, behind)| behind);
        for waiting in behind.collect::<Vec<_>>() {
            // The channel is open: `self` has its receiver.
            self.queue.send(waiting).ok();
        }
        drop(busy);
        // A request that was given up needs no answer.
        match result.map_err(Arc::new) {
            Ok(answers) => {
                for (waiting, answer) in batch.into_iter().zip(answers) {
                    waiting.answer.send(Ok(answer)).ok();
                }
            }
            Err(error) => {
                for waiting in batch {
                    waiting.answer.send(Err(Arc::clone(&error))).ok();
                }
            }
        }
    }

    fn write_each_alone(self: &Arc<Self>, batch: Vec<Waiting<R>>) {
        let mut rows: BTreeMap<String, Vec<Waiting<R>>> = BTreeMap::new();
        for request in batch {
            // Reads write no row, and stay one batch.
            let row = R::row(&request.item).unwrap_or("").to_owned();
            rows.entry(row).or_default().push(request);
        }
        for (row, waiting) in rows {
            let batcher = Arc::clone(self);
            self.tasks.start("locked row", |stop| async move {
                let writing = batcher.write_alone(&row, waiting);
                stop.run_until_cancelled(writing).await;
            });
        }
    }

    /// Writes one row, with all requests for it, until that succeeds or no request has time left. Requests
    /// that come meanwhile move the deadline, so this is not `retry::until`.
    async fn write_alone(&self, row: &str, mut waiting: Vec<Waiting<R>>) {
        let mut backoff = LOCKED.backoff();
        loop {
            let turn = self.alone.acquire().await;
            {
                let mut busy = lock(&self.busy);
                waiting.extend(
                    busy.get_mut(row)
                        .into_iter()
                        .flat_map(|(_, behind)| behind.drain(..)),
                );
                drop_expired(&mut waiting);
                if waiting.is_empty() {
                    busy.remove(row);
                    return;
                }
            }
            let result = self.run(&waiting).await;
            if !matches!(&result, Err(error) if error.is_lock_timeout()) {
                return self.finish(waiting, result);
            }
            drop(turn);
            backoff.pause().await;
        }
    }

    async fn run(&self, batch: &[Waiting<R>]) -> Result<Vec<R::Answer>, QueryError> {
        let ends = || batch.iter().map(|waiting| waiting.deadline);
        let now = Instant::now();
        let (first_ends, deadline) = (ends().min().unwrap_or(now), ends().max().unwrap_or(now));
        let items = batch.iter().map(|waiting| &waiting.item).collect();
        self.runner.run(items, first_ends, deadline).await
    }
}

/// Drops requests that were given up, and those with little time left beside others, which fail.
fn drop_expired<R: BatchRunner>(waiting: &mut Vec<Waiting<R>>) {
    let now = Instant::now();
    waiting.retain(|request| !request.answer.is_closed() && request.deadline > now);
    if waiting
        .iter()
        .any(|request| request.deadline > now + LEAST_TIME)
    {
        waiting.retain(|request| request.deadline > now + LEAST_TIME);
    }
}
