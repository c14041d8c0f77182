//! Commands other than serving: `api migrate`, `api healthcheck`.

use crate::postgres::{OWNER, Server, eventually, free_address};
use crate::program::{Program, borrowed, way_to};

fn exit_code(args: &[&str], settings: &[(&str, &str)]) -> Option<i32> {
    Program::run(args, settings).wait().code()
}

#[test]
fn migrate_then_exits_without_listening() {
    let server = Server::primary();
    let way = way_to(&[&server], OWNER);
    // The command overrides the setting, which is for the service.
    let mut settings = borrowed(&way);
    settings.push(("MIGRATE", "off"));

    for _again in 0..2 {
        let mut migration = Program::run(&["migrate"], &settings);
        assert_eq!(migration.wait().code(), Some(0), "{}", migration.log());
        let log = migration.log();
        assert!(log.contains(" level=info msg=SchemaUpToDate\n"), "{log}");
        assert!(!log.contains("listening"), "{log}");
    }
    assert_ne!(server.sql("SELECT to_regclass('hello_users')"), "");
}

#[test]
fn migrate_fails_then_same_exit_codes_as_service() {
    let port = free_address().port().to_string();
    let nowhere = [("PGPORT", port.as_str()), ("DB_STARTUP_TIMEOUT", "300ms")];
    let mut migration = Program::run(&["migrate"], &nowhere);

    assert_eq!(migration.wait().code(), Some(1));
    let log = migration.log();
    assert!(
        log.contains(" level=error msg=FailedToConnectToDatabase "),
        "{log}"
    );
    assert_eq!(exit_code(&["migrate"], &[("PGPORT", "none")]), Some(2));
    assert_eq!(exit_code(&["conquer"], &[]), Some(2));
}

#[test]
fn health_check_then_uses_configured_address() {
    let program = Program::without_database(&[]);
    let address = program.address.to_string();
    let wild = format!("0.0.0.0:{}", program.address.port());
    let port = program.address.port().to_string();

    for listen in [&address, &wild] {
        assert_eq!(exit_code(&["healthcheck"], &[("LISTEN", listen)]), Some(0));
    }
    // A blank value is no setting.
    let by_port = [("LISTEN", ""), ("PORT", port.as_str())];
    assert_eq!(exit_code(&["healthcheck"], &by_port), Some(0));

    // It is live, without a database.
    let ready = ["healthcheck", "--ready"];
    assert_eq!(exit_code(&ready, &[("LISTEN", &address)]), Some(1));
}

#[test]
fn service_absent_or_unresponsive_then_unhealthy() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = silent.local_addr().unwrap().to_string();
    for listen in [&silent, &free_address().to_string(), &"nonsense".to_owned()] {
        let mut asked = Program::run(&["healthcheck"], &[("LISTEN", listen)]);
        assert_eq!(asked.wait().code(), Some(1), "{listen}");
        assert!(
            asked.log().contains("level=error msg=\"not healthy\""),
            "{}",
            asked.log()
        );
    }
}

#[test]
fn service_ready_then_both_checks_pass_until_it_stops() {
    let server = Server::primary();
    let program = Program::before(&[&server], &[("SHUTDOWN_DELAY", "10m")]);
    let address = program.address.to_string();
    let listen = [("LISTEN", address.as_str())];
    let ready = || exit_code(&["healthcheck", "--ready"], &listen);
    assert_eq!(ready(), Some(0));

    program.signal(nix::sys::signal::Signal::SIGTERM);
    eventually("it is not ready", || ready() == Some(1));
    assert_eq!(exit_code(&["healthcheck"], &listen), Some(0));
}
