//! `lab exec` runs programs against a running lab, and passes their exit codes through.

use std::process::Output;
use std::sync::Arc;
use std::time::Duration;

use causeway_runtime::shutdown::Tasks;
use lab::Lab;
use lab::cluster::lab_lock::LabLock;
use lab::control;
use lab::progress::ProgressReporter;
use serde_json::Value;

#[tokio::test(flavor = "multi_thread")]
async fn programs_run_then_act_on_lab_and_exit_codes_pass() {
    let progress = ProgressReporter::new(|line| println!("{line}"));
    let lock = LabLock::acquire_any().unwrap();
    let number = lock.topology.number().to_string();
    let lab = Arc::new(Lab::start(lock, &progress).await.unwrap());
    let tasks = Tasks::new();
    control::serve(Arc::clone(&lab), &tasks).unwrap();

    let status = exec(&number, &["--", "failover-ctl", "status", "--json"]).await;
    assert!(status.status.success(), "{status:?}");
    let status: Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(
        status["nodes"].as_array().map(Vec::len),
        Some(3),
        "{status}"
    );

    let backup = exec(&number, &["--node", "a", "--", "backup-agent", "backup"]).await;
    assert!(backup.status.success(), "{backup:?}");
    let list = exec(&number, &["--", "backup-agent", "list"]).await;
    assert!(list.status.success(), "{list:?}");

    let query = ["--", "psql", "-XAtc", "select pg_is_in_recovery()"];
    let primary = exec(&number, &query).await;
    assert_eq!(
        String::from_utf8_lossy(&primary.stdout),
        "f\n",
        "{primary:?}"
    );

    let script = "echo $FAILOVER_CTL_CONFIG; exit 7";
    let on_node = exec(&number, &["--node", "c", "--", "sh", "-c", script]).await;
    assert_eq!(on_node.status.code(), Some(7));
    let config = String::from_utf8_lossy(&on_node.stdout).into_owned();
    assert!(
        config.ends_with("node-c/conf/failover-ctl.toml\n"),
        "{config}"
    );

    let missing = exec(&number, &["--", "no-such-program"]).await;
    assert_eq!(missing.status.code(), Some(127), "{missing:?}");
    let unknown = exec(&number, &["--node", "d", "--", "true"]).await;
    let stderr = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert!(stderr.contains("the nodes are a, b, c"), "{stderr}");

    tasks.stop(Duration::from_secs(5)).await;
    lab.stop().await.unwrap();
    let down = exec(&number, &["--", "true"]).await;
    let stderr = String::from_utf8_lossy(&down.stderr).into_owned();
    assert!(stderr.contains("start it with `lab up`"), "{stderr}");
}

async fn exec(number: &str, arguments: &[&str]) -> Output {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_lab"));
    command.args(["--number", number, "exec"]).args(arguments);
    command.output().await.unwrap()
}
