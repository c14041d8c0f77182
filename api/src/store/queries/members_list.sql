-- members_list: `found` counts the rows before their texts are too long for one page.
SELECT id, name, age, created_at, updated_at, found FROM (
    SELECT id, name, age, created_at, updated_at, count(*) OVER () AS found, sum(octet_length(name))
        OVER (ORDER BY created_at, id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS bytes_before
    FROM (
        SELECT id, name, age, created_at, updated_at FROM members
        WHERE deleted_at IS NULL
            AND (created_at, id) > (
                coalesce($1::timestamptz, '-infinity'),
                coalesce($2::uuid, '00000000-0000-0000-0000-000000000000')
            )
        ORDER BY created_at, id
        LIMIT $3::bigint
    ) AS page
) AS counted
WHERE coalesce(bytes_before, 0) < 131072
ORDER BY created_at, id
