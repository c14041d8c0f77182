-- hello_put: an unchanged date is a pure read, which writes no log and waits for no commit.
INSERT INTO hello_users (username, date_of_birth)
SELECT $1::text, $2::date
WHERE NOT EXISTS (SELECT FROM hello_users WHERE username = $1::text AND date_of_birth = $2::date)
ON CONFLICT (username) DO UPDATE SET date_of_birth = excluded.date_of_birth, updated_at = now()
