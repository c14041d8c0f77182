//! Queries of the local server, and the parsing of its answers.

use std::time::Duration;

use causeway_core::agent::PrimaryView;
use causeway_core::failover::observation::ReplayProgress;
use causeway_core::lease::{PrimaryPosition, SystemId};
use causeway_core::{HostInstant, Lsn, Timeline};
use causeway_runtime::clock;
use tokio_postgres::Row;

use super::state::{ServerAnswer, StandbyAnswer, WriteHindrance};
use crate::clients::write_rates::{WriteRates, WriteSample};
use crate::config::PostgresSettings;
use crate::data_directory::replay_progress;
use crate::data_directory::wal::position;
use crate::protocol::guard::NO_STANDBY;

/// Query of the server's complete state. Functions that raise an error in the other role are guarded by a CASE.
pub(super) const STATE_QUERY: &str = "
select r.in_recovery,
       case when r.in_recovery then pg_last_wal_receive_lsn() end::text as received,
       case when r.in_recovery then pg_last_wal_replay_lsn() end::text as replayed,
       case when r.in_recovery then pg_is_wal_replay_paused() else false end as replay_paused,
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
       (select coalesce(sum(numbackends), 0)::bigint from pg_stat_database) as backends,
       current_setting('max_connections')::bigint
         - current_setting('superuser_reserved_connections')::bigint as client_connections,
       current_setting('default_transaction_read_only') = 'on' as read_only_default,
       current_setting('synchronous_standby_names') as synchronous_standbys,
       case when r.in_recovery then 0
            else pg_snapshot_xmax(pg_current_snapshot())::text::bigint end as next_xid,
       pg_size_bytes(current_setting('wal_segment_size')) as segment_bytes
  from (select pg_is_in_recovery() as in_recovery) r";

/// Write probe: a transaction with one WAL message that waits for its local flush. It fails on a full, read-only or
/// stalled disk, where reads still succeed. It uses no table, so no lock blocks it, and takes a transaction id, so it
/// fails when none is left. Its commit is the heartbeat from which a standby's lag in seconds is computed.
pub(super) const WRITE_PROBE: &str =
    "select pg_logical_emit_message(true, 'causeway', 'heartbeat')::text";

pub(super) const CHECKPOINT: &str = "checkpoint";

/// Resets a setting by `ALTER SYSTEM`, which overrides every file including the guard's. It cannot share a transaction with
/// another statement.
pub(super) const HOLD_BACK: [&str; 2] = [
    "alter system reset synchronous_standby_names",
    "select pg_reload_conf()",
];

/// Interval at which the processes of a server that accepts no connections are inspected.
const RECOVERY_INTERVAL: Duration = Duration::from_secs(1);

/// Parser of answers, with state between them.
pub(super) struct AnswerReader {
    data: std::path::PathBuf,
    /// Timeline of the standby's WAL, which stays valid after the walreceiver has exited.
    timeline: Option<Timeline>,
    rates: WriteRates,
    pub(super) checkpointed: Option<Timeline>,
    pub(super) hindrance: Option<WriteHindrance>,
    recovery: Option<(HostInstant, Option<u64>)>,
    pub(super) held_back_at: Option<HostInstant>,
}

/// Row of [`STATE_QUERY`] that is rejected.
#[derive(Debug, thiserror::Error)]
pub(super) enum AnswerError {
    /// A column has another type.
    #[error(transparent)]
    Column(#[from] tokio_postgres::Error),
    /// A required column is NULL.
    #[error("column `{0}` has no usable value")]
    Missing(&'static str),
    /// A WAL position cannot be parsed.
    #[error("column `{column}` is `{text}`, which is not a WAL position")]
    NotAnLsn {
        /// Column.
        column: &'static str,
        /// Value.
        text: String,
    },
}

impl AnswerReader {
    pub(super) fn new(settings: &PostgresSettings) -> Self {
        Self {
            data: settings.data_directory.clone(),
            timeline: None,
            rates: WriteRates::default(),
            checkpointed: None,
            hindrance: None,
            recovery: None,
            held_back_at: None,
        }
    }

    /// Returns a fingerprint that changes while a server that accepts no connections replays WAL.
    pub(super) fn replay(&mut self, now: HostInstant) -> Option<u64> {
        match self.recovery {
            Some((at, replay)) if now.elapsed_upper_bound(at) < RECOVERY_INTERVAL => replay,
            Some(_) | None => {
                let replay = replay_progress::progress(&self.data);
                self.recovery = Some((now, replay));
                replay
            }
        }
    }

    /// Parses the answer to [`STATE_QUERY`].
    ///
    /// # Errors
    ///
    /// When a column is missing or has an invalid value.
    pub(super) fn read(&mut self, row: &Row) -> Result<ServerAnswer, AnswerError> {
        if row.try_get::<_, bool>("in_recovery")? {
            self.hindrance = None;
            return Ok(ServerAnswer::Standby(self.standby(row)?));
        }
        Ok(ServerAnswer::Primary(self.primary(clock::now(), row)?))
    }

    fn standby(&mut self, row: &Row) -> Result<StandbyAnswer, AnswerError> {
        let received: Option<Lsn> = lsn(row, "received")?;
        let replayed = required(lsn(row, "replayed")?, "replayed")?;
        let received = received.unwrap_or(replayed).max(replayed);
        let receiving: Option<i32> = row.try_get("receiving_timeline")?;
        let recovered: i32 = row.try_get("recovered_timeline")?;
        // The timeline comes from the WAL itself, because the control file follows only at the next restartpoint, and the
        // walreceiver has it only while it runs.
        let in_wal = position::timeline_at(&self.data.join("pg_wal"), received).unwrap_or(None);
        let known = [
            timeline(recovered),
            receiving.and_then(timeline),
            in_wal,
            self.timeline,
        ];
        let timeline = required(known.into_iter().flatten().max(), "recovered_timeline")?;
        self.timeline = Some(timeline);
        self.checkpointed = None;
        Ok(StandbyAnswer {
            progress: ReplayProgress {
                timeline,
                received_lsn: received,
                replayed_lsn: replayed,
            },
            streaming: receiving.is_some(),
            replay_paused: row.try_get("replay_paused")?,
            holds_back: row.try_get::<_, &str>("synchronous_standbys")? == NO_STANDBY,
            replayed_commit_at_micros: micros(row, "replayed_commit_at")?,
        })
    }

    fn primary(&mut self, now: HostInstant, row: &Row) -> Result<PrimaryView, AnswerError> {
        self.timeline = None;
        let flush_lsn = required(lsn(row, "flushed")?, "flushed")?;
        let count = |column| row.try_get::<_, i64>(column).map(i64::cast_unsigned);
        self.rates.add_sample(WriteSample {
            at: now,
            lsn: flush_lsn,
            rows: count("changed_rows")?,
            xids: count("next_xid")?,
            segment_bytes: count("segment_bytes")?,
        });
        self.hindrance = if row.try_get("read_only_default")? {
            Some(WriteHindrance::ReadOnlyDefault)
        } else if count("backends")? >= count("client_connections")? {
            Some(WriteHindrance::ConnectionsExhausted)
        } else {
            None
        };
        let system_id: i64 = row.try_get("system_id")?;
        let written: i32 = row.try_get("written_timeline")?;
        let position = PrimaryPosition {
            timeline: required(timeline(written), "written_timeline")?,
            flush_lsn,
            last_commit_at_micros: self.rates.moved_at_micros,
            wal_bytes_per_sec: self.rates.wal_bytes_per_sec(),
            rows_per_sec: self.rates.rows_per_sec(),
            age_millis: 0,
        };
        Ok(PrimaryView {
            position,
            system_id: SystemId(system_id.cast_unsigned()),
        })
    }
}

fn lsn(row: &Row, column: &'static str) -> Result<Option<Lsn>, AnswerError> {
    let text: Option<String> = row.try_get(column)?;
    text.map(|text| parse_lsn(&text, column)).transpose()
}

fn parse_lsn(text: &str, column: &'static str) -> Result<Lsn, AnswerError> {
    text.parse().map_err(|_| AnswerError::NotAnLsn {
        column,
        text: text.to_owned(),
    })
}

/// Rejects a missing value: LSN 0/0 or timeline 1 in its place would misstate the data loss.
fn required<T>(value: Option<T>, column: &'static str) -> Result<T, AnswerError> {
    value.ok_or(AnswerError::Missing(column))
}

fn micros(row: &Row, column: &str) -> Result<Option<u64>, AnswerError> {
    let number: Option<i64> = row.try_get(column)?;
    Ok(number.and_then(|number| u64::try_from(number).ok()))
}

fn timeline(number: i32) -> Option<Timeline> {
    u32::try_from(number).ok().and_then(Timeline::new)
}

#[cfg(test)]
mod tests {
    use causeway_runtime::shutdown::Tasks;

    use super::*;
    use crate::clients::postgres::{connect, local};
    use crate::test_server::Nodes;

    /// LSN 0/0 or timeline 1 in their place would misstate the data loss.
    #[tokio::test]
    async fn position_or_timeline_null_then_answer_rejected() {
        let nodes = Nodes::new();
        let primary = nodes.primary("a");
        let settings = primary.host().postgres;
        let client = connect(&local(&settings, "test"), &Tasks::new()).await;
        let client = client.unwrap();
        for (columns, missing) in [
            ("false as in_recovery, null::text as flushed", "flushed"),
            (
                "true as in_recovery, null::text as received, null::text as replayed",
                "replayed",
            ),
            (
                "true as in_recovery, null::text as received, '0/1'::text as replayed, \
                 null::int as receiving_timeline, 0 as recovered_timeline",
                "recovered_timeline",
            ),
        ] {
            let row = client.query_one(&format!("select {columns}"), &[]).await;
            let rejected = AnswerReader::new(&settings).read(&row.unwrap());
            assert!(
                matches!(rejected, Err(AnswerError::Missing(column)) if column == missing),
                "{missing}: {:?}",
                rejected.err()
            );
        }
    }

    /// Objects that precede PostgreSQL's by the role's own path.
    const PLANTED: &str = "\
        create function public.pg_is_in_recovery() returns boolean language sql as 'select true'; \
        create function public.current_setting(text) returns text language sql as $$ select 'planted' $$; \
        create function public.planted(text, text) returns boolean language sql as 'select false'; \
        create operator public.= (leftarg = text, rightarg = text, function = public.planted); \
        alter role postgres set search_path = public, pg_catalog";

    #[tokio::test]
    async fn objects_planted_before_pg_catalog_then_not_used() {
        let nodes = Nodes::new();
        let primary = nodes.primary("a");
        let settings = primary.host().postgres;
        primary.sql(PLANTED);
        let seen =
            primary.sql("select pg_is_in_recovery(), current_setting('port'), 'a'::text = 'a'");
        assert_eq!(seen, "t|planted|f", "the role does not use them");

        let client = connect(&local(&settings, "test"), &Tasks::new()).await;
        let row = client.unwrap().query_one(STATE_QUERY, &[]).await.unwrap();
        let answer = AnswerReader::new(&settings).read(&row).unwrap();
        assert!(
            matches!(answer, ServerAnswer::Primary(_)),
            "a planted function answered"
        );
    }

    #[test]
    fn position_missing_or_malformed_then_rejected() {
        let missing = required(None::<Lsn>, "flushed").unwrap_err();
        assert_eq!(missing.to_string(), "column `flushed` has no usable value");

        let malformed = parse_lsn("0-0", "received").unwrap_err();
        assert!(
            malformed.to_string().contains("not a WAL position"),
            "{malformed}"
        );
        assert_eq!(
            parse_lsn("0/3000148", "received").unwrap(),
            Lsn::new(0x0300_0148)
        );
    }
}
