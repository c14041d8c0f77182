//! Graceful shutdown.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::postgres::{Server, eventually};
use crate::program::{Program, read_answer};

/// Time for which connections that have sent nothing are kept at shutdown.
const MOMENT: Duration = Duration::from_secs(1);
const REQUEST: &[u8] = b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn sigterm_then_drains_and_exits_0() {
    let server = Server::primary();
    // Many times what the concurrent requests need, and less than a body's timeout (10 s).
    let mut program = Program::before(&[&server], &[("SHUTDOWN_DELAY", "4")]);
    // A request that is half sent at the signal is still answered.
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
fn second_signal_then_immediate_exit() {
    let mut program = Program::without_database(&[("SHUTDOWN_DELAY", "1000")]);

    program.signal(Signal::SIGTERM);
    eventually("it drains", || {
        program.get("/readyz").json()["draining"] == true
    });
    program.signal(Signal::SIGTERM);
    assert_eq!(program.wait().code(), Some(0));
}

#[test]
fn sigint_then_immediate_exit() {
    let mut program = Program::without_database(&[("SHUTDOWN_DELAY", "1000")]);

    program.signal(Signal::SIGINT);
    assert_eq!(program.wait().code(), Some(0));
}

#[test]
fn request_unfinished_then_cut_off_at_shutdown_timeout() {
    let mut program = Program::without_database(&[("SHUTDOWN_TIMEOUT", "1")]);
    let mut stuck = program.connect();
    let head = "PUT /hello/John HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n";
    let head = format!("{head}Expect: 100-continue\r\n\r\n");
    stuck.write_all(head.as_bytes()).unwrap();
    let mut go_on = [0; 25];
    stuck.read_exact(&mut go_on).unwrap();

    let began = Instant::now();
    program.signal(Signal::SIGTERM);
    assert_eq!(program.wait().code(), Some(0));
    assert!(
        began.elapsed() >= Duration::from_secs(1),
        "{:?}",
        began.elapsed()
    );
    assert!(
        program.log().contains("gave up waiting"),
        "{}",
        program.log()
    );
}

#[test]
fn connection_queued_at_shutdown_then_served() {
    let mut program = Program::without_database(&[]);
    // The frozen program accepts no connection: the kernel queues them.
    program.signal(Signal::SIGSTOP);
    let mut queued: Vec<_> = (0..20).map(|_| program.connect()).collect();
    let (early, late) = queued.split_at_mut(10);
    for stream in early.iter_mut() {
        stream.write_all(REQUEST).unwrap();
    }
    program.signal(Signal::SIGTERM);
    let woken = Instant::now();
    program.signal(Signal::SIGCONT);

    // Time in which the program could close idle connections, and must not.
    thread::sleep(MOMENT / 10);
    for stream in late.iter_mut() {
        stream.write_all(REQUEST).ok();
    }
    let are_in_time = woken.elapsed() < MOMENT;
    for stream in early {
        assert_eq!(read_answer(stream).status, 200);
    }
    for stream in late {
        if are_in_time {
            assert_eq!(read_answer(stream).status, 200);
        }
    }
    assert_eq!(program.wait().code(), Some(0));
}

#[test]
fn connection_reused_at_shutdown_then_answered_or_closed() {
    let mut program = Program::without_database(&[("SHUTDOWN_DELAY", "4")]);
    let mut open: Vec<_> = (0..40).map(|_| program.connect()).collect();
    for stream in &mut open {
        stream.write_all(REQUEST).unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"}") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            answer.push(byte[0]);
        }
    }

    let began = Instant::now();
    program.signal(Signal::SIGTERM);
    eventually("it drains", || {
        program.get("/readyz").json()["draining"] == true
    });
    let mut answered = 0;
    let mut must_answer = false;
    // One at once, and others from before the end of the delay until after it.
    for (stream, number) in open.iter_mut().zip(0..) {
        let at = Duration::from_millis(3900) + Duration::from_millis(5) * number;
        if number > 0 {
            thread::sleep(at.saturating_sub(began.elapsed()));
        }
        let sent = stream.write_all(REQUEST);
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("no reset");
        must_answer |= began.elapsed() < Duration::from_secs(3);
        if answer.is_empty() {
            continue;
        }
        sent.unwrap();
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.contains("connection: close"), "{answer}");
        answered += 1;
    }
    // The number depends on the machine; a request that is complete long before the end is
    // answered.
    assert!(answered > 0 || !must_answer);
    assert_eq!(program.wait().code(), Some(0));
}

#[test]
fn sigterm_as_pid_1_then_exits_0() {
    let mut words = vec!["/usr/bin/unshare", "--pid", "--fork", "--kill-child"];
    if !nix::unistd::geteuid().is_root() {
        words.push("--map-root-user");
    }
    words.push("--");
    let mut program = Program::spawn_by(&words, &[("DB_STARTUP_TIMEOUT", "10m")]);
    program.wait_until_listening();
    let path = format!("/proc/{0}/task/{0}/children", program.pid());
    let child = std::fs::read_to_string(path).unwrap();
    let child = Pid::from_raw(child.trim().parse().unwrap());
    let status = std::fs::read_to_string(format!("/proc/{child}/status")).unwrap();
    let inside = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    assert!(inside.unwrap().ends_with("\t1"), "{status}");

    kill(child, Signal::SIGTERM).unwrap();
    assert_eq!(program.wait().code(), Some(0));
    assert!(program.log().contains("msg=stopped"), "{}", program.log());
}
