//! Rights of the API's two roles.

use crate::postgres::{OWNER, PASSWORD, ROLES, SERVICE, Server, eventually};
use crate::program::{Program, borrowed, way_to};

const INSUFFICIENT_PRIVILEGE: &str = "ERROR:  42501: ";

/// Checks that the server denies these statements to the service for lack of rights.
fn refused(server: &Server, statements: &[&str]) {
    for statement in statements {
        let answer = server.sql_as(SERVICE, statement);
        let error = answer.expect_err(statement);
        assert!(
            error.contains(INSUFFICIENT_PRIVILEGE),
            "{statement}: {error}"
        );
    }
}

#[test]
fn service_role_then_only_reads_and_writes_rows() {
    let server = Server::primary();
    let program = Program::before(&[&server], &[]);
    assert_eq!(program.put_date("John", "1990-06-15").status, 204);

    refused(
        &server,
        &[
            "CREATE TABLE stolen (id int)",
            "CREATE TEMPORARY TABLE stolen (id int)",
            "CREATE SCHEMA stolen",
            "CREATE EXTENSION pg_stat_statements",
            "CREATE ROLE stolen",
            "CREATE DATABASE stolen",
            "CREATE INDEX ON hello_users (created_at)",
            "DROP TABLE hello_users",
            "ALTER TABLE hello_users ADD COLUMN stolen int",
            "TRUNCATE hello_users",
            "DELETE FROM hello_users",
            "COPY hello_users TO PROGRAM 'true'",
            "UPDATE schema_migrations SET checksum = ''",
            "INSERT INTO schema_migrations VALUES (99, 'stolen', '')",
            "DELETE FROM schema_migrations",
            "SET ROLE api_owner",
            "SET ROLE postgres",
            "SELECT pg_read_file('/etc/passwd')",
            "SELECT rolpassword FROM pg_authid",
        ],
    );
    assert_eq!(server.sql("SELECT count(*) FROM hello_users"), "1");
}

#[test]
fn tables_created_then_owned_by_owner_and_least_privilege() {
    let server = Server::primary();
    let _program = Program::before(&[&server], &[]);

    let rights = server.sql(
        "SELECT relname, relowner::regrole,
                (SELECT string_agg(privilege_type, ',' ORDER BY privilege_type)
                 FROM aclexplode(relacl) WHERE grantee = 'api_service'::regrole)
         FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace",
    );
    assert!(rights.contains("hello_users|"), "{rights}");
    for table in rights.lines() {
        let expected = if table.starts_with("schema_migrations|") {
            "|api_owner|SELECT"
        } else {
            "|api_owner|INSERT,SELECT,UPDATE"
        };
        assert!(table.ends_with(expected), "{table}");
    }
}

#[test]
fn other_roles_and_databases_then_no_access() {
    let server = Server::primary();
    server.sql("CREATE DATABASE other");
    let elsewhere = ["-c", "\\connect other", "-c"];
    let secrets = "CREATE TABLE secrets AS SELECT 1";
    server
        .psql("postgres", &[&elsewhere[..], &[secrets]].concat())
        .unwrap();
    server.sql(&format!("CREATE ROLE stranger LOGIN PASSWORD '{PASSWORD}'"));

    let error = server.sql_as("stranger", "SELECT 1").unwrap_err();
    assert!(error.contains("does not have CONNECT privilege"), "{error}");
    let read = "TABLE secrets";
    let error = server.psql(SERVICE, &[&elsewhere[..], &[read]].concat());
    assert!(error.unwrap_err().contains(INSUFFICIENT_PRIVILEGE));
}

#[test]
fn roles_file_run_again_then_manual_grants_revoked() {
    let server = Server::primary();
    let _program = Program::before(&[&server], &[]);
    let rights = "SELECT array_agg((relname, relowner::regrole, relacl) ORDER BY relname)
                  FROM pg_class WHERE relnamespace = 'public'::regnamespace";
    let before = server.sql(rights);

    server.sql("GRANT ALL ON hello_users TO api_service, PUBLIC");
    server.sql("GRANT CREATE ON SCHEMA public TO PUBLIC");
    server.sql("GRANT ALL ON DATABASE postgres TO PUBLIC");
    assert_ne!(server.sql(rights), before);
    server.make_roles();

    assert_eq!(server.sql(rights), before);
    refused(
        &server,
        &["CREATE TABLE stolen ()", "DELETE FROM hello_users"],
    );
}

#[test]
fn one_role_then_migrated_to_two() {
    let server = Server::without_roles();
    // Objects of an extension are out of scope.
    server.sql("CREATE EXTENSION pg_stat_statements");
    let mut migration = Program::run(&["migrate"], &borrowed(&way_to(&[&server], "postgres")));
    assert_eq!(migration.wait().code(), Some(0), "{}", migration.log());

    server.make_roles();
    let program = Program::before(&[&server], &[]);
    assert_eq!(program.put_date("John", "1990-06-15").status, 204);
    for change in [
        "ALTER TABLE hello_users ADD COLUMN later int",
        "ALTER ROUTINE expire_requests COST 1",
    ] {
        assert_eq!(server.sql_as(OWNER, change), Ok(String::new()));
    }
}

#[test]
fn service_deletes_then_only_expired_responses() {
    let server = Server::primary();
    // It has created the schema. While running, it would also delete.
    drop(Program::before(&[&server], &[]));
    server.sql(
        "INSERT INTO api_requests (key, route, body_sha256, status, answer, at)
         SELECT gen_random_uuid(), '/', '', 200, '{}', now() - days * interval '1 day'
         FROM generate_series(0, 4) AS days",
    );

    let deleted = server.sql_as(SERVICE, "SELECT count(*) FROM expire_requests(3)");
    assert_eq!(deleted, Ok("3".to_owned()));
    assert_eq!(server.sql("SELECT count(*) FROM api_requests"), "2");
    refused(
        &server,
        &["DELETE FROM api_requests", "TRUNCATE api_requests"],
    );
}

#[test]
fn service_role_too_privileged_then_rejected() {
    let server = Server::without_roles();
    let superuser = ["-v", "owner=postgres"];
    let error = server.psql("postgres", &[&superuser[..], &["-f", ROLES]].concat());

    let error = error.unwrap_err();
    assert!(
        error.contains("there is more that `postgres` may do"),
        "{error}"
    );
    assert_eq!(
        server.sql("SELECT count(*) FROM pg_roles WHERE rolname = 'api_service'"),
        "0"
    );
}

#[test]
fn table_added_by_migration_then_service_has_access() {
    let server = Server::primary();
    let _program = Program::before(&[&server], &[]);

    server
        .sql_as(
            OWNER,
            "CREATE TABLE later (id bigint GENERATED ALWAYS AS IDENTITY, name text)",
        )
        .unwrap();
    server
        .sql_as(SERVICE, "INSERT INTO later (name) VALUES ('a')")
        .unwrap();
    assert_eq!(
        server.sql_as(SERVICE, "SELECT id FROM later"),
        Ok("1".to_owned())
    );
    refused(
        &server,
        &["DROP TABLE later", "DELETE FROM later", "TRUNCATE later"],
    );
}

#[test]
fn schema_outdated_then_error_names_role_that_migrates() {
    let server = Server::primary();
    let way = way_to(&[&server], SERVICE);
    let mut hasty = borrowed(&way);
    hasty.push(("DB_STARTUP_TIMEOUT", "4"));
    let mut early = Program::spawn(&hasty);
    assert_eq!(early.wait().code(), Some(1));
    let log = early.log();
    assert!(
        log.contains("run `api migrate` as the role that owns the schema"),
        "{log}"
    );

    drop(Program::before(&[&server], &[]));
    let program = Program::start(&hasty);
    eventually("it is ready", || program.get("/readyz").status == 200);
}
