-- beers_list: `found` counts the rows before their texts are too long for one page.
SELECT id::bigint, name, style, abv, found FROM (
    SELECT id, name, style, abv, count(*) OVER () AS found,
        sum(octet_length(name) + coalesce(octet_length(style), 0))
        OVER (ORDER BY id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS bytes_before
    FROM (
        SELECT id, name, style, abv::float8 FROM beers WHERE id > $1::bigint ORDER BY id LIMIT $2::bigint
    ) AS page
) AS counted
WHERE coalesce(bytes_before, 0) < 131072
ORDER BY id
