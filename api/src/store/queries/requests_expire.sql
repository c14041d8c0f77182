-- requests_expire: replicas that delete at once skip each other's rows.
DELETE FROM api_requests
WHERE key IN (
    SELECT key FROM api_requests
    WHERE at < now() - interval '1 day'
    ORDER BY at
    LIMIT $1::bigint
    FOR UPDATE SKIP LOCKED
)
RETURNING key
