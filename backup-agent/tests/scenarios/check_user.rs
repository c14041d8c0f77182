//! `check` judges files as the units' user, also when root runs it.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use tokio::process::Command;

use crate::store::{ACCESS_KEY, SECRET_KEY};
use crate::wal::host;

/// Root reads files of mode 0000, and the units do not.
#[tokio::test(flavor = "multi_thread")]
async fn identity_that_only_root_reads_then_check_of_root_fails() {
    let world = host().await;
    let identity = world.path("identity.txt");
    fs::set_permissions(&identity, Permissions::from_mode(0o000)).unwrap();
    let check = async |more: &[&str]| {
        let mut command = Command::new(&world.program);
        command.arg("--config").arg(&world.config).arg("check");
        command
            .args(more)
            .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
            .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
            .stdin(Stdio::null());
        let output = command.output().await.unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap(),
        )
    };

    let (code, text) = check(&[]).await;
    assert_eq!(code, Some(22), "{text}");
    let line = text.lines().find(|line| line.contains("identity"));
    assert!(
        line.is_some_and(|line| line.starts_with("FAILED")),
        "{text}"
    );
    assert_eq!(check(&["--settings-only"]).await.0, Some(0));

    fs::set_permissions(&world.config, Permissions::from_mode(0o000)).unwrap();
    assert_eq!(
        check(&[]).await.0,
        Some(10),
        "the units cannot read the settings"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn check_before_installation_then_nothing_left_on_the_host() {
    let mut world = host().await;
    let textfile = world.path("backup-agent.prom");
    world.configure(|settings| format!("{settings}[metrics]\ntextfile = \"{textfile}\"\n"));

    world.run(&["check", "--before-install"]).await.ok();
    // A bucket's first refusal is recorded otherwise.
    world.far.stop().await;
    world
        .run(&["check", "--before-install"])
        .await
        .fails_with(22, "checks failed");

    for left in [world.path("state"), textfile] {
        assert!(!fs::exists(&left).unwrap(), "{left}");
    }
}
