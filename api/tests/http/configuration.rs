//! Settings that cannot be used, and addresses that are taken.

use std::net::TcpListener;

use crate::program::Program;

#[test]
fn ends_before_it_listens_when_a_setting_cannot_be_right() {
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
fn names_the_address_that_is_taken() {
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
fn warns_of_settings_that_disagree_without_their_values() {
    let program =
        Program::without_database(&[("DB_PASSWORD", "hunter2"), ("PGPASSWORD", "hunter3")]);
    let log = program.log();

    assert!(
        log.contains("`PGPASSWORD` is used; `DB_PASSWORD` has another value"),
        "{log}"
    );
    assert!(!log.contains("hunter"), "{log}");
}
