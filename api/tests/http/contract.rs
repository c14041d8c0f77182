//! The OpenAPI document and the program: valid and invalid requests are sent, and each response
//! must be in the document.

use std::process::Command;

use crate::postgres::Server;
use crate::program::Program;
use crate::python;
use crate::redis::Redis;

/// Fixed seed. A finding with another seed is reproduced with that one.
const SEED: &str = "20261121";

/// Sends the requests that schemathesis generates from the document, and returns their number.
fn attack(program: &Program, arguments: &[&str]) -> usize {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("http://{}/openapi.json", program.address);
    let run = Command::new(python::program("schemathesis"))
        .args(["run", &url, "--seed", SEED, "--checks", "all", "--no-color"])
        // The generation rate depends on this machine only.
        .args(["--continue-on-failure", "--suppress-health-check", "too_slow"])
        .args(arguments)
        .current_dir(dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&run.stdout);
    eprintln!("{said}");
    assert!(
        run.status.success(),
        "{}",
        String::from_utf8_lossy(&run.stderr)
    );

    let series = program.get("/metrics").body;
    assert!(!series.contains("status=\"500\""), "{series}");
    let (generated, _) = said.split_once(" generated").unwrap();
    let (_, count) = generated.rsplit_once(' ').unwrap();
    count.parse().unwrap()
}

#[test]
fn random_requests_then_responses_as_in_openapi() {
    let server = Server::primary();
    let redis = Redis::start();
    let url = format!("redis://{}", redis.address);
    let program = Program::before(&[&server], &[("REDIS_URL", &url)]);

    let requests = attack(&program, &["--max-examples", "50"]);
    assert!(requests > 1000, "{requests}");
}

#[test]
fn other_settings_then_responses_as_in_openapi() {
    let server = Server::primary();
    let settings = [
        ("API_SURFACES", "hello,members,beers"),
        ("MEMBERS_KEYS", "lower"),
        ("VALIDATION_STATUS", "422"),
        ("LIST_MAX", "3"),
        ("COMPANY_NAME", "Bäckerei \"Söhne\""),
    ];
    let program = Program::before(&[&server], &settings);

    let requests = attack(&program, &["--max-examples", "10"]);
    assert!(requests > 300, "{requests}");
}

#[test]
fn no_database_then_responses_as_in_openapi() {
    let settings = [("REQUEST_TIMEOUT", "20ms"), ("API_SURFACES", "users,beers")];
    let program = Program::without_database(&settings);

    // A 503 is expected to be no success.
    let exempt = "not_a_server_error,positive_data_acceptance";
    let arguments = ["--exclude-checks", exempt, "--phases", "examples,coverage"];
    let requests = attack(&program, &arguments);
    assert!(requests > 100, "{requests}");
    assert!(
        program.metric("http_requests_total{method=\"POST\",route=\"/users\",status=\"503\"}")
            > Some(0.0)
    );
}
