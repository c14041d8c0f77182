-- member_create
WITH asked AS (
    SELECT sha256(convert_to(jsonb_build_array($2::text, $3::integer)::text, 'UTF8')) AS body_sha256
), known AS (
    UPDATE api_requests SET at = now() FROM asked
    WHERE key = $1::uuid
    RETURNING route = 'POST /members' AND api_requests.body_sha256 = asked.body_sha256 AS is_same, answer
), made AS (
    INSERT INTO members (name, age)
    SELECT $2::text, $3::integer WHERE NOT EXISTS (SELECT FROM known)
    RETURNING id, name, age, created_at, updated_at
), remembered AS (
    INSERT INTO api_requests (key, route, body_sha256, status, answer)
    SELECT $1::uuid, 'POST /members', asked.body_sha256, 200, to_jsonb(made)
    FROM made, asked
    RETURNING answer
)
SELECT is_same, answer FROM known
UNION ALL
SELECT true, answer FROM remembered
