//! The service behind `PgBouncer`, in each pooling mode.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::postgres::{
    OWNER, PASSWORD, SERVICE, Server, as_owner, chown, eventually, free_address,
};
use crate::program::{Program, borrowed, way_to};

struct PgBouncer {
    _dir: TempDir,
    address: SocketAddr,
    process: Child,
}

impl PgBouncer {
    fn before(server: &Server, mode: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let address = free_address();
        let path = |name: &str| dir.path().join(name);
        let users = format!("\"{OWNER}\" \"{PASSWORD}\"\n\"{SERVICE}\" \"{PASSWORD}\"\n");
        fs::write(path("users"), users).unwrap();
        let settings = format!(
            "[databases]\n* = host={} port={}\n[pgbouncer]\nlisten_addr = {}\nlisten_port = {}\n\
             unix_socket_dir =\nauth_type = plain\nauth_file = {}\npool_mode = {mode}\n",
            server.address.ip(),
            server.address.port(),
            address.ip(),
            address.port(),
            path("users").display()
        );
        fs::write(path("settings"), settings).unwrap();
        for name in [".", "users", "settings"] {
            chown(&path(name));
        }
        let process = as_owner(Command::new("/usr/sbin/pgbouncer"))
            .arg(path("settings"))
            .stderr(Stdio::null())
            .spawn()
            .expect("`scripts/setup` installs PgBouncer");
        eventually("PgBouncer listens", || TcpStream::connect(address).is_ok());
        Self {
            _dir: dir,
            address,
            process,
        }
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

#[test]
fn transaction_pooling_then_rejected_with_reason() {
    let server = Server::primary();
    drop(Program::before(&[&server], &[]));
    for mode in ["transaction", "statement"] {
        let pooler = PgBouncer::before(&server, mode);
        let port = pooler.address.port().to_string();
        for (args, role) in [(&["migrate"][..], OWNER), (&[], SERVICE)] {
            let way = way_to(&[&server], role);
            let mut settings = borrowed(&way);
            settings.push(("PGPORT", &port));
            settings.push(("MIGRATE", "off"));
            let mut program = Program::run(args, &settings);
            assert_eq!(program.wait().code(), Some(1), "{}", program.log());
            let log = program.log();
            assert!(log.contains("`pool_mode=transaction`"), "{mode}: {log}");
            assert!(log.contains("set `pool_mode=session`"), "{mode}: {log}");
        }
    }
}

#[test]
fn session_pooling_then_service_works() {
    let server = Server::primary();
    drop(Program::before(&[&server], &[]));
    let pooler = PgBouncer::before(&server, "session");
    let port = pooler.address.port().to_string();
    let way = way_to(&[&server], SERVICE);
    let mut settings = borrowed(&way);
    settings.push(("PGPORT", &port));
    settings.push(("MIGRATE", "off"));
    let programs = [(); 2].map(|()| Program::start(&settings));

    for program in &programs {
        eventually("the program is ready", || {
            program.get("/readyz").status == 200
        });
        assert_eq!(program.put_date("Zoe", "1990-01-01").status, 204);
        assert_eq!(program.get("/hello/Zoe").status, 200);
        assert_eq!(program.get("/users").status, 200);
    }
}
