-- members_list_end
SELECT created_at, id FROM members
WHERE deleted_at IS NULL
    AND (created_at, id) > (
        coalesce($1::timestamptz, '-infinity'),
        coalesce($2::uuid, '00000000-0000-0000-0000-000000000000')
    )
ORDER BY created_at, id
LIMIT 2 OFFSET $3::bigint - 1
