//! Simulation of processes with caches of their own, in front of one database and one cache server
//! that loses, delays and drops data. Time passes only when no task can run, so a history is a value
//! that proptest can shrink.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on ends where it is, and shows what it saw"
)]

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use api::cache::{Cache, CacheBackend, Key, Source};
use api::metrics::Metrics;
use api::store::DatabaseError;
use causeway_runtime::shutdown::Tasks;
use futures_util::FutureExt as _;
use futures_util::future::join_all;
use proptest::prelude::*;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use redis::aio::ConnectionLike;
use redis::{Arg, Cmd, Pipeline, RedisFuture, RedisResult, Value};
use tokio::runtime::Builder;
use tokio::sync::watch;
use tokio::time::{self, Instant};

const PROCESSES: usize = 3;
const TTL: Duration = Duration::from_secs(2);
const TIMEOUT: Duration = Duration::from_millis(50);
/// Maximum delay after which a command still takes effect whose sender has timed out.
const LATEST: Duration = Duration::from_millis(400);
/// Maximum delay between two processes that notice a failover, in milliseconds.
const NOTICED: u64 = 100;
/// Timeout of clients.
const DEADLINE: Duration = Duration::from_secs(8);

type Ids = Vec<usize>;
/// Content of the server, with expiry times.
type Values = BTreeMap<String, (String, Instant)>;

/// Everything outside the processes.
#[derive(Debug)]
struct World {
    rows: Ids,
    commits: Vec<Commit>,
    values: Values,
    snapshot: Values,
    /// Run of the server.
    run: u64,
    frozen_until: Instant,
    /// Delay of the response that reports a raised generation.
    raised_after: Duration,
    chance: StdRng,
    /// Percentage of failing commands.
    trouble: u8,
    tasks: Tasks,
}

/// Row, from its commit on.
#[derive(Debug, Default)]
struct Commit {
    /// Acknowledging process, and the time.
    acknowledged: Option<(usize, Instant)>,
    /// Time at which the generation was raised for it.
    invalidated: Option<Instant>,
    /// Era of the failover that lost it.
    lost: Option<usize>,
}

/// The database and the server, or a connection to it, which ends with its run.
#[derive(Clone, Debug)]
struct Model {
    world: Arc<Mutex<World>>,
    run: u64,
}

/// Process: its cache, and the era of the data that it has observed.
struct Process {
    cache: Cache<Model>,
    era: watch::Sender<String>,
}

#[derive(Clone, Copy, Debug)]
enum Event {
    /// Reads one user, or all.
    Read {
        process: usize,
        id: Option<usize>,
    },
    Write {
        process: usize,
        patience: u64,
    },
    Evict,
    Snapshot,
    Restart,
    Freeze {
        millis: u64,
    },
    Failover {
        lost: usize,
    },
}

impl Process {
    fn new(model: &Model) -> Self {
        let era = watch::Sender::new("0".to_owned());
        let metrics = Metrics::new().unwrap();
        let tasks = model.world().tasks.clone();
        let cache = Cache::start(Some(model.clone()), TTL, era.subscribe(), metrics, &tasks);
        Self { cache, era }
    }

    fn era(&self) -> usize {
        self.era.borrow().parse().unwrap()
    }
}

impl World {
    /// Returns the rows that a read in `process` must find if it begins now.
    fn listed(&self, process: usize) -> Ids {
        let now = Instant::now();
        let staleness = TTL.mul_f64(1.1) + LATEST + TIMEOUT;
        let must = |commit: &Commit| {
            commit.acknowledged.is_some_and(|(by, at)| {
                let invalidated = commit.invalidated.is_some_and(|at| at < now);
                at < now && (by == process || invalidated || at + staleness < now)
            })
        };
        let ids = 0..self.commits.len();
        ids.filter(|id| must(&self.commits[*id])).collect()
    }

    /// Loses the last rows to the failover of an era.
    fn lose(&mut self, count: usize, era: usize) {
        let kept = self.rows.len().saturating_sub(count);
        for id in self.rows.split_off(kept) {
            self.commits[id].lost = Some(era);
        }
    }

    fn run(&mut self, command: &Cmd) -> Value {
        let now = Instant::now();
        let words = command.args_iter().map(|argument| match argument {
            Arg::Simple(word) => std::str::from_utf8(word).unwrap(),
            Arg::Cursor | _ => unreachable!("the cache looks through nothing"),
        });
        let words: Vec<&str> = words.collect();
        let get = |key: &str| Some(&self.values.get(key).filter(|entry| now < entry.1)?.0);
        match words[..] {
            ["MGET", generation, key] => {
                let value = |text: &String| Value::BulkString(text.clone().into_bytes());
                let values = [generation, key].map(|key| get(key).map_or(Value::Nil, value));
                Value::Array(values.to_vec())
            }
            ["INCRBY", key, by] => {
                let before: i64 = get(key).map_or(0, |value| value.parse().unwrap());
                let raised = before + by.parse::<i64>().unwrap();
                let never = now + Duration::from_hours(1);
                self.values
                    .insert(key.to_owned(), (raised.to_string(), never));
                for commit in &mut self.commits {
                    commit.invalidated.get_or_insert(now);
                }
                Value::Int(raised)
            }
            ["SET", key, value, "PX", millis] => {
                let expires = now + Duration::from_millis(millis.parse().unwrap());
                self.values
                    .insert(key.to_owned(), (value.to_owned(), expires));
                Value::Okay
            }
            _ => unreachable!("{words:?}"),
        }
    }
}

impl Model {
    fn new(trouble: u8, seed: u64) -> Self {
        let world = World {
            rows: Vec::new(),
            commits: Vec::new(),
            values: Values::new(),
            snapshot: Values::new(),
            run: 0,
            frozen_until: Instant::now(),
            raised_after: Duration::ZERO,
            chance: StdRng::seed_from_u64(seed),
            trouble,
            tasks: Tasks::new(),
        };
        let world = Arc::new(Mutex::new(world));
        Self { world, run: 0 }
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    async fn pause(&self, at_most_millis: u64) {
        let millis = self.world().chance.random_range(0..=at_most_millis);
        time::sleep(Duration::from_millis(millis)).await;
    }

    /// Pauses for this time, and rarely for much longer.
    async fn pause_or(&self, at_most_millis: u64, long_millis: u64) {
        let is_long = {
            let mut world = self.world();
            world.trouble > 0 && world.chance.random_range(0..10) == 0
        };
        self.pause(if is_long { long_millis } else { at_most_millis })
            .await;
    }

    /// Reads the rows at some instant of a read that takes time.
    async fn rows(&self) -> Ids {
        self.pause(20).await;
        let rows = self.world().rows.clone();
        self.pause_or(20, 400).await;
        rows
    }

    async fn insert(&self) -> usize {
        self.pause(10).await;
        let id = {
            let mut world = self.world();
            let id = world.commits.len();
            world.commits.push(Commit::default());
            world.rows.push(id);
            id
        };
        self.pause(10).await;
        id
    }

    /// Makes a command respond, or fail before, after or long before its effect.
    async fn call(&self, command: &Cmd) -> RedisResult<Value> {
        self.pause(5).await;
        let late = {
            let mut world = self.world();
            let trouble = world.trouble;
            let frozen_for = world.frozen_until.saturating_duration_since(Instant::now());
            if !frozen_for.is_zero() {
                Some(frozen_for)
            } else if world.chance.random_range(0..100) >= trouble {
                None
            } else {
                let late = LATEST.mul_f64(world.chance.random_range(0.0..1.0));
                Some(late * world.chance.random_range(0..=1))
            }
        };
        let Some(late) = late else {
            let answer = self.take_effect(command)?;
            self.pause_or(5, 40).await;
            let raised_after = self.world().raised_after;
            if let Value::Int(_) = answer {
                time::sleep(raised_after).await;
            }
            return Ok(answer);
        };
        let is_lost = self.world().chance.random_range(0..3) == 0;
        let (connection, command) = (self.clone(), command.clone());
        let tasks = self.world().tasks.clone();
        tasks.start("late command", move |_stop| async move {
            time::sleep(late).await;
            if !is_lost {
                connection.take_effect(&command).ok();
            }
        });
        time::sleep(TIMEOUT).await;
        Err(io::Error::from(io::ErrorKind::TimedOut).into())
    }

    fn take_effect(&self, command: &Cmd) -> RedisResult<Value> {
        let mut world = self.world();
        if world.run != self.run {
            return Err(io::Error::from(io::ErrorKind::BrokenPipe).into());
        }
        Ok(world.run(command))
    }
}

impl CacheBackend for Model {
    type Connection = Self;

    async fn connect(&self) -> RedisResult<Self> {
        self.pause(5).await;
        let (world, run) = (Arc::clone(&self.world), self.world().run);
        Ok(Self { world, run })
    }
}

impl ConnectionLike for Model {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        self.call(command).boxed()
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        let answering = async move {
            let mut answers = Vec::new();
            for command in pipeline.cmd_iter() {
                answers.push(self.call(command).await?);
            }
            Ok(answers.into_iter().skip(offset).take(count).collect())
        };
        answering.boxed()
    }

    fn get_db(&self) -> i64 {
        0
    }
}

/// Events, each with its delay after the previous one, in milliseconds.
fn histories() -> impl Strategy<Value = Vec<(u64, Event)>> {
    let process = || 0..PROCESSES;
    let read = |(process, id)| Event::Read { process, id };
    // Most clients wait for their response.
    let patience = prop_oneof![4 => Just(8_000_u64), 1 => 0..60_u64];
    let event = prop_oneof![
        20 => (process(), Just(None)).prop_map(read),
        10 => (process(), (0..5_usize).prop_map(Some)).prop_map(read),
        8 => (process(), patience).prop_map(|(process, patience)| Event::Write { process, patience }),
        2 => Just(Event::Evict),
        1 => Just(Event::Snapshot),
        1 => Just(Event::Restart),
        1 => (0..300_u64).prop_map(|millis| Event::Freeze { millis }),
        1 => (0..3_usize).prop_map(|lost| Event::Failover { lost }),
    ];
    // Some are concurrent, some overlap, and a history lasts for several TTLs.
    let gap = prop_oneof![3 => 0..10_u64, 3 => 0..80_u64, 1 => 0..600_u64];
    proptest::collection::vec((gap, event), 1..100)
}

async fn happen(nth: usize, event: Event, model: &Model, processes: &[Process; PROCESSES]) {
    match event {
        Event::Read { process, id } => read(model, &processes[process], process, id).await,
        Event::Write { process, patience } => {
            let writing = write(model, &processes[process], process);
            let patience = Duration::from_millis(patience);
            time::timeout(patience, writing).await.ok();
        }
        Event::Evict => drop(model.world().values.remove("users:gen")),
        Event::Snapshot => {
            let mut world = model.world();
            world.snapshot = world.values.clone();
        }
        Event::Restart => {
            let mut world = model.world();
            world.run += 1;
            world.values = world.snapshot.clone();
        }
        Event::Freeze { millis } => {
            model.world().frozen_until = Instant::now() + Duration::from_millis(millis);
        }
        Event::Failover { lost } => {
            model.world().lose(lost, nth);
            for process in processes {
                model.pause(NOTICED).await;
                let era = process.era().max(nth);
                process.era.send_replace(era.to_string());
            }
        }
    }
}

async fn read(model: &Model, process: &Process, nth: usize, id: Option<usize>) {
    let is_asked = |row: &usize| id.is_none_or(|id| id == *row);
    let (must, era) = (model.world().listed(nth), process.era());
    let key = id.map_or(Key::AllUsers, |id| Key::User(i64::try_from(id).unwrap()));
    let rows = async || {
        let rows: Ids = model.rows().await.into_iter().filter(is_asked).collect();
        let is_there = id.is_none() || !rows.is_empty();
        Ok(is_there.then(|| serde_json::to_string(&rows).unwrap()))
    };
    let reading = process.cache.read(key, Instant::now() + DEADLINE, rows);
    let (rows, source) = reading.await.unwrap();
    let rows: Ids = rows.map_or_else(Ids::new, |text| serde_json::from_str(&text).unwrap());
    let world = model.world();
    for id in must.into_iter().filter(is_asked) {
        let is_there = rows.contains(&id) || world.commits[id].lost.is_some();
        assert!(is_there, "{source:?} in {nth} without row {id}");
    }
    for id in rows {
        // The failover that lost it, if any, had been noticed.
        let is_lost = world.commits[id].lost.is_some_and(|lost| lost <= era);
        assert!(!is_lost, "{source:?} in {nth} with lost row {id}");
    }
}

async fn write(model: &Model, process: &Process, nth: usize) {
    let inserting = model.clone();
    let inserted = async move { Ok::<_, DatabaseError>(inserting.insert().await) };
    let id = process.cache.change(inserted).await.unwrap();
    model.world().commits[id].acknowledged = Some((nth, Instant::now()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(250))]

    /// A read that begins after a write was acknowledged finds it: at once in the same process and
    /// wherever the generation could be raised, and elsewhere after the TTL. Rows lost to a
    /// failover are never found again.
    #[test]
    fn any_history_then_no_read_older_than_acknowledged_write(
        events in histories(),
        trouble in prop_oneof![Just(0_u8), 1..40_u8],
        seed in any::<u64>(),
    ) {
        let mut runtime = Builder::new_current_thread();
        let runtime = runtime.enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let model = Model::new(trouble, seed);
            let processes = [(); PROCESSES].map(|()| Process::new(&model));
            let mut at = Instant::now();
            let events = events.into_iter().enumerate();
            let happening = events.map(|(nth, (gap, event))| {
                at += Duration::from_millis(gap);
                let (model, processes) = (&model, &processes);
                async move {
                    time::sleep_until(at).await;
                    happen(nth, event, model, processes).await;
                }
            });
            join_all(happening).await;
        });
    }
}

#[tokio::test(start_paused = true)]
async fn generation_changes_during_read_then_nothing_cached() {
    let process = Process::new(&Model::new(0, 1));
    let read = async |changes: bool| {
        let rows = async || {
            if changes {
                // Another server was the primary meanwhile, and now the first is back.
                process.era.send_replace(String::new());
                process.era.send_replace("0".to_owned());
            }
            Ok(Some("[]".to_owned()))
        };
        let deadline = Instant::now() + DEADLINE;
        let reading = process.cache.read(Key::AllUsers, deadline, rows);
        reading.await.unwrap().1
    };
    assert_eq!(read(true).await, Source::Miss);
    assert_eq!(read(false).await, Source::Miss);
    assert_eq!(read(false).await, Source::Hit);
}

#[tokio::test(start_paused = true)]
async fn write_while_session_opens_then_seen() {
    let millis = Duration::from_millis;
    let model = Model::new(0, 1);
    let there = Process::new(&model);
    read(&model, &there, 0, None).await;

    // The first session fails. For the second, the generation is raised long before the response
    // reports it.
    let thaw = Instant::now() + millis(300);
    model.world().frozen_until = thaw;
    model.world().raised_after = millis(200);
    let here = Process::new(&model);
    time::sleep_until(thaw + millis(100)).await;
    read(&model, &there, 0, None).await;
    write(&model, &here, 1).await;
    time::sleep_until(thaw + millis(600)).await;
    read(&model, &here, 1, None).await;
}
