-- beers_list
SELECT id::bigint, name, style, abv::float8 FROM beers WHERE id > $1::bigint ORDER BY id LIMIT $2::bigint
