//! `lab`: the platform on this machine, to inspect, to break and to heal.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this is the one file of the lab that prints"
)]

mod cli;

use std::io::ErrorKind;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use causeway_runtime::reference::Reference;
use causeway_runtime::shutdown::Tasks;
use causeway_runtime::telemetry::{self, LogFormat};
use clap::{CommandFactory as _, Parser as _};
use lab::Lab;
use lab::aws::Credentials;
use lab::aws::s3::S3Server;
use lab::backup_faults::BackupFaultsOptions;
use lab::backup_faults::schedule::BackupSchedule;
use lab::chaos::ChaosOptions;
use lab::chaos::schedule::FaultSchedule;
use lab::cluster::disks::DiskMode;
use lab::cluster::lab_lock::LabLock;
use lab::cluster::program::postgres_user;
use lab::cluster::topology::Topology;
use lab::control::{self, ControlRequest};
use lab::exec::ExecEnvironment;
use lab::progress::ProgressReporter;
use lab::wait;
use tokio::signal::unix::{SignalKind, signal};

use self::cli::{BackupFaultsArgs, ChaosArgs, Cli, Command, ExecArgs, LabArgs, S3Args};

/// Exit code of a shell when a program is not found.
const NOT_FOUND: u8 = 127;

/// Exit code of a shell when a program cannot be executed.
const NOT_EXECUTABLE: u8 = 126;

impl LabArgs {
    fn topology(&self) -> anyhow::Result<Topology> {
        Topology::new(self.number.unwrap_or(1), self.directory.as_deref())
    }

    /// Locks the selected lab, or for a demo any that is free.
    fn lock_any(&self) -> anyhow::Result<LabLock> {
        if self.number.is_none() && self.directory.is_none() {
            return LabLock::acquire_any();
        }
        LabLock::acquire(self.topology()?)
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
        Command::Up { own_disks } => return start_lab(&cli.lab, *own_disks, &progress).await,
        Command::Serve { own_disks } => return serve(&cli.lab, *own_disks).await,
        Command::Demo { report_directory } => {
            return demo(&cli.lab, report_directory, &progress).await;
        }
        Command::Exec(exec) => return run_program(&cli.lab, exec).await,
        Command::Chaos(chaos) => return run_chaos(&cli.lab, chaos, &progress).await,
        Command::S3(s3) => return serve_s3(s3).await,
        Command::Reference { directory } => {
            Reference::new(Cli::command()).write(directory)?;
            return Ok(ExitCode::SUCCESS);
        }
        Command::BackupFaults(arguments) => return run_backup_faults(arguments, &progress).await,
        Command::Status => ControlRequest::Status,
        Command::Break(fault) => ControlRequest::Break(fault.clone()),
        Command::Heal => ControlRequest::Heal,
        Command::Run { scenario } => ControlRequest::Run(*scenario),
        Command::Down => ControlRequest::Down,
    };
    let socket = cli.lab.topology()?.control_socket();
    println!("{}", control::send(&socket, &request, &progress).await?);
    Ok(ExitCode::SUCCESS)
}

/// Replaces this process with a program in the lab's environment, so that signals, the terminal and
/// the exit code are the program's own.
async fn run_program(lab: &LabArgs, exec: &ExecArgs) -> anyhow::Result<ExitCode> {
    let socket = lab.topology()?.control_socket();
    let request = ControlRequest::Environment {
        node: exec.node.clone(),
    };
    let environment = control::send(&socket, &request, &ProgressReporter::silent()).await?;
    let environment: ExecEnvironment = serde_json::from_str(&environment)
        .context("the lab was started by another version of `lab`: restart it")?;
    let mut command = environment.command(&exec.command, postgres_user()?.as_ref())?;
    let error = command.exec();
    let program = command.get_program().to_string_lossy();
    eprintln!("error: could not run `{program}`: {error}");
    Ok(ExitCode::from(if error.kind() == ErrorKind::NotFound {
        NOT_FOUND
    } else {
        NOT_EXECUTABLE
    }))
}

async fn demo(
    lab: &LabArgs,
    reports: &Path,
    progress: &ProgressReporter,
) -> anyhow::Result<ExitCode> {
    start_log("warn")?;
    let passed = lab::demo::run(lab.lock_any()?, reports, progress).await?;
    Ok(exit_code(passed))
}

async fn run_chaos(
    lab: &LabArgs,
    chaos: &ChaosArgs,
    progress: &ProgressReporter,
) -> anyhow::Result<ExitCode> {
    start_log("off")?;
    let first = chaos.seed.unwrap_or_else(|| rand::random::<u32>().into());
    let seeds = (0..chaos.seeds).map(|offset| first.wrapping_add(offset));
    if chaos.show {
        for schedule in seeds.map(FaultSchedule::of) {
            println!("{schedule}");
        }
        return Ok(ExitCode::SUCCESS);
    }
    let options = ChaosOptions {
        seeds: seeds.collect(),
        labs: chaos.labs,
        number: lab.number,
        reports: chaos.report_directory.clone(),
    };
    run_until_signal(lab::chaos::run(&options, progress)).await
}

async fn run_backup_faults(
    arguments: &BackupFaultsArgs,
    progress: &ProgressReporter,
) -> anyhow::Result<ExitCode> {
    start_log("off")?;
    let first = arguments
        .seed
        .unwrap_or_else(|| rand::random::<u32>().into());
    let seeds = (0..arguments.histories).map(|offset| first.wrapping_add(offset));
    if arguments.show {
        for schedule in seeds.map(BackupSchedule::of) {
            println!("{schedule}");
        }
        return Ok(ExitCode::SUCCESS);
    }
    let options = BackupFaultsOptions {
        seeds: seeds.collect(),
        parallel: arguments.parallel,
        reports: arguments.report_directory.clone(),
    };
    run_until_signal(lab::backup_faults::run(&options, progress)).await
}

/// Runs histories until all are checked, or a signal ends them.
async fn run_until_signal(
    histories: impl Future<Output = anyhow::Result<bool>>,
) -> anyhow::Result<ExitCode> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let passed = tokio::select! {
        passed = histories => passed?,
        _ = terminate.recv() => bail!("ended by SIGTERM"),
        _ = interrupt.recv() => bail!("ended by SIGINT"),
    };
    Ok(exit_code(passed))
}

fn exit_code(passed: bool) -> ExitCode {
    if passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

async fn start_lab(
    lab: &LabArgs,
    own_disks: bool,
    progress: &ProgressReporter,
) -> anyhow::Result<ExitCode> {
    let topology = lab.topology()?;
    let socket = topology.control_socket();
    let silent = ProgressReporter::silent();
    if control::send(&socket, &ControlRequest::Status, &silent)
        .await
        .is_ok()
    {
        bail!(
            "lab {} is already up: `lab status` shows it",
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
    progress.report(format!("starting the lab; log: `{}`", path.display()));
    let read_log = || {
        std::fs::read_to_string(&path).unwrap_or_else(|error| format!("log not readable: {error}"))
    };
    let started = wait::until("the lab to start", control::UP_TIMEOUT, || async {
        let status = control::send(&socket, &ControlRequest::Status, &silent).await;
        status.map_err(|_not_yet| read_log().lines().last().unwrap_or("").to_owned())
    });
    tokio::select! {
        status = started => println!("{}", status?),
        ended = serve.wait() => {
            bail!("the lab ended at start-up ({}): {}", ended?, read_log().trim());
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn serve(lab: &LabArgs, own_disks: bool) -> anyhow::Result<ExitCode> {
    start_log("info,s3s=warn,s3s_fs=warn")?;
    let lock = LabLock::acquire(lab.topology()?)?;
    let disks = if own_disks {
        DiskMode::Own
    } else {
        DiskMode::Shared
    };
    let lab = Arc::new(Lab::start_on(disks, lock, &ProgressReporter::to_log()).await?);
    let tasks = Tasks::new();
    control::serve(Arc::clone(&lab), &tasks)?;
    tasks.run_until_signalled(Duration::from_secs(5)).await?;
    lab.stop().await?;
    Ok(ExitCode::SUCCESS)
}

async fn serve_s3(s3: &S3Args) -> anyhow::Result<ExitCode> {
    start_log("info,s3s=warn,s3s_fs=warn")?;
    if s3.atomic {
        let credentials = Credentials::new(&s3.access_key, s3.secret_key.clone());
        let server = S3Server::new(&s3.root, &[], s3.listen, &credentials)?;
        server.serve_until_signalled().await?;
    } else {
        lab::aws::plain_s3::serve(&s3.root, s3.listen, &s3.access_key, &s3.secret_key).await?;
    }
    Ok(ExitCode::SUCCESS)
}

fn start_log(filter: &str) -> anyhow::Result<()> {
    let filter = std::env::var("RUST_LOG").unwrap_or_else(|_| filter.to_owned());
    telemetry::start(&filter, LogFormat::Logfmt)?;
    Ok(())
}
