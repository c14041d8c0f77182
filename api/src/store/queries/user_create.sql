-- user_create: no row means that the email is taken.
WITH asked AS (
    SELECT sha256(convert_to(jsonb_build_array($2::text, $3::text)::text, 'UTF8')) AS body_sha256
), known AS (
    UPDATE api_requests SET at = now() FROM asked
    WHERE key = $1::uuid
    RETURNING route = 'POST /users' AND api_requests.body_sha256 = asked.body_sha256 AS is_same, answer
), made AS (
    INSERT INTO users (name, email)
    SELECT $2::text, $3::text WHERE NOT EXISTS (SELECT FROM known)
    ON CONFLICT (email) DO NOTHING
    RETURNING id, name, email
), remembered AS (
    INSERT INTO api_requests (key, route, body_sha256, status, answer)
    SELECT $1::uuid, 'POST /users', asked.body_sha256, 200, to_jsonb(made)
    FROM made, asked
    RETURNING answer
)
SELECT is_same, answer FROM known
UNION ALL
SELECT true, answer FROM remembered
