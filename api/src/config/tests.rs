//! Settings as people write them, and what they are told when a setting cannot be right.

use causeway_runtime::postgres::{RootCert, SslMode};

use super::*;

fn read(variables: &[(&str, &str)]) -> Result<Config, Unusable> {
    read_from(environment::from(variables))
}

fn servers(variables: &[(&str, &str)]) -> String {
    let servers = read(variables).unwrap().database.servers;
    let each: Vec<String> = servers.iter().map(Server::to_string).collect();
    each.join(" ")
}

fn refusal(variables: &[(&str, &str)]) -> String {
    read(variables).unwrap_err().to_string()
}

#[test]
fn an_empty_environment_is_enough() {
    let config = read(&[]).unwrap();

    assert_eq!(config.listen, ["0.0.0.0:8080".parse().unwrap()]);
    assert_eq!(servers(&[]), "localhost:5432");
    assert_eq!(config.database.user, "postgres");
    assert_eq!(config.database.name, "postgres");
    assert_eq!(config.database.tls, SslMode::Prefer);
    assert_eq!(config.company.name, "My Company");
    assert!(config.warnings.is_empty());
}

#[test]
fn each_host_has_its_port() {
    let url = |url| ("DATABASE_URL", url);
    let without = url("postgres://u:p@a,[::1]/d");
    for (variables, expected) in [
        (
            &[("PGHOST", "a, b,c"), ("PGPORT", "1,2,3")][..],
            "a:1 b:2 c:3",
        ),
        (&[url("postgres://u@a:1,b:2,c:3/d")], "a:1 b:2 c:3"),
        (&[("DB_HOST", "a,b"), ("DB_PORT", "7")], "a:7 b:7"),
        (&[without, ("PGPORT", "7")], "a:7 ::1:7"),
        (&[without], "a:5432 ::1:5432"),
        (
            &[
                url("postgres://u:p@[::1]:8/d"),
                ("DB_PORT", "tcp://10.0.0.1"),
            ],
            "::1:8",
        ),
    ] {
        assert_eq!(servers(variables), expected);
    }
}

#[test]
fn a_url_outweighs_the_variables_and_says_so() {
    let url = ("DATABASE_URL", "postgres://u@a:1/d?sslmode=require");
    let others = [("PGPORT", "2"), ("PGSSLMODE", "verify-full")];
    let config = read(&[url, others[0], others[1]]).unwrap();

    assert_eq!(config.database.tls, SslMode::Require);
    assert_eq!(
        config.warnings,
        ["PGPORT", "PGSSLMODE"].map(|name| format!(
            "`DATABASE_URL` is used; `{name}` has another value and is ignored"
        ))
    );
    for ignored in ["channel_binding=require", "options=-c%20x", "hostaddr=::1"] {
        let url = format!("postgres://u@a/d?{ignored}");
        let name = ignored.split('=').next().unwrap();
        assert_eq!(
            refusal(&[("DATABASE_URL", &url)]),
            format!("`DATABASE_URL` is not usable: `{name}` does nothing here; take it out")
        );
    }
}

#[test]
fn a_parameter_of_the_url_that_does_nothing_is_named() {
    let url = "postgres://u:p@a/d?schema=public&pgbouncer=true&ssl=true";
    let config = read(&[("DATABASE_URL", url)]).unwrap();

    assert_eq!(config.database.tls, SslMode::Require);
    let ignored =
        |key| format!("`DATABASE_URL` sets `{key}`, which does nothing here and is ignored");
    assert_eq!(config.warnings, ["schema", "pgbouncer"].map(ignored));
}

#[test]
fn the_url_may_say_what_tokio_postgres_cannot_read() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let url = format!(
        "postgresql+asyncpg://u%40x:p%2Fw@db:6000/hello?sslmode=verify-full&sslrootcert={}\
         &target_session_attrs=read-write&connect_timeout=3",
        file.path().display()
    );
    let database = read(&[("DATABASE_URL", &url), ("PGUSER", "other")])
        .unwrap()
        .database;

    assert_eq!(database.servers[0].to_string(), "db:6000");
    assert_eq!(database.user + "/" + &database.name, "u@x/hello");
    assert_eq!(database.password.unwrap().reveal(), "p/w");
    assert_eq!(database.tls, SslMode::VerifyFull);
    let file = RootCert::File(file.path().to_owned());
    assert_eq!(database.root_cert, Some(file));
    assert_eq!(database.connect_timeout, Duration::from_secs(3));
}

#[test]
fn says_which_setting_why_and_what_to_do() {
    assert_eq!(
        refusal(&[("PGPORT", "tcp://10.0.0.1")]),
        "`PGPORT` is `tcp://10.0.0.1`, which is not a port from 1 to 65535, or a list of them \
         with commas"
    );
    assert_eq!(
        refusal(&[("DB_HOST", "a,b,c"), ("PGPORT", "1,2")]),
        "`DB_HOST` and `PGPORT` contradict each other: there are 3 hosts and 2 ports; give one \
         port for all, or one for each"
    );
    assert!(refusal(&[("HELLO_TZ", "Mars/Olympus")]).contains("`Mars/Olympus`"));
    assert!(
        refusal(&[("DB_STATEMENT_TIMEOUT", "9"), ("REQUEST_TIMEOUT", "3")])
            .contains("lower the first or raise the second")
    );
    assert_eq!(
        refusal(&[("API_SURFACES", "users,birthdays")]),
        "`API_SURFACES` is `users,birthdays`, which is not a list of `hello`, `members`, `users` \
         and `beers`, with commas"
    );
    let names = "PORT LISTEN VALIDATION_STATUS HELLO_LEAP_DAY PGSSLMODE PGSSLROOTCERT MIGRATE \
                 LOG_FORMAT LOG_LEVEL REQUEST_TIMEOUT DB_POOL_MAX READS_FROM_STANDBY API_FAKE_TODAY \
                 SHUTDOWN_DELAY API_SURFACES MEMBERS_KEYS LIST_MAX TRUSTED_PROXIES RATE_LIMIT_RPS \
                 MAX_INFLIGHT MAX_CONNECTIONS";
    for name in names.split(' ') {
        assert!(refusal(&[(name, "nonsense")]).starts_with(&format!("`{name}` is `nonsense`")));
    }
}

#[test]
fn a_url_that_is_refused_is_not_shown() {
    for url in [
        "postgres://u:hunter2@a:port/d",
        "hunter2",
        "postgres://u:p@hunter2@a/d",
        "sqlite:///hunter2",
        "postgres://u:hunter2@a/d?sslmode=maybe",
        "postgres://u:1?hunter2@a/d",
        "postgres://u:p?x=hunter2@a/d",
    ] {
        let refusal = refusal(&[("DATABASE_URL", url)]);
        assert!(
            refusal.starts_with("`DATABASE_URL` is not usable"),
            "{refusal}"
        );
        assert!(!refusal.contains("hunter2"), "{refusal}");
    }
}

#[test]
fn secrets_come_from_files_too() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "hunter2\n").unwrap();
    let path = file.path().to_str().unwrap();

    let database = read(&[("DB_PASSWORD_FILE", path)]).unwrap().database;
    assert_eq!(database.password.unwrap().reveal(), "hunter2");

    let both = read(&[("PGPASSWORD", "other"), ("DB_PASSWORD_FILE", path)]).unwrap();
    assert_eq!(
        both.warnings,
        ["`PGPASSWORD` is used; `DB_PASSWORD_FILE` has another value and is ignored"]
    );
    assert!(refusal(&[("PGPASSWORD_FILE", "/does/not/exist")]).starts_with("`PGPASSWORD_FILE`"));
}

#[test]
fn a_blank_file_is_no_value() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), " \n").unwrap();
    let path = file.path().to_str().unwrap();

    let config = read(&[("PGPASSWORD_FILE", path), ("DB_PASSWORD", "hunter2")]).unwrap();
    assert_eq!(config.database.password.unwrap().reveal(), "hunter2");
    assert_eq!(
        config.warnings,
        ["the file that `PGPASSWORD_FILE` names is blank, which is no value"]
    );
}

#[test]
fn a_fake_day_needs_the_test_clock() {
    let fake = ("API_FAKE_TODAY", "2025-02-28");
    let fixed = read(&[fake, ("API_TEST_CLOCK", "1")]).unwrap();
    assert!(matches!(fixed.hello.calendar, Calendar::Fixed(_)));

    for clock in ["", "0", "true"] {
        let real = read(&[fake, ("API_TEST_CLOCK", clock)]).unwrap();
        assert!(matches!(real.hello.calendar, Calendar::Zone(_)), "{clock}");
        assert_eq!(real.warnings.len(), 1);
    }
}
