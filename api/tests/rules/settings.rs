//! Parsing of settings, and the errors of invalid ones.

use std::time::Duration;

use api::config::{Config, Endpoint, SettingError};
use causeway_runtime::postgres::{RootCertificates, SslMode};
use redis::{ConnectionAddr, ConnectionInfo};

fn read(variables: &[(&str, &str)]) -> Result<Config, SettingError> {
    let each = variables.iter();
    Config::from_environment(each.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
}

fn servers(variables: &[(&str, &str)]) -> String {
    let servers = read(variables).unwrap().database.servers;
    let each: Vec<String> = servers.iter().map(Endpoint::to_string).collect();
    each.join(" ")
}

fn refusal(variables: &[(&str, &str)]) -> String {
    read(variables).unwrap_err().to_string()
}

#[test]
fn environment_empty_then_defaults() {
    let config = read(&[]).unwrap();

    assert_eq!(config.http.addresses(), ["0.0.0.0:8080".parse().unwrap()]);
    assert_eq!(servers(&[]), "localhost:5432");
    assert_eq!(config.database.user, "postgres");
    assert_eq!(config.database.name(), "postgres");
    assert_eq!(config.database.tls, SslMode::Prefer);
    assert_eq!(config.services.company.name, "My Company");
    assert!(config.warnings.is_empty());
}

#[test]
fn hosts_and_ports_then_paired() {
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
fn url_and_variables_then_url_used_with_warning() {
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
fn url_parameter_unknown_then_warning() {
    let url = "postgres://u:p@a/d?schema=public&pgbouncer=true&ssl=true";
    let config = read(&[("DATABASE_URL", url)]).unwrap();

    assert_eq!(config.database.tls, SslMode::Require);
    let ignored =
        |key| format!("`DATABASE_URL` sets `{key}`, which does nothing here and is ignored");
    assert_eq!(config.warnings, ["schema", "pgbouncer"].map(ignored));
}

#[test]
fn url_of_sqlalchemy_then_parsed() {
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
    assert_eq!(database.user, "u@x");
    assert_eq!(database.name(), "hello");
    assert_eq!(database.password.unwrap().reveal(), "p/w");
    assert_eq!(database.tls, SslMode::VerifyFull);
    let file = RootCertificates::File(file.path().to_owned());
    assert_eq!(database.root_cert, Some(file));
    assert_eq!(database.connect_timeout, Duration::from_secs(3));
}

#[test]
fn setting_invalid_then_error_names_remedy() {
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
    for name in ["PGHOST", "DB_HOST"] {
        let refused = refusal(&[(name, "/var/run/postgresql")]);
        assert!(
            refused.contains(name) && refused.contains("give a host name"),
            "{refused}"
        );
    }
    assert!(refusal(&[("DATABASE_URL", "postgres://u:p@%2Frun/db")]).contains("`DATABASE_URL`"));
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
                 LOG_FORMAT LOG_LEVEL REQUEST_TIMEOUT DB_POOL_MAX API_FAKE_TODAY \
                 SHUTDOWN_DELAY API_SURFACES MEMBERS_KEYS LIST_MAX TRUSTED_PROXIES RATE_LIMIT_RPS \
                 MAX_INFLIGHT MAX_CONNECTIONS";
    for name in names.split(' ') {
        assert!(refusal(&[(name, "nonsense")]).starts_with(&format!("`{name}` is `nonsense`")));
    }
}

#[test]
fn url_rejected_then_not_shown() {
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
fn secret_file_set_then_read() {
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
fn secret_file_blank_then_ignored() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), " \n").unwrap();
    let path = file.path().to_str().unwrap();

    let config = read(&[("PGPASSWORD_FILE", path), ("DB_PASSWORD", "hunter2")]).unwrap();
    assert_eq!(config.database.password.unwrap().reveal(), "hunter2");
    assert_eq!(
        config.warnings,
        ["`PGPASSWORD_FILE` is ignored: the file that it names is blank"]
    );
}

#[test]
fn fake_day_without_test_clock_then_ignored() {
    let fake = ("API_FAKE_TODAY", "2025-02-28");
    let day = jiff::civil::date(2025, 2, 28);
    let fixed = read(&[fake, ("API_TEST_CLOCK", "1")]).unwrap();
    assert_eq!(fixed.hello.today(), day);

    for clock in ["", "0", "true"] {
        let real = read(&[fake, ("API_TEST_CLOCK", clock)]).unwrap();
        assert_ne!(real.hello.today(), day, "{clock}");
        assert_eq!(real.warnings.len(), 1);
    }
}

#[test]
fn time_with_or_without_unit_then_parsed() {
    let time = |text| read(&[("SHUTDOWN_DELAY", text)]).map(|config| config.http.shutdown_delay);
    for (text, millis) in [("5", 5000), ("0.5", 500), ("250ms", 250), ("1m", 60_000)] {
        assert_eq!(time(text).unwrap(), Duration::from_millis(millis));
    }
    for bad in ["-1", "five", "NaN", "inf", "1h", "999999"] {
        assert!(time(bad).is_err(), "{bad}");
    }
}

#[test]
fn values_disagree_then_warning_without_values() {
    let variables = [("PGHOST", " "), ("DB_HOST", "a"), ("POSTGRES_HOST", "b")];
    let config = read(&variables).unwrap();

    assert_eq!(config.database.servers[0].host, "a");
    let ignored = "`DB_HOST` is used; `POSTGRES_HOST` has another value and is ignored";
    assert_eq!(config.warnings, [ignored]);
}

fn redis(variables: &[(&str, &str)]) -> ConnectionInfo {
    let cache = read(variables).unwrap().cache;
    cache.redis.unwrap().connection().unwrap()
}

#[test]
fn no_redis_host_then_no_cache() {
    let docker = ("REDIS_PORT", "tcp://10.0.0.1:6379");
    let cache = read(&[docker, ("REDIS_PASSWORD", "x")]).unwrap().cache;
    assert!(cache.redis.is_none());
    assert_eq!(cache.ttl, Duration::from_mins(1));
}

#[test]
fn redis_url_or_variables_then_same_server() {
    let all = [("REDIS_URL", "rediss://cache-user:p%2Fw@cache:6400/2")];
    let part = [
        ("REDIS_URL", "rediss://cache:6400"),
        ("REDIS_USER", "cache-user"),
        ("REDIS_PASSWORD", "p/w"),
        ("REDIS_DB", "2"),
    ];
    let address = [
        ("REDIS_HOST", "cache"),
        ("REDIS_PORT", "6400"),
        ("REDIS_TLS", "true"),
    ];
    let none = [&address, &part[1..]].concat();
    for server in [redis(&all), redis(&part), redis(&none)] {
        assert_eq!(server.addr().to_string(), "cache:6400");
        let verified =
            matches!(server.addr(), ConnectionAddr::TcpTls { insecure, .. } if !insecure);
        assert!(verified, "{server:?}");
        let login = server.redis_settings();
        assert_eq!(login.username(), Some("cache-user"));
        assert_eq!((login.password(), login.db()), (Some("p/w"), 2));
    }
}

#[test]
fn redis_tls_set_then_used_with_any_url() {
    let variables = [("REDIS_URL", "redis://cache"), ("REDIS_TLS", "true")];
    let server = redis(&variables);
    assert!(
        matches!(server.addr(), ConnectionAddr::TcpTls { .. }),
        "{server:?}"
    );
}

#[test]
fn redis_password_then_never_printed() {
    let server = redis(&[("REDIS_URL", "redis://:hunter2@cache")]);
    assert!(!format!("{server:?}").contains("hunter2"));
    for url in [
        "hunter2",
        "http://:hunter2@cache",
        "redis://:hunter2@cache:port",
        "redis://:hunter2@cache/first",
        "rediss://:hunter2@cache#insecure",
        "redis+unix:///hunter2",
    ] {
        let refusal = refusal(&[("REDIS_URL", url)]);
        assert!(refusal.starts_with("`REDIS_URL` is not usable"));
        assert!(!refusal.contains("hunter2"), "{refusal}");
    }
}

#[test]
fn redis_setting_invalid_then_error_names_remedy() {
    let plain = ("REDIS_URL", "redis://cache");
    let host = ("REDIS_HOST", "cache");
    for (variables, expected) in [
        (
            [plain, ("REDIS_TLS_CA_FILE", "/etc/ca.pem")],
            "`REDIS_TLS_CA_FILE` and `REDIS_TLS`",
        ),
        (
            [host, ("REDIS_USER", "api")],
            "`REDIS_USER` and `REDIS_PASSWORD`",
        ),
        ([host, ("REDIS_PORT", "0")], "`REDIS_PORT` is `0`, which"),
        ([host, ("REDIS_DB", "-1")], "`REDIS_DB` is `-1`, which"),
        ([host, ("REDIS_TLS", "so")], "`REDIS_TLS` is `so`, which"),
        ([host, ("CACHE_TTL", "0")], "`CACHE_TTL` is `0`, which"),
        ([host, ("REDIS_TIMEOUT", "x")], "`REDIS_TIMEOUT` is `x`, "),
    ] {
        let refusal = refusal(&variables);
        assert!(refusal.contains(expected), "{refusal}");
    }
}

#[test]
fn company_name_then_valid_header() {
    let company = |name| read(&[("COMPANY_NAME", name)]).unwrap().services.company;
    for (name, header) in [
        ("Smith & Sons", "Smith & Sons"),
        ("Bäcker\r\nX: y", "B%C3%A4cker%0D%0AX: y"),
        ("<b>1 + 1</b>", "%3Cb%3E1 %2B 1%3C/b%3E"),
        (" ", "My Company"),
    ] {
        assert_eq!(company(name).header, header, "{name:?}");
    }
    assert_eq!(company("Bäcker").name, "Bäcker");
}
