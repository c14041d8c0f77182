-- requests_expire
SELECT expire_requests($1::bigint)
