-- users_list: `found` counts the rows before their texts are too long for one page.
SELECT id::bigint, name, email, found FROM (
    SELECT id, name, email, count(*) OVER () AS found, sum(octet_length(name) + octet_length(email))
        OVER (ORDER BY id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS bytes_before
    FROM (SELECT id, name, email FROM users WHERE id > $1::bigint ORDER BY id LIMIT $2::bigint) AS page
) AS counted
WHERE coalesce(bytes_before, 0) < 131072
ORDER BY id
