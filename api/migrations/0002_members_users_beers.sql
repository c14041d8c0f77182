-- The tables of the other three services, of which an earlier service may have made some, and what makes
-- their POSTs safe to repeat.

CREATE TABLE IF NOT EXISTS members (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name text NOT NULL,
    age integer NOT NULL CHECK (age BETWEEN 0 AND 150),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz
);

-- The list, page by page. Members that were deleted are not listed.
CREATE INDEX members_created_at_id_idx ON members (created_at, id) WHERE deleted_at IS NULL;

CREATE TABLE IF NOT EXISTS users (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL,
    email text NOT NULL UNIQUE
);

CREATE TABLE IF NOT EXISTS beers (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL,
    style text,
    abv numeric(5, 2) CHECK (abv BETWEEN 0 AND 100),
    seeded boolean NOT NULL DEFAULT false
);

-- Anybody may store another beer of the same name, but seeding stores each of its own once.
CREATE UNIQUE INDEX beers_seeded_name_key ON beers (name) WHERE seeded;
-- Seeding looks for beers by name.
CREATE INDEX beers_name_idx ON beers (name);

-- The answers to requests that were carried out, committed together with their rows. `body_sha256`
-- is of the values as they were understood, so that spaces and the order of keys do not count.
CREATE TABLE api_requests (
    key uuid PRIMARY KEY,
    route text NOT NULL,
    body_sha256 bytea NOT NULL,
    status integer NOT NULL,
    answer jsonb NOT NULL,
    at timestamptz NOT NULL DEFAULT now()
);

-- Those that are too old are deleted.
CREATE INDEX api_requests_at_idx ON api_requests (at);

-- Deletes answers that are older than a day, the oldest first, and returns their keys. Callers at the
-- same time skip each other's rows. It has the rights of its owner, so that the service needs none to
-- delete anything.
CREATE FUNCTION expire_requests(most bigint) RETURNS SETOF uuid
LANGUAGE sql SECURITY DEFINER
AS $$
    DELETE FROM api_requests
    WHERE key IN (
        SELECT key FROM api_requests
        WHERE at < now() - interval '1 day'
        ORDER BY at
        LIMIT most
        FOR UPDATE SKIP LOCKED
    )
    RETURNING key
$$;

-- It finds no table that a caller made, but those above, in whichever schema they are.
DO $$
BEGIN
    EXECUTE format('ALTER FUNCTION expire_requests SET search_path = %I, pg_temp', current_schema());
END
$$;
