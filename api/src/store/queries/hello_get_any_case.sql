-- hello_get_any_case: the folded spelling is the one that is written in this mode; others are older.
SELECT date_of_birth FROM hello_users
WHERE lower(username) = $1::text COLLATE "C"
ORDER BY username = $1::text DESC, updated_at DESC
LIMIT 1
