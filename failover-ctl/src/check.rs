//! `failover-ctl check`: verifies the settings, and everything that this host needs, before anything is changed.

mod agent_restart;
mod clock_offset;
mod line;
mod network;
mod service_user;
mod store;
mod this_host;
mod watchdog;

use std::path::Path;

use serde::Serialize;

use crate::check::line::{CheckLine, CheckResultWord};
use crate::cli::HostCheckArgs;
use crate::clients::lease_store::LeaseStore;
use crate::clients::route53::{DnsRecords, RecordMoveError};
use crate::config::Settings;
use crate::error::Error;
use crate::output;
use causeway_runtime::telemetry::chain;

/// All checks, for `--json`.
#[derive(Serialize)]
struct CheckReport {
    format: u32,
    checks: Vec<CheckLine>,
}

/// Runs every check, and prints a line for each.
///
/// # Errors
///
/// [`Error::ChecksFailed`] when any has failed.
pub(crate) async fn run(
    settings: &Settings,
    file: &Path,
    args: &HostCheckArgs,
) -> Result<(), Error> {
    if args.settings_only {
        // They were read, or the program would have ended.
        return print(*args, vec![CheckLine::ok("settings", "")]);
    }
    if args.agent_restart {
        return print(*args, vec![agent_restart::check(settings).await]);
    }
    let mut checks = vec![
        this_host::settings_file(settings, file, args.before_install),
        this_host::signing_key(settings, args.before_install),
    ];
    let store = LeaseStore::open(settings).await;
    let found = store::checks(settings, &store).await;
    checks.extend(found.lines);
    match &settings.host {
        Some(host) => checks.extend(this_host::checks(
            host,
            &settings.timing,
            args.before_install,
        )),
        None => checks.push(CheckLine::skipped(
            "this node",
            "the settings name no `node`: this is an operator's machine",
        )),
    }
    let lease = found.lease.as_ref();
    checks.extend(network::checks(settings, lease, args.before_install).await);
    checks.push(dns(settings).await);
    print(*args, checks)
}

/// Prints the checks, and fails if any has failed.
fn print(args: HostCheckArgs, checks: Vec<CheckLine>) -> Result<(), Error> {
    let count = |word| checks.iter().filter(|check| check.result == word).count();
    let (all, failed) = (checks.len(), count(CheckResultWord::Failed));
    if args.json {
        let report = CheckReport { format: 1, checks };
        let text = serde_json::to_string_pretty(&report).map_err(anyhow::Error::from)?;
        output::print_data(&text);
    } else {
        for check in &checks {
            output::print_data(&check.to_string());
        }
    }
    if failed == 0 {
        return Ok(());
    }
    Err(Error::ChecksFailed { failed, all })
}

/// Reads the records that follow the primary.
async fn dns(settings: &Settings) -> CheckLine {
    let name = "DNS records";
    let Some(dns) = &settings.dns else {
        return CheckLine::skipped(name, "the settings have no `[dns]`");
    };
    let client = DnsRecords::open(dns).await;
    let mut texts = Vec::new();
    let api = dns.api.iter().map(|api| &api.name);
    for record in api.chain([&dns.writer]) {
        match client.read_record(record).await {
            Ok(state) if state.values.is_empty() => {
                texts.push(format!("`{record}` does not exist yet"));
            }
            Ok(state) => texts.push(format!("`{record}` is {}", state.values.join(", "))),
            Err(error) => {
                let cause = match error {
                    RecordMoveError::Transient { source, .. }
                    | RecordMoveError::Refused { source, .. } => chain(source.as_ref()),
                    error @ RecordMoveError::Later { .. } => chain(&error),
                };
                return CheckLine::failed(
                    name,
                    format!(
                        "`{record}` could not be read: {cause}; check `[dns]`, and that this host's role has \
                         `route53:ListResourceRecordSets` for the zone"
                    ),
                );
            }
        }
    }
    CheckLine::ok(name, texts.join("; "))
}
