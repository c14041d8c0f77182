-- hello_put: unchanged dates are a pure read, which writes no WAL and waits for no commit; but not
-- where an earlier attempt may have been committed on this server alone, or where another statement
-- has changed the row and not yet ended (`xmax`). Rows are locked in the order of their names, so that
-- two of these statements cannot wait for each other.
--
-- An attempt that was given up may start late. Nothing is written after $5, nor over a date that was
-- stored after the one of $4, which is older than the request and is also when a new row was created.
-- Both are asked once the row is locked, which it stays until the commit. A row that is not there yet
-- has no newer date. `updated_at` rises with each date of a row, and is after $4 whatever the clock,
-- which may have been set back since.
--
-- Returns the names that were refused, each with what is stored, and then the clock.
WITH changed AS MATERIALIZED (
    SELECT username, date_of_birth, since
    FROM unnest($1::text[], $2::date[], $3::boolean[], $4::timestamptz[])
            AS given (username, date_of_birth, rewrite, since),
        set_config('lock_timeout', '250ms', true)
    WHERE rewrite OR NOT EXISTS (
        SELECT FROM hello_users AS stored
        WHERE stored.username = given.username AND stored.date_of_birth = given.date_of_birth
            AND stored.xmax = '0'
    )
), put AS (
    INSERT INTO hello_users (username, date_of_birth, created_at, updated_at)
    SELECT username, date_of_birth, since,
        greatest(clock_timestamp(), since + interval '1 microsecond')
    FROM changed
    WHERE clock_timestamp() < $5::timestamptz
    ORDER BY username COLLATE "C"
    ON CONFLICT (username) DO UPDATE SET
        date_of_birth = excluded.date_of_birth,
        updated_at = greatest(
            clock_timestamp(), excluded.created_at + interval '1 microsecond',
            hello_users.updated_at + interval '1 microsecond'
        )
    WHERE hello_users.updated_at <= excluded.created_at AND clock_timestamp() < $5::timestamptz
    RETURNING username
)
SELECT changed.username, stored.date_of_birth, stored.updated_at
FROM changed LEFT JOIN hello_users AS stored USING (username)
WHERE NOT EXISTS (SELECT FROM put WHERE put.username = changed.username)
UNION ALL
SELECT NULL, NULL, clock_timestamp()
