//! `lab backup-faults`: histories of backups, promotions, kills and failing buckets, each on a server
//! of its own, and restores that are compared with every row that the writer knows.

mod bucket_contents;
pub mod bucket_outage;
pub mod checker;
mod commands;
mod damage;
mod postgres_server;
mod promotion;
mod restore;
mod runner;
mod sandbox;
pub mod schedule;
mod template;
mod timeline_model;
mod writer;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tokio::time::Instant;

use self::checker::Violation;
use self::runner::Player;
use self::schedule::History;
use self::template::Templates;
use crate::progress::Voice;
use crate::seeded_runs::{self, Ended};

/// What is to be played.
#[derive(Clone, Debug)]
pub struct Options {
    /// The seeds, each of one history.
    pub seeds: Vec<u64>,
    /// How many are played beside each other.
    pub beside: u8,
    /// Where what was seen of a history that fails is kept.
    pub reports: PathBuf,
}

/// Plays every history, tells how each ended, and returns whether everything held in all of them.
///
/// # Errors
///
/// When no server can be made, or nothing can be written to the directory for reports.
pub async fn run(options: &Options, voice: &Voice) -> anyhow::Result<bool> {
    let reports = &options.reports;
    seeded_runs::make_reports(reports)?;
    let templates = Templates::make().await?;
    let count = options.seeds.len();
    let again = |first| format!("`lab backup-faults --seed {first} --histories {count}`");
    let play = async |_, seed| one(seed, &templates, reports, voice).await;
    let held = seeded_runs::play_all(&options.seeds, options.beside, again, reports, voice, play);
    Ok(held.await)
}

/// Plays one history, and tells how it ended.
async fn one(seed: u64, templates: &Templates, reports: &Path, voice: &Voice) -> Ended<Violation> {
    let history = History::of(seed);
    let began = Instant::now();
    let template = templates.path(history.ballast);
    let ended = match Player::begin(&history, template).await {
        Ok(player) => play(player, &history, reports).await,
        Err(error) => Ended::Unknown(format!("{error:#}")),
    };
    let secs = began.elapsed().as_secs_f64();
    let told = match &ended {
        Ended::Held => format!("held, {secs:.0} s"),
        Ended::Violated(violations) => {
            let lines = violations.iter().map(|it| format!("\n  {it}"));
            format!(
                "FAILED, {secs:.0} s{}\n{history}",
                lines.collect::<String>()
            )
        }
        Ended::Unknown(why) => format!("NOT JUDGED, {secs:.0} s: {why}\n{history}"),
    };
    voice.say(format!("seed {seed}: {told}"));
    ended
}

async fn play(mut player: Player, history: &History, reports: &Path) -> Ended<Violation> {
    let mut whole = all(&mut player, history).await;
    if let Err(error) = player.stop(true).await {
        whole = whole.and(Err(error));
    }
    player.site.stop().await;
    let ended = match whole {
        _ if !player.violations.is_empty() => Ended::Violated(player.violations.clone()),
        Ok(()) => Ended::Held,
        Err(error) => Ended::Unknown(format!("{error:#}")),
    };
    if !matches!(ended, Ended::Held) {
        player.site.keep();
        if let Err(error) = keep(&player, history, reports) {
            return Ended::Unknown(format!("{error:#}"));
        }
    }
    ended
}

async fn all(player: &mut Player, history: &History) -> anyhow::Result<()> {
    for step in &history.steps {
        player.step(step).await?;
    }
    player.stop(true).await?;
    for (number, order) in history.restores.iter().enumerate() {
        player.restore(number, order).await?;
    }
    Ok(())
}

/// Keeps what was seen of a history.
fn keep(player: &Player, history: &History, reports: &Path) -> anyhow::Result<()> {
    let kept = reports.join(history.seed.to_string());
    if kept.exists() {
        std::fs::remove_dir_all(&kept)?;
    }
    std::fs::create_dir_all(&kept)
        .with_context(|| format!("could not make `{}`", kept.display()))?;
    let directory = player.site.directory.display();
    let mut text = format!("{history}\n\nwhat happened, in `{directory}`:\n");
    for line in &player.told {
        writeln!(text, "{line}")?;
    }
    std::fs::write(kept.join("history.txt"), text)?;
    for bucket in &player.site.buckets {
        let name = format!("requests-{}.txt", bucket.which);
        std::fs::write(kept.join(name), bucket.faults.log())?;
    }
    for entry in std::fs::read_dir(player.site.directory.join("log"))? {
        let entry = entry?;
        std::fs::copy(entry.path(), kept.join(entry.file_name()))?;
    }
    Ok(())
}
