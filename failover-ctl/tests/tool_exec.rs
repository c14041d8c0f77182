//! Programs that change a data directory end with the agent that has started them.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const PROGRAM: &str = env!("CARGO_BIN_EXE_failover-ctl");

#[test]
fn parent_killed_then_program_and_its_children_end() {
    let directory = tempfile::tempdir().unwrap();
    let said = directory.path().join("processes");
    // A program that starts another one, as `pg_rewind` does, and waits for it.
    let program = format!("sleep 600 & echo $$ $! > {}; wait", said.display());
    let mut parent = Command::new("sh")
        .arg("-c")
        .arg("\"$0\" tool-exec $$ sh -c \"$1\"; true")
        .args([PROGRAM, &program])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let processes = wait_for("the program to start", || {
        let text = fs::read_to_string(&said).ok()?;
        text.ends_with('\n').then_some(text)
    });
    let processes: Vec<&str> = processes.split_whitespace().collect();
    assert_eq!(processes.len(), 2, "{processes:?}");

    parent.kill().unwrap();
    parent.wait().unwrap();

    wait_for("the program and its child to end", || {
        let is_gone = |pid: &&str| !Path::new(&format!("/proc/{pid}/exe")).exists();
        processes.iter().all(is_gone).then_some(())
    });
}

#[test]
fn program_ends_then_its_exit_code_is_passed_on() {
    let me = std::process::id().to_string();
    let ended = Command::new(PROGRAM)
        .args(["tool-exec", &me, "sh", "-c", "exit 7"])
        .status()
        .unwrap();
    assert_eq!(ended.code(), Some(7));
}

#[test]
fn another_parent_then_nothing_is_started() {
    let output = Command::new(PROGRAM)
        .args(["tool-exec", "1", "sh", "-c", "echo started"])
        .output()
        .unwrap();
    assert!(!output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
}

fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
