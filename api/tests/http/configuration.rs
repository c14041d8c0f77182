//! Invalid settings, and addresses in use.

use std::net::TcpListener;

use crate::program::Program;

#[test]
fn setting_invalid_then_exits_before_listening() {
    let mut program = Program::spawn(&[("PGHOST", "a,b,c"), ("PGPORT", "1,2")]);

    assert_eq!(program.wait().code(), Some(2));
    assert!(
        program
            .log()
            .contains("give one port for all, or one for each"),
        "{}",
        program.log()
    );
    assert!(!program.log().contains("listening"));
}

#[test]
fn address_in_use_then_named_in_error() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut program = Program::spawn(&[("LISTEN", &address)]);

    assert_eq!(program.wait().code(), Some(1));
    assert!(
        program
            .log()
            .contains(&format!("could not listen on `{address}`")),
        "{}",
        program.log()
    );
}

#[test]
fn settings_conflict_then_warning_without_values() {
    let program =
        Program::without_database(&[("DB_PASSWORD", "hunter2"), ("PGPASSWORD", "hunter3")]);
    let log = program.log();

    assert!(
        log.contains("`PGPASSWORD` is used; `DB_PASSWORD` has another value"),
        "{log}"
    );
    assert!(!log.contains("hunter"), "{log}");
}
