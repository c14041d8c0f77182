-- sessions_left: those of the first list that the server still has. Those of the second have been left
-- for long, and are ended: where a network lost the end of a connection, its backend waits for hours.
-- But not one that has written: its commit waits for a standby, or may in a moment, and ended there it
-- would show without being on the standby.
SELECT application_name, CASE
    WHEN application_name = ANY ($2::text[]) AND backend_xid IS NULL
    THEN pg_terminate_backend(pid)
END
FROM pg_stat_activity WHERE application_name = ANY ($1::text[])
