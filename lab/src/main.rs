//! `lab`: the platform on this machine, to look at, to break and to heal.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this is the one file of the lab that prints"
)]

use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, Parser, Subcommand};
use ha_runtime::shutdown::Tasks;
use ha_runtime::telemetry::{self, LogFormat};
use lab::Lab;
use lab::control::{self, Order};
use lab::fault::Fault;
use lab::stories::Story;
use lab::topology::{Claim, Topology};
use lab::voice::Voice;
use lab::wait;

/// The whole platform on one machine: three PostgreSQL servers in two regions, and AWS beside them
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    which: Which,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
struct Which {
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
    Up,
    /// Show every process, path, node and the lease
    Status,
    /// Break something
    #[command(subcommand)]
    Break(Fault),
    /// Put right everything that was broken
    Heal,
    /// Break something under load, and judge what came of it
    Drill {
        /// What happens
        story: Story,
    },
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
    Serve,
}

impl Which {
    fn topology(&self) -> anyhow::Result<Topology> {
        Topology::new(self.number.unwrap_or(1), self.directory.as_deref())
    }

    /// Claims the lab that was named, or for a demo any that is free.
    fn claim_any(&self) -> anyhow::Result<Claim> {
        if self.number.is_none() && self.directory.is_none() {
            return Claim::any();
        }
        Claim::take(self.topology()?)
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
    let aloud = Voice::new(|line| eprintln!("{line}"));
    let order = match &cli.command {
        Command::Up => return up(&cli.which, &aloud).await,
        Command::Serve => return serve(&cli.which).await,
        Command::Demo { report_directory } => {
            return demo(&cli.which, report_directory, &aloud).await;
        }
        Command::Status => Order::Status,
        Command::Break(fault) => Order::Break(fault.clone()),
        Command::Heal => Order::Heal,
        Command::Drill { story } => Order::Drill(*story),
        Command::Down => Order::Down,
    };
    let socket = cli.which.topology()?.control_socket();
    println!("{}", control::order(&socket, &order, &aloud).await?);
    Ok(ExitCode::SUCCESS)
}

async fn demo(which: &Which, reports: &Path, aloud: &Voice) -> anyhow::Result<ExitCode> {
    log("warn")?;
    let passed = lab::demo::tell(which.claim_any()?, reports, aloud).await?;
    Ok(if passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn up(which: &Which, aloud: &Voice) -> anyhow::Result<ExitCode> {
    let topology = which.topology()?;
    let socket = topology.control_socket();
    if control::order(&socket, &Order::Status, aloud).await.is_ok() {
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
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .process_group(0);
    let mut serve = serve.spawn().context("could not start the lab")?;
    aloud.say(format!("starting; its log is `{}`", path.display()));
    let answers = wait::until("the lab to come up", control::UP_WITHIN, || async {
        let tail = || {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            text.lines().last().unwrap_or_default().to_owned()
        };
        let silent = Voice::new(|_| {});
        match control::order(&socket, &Order::Status, &silent).await {
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

async fn serve(which: &Which) -> anyhow::Result<ExitCode> {
    log("info,s3s=warn,s3s_fs=warn")?;
    let claim = Claim::take(which.topology()?)?;
    let lab = Arc::new(Lab::start(claim, &Voice::logged()).await?);
    let tasks = Tasks::new();
    control::serve(Arc::clone(&lab), &tasks)?;
    tasks.run_until_signalled(Duration::from_secs(5)).await?;
    lab.stop().await?;
    Ok(ExitCode::SUCCESS)
}

fn log(filter: &str) -> anyhow::Result<()> {
    let filter = std::env::var("RUST_LOG").unwrap_or_else(|_| filter.to_owned());
    telemetry::start(&filter, LogFormat::Logfmt)?;
    Ok(())
}
