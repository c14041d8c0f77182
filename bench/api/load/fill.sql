-- Makes the table what each measurement begins with: 10,000 people, all born on one day.
-- Person 407 is called "eah": usernames have no digits. See hello.lua.
-- A write of the previous load may still be in progress: one transaction keeps it out.
BEGIN;
TRUNCATE hello_users;
INSERT INTO hello_users (username, date_of_birth)
SELECT translate(number::text, '0123456789', 'abcdefghij'), '1950-12-24'
FROM generate_series(1, 10000) AS number;
COMMIT;
VACUUM (FREEZE, ANALYZE) hello_users;
