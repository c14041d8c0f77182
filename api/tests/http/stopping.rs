//! Stopping: slowly enough for everyone else.

use std::io::Write as _;
use std::net::TcpStream;

use nix::sys::signal::Signal;

use crate::postgres::{Server, eventually};
use crate::program::{Program, read_answer};

#[test]
fn drains_then_closes_and_ends_in_peace() {
    let server = Server::primary();
    let mut program = Program::before(&[&server], &[("SHUTDOWN_DELAY", "2")]);
    // A request of which half has been sent when the signal comes is still answered.
    let mut half = program.connect();
    let body = "{\"dateOfBirth\":\"1990-06-15\"}";
    let head = format!(
        "PUT /hello/John HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    half.write_all(head.as_bytes()).unwrap();

    program.signal(Signal::SIGTERM);
    eventually("it drains", || {
        program.get("/readyz").json()["draining"] == true
    });
    let ready = program.get("/readyz");
    assert_eq!((ready.status, ready.header("connection")), (503, "close"));
    assert_eq!(program.put_date("Jane", "1990-06-15").status, 204);

    eventually("the listener is closed", || {
        TcpStream::connect(program.address).is_err()
    });
    half.write_all(body.as_bytes()).unwrap();
    assert_eq!(read_answer(&mut half).status, 204);
    assert_eq!(program.wait().code(), Some(0));
    assert_eq!(server.sql("SELECT count(*) FROM hello_users"), "2");
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let mut program = Program::without_database(&[("SHUTDOWN_DELAY", "1000")]);

    program.signal(Signal::SIGTERM);
    eventually("it drains", || {
        program.get("/readyz").json()["draining"] == true
    });
    program.signal(Signal::SIGTERM);
    assert_eq!(program.wait().code(), Some(0));
}
