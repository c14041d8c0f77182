-- Takes over the tables that the earlier services made, before the second migration would make them.
-- What they hold is kept, under the ids that it has. What cannot be taken over is refused, with what to
-- do about it as the hint.
DO $$
DECLARE
    this record;
    columns text[];
    extra text;
    longest text;
    item text;
BEGIN
    FOR this IN
        SELECT name, needed, to_regclass(format('%I.%I', current_schema(), name)) AS relation
        FROM (VALUES
            ('users', '{id,name,email}'::text[]),
            ('members', '{id,name,age,created_at,updated_at,deleted_at}'),
            ('beers', '{id,name,style,abv}')
        ) AS earlier (name, needed)
    LOOP
        CONTINUE WHEN this.relation IS NULL;
        SELECT array_agg(attname::text),
            string_agg(attname, ', ') FILTER (WHERE attnotnull AND NOT atthasdef
                AND attidentity = '' AND attname <> ALL (this.needed))
        INTO columns, extra
        FROM pg_attribute WHERE attrelid = this.relation AND attnum > 0 AND NOT attisdropped;

        IF this.name = 'users' AND columns @> '{username,date_of_birth}' THEN
            RAISE EXCEPTION 'the table `users` holds the birthdays of an earlier service'
            USING HINT = 'run `ALTER TABLE users RENAME TO birthdays`, start again, and then bring them '
                'over with `INSERT INTO hello_users (username, date_of_birth) SELECT username, '
                'date_of_birth FROM birthdays ON CONFLICT DO NOTHING`';
        ELSIF NOT columns @> this.needed THEN
            RAISE EXCEPTION 'the table `%` is of another program: it has the columns %, not %',
                this.name, columns, this.needed
            USING HINT = format('run `ALTER TABLE %1$I RENAME TO earlier_%1$s`, start again, and bring its '
                'rows over with `INSERT INTO %1$I ... SELECT ... FROM earlier_%1$s`', this.name);
        ELSIF extra IS NOT NULL THEN
            RAISE EXCEPTION 'the table `%` needs values that this program does not have: %', this.name, extra
            USING HINT = 'give these columns a default, or drop their NOT NULL';
        END IF;

        -- A page of a list holds 128 KiB of texts, and one more.
        FOR item IN
            SELECT attname FROM pg_attribute
            WHERE attrelid = this.relation AND attname = ANY ('{name,email,style}')
        LOOP
            EXECUTE format('SELECT left(%2$I::text, 40) FROM %1$s WHERE octet_length(%2$I::text) > 65536 '
                'LIMIT 1', this.relation, item) INTO longest;
            IF longest IS NOT NULL THEN
                RAISE EXCEPTION 'a value of `%` in `%` is longer than 64 KiB: `%...`', item, this.name, longest
                USING HINT = 'shorten such values, and start again';
            END IF;
        END LOOP;

        -- What is limited in length, or may be NULL, is not here.
        FOR item IN
            SELECT attname FROM pg_attribute
            WHERE attrelid = this.relation AND atttypid = 'varchar'::regtype AND attname = ANY (this.needed)
        LOOP
            EXECUTE format('ALTER TABLE %s ALTER %I TYPE text', this.relation, item);
        END LOOP;
        EXECUTE format('ALTER TABLE %s ALTER name SET NOT NULL', this.relation);

        IF this.name = 'members' THEN
            EXECUTE format('UPDATE %s SET age = coalesce(age, 0), '
                'created_at = coalesce(created_at, updated_at, now()), '
                'updated_at = coalesce(updated_at, created_at, now()) '
                'WHERE age IS NULL OR created_at IS NULL OR updated_at IS NULL', this.relation);
            EXECUTE format('ALTER TABLE %s ALTER id DROP DEFAULT', this.relation);
            EXECUTE format('ALTER TABLE %s ALTER id TYPE uuid USING id::text::uuid, '
                'ALTER id SET DEFAULT gen_random_uuid(), '
                'ALTER age TYPE integer, ALTER age SET NOT NULL, '
                'ALTER created_at TYPE timestamptz, ALTER created_at SET NOT NULL, '
                'ALTER created_at SET DEFAULT now(), '
                'ALTER updated_at TYPE timestamptz, ALTER updated_at SET NOT NULL, '
                'ALTER updated_at SET DEFAULT now(), '
                'ALTER deleted_at TYPE timestamptz, '
                'ADD CHECK (age BETWEEN 0 AND 150) NOT VALID', this.relation);
            CONTINUE;
        END IF;

        -- Users and beers are numbered.
        SELECT format_type(atttypid, NULL) INTO item
        FROM pg_attribute WHERE attrelid = this.relation AND attname = 'id'
            AND atttypid <> ALL ('{int2,int4,int8}'::regtype[]);
        IF FOUND THEN
            RAISE EXCEPTION 'the ids of `%` are %, and numbers are needed', this.name, item
            USING HINT = format('run `ALTER TABLE %1$I RENAME TO earlier_%1$s`, start again, and bring its '
                'rows over with `INSERT INTO %1$I (...) SELECT ... FROM earlier_%1$s`', this.name);
        END IF;
        IF EXISTS (
            SELECT FROM pg_attribute WHERE attrelid = this.relation AND attname = 'id'
                AND NOT atthasdef AND attidentity = ''
        ) THEN
            EXECUTE format('ALTER TABLE %s ALTER id SET NOT NULL, '
                'ALTER id ADD GENERATED BY DEFAULT AS IDENTITY', this.relation);
            EXECUTE format('SELECT setval(pg_get_serial_sequence(%L, ''id''), max(id)) FROM %1$s '
                'HAVING max(id) > 0', this.relation);
        END IF;

        IF this.name = 'users' THEN
            EXECUTE format('SELECT email FROM %s GROUP BY email HAVING count(*) > 1 LIMIT 1',
                this.relation) INTO item;
            IF item IS NOT NULL THEN
                RAISE EXCEPTION 'several users have the email `%`, which is to be one''s own', item
                USING HINT = 'change or delete all but one of each, and start again';
            END IF;
            EXECUTE format('ALTER TABLE %s ALTER email SET NOT NULL', this.relation);
            IF NOT EXISTS (
                SELECT FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attname = 'email'
                WHERE indrelid = this.relation AND indisunique AND indisvalid AND indpred IS NULL
                    AND indexprs IS NULL AND indkey::text = attnum::text
            ) THEN
                EXECUTE format('ALTER TABLE %s ADD UNIQUE (email)', this.relation);
            END IF;
        ELSE
            EXECUTE format('SELECT abv::text FROM %s WHERE abv::text !~ %L LIMIT 1', this.relation,
                '^\s*(\d{1,3}(\.\d*)?\s*%?)?\s*$') INTO item;
            IF item IS NOT NULL THEN
                RAISE EXCEPTION 'a beer is as strong as `%`, which is no number from 0 to 100', item
                USING HINT = 'correct such values of `abv`, as `5.0` or `5.0%`, and start again';
            END IF;
            EXECUTE format('ALTER TABLE %s ALTER abv DROP DEFAULT, '
                'ALTER abv TYPE numeric(5, 2) USING nullif(btrim(abv::text, '' %%''), '''')::numeric, '
                'ADD CHECK (abv BETWEEN 0 AND 100) NOT VALID, '
                'ADD COLUMN IF NOT EXISTS seeded boolean NOT NULL DEFAULT false', this.relation);
        END IF;
    END LOOP;

    -- These are copied: the table has a schema of its own, and is in nobody's way.
    IF to_regclass('hello.usernames') IS NOT NULL
        AND has_schema_privilege('hello', 'USAGE') AND has_table_privilege('hello.usernames', 'SELECT')
    THEN
        INSERT INTO hello_users (username, date_of_birth)
        SELECT username, dateofbirth FROM hello.usernames
        WHERE username ~ '^[A-Za-z]{1,100}$' AND dateofbirth IS NOT NULL
        ON CONFLICT DO NOTHING;
    END IF;
END;
$$
