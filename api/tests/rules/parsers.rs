//! Parsers of settings and dates: damaged input is refused or read, and never panics. The parsers of HTTP are tested
//! on the program, by `http::fuzz`.

use api::config::Config;
use api::domain::parse_date;
use proptest::prelude::*;

use crate::damage::damaged_text;

/// A value for each form of setting.
const SETTINGS: [(&str, &str); 12] = [
    (
        "DATABASE_URL",
        "postgresql://u%40x:p%2Fw@[::1]:1,b:2/d?sslmode=verify-full&connect_timeout=3",
    ),
    ("PGPORT", "1,2,3"),
    ("REDIS_URL", "rediss://:p%40w@cache:6380/2"),
    ("LISTEN", "[::]:8080,0.0.0.0:80"),
    ("TRUSTED_PROXIES", "10.0.0.0/8,fd00::/8"),
    ("REQUEST_TIMEOUT", "1500ms"),
    ("SHUTDOWN_DELAY", "500ms"),
    ("RATE_LIMIT_RPS", "100"),
    ("API_SURFACES", "hello,members"),
    ("COMPANY_NAME", "Our Company"),
    ("HELLO_TZ", "Europe/Berlin"),
    ("API_FAKE_TODAY", "2026-02-28"),
];

fn setting() -> impl Strategy<Value = (String, String)> {
    prop::sample::select(&SETTINGS[..]).prop_flat_map(|(name, value)| {
        damaged_text(value).prop_map(move |value| (name.to_owned(), value))
    })
}

#[test]
fn undamaged_settings_then_accepted() {
    for (name, value) in SETTINGS {
        let read = Config::from_environment([(name.to_owned(), value.to_owned())]);
        // `PGPORT` needs as many hosts.
        assert_eq!(read.is_ok(), name != "PGPORT", "{name}: {:?}", read.err());
    }
}

proptest! {
    #[test]
    fn damaged_setting_then_no_panic(setting in setting()) {
        if let Ok(config) = Config::from_environment([setting]) {
            drop((config.http.addresses(), format!("{config:?}")));
        }
    }

    #[test]
    fn damaged_date_then_no_panic(text in damaged_text("1990-06-15")) {
        if let Some(date) = parse_date(&text) {
            prop_assert_eq!(date.to_string(), text);
        }
    }
}
