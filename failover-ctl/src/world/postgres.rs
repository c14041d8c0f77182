//! This node's own PostgreSQL, asked over its Unix socket several times a second.

use std::collections::VecDeque;
use std::time::Duration;

use ha_core::agent::PrimaryView;
use ha_core::failover::observation::Progress;
use ha_core::lease::{Position, SystemId};
use ha_core::{Lsn, Moment, Timeline};
use ha_runtime::clock;
use ha_runtime::postgres::{self, ConnectError, SslMode};
use ha_runtime::shutdown::Tasks;
use tokio::sync::watch;
use tokio::time;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, Row};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use crate::config::PostgresSettings;

/// How often the server is asked. A promotion is noticed this much later at worst.
const EVERY: Duration = Duration::from_millis(150);

/// How long one answer may take before the connection is given up for a new one.
const PATIENCE: Duration = Duration::from_secs(2);

/// How often a primary is made to prove that it can write and flush.
const PROBE_EVERY: Duration = Duration::from_secs(1);

/// Over how long the highest rate is kept.
const RATE_WINDOW: Duration = Duration::from_mins(1);

/// The time between two samples of the rate: short, so that a load which has just begun counts before
/// the next renewal.
const RATE_SAMPLE: Duration = Duration::from_millis(500);

/// What the server said last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServerSaid {
    /// Nothing yet, or it cannot be connected to.
    Nothing,
    /// It is starting, or shutting down: SQLSTATE 57P03.
    NotYet(Moment),
    /// It is in recovery.
    Following(Moment, Standby),
    /// It accepts writes. The moment is that of the last write which it flushed.
    Writing(Moment, PrimaryView),
}

/// A standby, as it describes itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standby {
    /// How far it has come.
    pub(crate) progress: Progress,
    /// Whether it receives at this moment.
    pub(crate) streaming: bool,
    /// When the last transaction it replayed was committed.
    pub(crate) replayed_commit_at_micros: Option<u64>,
}

/// Asks the server until told to stop, and publishes what it says.
pub(crate) async fn watch(
    settings: PostgresSettings,
    said: watch::Sender<ServerSaid>,
    tasks: Tasks,
    stop: CancellationToken,
) {
    let mut watcher = Watcher::new(&settings);
    let mut every = time::interval(EVERY);
    every.set_missed_tick_behavior(time::MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = every.tick() => {}
        }
        let now = watcher.ask(&tasks).await;
        said.send_replace(now);
    }
}

struct Watcher {
    config: Config,
    client: Option<Client>,
    last: ServerSaid,
    /// The timeline of the log that the receiver got last: it stays true after the receiver has ended.
    received_timeline: Option<Timeline>,
    probed_at: Option<Moment>,
    flushed_at: Option<Moment>,
    rates: Rates,
    has_table: bool,
}

impl Watcher {
    fn new(settings: &PostgresSettings) -> Self {
        let mut config = local(settings);
        config.application_name("failover-ctl agent");
        Self {
            config,
            client: None,
            last: ServerSaid::Nothing,
            received_timeline: None,
            probed_at: None,
            flushed_at: None,
            rates: Rates::default(),
            has_table: false,
        }
    }

    async fn ask(&mut self, tasks: &Tasks) -> ServerSaid {
        if self.client.as_ref().is_none_or(Client::is_closed) {
            match connect(&self.config, tasks).await {
                Ok(client) => self.forget(Some(client)),
                Err(error) => {
                    self.forget(None);
                    debug!(
                        error = ha_runtime::telemetry::chain(&error),
                        "the server was not asked"
                    );
                    self.last = if is_not_yet(&error) {
                        ServerSaid::NotYet(clock::now())
                    } else {
                        ServerSaid::Nothing
                    };
                    return self.last;
                }
            }
        }
        match time::timeout(PATIENCE, self.look()).await {
            Ok(Ok(said)) => self.last = said,
            Ok(Err(error)) => {
                debug!(
                    error = ha_runtime::telemetry::chain(&error),
                    "the server was not understood"
                );
                self.client = None;
            }
            // What it said last stands, with the moment at which it said it.
            Err(_elapsed) => self.client = None,
        }
        self.last
    }

    /// A new connection may be to a new server.
    fn forget(&mut self, client: Option<Client>) {
        self.client = client;
        self.probed_at = None;
        self.flushed_at = None;
        self.has_table = false;
    }

    async fn look(&mut self) -> Result<ServerSaid, tokio_postgres::Error> {
        let Some(client) = &self.client else {
            return Ok(ServerSaid::Nothing);
        };
        let row = client.query_one(LOOK, &[]).await?;
        let now = clock::now();
        if row.try_get::<_, bool>("in_recovery")? {
            let standby = self.standby(&row)?;
            return Ok(ServerSaid::Following(now, standby));
        }
        let primary = self.primary(now, &row)?;
        if self
            .probed_at
            .is_none_or(|it| now.longest_since(it) >= PROBE_EVERY)
        {
            self.probe().await?;
            self.probed_at = Some(now);
            self.flushed_at = Some(clock::now());
        }
        Ok(ServerSaid::Writing(self.flushed_at.unwrap_or(now), primary))
    }

    fn standby(&mut self, row: &Row) -> Result<Standby, tokio_postgres::Error> {
        let received: Option<Lsn> = lsn(row, "received")?;
        let replayed: Lsn = lsn(row, "replayed")?.unwrap_or_default();
        let receiving: Option<i32> = row.try_get("receiving_timeline")?;
        if let Some(timeline) = receiving.and_then(timeline) {
            self.received_timeline = Some(timeline);
        }
        let recovered: i32 = row.try_get("recovered_timeline")?;
        let timeline = timeline(recovered)
            .max(self.received_timeline)
            .unwrap_or(Timeline::FIRST);
        let progress = Progress {
            timeline,
            received: received.unwrap_or_default().max(replayed),
            replayed,
        };
        Ok(Standby {
            progress,
            streaming: receiving.is_some(),
            replayed_commit_at_micros: micros(row, "replayed_commit_at")?,
        })
    }

    fn primary(&mut self, now: Moment, row: &Row) -> Result<PrimaryView, tokio_postgres::Error> {
        self.received_timeline = None;
        let flush_lsn = lsn(row, "flushed")?.unwrap_or_default();
        let count = |column| row.try_get::<_, i64>(column).map(i64::cast_unsigned);
        self.rates.note(Sample {
            at: now,
            lsn: flush_lsn,
            rows: count("changed_rows")?,
            xids: count("next_xid")?,
            segment_bytes: count("segment_bytes")?,
        });
        let system_id: i64 = row.try_get("system_id")?;
        let written: i32 = row.try_get("written_timeline")?;
        let position = Position {
            timeline: timeline(written).unwrap_or(Timeline::FIRST),
            flush_lsn,
            last_commit_at_micros: self.rates.moved_at_micros,
            bytes_per_sec: self.rates.bytes_per_sec(),
            rows_per_sec: self.rates.rows_per_sec(),
        };
        Ok(PrimaryView {
            position,
            system_id: SystemId(system_id.cast_unsigned()),
        })
    }

    /// Writes a row and waits until it is flushed here. A server whose disk is full, read-only or
    /// stalled answers questions, and fails this. The row is also the heartbeat by which a standby
    /// knows how many seconds it is behind.
    async fn probe(&mut self) -> Result<(), tokio_postgres::Error> {
        let Some(client) = &self.client else {
            return Ok(());
        };
        if !self.has_table {
            client.batch_execute(HEARTBEAT_TABLE).await?;
            self.has_table = true;
            info!("the server accepts writes");
        }
        client.batch_execute(HEARTBEAT).await
    }
}

/// Everything that is asked of a server in one question. Functions that raise an error in the other
/// role stand behind a CASE.
const LOOK: &str = "
select r.in_recovery,
       case when r.in_recovery then pg_last_wal_receive_lsn() end::text as received,
       case when r.in_recovery then pg_last_wal_replay_lsn() end::text as replayed,
       (select received_tli from pg_stat_wal_receiver where status = 'streaming') as receiving_timeline,
       greatest((select min_recovery_end_timeline from pg_control_recovery()),
                (select timeline_id from pg_control_checkpoint())) as recovered_timeline,
       (extract(epoch from pg_last_xact_replay_timestamp()) * 1000000)::bigint as replayed_commit_at,
       case when not r.in_recovery then pg_current_wal_flush_lsn() end::text as flushed,
       case when not r.in_recovery
            then ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int
            else 0 end as written_timeline,
       (select system_identifier from pg_control_system()) as system_id,
       (select coalesce(sum(tup_inserted + tup_updated + tup_deleted), 0)::bigint
          from pg_stat_database) as changed_rows,
       case when r.in_recovery then 0
            else pg_snapshot_xmax(pg_current_snapshot())::text::bigint end as next_xid,
       pg_size_bytes(current_setting('wal_segment_size')) as segment_bytes
  from (select pg_is_in_recovery() as in_recovery) r";

const HEARTBEAT_TABLE: &str = "
create schema if not exists causeway;
create table if not exists causeway.heartbeat (one boolean primary key default true check (one), at timestamptz not null);";

const HEARTBEAT: &str = "
begin;
set local synchronous_commit = local;
insert into causeway.heartbeat (at) values (now()) on conflict (one) do update set at = excluded.at;
commit;";

/// Returns how this host connects to its own server.
pub(crate) fn local(settings: &PostgresSettings) -> Config {
    let mut config = Config::new();
    config
        .host_path(&settings.socket_directory)
        .port(settings.port)
        .user(&settings.user)
        .dbname(&settings.database)
        .options("-c client_min_messages=warning")
        .ssl_mode(SslMode::Disable.on_the_wire());
    config
}

/// Connects to this host's own server, or says why not.
pub(crate) async fn connect(config: &Config, tasks: &Tasks) -> Result<Client, AskError> {
    let tls = postgres::tls(SslMode::Disable, None)?;
    Ok(postgres::connect(config, tls, PATIENCE, tasks).await?)
}

/// A server that could not be asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    /// TLS could not be set up.
    #[error(transparent)]
    Tls(#[from] postgres::TlsError),
    /// It could not be connected to.
    #[error(transparent)]
    Connect(#[from] ConnectError),
}

fn is_not_yet(error: &AskError) -> bool {
    let AskError::Connect(ConnectError::Refused(error)) = error else {
        return false;
    };
    error.code() == Some(&SqlState::CANNOT_CONNECT_NOW)
}

fn lsn(row: &Row, column: &str) -> Result<Option<Lsn>, tokio_postgres::Error> {
    let text: Option<String> = row.try_get(column)?;
    Ok(text.and_then(|it| it.parse().ok()))
}

fn micros(row: &Row, column: &str) -> Result<Option<u64>, tokio_postgres::Error> {
    let number: Option<i64> = row.try_get(column)?;
    Ok(number.and_then(|it| u64::try_from(it).ok()))
}

fn timeline(number: i32) -> Option<Timeline> {
    u32::try_from(number).ok().and_then(Timeline::new)
}

/// What the rates are made from: counters that only rise.
#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Moment,
    lsn: Lsn,
    /// Rows changed, as the statistics have it: a second late or more.
    rows: u64,
    /// Transaction identifiers given out: at once.
    xids: u64,
    segment_bytes: u64,
}

/// How fast the server has been writing.
#[derive(Debug, Default)]
struct Rates {
    last: Option<Sample>,
    /// For each interval of the window: when it ended, and bytes and rows per second in it.
    intervals: VecDeque<(Moment, u64, u64)>,
    moved_to: Lsn,
    moved_at_micros: u64,
}

impl Rates {
    fn note(&mut self, now: Sample) {
        if now.lsn != self.moved_to {
            self.moved_to = now.lsn;
            self.moved_at_micros = u64::try_from(clock::wall().as_micros()).unwrap_or(u64::MAX);
        }
        let Some(then) = self.last else {
            self.last = Some(now);
            return;
        };
        let elapsed = now.at.longest_since(then.at);
        if elapsed < RATE_SAMPLE {
            return;
        }
        let millis = u64::try_from(elapsed.as_millis())
            .unwrap_or(u64::MAX)
            .max(1);
        let per_sec = |amount: u64| amount.saturating_mul(1000).div_ceil(millis);
        let before = self
            .intervals
            .back()
            .map_or(0, |it| it.1)
            .saturating_mul(millis)
            / 1000;
        let bytes = per_sec(written(then, now, before));
        let rows = now
            .rows
            .saturating_sub(then.rows)
            .max(now.xids.saturating_sub(then.xids));
        self.intervals.push_back((now.at, bytes, per_sec(rows)));
        self.intervals
            .retain(|(at, ..)| now.at.longest_since(*at) < RATE_WINDOW);
        self.last = Some(now);
    }

    fn bytes_per_sec(&self) -> u64 {
        self.intervals.iter().map(|it| it.1).max().unwrap_or(0)
    }

    fn rows_per_sec(&self) -> u64 {
        self.intervals.iter().map(|it| it.2).max().unwrap_or(0)
    }
}

/// Returns how much log was written between two samples. The end of a segment can be a leap and not a
/// writing: a switch (`pg_switch_wal`, a base backup, `archive_timeout`) leaves the rest of a segment
/// empty. So of a segment that was left, no more counts than the interval `before` would have filled,
/// and a mebibyte.
fn written(then: Sample, now: Sample, before: u64) -> u64 {
    let all = now.lsn.bytes_since(then.lsn);
    let segment = now.segment_bytes.max(1);
    if then.lsn.get() / segment == now.lsn.get() / segment {
        return all;
    }
    let in_this_segment = now.lsn.get() % segment;
    all.min(
        in_this_segment
            .saturating_add(before)
            .saturating_add(1 << 20),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT: u64 = 16 << 20;

    fn sample(millis: u64, lsn: u64, xids: u64) -> Sample {
        let at = Moment::at(Duration::from_millis(millis));
        Sample {
            at,
            lsn: Lsn::new(lsn),
            rows: 0,
            xids,
            segment_bytes: SEGMENT,
        }
    }

    #[test]
    fn a_load_that_has_just_begun_counts_before_the_statistics_know_of_it() {
        let mut rates = Rates::default();
        rates.note(sample(0, 1000, 5));
        rates.note(sample(500, 101_000, 305));

        assert_eq!(rates.bytes_per_sec(), 200_000);
        assert_eq!(rates.rows_per_sec(), 600);
    }

    #[test]
    fn the_empty_rest_of_a_segment_is_not_counted_as_written() {
        let mut rates = Rates::default();
        rates.note(sample(0, SEGMENT + 100, 0));
        rates.note(sample(1000, 2 * SEGMENT + 100, 0));

        assert!(rates.bytes_per_sec() < 2 << 20, "{}", rates.bytes_per_sec());
    }
}
