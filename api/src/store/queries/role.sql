-- What a server is. The timeline is NULL in recovery. The identifier is NULL where this role may not
-- ask for it: a right is checked before a statement runs, so what may lack one is a statement within.
SELECT current_setting('transaction_read_only'), pg_postmaster_start_time()::text, pg_backend_pid(),
    CASE WHEN NOT pg_is_in_recovery() THEN
        ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::bigint
    END,
    CASE WHEN has_function_privilege('pg_control_system()', 'execute') THEN
        substring(query_to_xml(
            'SELECT system_identifier FROM pg_control_system()', false, true, ''
        )::text FROM '>(\d+)<')
    END
