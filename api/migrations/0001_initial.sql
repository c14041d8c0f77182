-- People and their birthdays. `collate "C"` compares bytes, and names are ASCII letters only.
-- The free fifth of each page keeps an update of a date within the page and out of the indexes.
CREATE TABLE hello_users (
    username text COLLATE "C" PRIMARY KEY CHECK (username ~ '^[A-Za-z]{1,100}$'),
    date_of_birth date NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 80);

-- For HELLO_CASE_INSENSITIVE, which may be switched on at any time.
CREATE INDEX hello_users_lower_username_idx ON hello_users (lower(username));
