-- users_list
SELECT id, name, email FROM users WHERE id > $1::bigint ORDER BY id LIMIT $2::bigint
