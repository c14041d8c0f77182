-- hello_get: the names are those that were asked for at the same time.
SELECT username, date_of_birth FROM hello_users WHERE username = ANY ($1::text[])
