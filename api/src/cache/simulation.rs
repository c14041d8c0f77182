//! Processes that read and write through caches of their own, before one database and one server which
//! loses, delays and forgets. Time passes only when nobody has anything to do, so a history is a value
//! which proptest can shrink.

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

use super::server::{Failure, Link, Seen, Server};
use super::{Cache, Key, SPREAD, Source};
use crate::metrics::Metrics;
use crate::store::Unavailable;

const PROCESSES: usize = 3;
const TTL: Duration = Duration::from_secs(2);
/// How long a request waits for the server.
const PATIENCE: Duration = Duration::from_millis(50);
/// How late a command may still take effect of which its sender has heard nothing.
const LATEST: Duration = Duration::from_millis(400);
/// How soon after a failover every process has raised the generation, or reads nothing any more.
const HEEDED: Duration = Duration::from_millis(800);

/// The identifiers of the rows, as a reader sees them.
type Rows = Vec<u64>;

/// Everything outside of the processes.
#[derive(Debug)]
struct World {
    rows: Rows,
    commits: BTreeMap<u64, Commit>,
    generation: Option<i64>,
    values: BTreeMap<String, (String, Instant)>,
    /// Which run of the server this is; connections end with it.
    run: u64,
    frozen_until: Instant,
    snapshot: (Option<i64>, BTreeMap<String, (String, Instant)>),
    chance: StdRng,
    /// How many of a hundred commands meet with trouble.
    trouble: u8,
    tasks: Tasks,
}

/// One row, from its commit on.
#[derive(Debug)]
struct Commit {
    /// Which process told its client, and when.
    acknowledged: Option<(usize, Instant)>,
    /// When the generation was raised for it.
    invalidated: Option<Instant>,
    /// When a failover lost it, and when the generation was raised for that.
    lost: Option<(Instant, Option<Instant>)>,
}

#[derive(Clone, Debug)]
struct Model(Arc<Mutex<World>>);

#[derive(Clone, Debug)]
struct Wire {
    model: Model,
    run: u64,
}

/// What can happen to a command.
enum Fate {
    Answered,
    LostOnTheWay,
    LostOnTheWayBack,
    Late(Duration),
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Read {
        process: usize,
        patience: u64,
    },
    Write {
        process: usize,
        patience: u64,
    },
    /// The server forgets everything, or the generation alone.
    Flush,
    Evict,
    /// It is restarted, empty or from the last snapshot.
    Snapshot,
    Restart {
        empty: bool,
    },
    Freeze {
        millis: u64,
    },
    /// The database moves to a standby that did not have the last rows.
    Failover {
        lost: usize,
    },
}

impl Model {
    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap()
    }

    async fn pause(&self, at_most_millis: u64) {
        let millis = self.world().chance.random_range(0..=at_most_millis);
        time::sleep(Duration::from_millis(millis)).await;
    }

    async fn rows(&self) -> Rows {
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
            let commit = Commit {
                acknowledged: None,
                invalidated: None,
                lost: None,
            };
            world.commits.insert(id, commit);
            world.rows.push(id);
            id
        };
        self.pause(10).await;
        id
    }
}

impl World {
    fn fate(&mut self) -> Fate {
        if Instant::now() < self.frozen_until {
            return Fate::Late(self.frozen_until - Instant::now());
        }
        if self.chance.random_range(0..100) >= self.trouble {
            return Fate::Answered;
        }
        match self.chance.random_range(0..3) {
            0 => Fate::LostOnTheWay,
            1 => Fate::LostOnTheWayBack,
            _ => Fate::Late(LATEST.mul_f64(self.chance.random_range(0.0..1.0))),
        }
    }

    fn generation_was_raised(&mut self) {
        for commit in self.commits.values_mut() {
            commit.invalidated.get_or_insert_with(Instant::now);
            if let Some((_, raised)) = &mut commit.lost {
                raised.get_or_insert_with(Instant::now);
            }
        }
    }

    /// Returns what a reader in `process` must see, and what it must not, if it begins now.
    fn demands(&self, process: usize) -> (Rows, Rows) {
        let now = Instant::now();
        let staleness = TTL.mul_f64(1.0 + SPREAD) + LATEST + PATIENCE;
        let (mut must, mut must_not) = (Vec::new(), Vec::new());
        for (id, commit) in &self.commits {
            let is_over = |since: Instant, within: Duration, raised: Option<Instant>| {
                raised.is_some_and(|it| it < now) || since + within < now
            };
            match (commit.lost, commit.acknowledged) {
                (Some((at, raised)), _) if is_over(at, HEEDED, raised) => must_not.push(*id),
                (None, Some((by, at))) if at < now => {
                    if by == process || is_over(at, staleness, commit.invalidated) {
                        must.push(*id);
                    }
                }
                (Some(_) | None, _) => {}
            }
        }
        (must, must_not)
    }

    fn meet(&mut self, event: Event) {
        match event {
            Event::Read { .. } | Event::Write { .. } => {}
            Event::Flush => {
                self.generation = None;
                self.values.clear();
            }
            Event::Evict => self.generation = None,
            Event::Snapshot => self.snapshot = (self.generation, self.values.clone()),
            Event::Restart { empty } => {
                self.run += 1;
                (self.generation, self.values) = if empty {
                    (None, BTreeMap::new())
                } else {
                    self.snapshot.clone()
                };
            }
            Event::Freeze { millis } => {
                self.frozen_until = Instant::now() + Duration::from_millis(millis);
            }
            Event::Failover { lost } => {
                for _ in 0..lost {
                    if let Some(id) = self.rows.pop() {
                        self.commits.get_mut(&id).unwrap().lost = Some((Instant::now(), None));
                    }
                }
            }
        }
    }
}

impl Server for Model {
    type Link = Wire;

    async fn connect(&self) -> Result<Wire, Failure> {
        let run = self.world().run;
        let wire = Wire {
            model: self.clone(),
            run,
        };
        wire.call(|_world| ()).await?;
        Ok(wire)
    }

    fn patience(&self) -> Duration {
        2 * PATIENCE
    }
}

impl Wire {
    async fn call<T: Send + 'static>(
        &self,
        effect: impl FnOnce(&mut World) -> T + Send + 'static,
    ) -> Result<T, Failure> {
        self.model.pause(5).await;
        let fate = self.model.world().fate();
        let answer = match fate {
            Fate::Answered => Some(self.take_effect(effect)?),
            Fate::LostOnTheWay => None,
            Fate::LostOnTheWayBack => {
                self.take_effect(effect)?;
                None
            }
            Fate::Late(by) => {
                let (wire, tasks) = (self.clone(), self.model.world().tasks.clone());
                tasks.start("late command", |_stop| async move {
                    time::sleep(by).await;
                    wire.take_effect(effect).ok();
                });
                None
            }
        };
        if let Some(answer) = answer {
            self.model.pause(5).await;
            Ok(answer)
        } else {
            time::sleep(PATIENCE).await;
            Err(Failure::OutOfTime)
        }
    }

    fn take_effect<T>(&self, effect: impl FnOnce(&mut World) -> T) -> Result<T, Failure> {
        let mut world = self.model.world();
        if world.run != self.run {
            return Err(Failure::Broken("the server was restarted".to_owned()));
        }
        Ok(effect(&mut world))
    }
}

impl Link for Wire {
    async fn look(&self, key: &str) -> Result<Seen, Failure> {
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

    async fn keep(&self, key: &str, value: &str, ttl: Duration) -> Result<(), Failure> {
        let (key, value) = (key.to_owned(), value.to_owned());
        let keep = move |world: &mut World| {
            world.values.insert(key, (value, Instant::now() + ttl));
        };
        self.call(keep).await
    }

    async fn raise(&self, by: i64) -> Result<i64, Failure> {
        let raise = move |world: &mut World| {
            let generation = world.generation.unwrap_or(0) + by;
            world.generation = Some(generation);
            world.generation_was_raised();
            generation
        };
        self.call(raise).await
    }

    async fn restart(&self, generation: i64) -> Result<(), Failure> {
        let restart = move |world: &mut World| {
            world.generation = Some(generation);
            world.generation_was_raised();
        };
        self.call(restart).await
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
        20 => (process(), patience()).prop_map(|(process, patience)| Event::Read { process, patience }),
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
    (events, prop_oneof![Just(0_u8), 1..40_u8], any::<u64>()).prop_map(|(events, trouble, seed)| {
        History {
            events,
            trouble,
            seed,
        }
    })
}

/// Lets a history happen, checks every answer, and returns where the answers came from.
fn run(history: &History) -> Vec<Source> {
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(happen(history))
}

async fn happen(history: &History) -> Vec<Source> {
    let tasks = Tasks::new();
    let model = Model(Arc::new(Mutex::new(World {
        rows: Vec::new(),
        commits: BTreeMap::new(),
        generation: None,
        values: BTreeMap::new(),
        run: 0,
        frozen_until: Instant::now(),
        snapshot: (None, BTreeMap::new()),
        chance: StdRng::seed_from_u64(history.seed),
        trouble: history.trouble,
        tasks: tasks.clone(),
    })));
    let primaries = watch::Sender::new(0);
    let processes: Vec<Cache<Model>> = (0..PROCESSES)
        .map(|_| {
            let metrics = Metrics::new().unwrap();
            Cache::with(
                Some(model.clone()),
                TTL,
                primaries.subscribe(),
                metrics,
                &tasks,
            )
        })
        .collect();

    let mut at = Instant::now();
    let happening = history.events.iter().map(|(gap, event)| {
        at += Duration::from_millis(*gap);
        let (model, processes, primaries) = (&model, &processes, &primaries);
        async move {
            time::sleep_until(at).await;
            match *event {
                Event::Read { process, patience } => {
                    let reading = read(model, &processes[process], process);
                    time::timeout(Duration::from_millis(patience), reading)
                        .await
                        .ok()
                }
                Event::Write { process, patience } => {
                    let writing = write(model, &processes[process], process);
                    time::timeout(Duration::from_millis(patience), writing)
                        .await
                        .ok();
                    None
                }
                Event::Failover { .. } => {
                    model.world().meet(*event);
                    primaries.send_modify(|it| *it += 1);
                    None
                }
                Event::Flush
                | Event::Evict
                | Event::Snapshot
                | Event::Restart { .. }
                | Event::Freeze { .. } => {
                    model.world().meet(*event);
                    None
                }
            }
        }
    });
    let sources: Vec<Source> = join_all(happening).await.into_iter().flatten().collect();
    for process in &processes {
        assert!(process.used.as_ref().unwrap().flights.is_empty());
    }
    sources
}

async fn read(model: &Model, cache: &Cache<Model>, process: usize) -> Source {
    let (mut must, must_not) = model.world().demands(process);
    let deadline = Instant::now() + Duration::from_secs(8);
    let rows = || async { Ok(model.rows().await) };
    let (rows, source) = cache
        .read(Key::AllUsers, deadline, rows, |_| true)
        .await
        .unwrap();
    // What was lost meanwhile may be there or not.
    must.retain(|id| model.world().commits[id].lost.is_none());
    for id in must {
        assert!(
            rows.contains(&id),
            "{source:?} in process {process} without row {id}: {rows:?}"
        );
    }
    for id in must_not {
        assert!(
            !rows.contains(&id),
            "{source:?} in process {process} with lost row {id}: {rows:?}"
        );
    }
    source
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
    fn nobody_reads_what_is_older_than_what_was_acknowledged(history in histories()) {
        run(&history);
    }
}

#[test]
fn without_trouble_the_second_read_is_a_hit_and_a_write_makes_it_a_miss() {
    let read = |process| Event::Read {
        process,
        patience: 8_000,
    };
    let write = Event::Write {
        process: 2,
        patience: 8_000,
    };
    let events = [read(0), read(0), read(1), write, read(1), read(0)];
    let history = History {
        // By then whatever came before is over.
        events: events.into_iter().map(|it| (150, it)).collect(),
        trouble: 0,
        seed: 1,
    };
    assert_eq!(
        run(&history),
        [
            Source::Miss,
            Source::Hit,
            Source::Hit,
            Source::Miss,
            Source::Hit
        ]
    );
}
