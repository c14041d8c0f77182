-- The read without HTTP, for pgbench.
\set person random(1, 10000)
SELECT date_of_birth FROM hello_users WHERE username = translate(:person::text, '0123456789', 'abcdefghij');
