-- hello_get
SELECT date_of_birth FROM hello_users WHERE username = $1::text
