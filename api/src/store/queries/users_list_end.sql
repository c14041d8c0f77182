-- users_list_end
SELECT id::bigint FROM (
    SELECT id FROM users WHERE id > $1::bigint ORDER BY id LIMIT 2 OFFSET $2::bigint - 1
) AS last
ORDER BY id
