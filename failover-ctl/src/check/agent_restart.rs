//! Check whether a restart of this node's agent interrupts a rewind or copy of the data directory.

use crate::check::line::CheckLine;
use crate::clients::agents::AgentClient;
use crate::config::Settings;

/// Checks that this node's agent changes no data directory now.
pub(super) async fn check(settings: &Settings) -> CheckLine {
    let name = "restart of the agent";
    let Some(host) = &settings.host else {
        return CheckLine::skipped(name, "the settings name no `node`");
    };
    // An error of the state directory proves nothing absent.
    let is_marked = !matches!(host.rewinding_marker().try_exists(), Ok(false));
    let status = AgentClient::new(settings).status(&host.node).await;
    let work = match &status {
        Ok(status) => AgentWork::Reported(status.standby_setup.as_deref()),
        Err(_) => AgentWork::Unknown { is_marked },
    };
    match find_obstacle(&work) {
        Some(why) => CheckLine::failed(name, why),
        None => CheckLine::ok(name, ""),
    }
}

/// Work of the agent on the data directory.
enum AgentWork<'status> {
    /// As its status has it. A marker file without work is that of an interrupted attempt, which waits for the next.
    Reported(Option<&'status str>),
    /// The agent does not respond, and its marker file may say that a rewind or copy has begun.
    Unknown { is_marked: bool },
}

fn find_obstacle(work: &AgentWork<'_>) -> Option<String> {
    match work {
        AgentWork::Reported(Some(busy)) => Some(format!("it is {busy}: restart it afterwards")),
        AgentWork::Unknown { is_marked: true } => Some(
            "it does not respond, and has begun a rewind or copy of the data directory: read \
             `journalctl --unit=failover-ctl-agent`, and restart it if that does not continue"
                .to_owned(),
        ),
        AgentWork::Reported(None) | AgentWork::Unknown { is_marked: false } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_under_way_or_perhaps_under_way_then_obstacle() {
        let reported = find_obstacle(&AgentWork::Reported(Some("copying the primary")));
        assert!(reported.is_some_and(|why| why.contains("copying the primary")));
        let unknown = find_obstacle(&AgentWork::Unknown { is_marked: true });
        assert!(unknown.is_some_and(|why| why.contains("does not respond")));
    }

    #[test]
    fn idle_or_silent_without_marker_then_none() {
        assert_eq!(find_obstacle(&AgentWork::Reported(None)), None);
        let silent = AgentWork::Unknown { is_marked: false };
        assert_eq!(find_obstacle(&silent), None);
    }
}
