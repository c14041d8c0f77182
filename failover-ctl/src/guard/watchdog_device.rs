//! Watchdog device, which resets the machine when guard stops feeding it (`watchdog-api.rst` of Linux).

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use causeway_core::HostInstant;
use nix::fcntl::OFlag;
use tracing::{error, info, warn};

use crate::protocol::guard::WatchdogState;

/// Interval between attempts to open the device, so that a mended permission takes effect without a restart of
/// guard, which would stop PostgreSQL.
const OPEN_INTERVAL: Duration = Duration::from_secs(5);

/// Written before the device is closed, so that closing disarms it ("magic close"). Without it, the machine is
/// reset after guard has ended.
const DISARM: &[u8] = b"V";

/// Configured device. It is armed while it is open.
#[derive(Debug)]
pub(super) struct WatchdogDevice {
    path: PathBuf,
    file: Option<File>,
    tried_at: Option<HostInstant>,
    failure: Option<String>,
}

impl WatchdogDevice {
    pub(super) const fn new(path: PathBuf) -> Self {
        Self {
            path,
            file: None,
            tried_at: None,
            failure: None,
        }
    }

    /// Feeds the device, and opens it first if it is not open.
    pub(super) fn feed(&mut self, now: HostInstant) {
        let is_due = self
            .tried_at
            .is_none_or(|at| now.elapsed_upper_bound(at) >= OPEN_INTERVAL);
        if self.file.is_none() && is_due {
            self.tried_at = Some(now);
            self.open();
        }
        let Some(file) = &mut self.file else {
            return;
        };
        match file.write_all(b"1") {
            Ok(()) => self.failure = None,
            Err(error) => self.fail(&format!("cannot be fed: {error}")),
        }
    }

    fn open(&mut self) {
        // A file that is no device, such as a FIFO, must not block guard.
        let flags = (OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits();
        let opened = OpenOptions::new()
            .write(true)
            .custom_flags(flags)
            .open(&self.path);
        match opened {
            Ok(file) => {
                info!(path = %self.path.display(), "watchdog device armed");
                self.file = Some(file);
            }
            Err(error) => self.fail(&format!("cannot be opened: {error}")),
        }
    }

    /// Records a failure, and logs it once.
    fn fail(&mut self, text: &str) {
        if self.failure.as_deref() != Some(text) {
            error!(path = %self.path.display(), failure = text, "watchdog device not usable");
            self.failure = Some(text.to_owned());
        }
    }

    /// Disarms the device, once PostgreSQL has ended.
    pub(super) fn disarm(&mut self) {
        let Some(mut file) = self.file.take() else {
            return;
        };
        if let Err(error) = file.write_all(DISARM).and_then(|()| file.flush()) {
            warn!(%error, path = %self.path.display(), "watchdog device not disarmed, the machine may be reset");
        }
    }

    pub(super) fn state(&self) -> WatchdogState {
        match &self.failure {
            Some(failure) => WatchdogState::Failed(format!("`{}` {failure}", self.path.display())),
            None => WatchdogState::Armed,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read as _;
    use std::path::Path;

    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::*;

    fn at(secs: u64) -> HostInstant {
        HostInstant::at(Duration::from_secs(100 + secs))
    }

    /// Returns the reading end of a FIFO that stands for a device: it shows what a device would receive.
    fn fifo(path: &Path) -> File {
        mkfifo(path, Mode::S_IRWXU).unwrap();
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(OFlag::O_NONBLOCK.bits());
        options.open(path).unwrap()
    }

    fn failure(device: &WatchdogDevice) -> String {
        match device.state() {
            WatchdogState::Failed(text) => text,
            other @ (WatchdogState::NotConfigured | WatchdogState::Armed) => panic!("{other:?}"),
        }
    }

    #[test]
    fn fed_and_disarmed_then_device_receives_both() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("watchdog");
        let mut received = fifo(&path);
        let mut device = WatchdogDevice::new(path);
        device.feed(at(0));
        device.feed(at(1));
        assert_eq!(device.state(), WatchdogState::Armed);
        device.disarm();
        let mut text = String::new();
        received.read_to_string(&mut text).unwrap();
        assert_eq!(text, "11V");
    }

    /// A guard that crashes leaves the device armed.
    #[test]
    fn dropped_then_not_disarmed() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("watchdog");
        let mut received = fifo(&path);
        let mut device = WatchdogDevice::new(path);
        device.feed(at(0));
        drop(device);
        let mut text = String::new();
        received.read_to_string(&mut text).unwrap();
        assert_eq!(text, "1");
    }

    #[test]
    fn device_absent_then_failure_and_opened_later() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("watchdog");
        let mut device = WatchdogDevice::new(path.clone());
        device.feed(at(0));
        assert!(failure(&device).contains("cannot be opened: No such file"));
        fs::write(&path, "").unwrap();
        device.feed(at(4));
        assert!(failure(&device).contains("cannot be opened"));
        device.feed(at(5));
        assert_eq!(device.state(), WatchdogState::Armed);
        assert_eq!(fs::read_to_string(path).unwrap(), "1");
    }

    #[test]
    fn device_rejects_writes_then_failure() {
        let mut device = WatchdogDevice::new("/dev/full".into());
        device.feed(at(0));
        assert!(failure(&device).contains("`/dev/full` cannot be fed: No space left"));
        let mut device = WatchdogDevice::new("/dev/null".into());
        device.feed(at(0));
        assert_eq!(device.state(), WatchdogState::Armed);
    }

    #[test]
    fn fifo_without_reader_then_guard_not_blocked() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("watchdog");
        drop(fifo(&path));
        let mut device = WatchdogDevice::new(path);
        device.feed(at(0));
        assert!(failure(&device).contains("cannot be opened: No such device"));
    }
}
