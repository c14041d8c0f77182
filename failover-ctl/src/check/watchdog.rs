//! Checks of the watchdog device, without opening it, which would arm it.

use std::fs;
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;
use std::time::Duration;

use causeway_core::lease::LeaseTiming;

use super::line::CheckLine;
use super::service_user::{Access, ServiceUser};

/// Directory of the kernel with a directory for each device.
const DEVICES: &str = "/sys/class/watchdog";

/// Device whose number `/dev/watchdog` has.
const FIRST: &str = "watchdog0";

/// Checks that the device exists, that the guard can open it, and that it acts in time.
pub(super) fn check(
    device: Option<&Path>,
    user: Option<&ServiceUser>,
    timing: &LeaseTiming,
) -> CheckLine {
    let name = "watchdog device";
    let Some(path) = device else {
        return CheckLine::skipped(name, "`[guard] watchdog-device` is not set");
    };
    let shown = path.display();
    match fs::metadata(path) {
        Ok(metadata) if metadata.file_type().is_char_device() => {}
        Ok(_) => {
            let detail = format!("`{shown}` is no device: check `[guard] watchdog-device`");
            return CheckLine::failed(name, detail);
        }
        Err(error) => {
            let detail = format!(
                "`{shown}`: {error}: load the kernel module of the watchdog, such as `softdog`, or unset `[guard] \
                 watchdog-device`"
            );
            return CheckLine::failed(name, detail);
        }
    }
    if let Some(denial) = user.and_then(|user| user.find_denial(path, Access::Write)) {
        let detail = format!(
            "{denial}; the package's udev rule does that for the device in the settings: `udevadm trigger \
             --name-match={shown}`"
        );
        return CheckLine::failed(name, detail);
    }
    match read_timeout(path, Path::new(DEVICES)) {
        Some(timeout) => timeout_line(name, path, timeout, timing),
        None => CheckLine::ok(name, shown.to_string()),
    }
}

/// Returns the time after which the device resets the machine; none where the kernel does not show it.
fn read_timeout(device: &Path, devices: &Path) -> Option<Duration> {
    let name = device.file_name()?.to_str()?;
    let name = if name == "watchdog" { FIRST } else { name };
    let text = fs::read_to_string(devices.join(name).join("timeout")).ok()?;
    text.trim().parse().ok().map(Duration::from_secs)
}

/// Another node takes over one lease duration after the last renewal, and a guard that freezes just before its kill
/// deadline leaves the rest of that.
fn timeout_line(name: &str, path: &Path, timeout: Duration, timing: &LeaseTiming) -> CheckLine {
    let margin = timing.lease_duration.saturating_sub(timing.kill_deadline);
    let (shown, secs, margin_secs) = (path.display(), timeout.as_secs(), margin.as_secs_f64());
    if timeout <= margin {
        return CheckLine::ok(name, format!("`{shown}` resets the machine after {secs} s"));
    }
    let detail = format!(
        "`{shown}` resets the machine {secs} s after guard froze, and the lease may leave {margin_secs:.1} s: set a \
         shorter timeout, such as `options softdog soft_margin=1` in /etc/modprobe.d"
    );
    CheckLine::warning(name, detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::line::CheckResultWord;

    #[test]
    fn timeout_above_the_margin_then_warning() {
        let devices = tempfile::tempdir().unwrap();
        let of = |device: &str| read_timeout(Path::new(device), devices.path());
        assert_eq!(of("/dev/watchdog"), None);
        fs::create_dir(devices.path().join(FIRST)).unwrap();
        fs::write(devices.path().join("watchdog0/timeout"), "60\n").unwrap();
        assert_eq!(of("/dev/watchdog"), Some(Duration::from_mins(1)));
        assert_eq!(of("/dev/watchdog0"), Some(Duration::from_mins(1)));
        assert_eq!(of("/dev/watchdog1"), None);

        let line = |secs| {
            let timeout = Duration::from_secs(secs);
            let timing = LeaseTiming::default();
            timeout_line(
                "watchdog device",
                Path::new("/dev/watchdog"),
                timeout,
                &timing,
            )
        };
        assert_eq!(line(60).result, CheckResultWord::Warning);
        assert!(
            line(60)
                .detail
                .contains("60 s after guard froze, and the lease may leave 1.2 s")
        );
        assert_eq!(line(1).result, CheckResultWord::Ok);
    }

    #[test]
    fn no_device_then_failed_and_a_device_not_opened() {
        let timing = LeaseTiming::default();
        let of = |path: &str| check(Some(Path::new(path)), None, &timing).result;
        assert_eq!(of("/etc/passwd"), CheckResultWord::Failed);
        assert_eq!(of("/dev/absent"), CheckResultWord::Failed);
        assert_eq!(of("/dev/null"), CheckResultWord::Ok);
        assert_eq!(check(None, None, &timing).result, CheckResultWord::Skipped);
    }
}
