//! Probes and metrics.

use crate::postgres::{Server, eventually};
use crate::program::Program;

#[test]
fn no_database_then_live_but_not_ready() {
    let cut_off = Program::without_database(&[]);
    for path in ["/livez", "/healthz", "/-/health"] {
        assert_eq!(cut_off.get(path).json()["status"], "ok", "{path}");
    }
    assert_eq!(cut_off.get("/readyz").status, 503);
    assert_eq!(
        cut_off.get("/readyz").json()["database"]["schema"],
        "missing"
    );

    let server = Server::primary();
    let program = Program::before(&[&server], &[]);
    let ready = program.get("/readyz").json();
    assert_eq!(ready["status"], "ready");
    assert_eq!(ready["database"]["role"], "primary");
    assert_eq!(ready["database"]["writable"], true);
    assert_eq!(ready["draining"], false);
    assert_eq!(program.get("/health").json()["status"], "healthy");
}

#[test]
fn database_lost_then_ready_for_grace_period() {
    let mut server = Server::primary();
    let patient = Program::before(&[&server], &[("READY_DB_GRACE", "10m")]);
    let hasty = Program::before(&[&server], &[("READY_DB_GRACE", "0")]);
    server.kill();

    eventually("the hasty one is not ready", || {
        hasty.get("/readyz").status == 503
    });
    let ready = patient.get("/readyz");
    assert_eq!(ready.status, 200, "{ready:?}");
    eventually("the patient one has noticed", || {
        patient.get("/readyz").json()["database"]["writable"] == false
    });
    assert_eq!(hasty.get("/livez").status, 200);

    server.start();
    eventually("the hasty one is ready again", || {
        hasty.get("/readyz").status == 200
    });
}

#[test]
fn requests_served_then_counted_in_metrics() {
    let server = Server::primary();
    let program = Program::before(&[&server], &[]);
    assert_eq!(program.put_date("John", "1990-06-16").status, 204);
    assert_eq!(program.get("/hello/John").status, 200);
    assert_eq!(program.get("/hello/nobody").status, 404);
    assert_eq!(program.request("BREW", "/pot", &[], "").status, 404);

    let requests = |labels: &str| program.metric(&format!("http_requests_total{{{labels}}}"));
    assert_eq!(
        requests("method=\"PUT\",route=\"/hello/{username}\",status=\"204\""),
        Some(1.0)
    );
    assert_eq!(
        requests("method=\"GET\",route=\"/hello/{username}\",status=\"404\""),
        Some(1.0)
    );
    assert_eq!(
        requests("method=\"other\",route=\"unknown\",status=\"404\""),
        Some(1.0)
    );
    assert_eq!(
        program.metric("db_query_duration_seconds_count{stmt=\"hello_put\"}"),
        Some(1.0)
    );
    // One more if old responses were deleted at the same time.
    let idle = program.metric("db_pool_connections{state=\"idle\"}");
    assert!(idle >= Some(1.0) && idle <= Some(2.0), "{idle:?}");
    assert_eq!(program.metric("http_requests_in_flight"), Some(0.0));
    for never in [
        "db_errors_total{sqlstate_class=\"57\"}",
        "db_retries_total{reason=\"server-lost\"}",
    ] {
        assert_eq!(program.metric(never), Some(0.0), "{never}");
    }
    assert!(program.metric("process_resident_memory_bytes").unwrap() > 0.0);
    assert!(program.get("/metrics").body.contains("build_info{version="));
}
