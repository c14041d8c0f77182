-- hello_put: unchanged dates are a pure read, which writes no log and waits for no commit; but not
-- where an earlier try may have been committed on this server alone. Rows are locked in the order of
-- their names, so that two of these statements cannot wait for each other.
INSERT INTO hello_users (username, date_of_birth)
SELECT username, date_of_birth
FROM unnest($1::text[], $2::date[], $3::boolean[]) AS given (username, date_of_birth, rewrite)
WHERE rewrite OR NOT EXISTS (
    SELECT FROM hello_users AS stored
    WHERE stored.username = given.username AND stored.date_of_birth = given.date_of_birth
)
ORDER BY username COLLATE "C"
ON CONFLICT (username) DO UPDATE SET date_of_birth = excluded.date_of_birth, updated_at = now()
