-- users_list
SELECT id::bigint, name, email FROM users WHERE id > $1::bigint ORDER BY id LIMIT $2::bigint
