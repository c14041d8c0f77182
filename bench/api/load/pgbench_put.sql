-- The write without HTTP, for pgbench. The date all but surely changes.
\set person random(1, 10000)
\set day random(1, 20000)
INSERT INTO hello_users (username, date_of_birth)
VALUES (translate(:person::text, '0123456789', 'abcdefghij'), date '1960-01-01' + :day::int)
ON CONFLICT (username) DO UPDATE SET date_of_birth = excluded.date_of_birth, updated_at = now();
