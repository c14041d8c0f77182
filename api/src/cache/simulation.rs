//! Processes that read and write through caches of their own, before one database and one server which
//! loses, delays and forgets. Time passes only when no task can run, so a history is a value which
//! proptest can shrink.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::future::join_all;
use ha_runtime::shutdown::Tasks;
use proptest::prelude::*;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tokio::runtime::Builder;
use tokio::sync::watch;
use tokio::time::{self, Instant};

use super::backend::{CacheBackend, CacheConnection, CacheError, Seen};
use super::{Cache, Key, SPREAD, Source};
use crate::metrics::Metrics;
use crate::store::Unavailable;

const PROCESSES: usize = 3;
const TTL: Duration = Duration::from_secs(2);
const TIMEOUT: Duration = Duration::from_millis(50);
/// How late a command may still take effect whose sender has given it up.
const LATEST: Duration = Duration::from_millis(400);
/// How much later than the one before a process may notice a failover, in milliseconds.
const NOTICED: u64 = 100;
/// How long clients wait for an answer.
const DEADLINE: Duration = Duration::from_secs(8);

type Ids = Vec<u64>;
type Values = BTreeMap<String, (String, Instant)>;

/// Everything outside of the processes.
#[derive(Debug)]
struct World {
    rows: Ids,
    commits: BTreeMap<u64, Commit>,
    generation: Option<i64>,
    values: Values,
    /// The run of the server; connections end with it.
    run: u64,
    frozen_until: Instant,
    snapshot: (Option<i64>, Values),
    chance: StdRng,
    /// The percentage of commands that fail.
    trouble: u8,
    tasks: Tasks,
}

/// One row, from its commit on.
#[derive(Debug, Default)]
struct Commit {
    /// The process that acknowledged it, and when.
    acknowledged: Option<(usize, Instant)>,
    /// When the generation was raised for it.
    invalidated: Option<Instant>,
    /// The era of the failover that lost it.
    lost: Option<usize>,
}

#[derive(Clone, Debug)]
struct Model(Arc<Mutex<World>>);

#[derive(Clone, Debug)]
struct Connection {
    model: Model,
    run: u64,
}

/// A process: its cache, and the era of the data as it knows it.
struct Process {
    cache: Cache<Model>,
    era: watch::Sender<String>,
}

impl Process {
    fn new(model: &Model, tasks: &Tasks) -> Self {
        let era = watch::Sender::new("0".to_owned());
        let metrics = Metrics::new().unwrap();
        let cache = Cache::with(Some(model.clone()), TTL, era.subscribe(), metrics, tasks);
        Self { cache, era }
    }

    fn era(&self) -> usize {
        self.era.borrow().parse().unwrap()
    }
}

#[derive(Clone, Copy, Debug)]
enum Event {
    List { process: usize, patience: u64 },
    Get { process: usize, id: u64 },
    Write { process: usize, patience: u64 },
    Flush,
    Evict,
    Snapshot,
    Restart { empty: bool },
    Freeze { millis: u64 },
    Failover { lost: usize },
}

impl Model {
    fn new(trouble: u8, seed: u64, tasks: &Tasks) -> Self {
        Self(Arc::new(Mutex::new(World {
            rows: Vec::new(),
            commits: BTreeMap::new(),
            generation: None,
            values: Values::new(),
            run: 0,
            frozen_until: Instant::now(),
            snapshot: (None, Values::new()),
            chance: StdRng::seed_from_u64(seed),
            trouble,
            tasks: tasks.clone(),
        })))
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap()
    }

    async fn pause(&self, at_most_millis: u64) {
        let millis = self.world().chance.random_range(0..=at_most_millis);
        time::sleep(Duration::from_millis(millis)).await;
    }

    /// Reads the rows, at some instant of a read that takes a while.
    async fn rows(&self) -> Ids {
        self.pause(20).await;
        let rows = self.world().rows.clone();
        let slow = self.world().trouble > 0 && self.world().chance.random_range(0..10) == 0;
        self.pause(if slow { 400 } else { 20 }).await;
        rows
    }

    async fn insert(&self) -> u64 {
        self.pause(10).await;
        let id = {
            let mut world = self.world();
            let id = u64::try_from(world.commits.len()).unwrap();
            world.commits.insert(id, Commit::default());
            world.rows.push(id);
            id
        };
        self.pause(10).await;
        id
    }
}

impl World {
    fn raise(&mut self, generation: i64) -> i64 {
        self.generation = Some(generation);
        for commit in self.commits.values_mut() {
            commit.invalidated.get_or_insert_with(Instant::now);
        }
        generation
    }

    /// Returns the rows that a list read in `process` has to have, if the read begins now.
    fn listed(&self, process: usize) -> Ids {
        let now = Instant::now();
        let staleness = TTL.mul_f64(1.0 + SPREAD) + LATEST + TIMEOUT;
        let must = |commit: &Commit| {
            commit.acknowledged.is_some_and(|(by, at)| {
                let invalidated = commit.invalidated.is_some_and(|it| it < now);
                at < now && (by == process || invalidated || at + staleness < now)
            })
        };
        let commits = self.commits.iter();
        commits.filter(|it| must(it.1)).map(|it| *it.0).collect()
    }

    fn lost(&self, id: u64) -> Option<usize> {
        self.commits.get(&id)?.lost
    }

    fn happen(&mut self, nth: usize, event: Event) {
        match event {
            Event::List { .. } | Event::Get { .. } | Event::Write { .. } => {}
            Event::Flush => (self.generation, self.values) = (None, Values::new()),
            Event::Evict => self.generation = None,
            Event::Snapshot => self.snapshot = (self.generation, self.values.clone()),
            Event::Restart { empty } => {
                self.run += 1;
                let kept = (!empty).then(|| self.snapshot.clone());
                (self.generation, self.values) = kept.unwrap_or_default();
            }
            Event::Freeze { millis } => {
                self.frozen_until = Instant::now() + Duration::from_millis(millis);
            }
            Event::Failover { lost } => {
                for _ in 0..lost {
                    if let Some(id) = self.rows.pop() {
                        self.commits.get_mut(&id).unwrap().lost = Some(nth);
                    }
                }
            }
        }
    }
}

impl CacheBackend for Model {
    type Connection = Connection;

    async fn connect(&self) -> Result<Connection, CacheError> {
        let run = self.world().run;
        let model = self.clone();
        let connection = Connection { model, run };
        connection.call(|_world| ()).await?;
        Ok(connection)
    }

    fn connect_timeout(&self) -> Duration {
        2 * TIMEOUT
    }
}

impl Connection {
    /// Lets a command be answered, or fail before it took effect, after it, or some time before it.
    async fn call<T: Send + 'static>(
        &self,
        effect: impl FnOnce(&mut World) -> T + Send + 'static,
    ) -> Result<T, CacheError> {
        self.model.pause(5).await;
        let late = {
            let mut world = self.model.world();
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
            let answer = self.take_effect(effect)?;
            self.model.pause(5).await;
            return Ok(answer);
        };
        let is_lost = self.model.world().chance.random_range(0..3) == 0;
        let (connection, tasks) = (self.clone(), self.model.world().tasks.clone());
        tasks.start("late command", move |_stop| async move {
            time::sleep(late).await;
            if !is_lost {
                connection.take_effect(effect).ok();
            }
        });
        time::sleep(TIMEOUT).await;
        Err(CacheError::Timeout)
    }

    fn take_effect<T>(&self, effect: impl FnOnce(&mut World) -> T) -> Result<T, CacheError> {
        let mut world = self.model.world();
        if world.run != self.run {
            return Err(CacheError::Failed("the server was restarted".to_owned()));
        }
        Ok(effect(&mut world))
    }
}

impl CacheConnection for Connection {
    async fn look(&self, key: &str) -> Result<Seen, CacheError> {
        let key = key.to_owned();
        let look = move |world: &mut World| {
            let value = world.values.get(&key).filter(|it| Instant::now() < it.1);
            Seen {
                generation: world.generation.map(|it| it.to_string().into_bytes()),
                value: value.map(|it| it.0.clone().into_bytes()),
            }
        };
        self.call(look).await
    }

    async fn keep(&self, key: &str, value: &str, ttl: Duration) -> Result<(), CacheError> {
        let (key, value) = (key.to_owned(), value.to_owned());
        let keep = move |world: &mut World| {
            world.values.insert(key, (value, Instant::now() + ttl));
        };
        self.call(keep).await
    }

    async fn raise(&self, by: i64) -> Result<i64, CacheError> {
        let raise = move |world: &mut World| world.raise(world.generation.unwrap_or(0) + by);
        self.call(raise).await
    }
}

/// A history: each event with how many milliseconds it comes after the one before.
#[derive(Clone, Debug)]
struct History {
    events: Vec<(u64, Event)>,
    trouble: u8,
    seed: u64,
}

fn histories() -> impl Strategy<Value = History> {
    let process = || 0..PROCESSES;
    // Most clients wait for their answer.
    let patience = || prop_oneof![4 => Just(8_000_u64), 1 => 0..60_u64];
    let event = prop_oneof![
        20 => (process(), patience()).prop_map(|(process, patience)| Event::List { process, patience }),
        10 => (process(), 0..5_u64).prop_map(|(process, id)| Event::Get { process, id }),
        8 => (process(), patience()).prop_map(|(process, patience)| Event::Write { process, patience }),
        1 => Just(Event::Flush),
        1 => Just(Event::Evict),
        1 => Just(Event::Snapshot),
        1 => any::<bool>().prop_map(|empty| Event::Restart { empty }),
        1 => (0..300_u64).prop_map(|millis| Event::Freeze { millis }),
        1 => (0..3_usize).prop_map(|lost| Event::Failover { lost }),
    ];
    // Some come together, some while others are under way, and a history lasts for some TTLs.
    let gap = prop_oneof![3 => 0..10_u64, 3 => 0..80_u64, 1 => 0..600_u64];
    let events = proptest::collection::vec((gap, event), 1..100);
    let history = (events, prop_oneof![Just(0_u8), 1..40_u8], any::<u64>());
    history.prop_map(|(events, trouble, seed)| History {
        events,
        trouble,
        seed,
    })
}

/// Lets a history happen, checks every answer, and returns where the answers came from.
fn run(history: &History) -> Vec<Source> {
    let mut runtime = Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let tasks = Tasks::new();
        let model = Model::new(history.trouble, history.seed, &tasks);
        let processes = [(); PROCESSES].map(|()| Process::new(&model, &tasks));
        let mut at = Instant::now();
        let happening = history
            .events
            .iter()
            .enumerate()
            .map(|(nth, (gap, event))| {
                at += Duration::from_millis(*gap);
                let (model, processes) = (&model, &processes);
                async move {
                    time::sleep_until(at).await;
                    happen(nth, *event, model, processes).await
                }
            });
        join_all(happening).await.into_iter().flatten().collect()
    })
}

async fn happen(
    nth: usize,
    event: Event,
    model: &Model,
    processes: &[Process; PROCESSES],
) -> Option<Source> {
    match event {
        Event::List { process, patience } => {
            let reading = list(model, &processes[process], process);
            let patience = Duration::from_millis(patience);
            return time::timeout(patience, reading).await.ok();
        }
        Event::Get { process, id } => {
            return Some(get(model, &processes[process], process, id).await);
        }
        Event::Write { process, patience } => {
            let writing = write(model, &processes[process].cache, process);
            let patience = Duration::from_millis(patience);
            time::timeout(patience, writing).await.ok();
        }
        Event::Failover { .. } => {
            model.world().happen(nth, event);
            for process in processes {
                model.pause(NOTICED).await;
                let era = process.era().max(nth);
                process.era.send_replace(era.to_string());
            }
        }
        Event::Flush
        | Event::Evict
        | Event::Snapshot
        | Event::Restart { .. }
        | Event::Freeze { .. } => model.world().happen(nth, event),
    }
    None
}

async fn list(model: &Model, process: &Process, nth: usize) -> Source {
    let (must, era) = (model.world().listed(nth), process.era());
    let deadline = Instant::now() + DEADLINE;
    let rows = || async { Ok(model.rows().await) };
    let reading = process.cache.read(Key::AllUsers, deadline, rows, |_| true);
    let (rows, source) = reading.await.unwrap();
    let world = model.world();
    for id in must.iter().filter(|it| world.lost(**it).is_none()) {
        assert!(rows.contains(id), "{source:?} in {nth} without row {id}");
    }
    for id in rows {
        let lost = is_noticed(world.lost(id), era);
        assert!(!lost, "{source:?} in {nth} with lost row {id}");
    }
    source
}

async fn get(model: &Model, process: &Process, nth: usize, id: u64) -> Source {
    let must = model.world().listed(nth).contains(&id);
    let lost = is_noticed(model.world().lost(id), process.era());
    let row = || async { Ok(model.rows().await.into_iter().find(|it| *it == id)) };
    let key = Key::User(i64::try_from(id).unwrap());
    let deadline = Instant::now() + DEADLINE;
    let reading = process.cache.read(key, deadline, row, Option::is_some);
    let (row, source) = reading.await.unwrap();
    assert!(!lost || row.is_none(), "{source:?} of lost row {id}");
    let is_there = row.is_some() || model.world().lost(id).is_some();
    assert!(is_there || !must, "{source:?} in {nth} without row {id}");
    source
}

/// Returns whether the failover that lost a row, if one has, had been noticed in `era`.
fn is_noticed(lost: Option<usize>, era: usize) -> bool {
    lost.is_some_and(|it| it <= era)
}

async fn write(model: &Model, cache: &Cache<Model>, process: usize) {
    let inserting = model.clone();
    let inserted = async move { Ok::<_, Unavailable>(inserting.insert().await) };
    let id = cache.change(inserted).await.unwrap();
    let mut world = model.world();
    world.commits.get_mut(&id).unwrap().acknowledged = Some((process, Instant::now()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(250))]

    /// A reader that begins after a write was acknowledged sees it: at once in the same process and
    /// wherever the generation could be raised, and elsewhere when the time to live has passed. What
    /// a failover lost is not seen again either.
    #[test]
    fn any_history_then_no_answer_older_than_an_acknowledged_write(history in histories()) {
        run(&history);
    }
}

#[test]
fn write_then_the_list_is_read_anew_and_a_user_is_not() {
    let list = |process| Event::List {
        process,
        patience: 8_000,
    };
    let write = Event::Write {
        process: 2,
        patience: 8_000,
    };
    let get = |process| Event::Get { process, id: 0 };
    let before = [write, get(0), list(0), list(1)];
    let events = [&before[..], &[write, list(1), list(0), get(1)]].concat();
    let history = History {
        // By then whatever came before is over.
        events: events.into_iter().map(|it| (150, it)).collect(),
        trouble: 0,
        seed: 1,
    };
    let (hit, miss) = (Source::Hit, Source::Miss);
    assert_eq!(run(&history), [miss, miss, hit, miss, hit, hit]);
}

#[tokio::test(start_paused = true)]
async fn era_changes_during_a_read_then_nothing_is_kept() {
    let tasks = Tasks::new();
    let model = Model::new(0, 1, &tasks);
    let process = Process::new(&model, &tasks);
    let read = async |changes: bool| {
        let rows = || async {
            if changes {
                // A standby was read meanwhile, and now the same primary is back.
                process.era.send_replace(String::new());
                process.era.send_replace("0".to_owned());
            }
            Ok(Ids::new())
        };
        let deadline = Instant::now() + DEADLINE;
        let reading = process.cache.read(Key::AllUsers, deadline, rows, |_| true);
        reading.await.unwrap().1
    };
    assert_eq!(read(true).await, Source::Miss);
    assert_eq!(read(false).await, Source::Miss);
    assert_eq!(read(false).await, Source::Hit);
}
