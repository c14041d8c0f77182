//! Notebook of `docs/`, run by Jupyter against the program as a reader would.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::postgres::Server;
use crate::program::Program;
use crate::python;
use crate::redis::Redis;

fn notebook() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/notebooks/api.ipynb");
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn code(notebook: &Value) -> impl Iterator<Item = &Value> {
    let cells = notebook["cells"].as_array().unwrap().iter();
    cells.filter(|cell| cell["cell_type"] == "code")
}

/// Runs every cell, and returns the outputs.
fn run(program: &Program) -> String {
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("api.ipynb");
    fs::write(&copy, notebook().to_string()).unwrap();
    let ran = Command::new(python::program("jupyter-execute"))
        .args(["--inplace", "--kernel_name=python3", "--timeout=60"])
        .arg(&copy)
        .env("API_URL", format!("http://{}", program.address))
        .env("IPYTHONDIR", dir.path())
        .env("JUPYTER_RUNTIME_DIR", dir.path())
        .output()
        .unwrap();
    assert!(
        ran.status.success(),
        "{}",
        String::from_utf8_lossy(&ran.stderr)
    );

    let ran: Value = serde_json::from_str(&fs::read_to_string(copy).unwrap()).unwrap();
    assert!(code(&ran).all(|cell| cell["execution_count"].is_u64()));
    let outputs = code(&ran).flat_map(|cell| cell["outputs"].as_array().unwrap());
    let lines = outputs.flat_map(|output| output["text"].as_array().into_iter().flatten());
    lines.map(|line| line.as_str().unwrap()).collect()
}

#[test]
fn notebook_run_twice_then_every_step_succeeds() {
    let server = Server::primary();
    let redis = Redis::start();
    let url = format!("redis://{}", redis.address);
    let program = Program::before(&[&server], &[("REDIS_URL", &url)]);

    for time in ["first", "second"] {
        let said = run(&program);
        assert!(said.contains("/users MISS then HIT\n"), "{time}: {said}");
        assert!(
            said.ends_with("every step was answered as it should be\n"),
            "{time}: {said}"
        );
    }
}

#[test]
fn notebook_with_other_settings_then_every_step_succeeds() {
    let server = Server::primary();
    let settings = [
        ("API_TEST_CLOCK", "1"),
        ("API_FAKE_TODAY", "2025-02-28"),
        ("HELLO_LEAP_DAY", "mar1"),
        ("HELLO_CASE_INSENSITIVE", "true"),
        ("MEMBERS_KEYS", "lower"),
        ("VALIDATION_STATUS", "422"),
        ("LIST_MAX", "4"),
    ];
    let program = Program::before(&[&server], &settings);

    let said = run(&program);
    assert!(said.contains("/users BYPASS then BYPASS\n"), "{said}");
    // 29 February counts as 1 March, which is tomorrow.
    assert!(said.contains("Your birthday is in 1 day(s)\n"), "{said}");
}

#[test]
fn notebook_committed_then_without_outputs() {
    for cell in code(&notebook()) {
        assert_eq!(cell["outputs"], serde_json::json!([]), "{cell}");
        assert_eq!(cell["execution_count"], Value::Null, "{cell}");
    }
}
