//! Requests of one kind that come at the same time, in one statement: they share its way to the server
//! and back, and, where they write, its commit.
//!
//! No request waits for company. While one statement is on its way, whatever comes in the meantime is
//! batched for the next, so a single request is as quick as ever, and many are as many as fit.
//!
//! A row is written by one statement at a time: requests for a row that is being written wait for the
//! end of that. If another session has locked a row, or a row breaks a rule of the table, each row of its
//! batch is written alone, and a locked one until it can be.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use causeway_runtime::shutdown::Tasks;
use tokio::sync::{Mutex as AsyncMutex, Semaphore, mpsc, oneshot};
use tokio::time::{self, Instant};

use super::lock::lock;
use super::primary::Primary;
use super::queries::Query;
use super::query_error::QueryError;

/// The most requests in one statement: enough for every request that is worked on at once, by default,
/// and still a small statement.
const MOST: usize = 512;
/// A request that has less time left is not sent with others that have more: a statement is only good
/// for as long as all of its requests have.
pub(crate) const LEAST_TIME: Duration = Duration::from_millis(250);
/// The most rows that are written alone at once.
const ALONE: usize = 2;
/// The pause before a row that is locked is tried again, of which chance takes up to a half.
const LOCKED_PAUSE: Duration = Duration::from_millis(100);

/// Runs batches of one kind of request.
pub(super) trait BatchRunner: std::fmt::Debug + Send + Sync + 'static {
    /// The statement.
    const QUERY: &'static Query;

    /// The most of them on their way at once, each for what has come meanwhile.
    const STATEMENTS: usize;

    /// A request.
    type Item: std::fmt::Debug + Send + Sync + 'static;

    /// The answer to one.
    type Answer: std::fmt::Debug + Send + 'static;

    /// Returns the row that a request writes, if it does.
    fn row(item: &Self::Item) -> Option<&str>;

    /// Asks the server for all of them at once, and returns an answer for each, in their order. The
    /// first request ends at `first_ends`, and the last at `deadline`.
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
    // As many wait as there are requests, and no more: those are limited at the edge.
    queue: mpsc::UnboundedSender<Waiting<R>>,
    waiting: AsyncMutex<mpsc::UnboundedReceiver<Waiting<R>>>,
    busy: Mutex<Busy<R>>,
    batches: AtomicU64,
    alone: Semaphore,
    primary: Primary,
    tasks: Tasks,
}

/// The rows that are being written, each with the batch that does it and what waits for its end.
type Busy<R> = BTreeMap<String, (u64, Vec<Waiting<R>>)>;

/// One request, and who waits for its answer.
#[derive(Debug)]
struct Waiting<R: BatchRunner> {
    item: R::Item,
    deadline: Instant,
    answer: oneshot::Sender<Result<R::Answer, Arc<QueryError>>>,
}

impl<R: BatchRunner> Batcher<R> {
    /// Starts working on what is handed in.
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

    /// Asks for `item` with whatever else is there. What it writes has been committed when this returns.
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
            // What one row is refused for says nothing about the others.
            let is_of_one = |it: &QueryError| {
                it.is_lock_timeout() || batch.len() > 1 && it.constraint().is_some()
            };
            if matches!(&result, Err(error) if is_of_one(error)) {
                self.write_each_alone(batch);
            } else {
                self.finish(batch, result);
            }
        }
    }

    /// Makes a batch of those whose rows are not being written.
    fn claim(&self, mut waiting: Vec<Waiting<R>>) -> Vec<Waiting<R>> {
        let number = self.batches.fetch_add(1, Ordering::Relaxed);
        keep_those_with_time(&mut waiting);
        let mut busy = lock(&self.busy);
        let mut batch = Vec::with_capacity(waiting.len());
        for it in waiting {
            let row = R::row(&it.item).map(str::to_owned);
            let claimed = row.map(|row| busy.entry(row).or_insert_with(|| (number, Vec::new())));
            match claimed {
                Some((by, behind)) if *by != number => behind.push(it),
                Some(_) | None => batch.push(it),
            }
        }
        batch
    }

    /// Answers a batch, and lets go on what waits for its rows.
    fn finish(&self, batch: Vec<Waiting<R>>, result: Result<Vec<R::Answer>, QueryError>) {
        let mut busy = lock(&self.busy);
        let rows = batch.iter().filter_map(|it| R::row(&it.item));
        let behind = rows.filter_map(|it| busy.remove(it)).flat_map(|it| it.1);
        for waiting in behind.collect::<Vec<_>>() {
            // It cannot be closed: the other end is here too.
            self.queue.send(waiting).ok();
        }
        drop(busy);
        // Whoever has gone in the meantime needs no answer.
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
        for it in batch {
            let row = R::row(&it.item).unwrap_or_default().to_owned();
            rows.entry(row).or_default().push(it);
        }
        for (row, waiting) in rows {
            let batcher = Arc::clone(self);
            self.tasks.start("locked row", |stop| async move {
                let writing = batcher.write_alone(&row, waiting);
                stop.run_until_cancelled(writing).await;
            });
        }
    }

    /// Writes one row, with whatever comes for it, until it can be or no request has time left.
    async fn write_alone(&self, row: &str, mut waiting: Vec<Waiting<R>>) {
        loop {
            let turn = self.alone.acquire().await;
            {
                let mut busy = lock(&self.busy);
                waiting.extend(busy.get_mut(row).into_iter().flat_map(|it| it.1.drain(..)));
                keep_those_with_time(&mut waiting);
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
            time::sleep(LOCKED_PAUSE.mul_f64(rand::random_range(0.5..1.0))).await;
        }
    }

    async fn run(&self, batch: &[Waiting<R>]) -> Result<Vec<R::Answer>, QueryError> {
        let ends = || batch.iter().map(|it| it.deadline);
        let now = Instant::now();
        let (first_ends, deadline) = (ends().min().unwrap_or(now), ends().max().unwrap_or(now));
        let items = batch.iter().map(|it| &it.item).collect();
        self.runner.run(items, first_ends, deadline).await
    }
}

/// Leaves out what no request waits for any more, and what has little time left beside others. Those
/// are told that their time is over.
fn keep_those_with_time<R: BatchRunner>(waiting: &mut Vec<Waiting<R>>) {
    let now = Instant::now();
    waiting.retain(|it| !it.answer.is_closed() && it.deadline > now);
    if waiting.iter().any(|it| it.deadline > now + LEAST_TIME) {
        waiting.retain(|it| it.deadline > now + LEAST_TIME);
    }
}
