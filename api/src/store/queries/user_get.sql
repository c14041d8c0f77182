-- user_get
SELECT id::bigint, name, email FROM users WHERE id = $1::bigint
