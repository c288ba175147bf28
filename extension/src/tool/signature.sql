-- What functions look like, and every type they mention: one JSON document. $1: OIDs of functions.
WITH RECURSIVE mentioned (type) AS (
    SELECT of_function.type
      FROM pg_proc AS p
     CROSS JOIN LATERAL unnest(coalesce(p.proallargtypes, p.proargtypes::oid[]) || p.prorettype) AS of_function (type)
     WHERE p.oid = ANY ($1)
     UNION
    SELECT part.type
      FROM mentioned
      JOIN pg_type AS t ON t.oid = mentioned.type
     CROSS JOIN LATERAL (
               SELECT t.typbasetype
                WHERE t.typtype = 'd'
                UNION ALL
               SELECT t.typelem
                WHERE t.typsubscript = 'array_subscript_handler'::regproc
                UNION ALL
               SELECT a.atttypid
                 FROM pg_attribute AS a
                WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
           ) AS part (type)
), functions AS (
    SELECT jsonb_build_object(
               'oid', p.oid::bigint,
               'target', format('%I.%I', n.nspname, p.proname),
               'signature', format('%I.%I(%s)', n.nspname, p.proname, (
                   SELECT string_agg(format('%I.%I', type_schema.nspname, t.typname), ', ' ORDER BY argument.position)
                     FROM unnest(p.proargtypes) WITH ORDINALITY AS argument (type, position)
                     JOIN pg_type AS t ON t.oid = argument.type
                     JOIN pg_namespace AS type_schema ON type_schema.oid = t.typnamespace)),
               'schema', n.nspname,
               'name', p.proname,
               'owner', pg_get_userbyid(p.proowner),
               'owner_bypasses_policies', (SELECT r.rolsuper OR r.rolbypassrls FROM pg_roles AS r WHERE r.oid = p.proowner),
               'kind', p.prokind,
               'volatility', p.provolatile,
               'strict', p.proisstrict,
               'security_definer', p.prosecdef,
               'returns_set', p.proretset,
               'result', p.prorettype::bigint,
               'types', coalesce(p.proallargtypes, p.proargtypes::oid[])::bigint[],
               'modes', p.proargmodes,
               'names', p.proargnames,
               'defaults', p.pronargdefaults,
               'default_values', p.proargdefaults::text,
               'comment', obj_description(p.oid, 'pg_proc')) AS document
      FROM pg_proc AS p
      JOIN pg_namespace AS n ON n.oid = p.pronamespace
     WHERE p.oid = ANY ($1)
), types AS (
    SELECT jsonb_build_object(
               'oid', t.oid::bigint,
               'target', format('%I.%I', n.nspname, t.typname),
               'name', format_type(t.oid, NULL),
               'kind', t.typtype,
               'complete_result', CASE WHEN n.nspname = 'mcp' AND t.typtype = 'd'
                                         AND t.typname IN ('tool_result', 'resource_result', 'prompt_result')
                                        THEN t.typname END,
               'base', t.typbasetype::bigint,
               'modifier', t.typtypmod,
               'dimensions', t.typndims,
               'not_null', t.typnotnull,
               'checks', (
                   SELECT jsonb_agg(jsonb_build_object(
                              'name', c.conname,
                              'expression', c.conbin::text,
                              'definition', pg_get_constraintdef(c.oid),
                              'validated', c.convalidated) ORDER BY c.conname)
                     FROM pg_constraint AS c
                    WHERE t.typtype = 'd' AND c.contypid = t.oid AND c.contype = 'c'),
               'element', CASE WHEN t.typsubscript = 'array_subscript_handler'::regproc THEN t.typelem::bigint ELSE 0 END,
               'range_of', (SELECT r.rngsubtype::bigint FROM pg_range AS r WHERE t.oid IN (r.rngtypid, r.rngmultitypid)),
               'relation', t.typrelid::bigint,
               'labels', (SELECT jsonb_agg(e.enumlabel ORDER BY e.enumsortorder) FROM pg_enum AS e WHERE e.enumtypid = t.oid),
               'attributes', (
                   SELECT jsonb_agg(jsonb_build_object(
                              'name', a.attname,
                              'type', a.atttypid::bigint,
                              'modifier', a.atttypmod,
                              'dimensions', a.attndims,
                              'comment', col_description(a.attrelid, a.attnum)) ORDER BY a.attnum)
                     FROM pg_attribute AS a
                    WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped),
               'comment', coalesce(obj_description(t.oid, 'pg_type'), obj_description(t.typrelid, 'pg_class'))) AS document
      FROM mentioned
      JOIN pg_type AS t ON t.oid = mentioned.type
      JOIN pg_namespace AS n ON n.oid = t.typnamespace
)
SELECT jsonb_build_object(
           'functions', (SELECT coalesce(jsonb_agg(document), '[]') FROM functions),
           'types', (SELECT coalesce(jsonb_agg(document), '[]') FROM types),
           -- Those of libc are by the C standard; those of ICU are Unicode's.
           'ascii_digits', (SELECT d.datlocprovider = 'c' FROM pg_database AS d WHERE d.datname = current_database()))::text
