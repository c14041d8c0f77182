//! Traces: continued from the caller in responses, problems and the log.

use crate::program::Program;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

fn traceparent(flags: &str) -> String {
    format!("00-{TRACE}-{PARENT}-{flags}")
}

#[test]
fn traceparent_sent_then_trace_continued() {
    let program = Program::without_database(&[("LOG_LEVEL", "api=debug")]);

    let given = traceparent("01");
    let answer = program.request("GET", "/nowhere", &[("traceparent", &given)], "");
    let ours = answer.header("traceparent");
    assert!(ours.starts_with(&format!("00-{TRACE}-")), "{ours}");
    assert!(ours.ends_with("-01") && !ours.contains(PARENT), "{ours}");
    assert_eq!(answer.json()["trace_id"], TRACE);
    let span = ours.split('-').nth(2).unwrap();
    let line = format!("trace_id={TRACE} span_id={span}");
    assert!(program.log().contains(&line), "{}", program.log());

    for bad in [
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
    ] {
        let answer = program.request("GET", "/nowhere", &[("traceparent", bad)], "");
        assert_eq!(answer.header("traceparent"), "", "{bad}");
        assert!(answer.json()["trace_id"].is_null(), "{bad}");
    }
    let twice = [("traceparent", given.as_str()), ("traceparent", &given)];
    let answer = program.request("GET", "/nowhere", &twice, "");
    assert_eq!(answer.header("traceparent"), "");
}
