//! `lab`: the platform on this machine, to look at, to break and to heal.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this is the one file of the lab that prints"
)]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use causeway_runtime::secret::Secret;
use causeway_runtime::shutdown::Tasks;
use causeway_runtime::telemetry::{self, LogFormat};
use clap::builder::{StringValueParser, TypedValueParser as _};
use clap::{Args, Parser, Subcommand};
use lab::Lab;
use lab::chaos::schedule::FaultSchedule;
use lab::cluster::disks::DiskMode;
use lab::cluster::lab_lock::LabLock;
use lab::cluster::topology::Topology;
use lab::control::{self, ControlRequest};
use lab::fault::Fault;
use lab::progress::ProgressReporter;
use lab::scenarios::Scenario;
use lab::wait;
use tokio::signal::unix::{SignalKind, signal};

/// The whole platform on one machine: three PostgreSQL servers in two regions, and AWS beside them
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    which: LabArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
struct LabArgs {
    /// The lab's number, which is in all of its addresses: 127.77.<NUMBER>.x
    #[arg(long, global = true)]
    number: Option<u8>,
    /// The lab's directory, instead of /tmp/causeway-lab-<NUMBER>
    #[arg(long, global = true)]
    directory: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a lab in the background
    Up {
        /// Give each node a disk of its own, which `disk-full` and `disk-read-only` need; only as root
        #[arg(long)]
        own_disks: bool,
    },
    /// Show every process, path, node and the lease
    Status,
    /// Break something
    #[command(subcommand)]
    Break(Fault),
    /// Put right everything that was broken
    Heal,
    /// Break something under load, and judge what came of it
    Run {
        /// What happens
        scenario: Scenario,
    },
    /// Play histories of random faults, and judge each
    Chaos(ChaosArgs),
    /// Play histories of backups whose buckets fail, restore, and compare every row
    BackupFaults(BackupFaultsArgs),
    /// Tell the whole story: zones and regions lost, and not a row more than was stated
    Demo {
        /// Where report.json and report.html are written
        #[arg(long, default_value = "target/demo")]
        report_directory: PathBuf,
    },
    /// End a lab and remove everything of it
    Down,
    /// Run a lab until it is told to end
    #[command(hide = true)]
    Serve {
        /// Give each node a disk of its own
        #[arg(long)]
        own_disks: bool,
    },
    /// Serve S3 alone, without a lab: what `make bench-backup` measures against
    #[command(hide = true)]
    S3(S3Args),
}

#[derive(Debug, Args)]
struct S3Args {
    /// The directory whose directories are the buckets
    #[arg(long)]
    root: PathBuf,
    /// Where it listens, without TLS
    #[arg(long)]
    listen: SocketAddr,
    /// The key that clients sign with
    #[arg(long, env = "AWS_ACCESS_KEY_ID")]
    access_key: String,
    /// Its secret
    #[arg(long, env = "AWS_SECRET_ACCESS_KEY", hide_env_values = true, value_parser = StringValueParser::new().map(Secret::new))]
    secret_key: Secret,
}

#[derive(Debug, Args)]
struct ChaosArgs {
    /// The first seed; drawn and printed if there is none
    #[arg(long)]
    seed: Option<u64>,
    /// How many seeds are played, each one above the one before
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// How many labs stand side by side
    #[arg(long, default_value_t = 2)]
    labs: u8,
    /// Print the histories instead of playing them
    #[arg(long)]
    show: bool,
    /// Where it is kept what was seen of a history
    #[arg(long, default_value = "target/chaos")]
    report_directory: PathBuf,
}

#[derive(Debug, Args)]
struct BackupFaultsArgs {
    /// The first seed; drawn and printed if there is none
    #[arg(long)]
    seed: Option<u64>,
    /// How many histories are played, each of the seed above the one before
    #[arg(long, default_value_t = 1)]
    histories: u64,
    /// How many are played beside each other
    #[arg(long, default_value_t = 2)]
    beside: u8,
    /// Print the histories instead of playing them
    #[arg(long)]
    show: bool,
    /// Where it is kept what was seen of a history
    #[arg(long, default_value = "target/backup-faults")]
    report_directory: PathBuf,
}

impl LabArgs {
    fn topology(&self) -> anyhow::Result<Topology> {
        Topology::new(self.number.unwrap_or(1), self.directory.as_deref())
    }

    /// Claims the lab that was named, or for a demo any that is free.
    fn claim_any(&self) -> anyhow::Result<LabLock> {
        if self.number.is_none() && self.directory.is_none() {
            return LabLock::any();
        }
        LabLock::take(self.topology()?)
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn run(cli: &Cli) -> anyhow::Result<ExitCode> {
    let progress = ProgressReporter::new(|line| eprintln!("{line}"));
    let request = match &cli.command {
        Command::Up { own_disks } => return up(&cli.which, *own_disks, &progress).await,
        Command::Serve { own_disks } => return serve(&cli.which, *own_disks).await,
        Command::Demo { report_directory } => {
            return demo(&cli.which, report_directory, &progress).await;
        }
        Command::Chaos(chaos) => return play_histories(&cli.which, chaos, &progress).await,
        Command::S3(s3) => return serve_s3(s3).await,
        Command::BackupFaults(asked) => return look_for_backup_faults(asked, &progress).await,
        Command::Status => ControlRequest::Status,
        Command::Break(fault) => ControlRequest::Break(fault.clone()),
        Command::Heal => ControlRequest::Heal,
        Command::Run { scenario } => ControlRequest::Run(*scenario),
        Command::Down => ControlRequest::Down,
    };
    let socket = cli.which.topology()?.control_socket();
    println!("{}", control::request(&socket, &request, &progress).await?);
    Ok(ExitCode::SUCCESS)
}

async fn demo(
    which: &LabArgs,
    reports: &Path,
    progress: &ProgressReporter,
) -> anyhow::Result<ExitCode> {
    log("warn")?;
    let passed = lab::demo::tell(which.claim_any()?, reports, progress).await?;
    Ok(if passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn play_histories(
    which: &LabArgs,
    chaos: &ChaosArgs,
    progress: &ProgressReporter,
) -> anyhow::Result<ExitCode> {
    log("off")?;
    let first = chaos.seed.unwrap_or_else(|| rand::random::<u32>().into());
    let seeds = (0..chaos.seeds).map(|it| first.wrapping_add(it));
    if chaos.show {
        for schedule in seeds.map(FaultSchedule::of) {
            println!("{schedule}");
        }
        return Ok(ExitCode::SUCCESS);
    }
    let options = lab::chaos::ChaosOptions {
        seeds: seeds.collect(),
        labs: chaos.labs,
        number: which.number,
        reports: chaos.report_directory.clone(),
    };
    judged(lab::chaos::run(&options, progress)).await
}

async fn look_for_backup_faults(
    asked: &BackupFaultsArgs,
    progress: &ProgressReporter,
) -> anyhow::Result<ExitCode> {
    log("off")?;
    let first = asked.seed.unwrap_or_else(|| rand::random::<u32>().into());
    let seeds = (0..asked.histories).map(|it| first.wrapping_add(it));
    if asked.show {
        for schedule in seeds.map(lab::backup_faults::schedule::BackupSchedule::of) {
            println!("{schedule}");
        }
        return Ok(ExitCode::SUCCESS);
    }
    let options = lab::backup_faults::BackupFaultsOptions {
        seeds: seeds.collect(),
        beside: asked.beside,
        reports: asked.report_directory.clone(),
    };
    judged(lab::backup_faults::run(&options, progress)).await
}

/// Plays until everything is judged, or somebody ends it.
async fn judged(histories: impl Future<Output = anyhow::Result<bool>>) -> anyhow::Result<ExitCode> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let held = tokio::select! {
        held = histories => held?,
        _ = terminate.recv() => bail!("told to end"),
        _ = interrupt.recv() => bail!("told to end"),
    };
    Ok(if held {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn up(
    which: &LabArgs,
    own_disks: bool,
    progress: &ProgressReporter,
) -> anyhow::Result<ExitCode> {
    let topology = which.topology()?;
    let socket = topology.control_socket();
    if control::request(&socket, &ControlRequest::Status, progress)
        .await
        .is_ok()
    {
        bail!(
            "lab {} is up already: `lab status` shows it",
            topology.number()
        );
    }
    let path = PathBuf::from(format!("/tmp/causeway-lab-{}.log", topology.number()));
    let log = std::fs::File::create(&path)
        .with_context(|| format!("could not write `{}`", path.display()))?;
    let mut serve = tokio::process::Command::new(std::env::current_exe()?);
    serve
        .args(["--number", &topology.number().to_string(), "--directory"])
        .arg(topology.directory())
        .arg("serve")
        .args(own_disks.then_some("--own-disks"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .process_group(0);
    let mut serve = serve.spawn().context("could not start the lab")?;
    progress.report(format!("starting; its log is `{}`", path.display()));
    let answers = wait::until("the lab to come up", control::UP_WITHIN, || async {
        let tail = || {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            text.lines().last().unwrap_or_default().to_owned()
        };
        let silent = ProgressReporter::new(|_| {});
        match control::request(&socket, &ControlRequest::Status, &silent).await {
            Ok(status) => Ok(status),
            Err(_not_yet) => Err(tail()),
        }
    });
    tokio::select! {
        status = answers => println!("{}", status?),
        ended = serve.wait() => {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            bail!("the lab ended ({}): {}", ended?, text.trim());
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn serve(which: &LabArgs, own_disks: bool) -> anyhow::Result<ExitCode> {
    log("info,s3s=warn,s3s_fs=warn")?;
    let claim = LabLock::take(which.topology()?)?;
    let disks = if own_disks {
        DiskMode::Own
    } else {
        DiskMode::Shared
    };
    let lab = Arc::new(Lab::start_on(disks, claim, &ProgressReporter::to_log()).await?);
    let tasks = Tasks::new();
    control::serve(Arc::clone(&lab), &tasks)?;
    tasks.run_until_signalled(Duration::from_secs(5)).await?;
    lab.stop().await?;
    Ok(ExitCode::SUCCESS)
}

async fn serve_s3(s3: &S3Args) -> anyhow::Result<ExitCode> {
    log("info,s3s=warn,s3s_fs=warn")?;
    lab::aws::plain_s3::serve(&s3.root, s3.listen, &s3.access_key, &s3.secret_key).await?;
    Ok(ExitCode::SUCCESS)
}

fn log(filter: &str) -> anyhow::Result<()> {
    let filter = std::env::var("RUST_LOG").unwrap_or_else(|_| filter.to_owned());
    telemetry::start(&filter, LogFormat::Logfmt)?;
    Ok(())
}
