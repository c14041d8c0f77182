//! Objects in `public` that a role's own `search_path` puts before PostgreSQL's.

use crate::agent::World;
use crate::postgres::Server;

/// A server that would be taken for a standby without an archive, and whose names are never equal.
const PLANTED: &str = "\
    CREATE FUNCTION public.pg_is_in_recovery() RETURNS boolean LANGUAGE sql AS 'SELECT true'; \
    CREATE FUNCTION public.current_setting(text) RETURNS text LANGUAGE sql AS $$ SELECT 'off' $$; \
    CREATE FUNCTION public.planted(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT false'; \
    CREATE OPERATOR public.= (leftarg = text, rightarg = text, function = public.planted); \
    CREATE VIEW public.pg_stat_archiver AS SELECT '000000010000000000000001'::text AS last_failed_wal, \
        now() AS last_failed_time, NULL::text AS last_archived_wal, NULL::timestamptz AS last_archived_time; \
    ALTER ROLE postgres SET search_path = public, pg_catalog";

#[tokio::test(flavor = "multi_thread")]
async fn objects_planted_before_pg_catalog_then_check_and_backup_not_fooled() {
    let world = World::new().await;
    let server = Server::create(&world).await;
    server.sql(PLANTED).await;
    let sql = "SELECT pg_is_in_recovery(), current_setting('archive_mode'), 'a'::text = 'a'";
    assert_eq!(
        server.sql(sql).await,
        "t|off|f",
        "the role does not use them"
    );

    let checked = world.run(&["check", "--json"]).await;
    let report: serde_json::Value = serde_json::from_str(&checked.stdout).unwrap();
    for name in ["archive_mode", "archiver", "data directory"] {
        let checks = report["checks"].as_array().unwrap();
        let check = checks.iter().find(|check| check["name"] == name);
        assert_eq!(check.unwrap()["ok"], true, "{name}: {checked:?}");
    }
    let made = world.run(&["backup", "--json"]).await.ok().json();
    assert!(made["backup"]["id"].is_string(), "{made}");
    server.stop();
}
