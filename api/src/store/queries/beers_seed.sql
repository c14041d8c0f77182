-- beers_seed: two that run at once meet at the unique index of seeded names.
WITH made AS (
    INSERT INTO beers (name, style, abv, seeded)
    SELECT seed.name, seed.style, seed.abv, true
    FROM unnest($1::text[], $2::text[], $3::float8[]) WITH ORDINALITY
        AS seed (name, style, abv, place)
    WHERE NOT EXISTS (SELECT FROM beers WHERE beers.name = seed.name)
    ORDER BY seed.place
    ON CONFLICT (name) WHERE seeded DO NOTHING
    RETURNING id, name, style, abv
)
SELECT id::bigint, name, style, abv::float8 FROM made ORDER BY id
