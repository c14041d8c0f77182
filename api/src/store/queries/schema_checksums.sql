SELECT encode(sha256(convert_to(sql, 'UTF8')), 'hex')
FROM unnest($1::text[]) WITH ORDINALITY AS migration (sql, nth)
ORDER BY nth
