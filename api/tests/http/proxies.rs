//! Forwarding headers, used only from trusted proxies.

use crate::postgres::eventually;
use crate::program::Program;

const TRUSTING: (&str, &str) = ("TRUSTED_PROXIES", "10.0.0.0/8, fd00::/8, 127.0.0.1");

fn forwarded(program: &Program, proto: &str) -> String {
    let answer = program.request("GET", "/livez", &[("X-Forwarded-Proto", proto)], "");
    answer.header("strict-transport-security").to_owned()
}

#[test]
fn trusted_proxy_terminates_tls_then_hsts_header() {
    let trusting = Program::without_database(&[TRUSTING]);
    let wary = Program::without_database(&[("TRUSTED_PROXIES", "10.0.0.0/8")]);
    let alone = Program::without_database(&[]);

    assert_eq!(forwarded(&trusting, "https"), "max-age=31536000");
    assert_eq!(forwarded(&trusting, "http, HTTPS"), "max-age=31536000");
    for proto in ["http", "https, http", "wss"] {
        assert_eq!(forwarded(&trusting, proto), "", "{proto}");
    }
    assert_eq!(forwarded(&wary, "https"), "");
    assert_eq!(forwarded(&alone, "https"), "");
}

#[test]
fn forwarded_for_then_rightmost_untrusted_is_client() {
    let settings = [("LOG_LEVEL", "api=debug")];
    let trusting = Program::without_database(&[TRUSTING, settings[0]]);
    let alone = Program::without_database(&settings);
    let client = |program: &Program, case: usize, forwarded: &[&str]| {
        let path = format!("/nowhere/{case}");
        let lines: Vec<_> = forwarded
            .iter()
            .map(|value| ("X-Forwarded-For", *value))
            .collect();
        assert_eq!(program.request("GET", &path, &lines, "").status, 404);
        let log = program.log();
        let line = log
            .lines()
            .find(|line| line.contains(&format!("path={path} ")))
            .unwrap();
        let client = line
            .split(' ')
            .find_map(|word| word.strip_prefix("client="));
        client.unwrap().to_owned()
    };

    let cases = [
        (&["198.51.100.7"][..], "198.51.100.7"),
        (&["203.0.113.9, 198.51.100.7"], "198.51.100.7"),
        (&["198.51.100.7, 10.0.0.2,10.9.9.9"], "198.51.100.7"),
        (&["203.0.113.9", "198.51.100.7"], "198.51.100.7"),
        (&["10.0.0.7, 10.0.0.2"], "10.0.0.7"),
        (&[], "127.0.0.1"),
        // A value that is not an address ends the chain.
        (&["198.51.100.7, unknown, 10.0.0.2"], "10.0.0.2"),
        (&["198.51.100.7,"], "127.0.0.1"),
        (&["198.51.100.7:4711"], "198.51.100.7"),
        (&["[2001:db8::1]:443"], "2001:db8::1"),
        (&["2001:db8::1, fd00::2"], "2001:db8::1"),
        (&["::ffff:198.51.100.7"], "198.51.100.7"),
    ];
    for (case, (forwarded, expected)) in cases.into_iter().enumerate() {
        assert_eq!(
            client(&trusting, case, forwarded),
            expected,
            "{forwarded:?}"
        );
        assert_eq!(client(&alone, case, forwarded), "127.0.0.1");
    }
}

#[test]
fn clients_behind_proxy_then_separate_rate_limits() {
    let program = Program::without_database(&[TRUSTING, ("RATE_LIMIT_RPS", "1")]);
    let status = |client: &str| {
        let names = [("X-Forwarded-For", client)];
        program.request("GET", "/problems", &names, "").status
    };

    assert_eq!(status("198.51.100.7"), 200);
    assert_eq!(status("198.51.100.8"), 200);
    // Each time another host in front of it, or another one of the network: none is rejected on its
    // own.
    let mut host = 0..250;
    eventually("it is known behind whatever it names", || {
        let host = host.next().unwrap();
        status(&format!("203.0.113.{host}, 198.51.100.7")) == 429
    });
    assert_eq!(status("2001:db8::1"), 200);
    let mut host = 2..0xffff;
    eventually("it is known by its network", || {
        status(&format!("2001:db8::{:x}", host.next().unwrap())) == 429
    });
}
