-- user_get
SELECT id, name, email FROM users WHERE id = $1::bigint
