-- members_list
SELECT id, name, age, created_at, updated_at FROM members
WHERE deleted_at IS NULL
    AND (created_at, id) > (
        coalesce($1::timestamptz, '-infinity'),
        coalesce($2::uuid, '00000000-0000-0000-0000-000000000000')
    )
ORDER BY created_at, id
LIMIT $3::bigint
