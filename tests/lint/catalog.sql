-- What Supabase's splinter and plpgsql_check look for, asked of a database with the extension, the demo and the set-up
-- scripts in it. Each row is a finding; `make lint` fails on any. What is meant to be so stands here with its reason.
-- The numbers are splinter's: https://supabase.github.io/splinter/

CREATE EXTENSION IF NOT EXISTS plpgsql_check WITH SCHEMA pg_catalog;

WITH
-- What is ours: of every schema but the system's and those of other extensions.
relations AS (
    SELECT c.oid, c.oid::regclass::text AS name, c.relkind, c.relrowsecurity, c.relforcerowsecurity, c.reloptions
      FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
     WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
),
functions AS (
    SELECT p.oid, p.oid::regprocedure::text AS name, p.proname, p.prosecdef, p.proconfig, p.proacl, p.proowner, p.proleakproof,
           p.prosqlbody, p.prorettype, l.lanname
      FROM pg_proc AS p
      JOIN pg_namespace AS n ON n.oid = p.pronamespace
      JOIN pg_language AS l ON l.oid = p.prolang
     WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
),
policies AS (
    SELECT p.*, p.polname || ' of ' || p.polrelid::regclass AS name,
           concat_ws(' ', pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid)) AS text
      FROM pg_policy AS p
),
-- Everybody who connects for somebody else. The owner of the tables is nobody's login.
callers (oid, name) AS (
    SELECT 0::oid, 'PUBLIC'
    UNION ALL
    SELECT r.oid, r.rolname FROM pg_roles AS r
     WHERE r.rolname IN ('mcp_user', 'mcp_exec', 'mcp_auth', 'mcp_monitor', 'anon', 'authenticated')
),
findings (lint, object, why) AS (
    SELECT '0001 unindexed_foreign_keys', c.conname || ' of ' || c.conrelid::regclass,
           'deleting a row of ' || c.confrelid::regclass || ' reads the whole table'
      FROM pg_constraint AS c JOIN relations AS r ON r.oid = c.conrelid
     WHERE c.contype = 'f'
       AND NOT EXISTS (SELECT FROM pg_index AS i
                        WHERE i.indrelid = c.conrelid AND i.indpred IS NULL
                          AND (i.indkey::int2[])[0:cardinality(c.conkey) - 1] @> c.conkey)

    UNION ALL
    -- mcp.user_id() and its like read memory and may stand bare.
    SELECT '0003 auth_rls_initplan', p.name, 'evaluates a setting for each row: ' || p.text
      FROM policies AS p
     WHERE replace(replace(p.text, 'SELECT current_setting(', ''), 'SELECT auth.', '') ~ '\m(current_setting\(|auth\.)'

    UNION ALL
    SELECT '0004 no_primary_key', r.name, 'a table without a primary key'
      FROM relations AS r
     WHERE r.relkind IN ('r', 'p')
       AND NOT EXISTS (SELECT FROM pg_index AS i WHERE i.indrelid = r.oid AND i.indisprimary)

    UNION ALL
    SELECT DISTINCT '0006 multiple_permissive_policies', p.polrelid::regclass::text,
           format('for one command of %s: %s', c.name, string_agg(p.polname, ', ' ORDER BY p.polname))
      FROM policies AS p
     CROSS JOIN (VALUES ('r'), ('a'), ('w'), ('d')) AS command (letter)
      JOIN callers AS c ON c.oid = ANY (p.polroles) OR 0 = ANY (p.polroles)
     WHERE p.polpermissive AND p.polcmd IN ('*', command.letter)
     GROUP BY p.polrelid, command.letter, c.name
    HAVING count(*) > 1

    UNION ALL
    SELECT DISTINCT '0007 policy_exists_rls_disabled', r.name, 'its policies are not looked at'
      FROM relations AS r JOIN policies AS p ON p.polrelid = r.oid
     WHERE NOT r.relrowsecurity

    UNION ALL
    SELECT '0008 rls_enabled_no_policy', r.name, 'nobody but its owner sees a row'
      FROM relations AS r
     WHERE r.relkind IN ('r', 'p') AND r.relrowsecurity AND NOT EXISTS (SELECT FROM policies AS p WHERE p.polrelid = r.oid)

    UNION ALL
    SELECT '0009 duplicate_index', i.indrelid::regclass::text, string_agg(i.indexrelid::regclass::text, ', ')
      FROM pg_index AS i JOIN relations AS r ON r.oid = i.indrelid
     GROUP BY i.indrelid, i.indkey::text, i.indclass::text, i.indoption::text, pg_get_expr(i.indpred, i.indrelid),
              pg_get_expr(i.indexprs, i.indrelid)
    HAVING count(*) > 1

    UNION ALL
    -- session_statistics counts everybody's, for mcp_monitor alone; that it is for nobody else is asked below.
    SELECT '0010 security_definer_view', r.name, 'shows what its owner may see'
      FROM relations AS r
     WHERE r.relkind = 'v' AND r.name <> 'mcp.session_statistics'
       AND NOT EXISTS (SELECT FROM pg_options_to_table(r.reloptions) AS o
                        WHERE o.option_name = 'security_invoker' AND o.option_value::boolean)

    UNION ALL
    -- Names in C are no names, and a body in BEGIN ATOMIC was bound when it was made.
    SELECT '0011 function_search_path_mutable', f.name, 'runs with the search path of whoever calls it'
      FROM functions AS f
     WHERE (f.prosecdef OR (f.lanname NOT IN ('c', 'internal') AND f.prosqlbody IS NULL))
       AND NOT EXISTS (SELECT FROM unnest(f.proconfig) AS s (item) WHERE s.item ~ '^search_path=.*pg_temp"?$')

    UNION ALL
    SELECT '0013 rls_disabled', r.name, 'a table without row level security'
      FROM relations AS r WHERE r.relkind IN ('r', 'p') AND NOT (r.relrowsecurity AND r.relforcerowsecurity)

    UNION ALL
    SELECT '0015 rls_references_user_metadata', p.name, 'trusts what users write: ' || p.text
      FROM policies AS p WHERE p.text ~ 'user_metadata'

    UNION ALL
    SELECT '0016, 0017 unguarded relations', r.name, format('%s reads what row level security cannot guard', c.name)
      FROM relations AS r CROSS JOIN callers AS c
     WHERE r.relkind IN ('m', 'f') AND c.oid <> 0 AND has_any_column_privilege(c.oid, r.oid, 'SELECT')

    UNION ALL
    -- regclass, regrole and regtype survive pg_upgrade.
    SELECT '0018 unsupported_reg_types', a.attrelid::regclass || '.' || a.attname, 'pg_upgrade refuses ' || a.atttypid::regtype
      FROM pg_attribute AS a JOIN relations AS r ON r.oid = a.attrelid
     WHERE r.relkind IN ('r', 'p', 'm') AND a.attnum > 0 AND NOT a.attisdropped
       AND a.atttypid IN ('regproc'::regtype, 'regprocedure'::regtype, 'regoper'::regtype, 'regoperator'::regtype,
                          'regconfig'::regtype, 'regdictionary'::regtype, 'regcollation'::regtype, 'regnamespace'::regtype)

    UNION ALL
    SELECT '0023 sensitive_columns_exposed', a.attrelid::regclass || '.' || a.attname, c.name || ' may read it'
      FROM pg_attribute AS a
      JOIN relations AS r ON r.oid = a.attrelid
     CROSS JOIN callers AS c
     WHERE a.attnum > 0 AND NOT a.attisdropped AND r.relkind IN ('r', 'p', 'v', 'm')
       AND a.attname ~ '(secret|token|verifier|sealed|wrapped|hash|password|api_key|payload|challenge)'
       AND CASE c.oid WHEN 0 THEN EXISTS (SELECT FROM aclexplode(a.attacl) AS g WHERE g.grantee = 0)
                ELSE has_column_privilege(c.oid, r.oid, a.attnum, 'SELECT') END

    UNION ALL
    SELECT '0024 rls_policy_always_true', p.name, 'holds for every row: ' || p.text
      FROM policies AS p
     WHERE p.polpermissive AND p.text ~ '^\(?true\)?( \(?true\)?)?$'
       -- The owner's functions are the guards; monitors read the log that holds no secrets.
       AND (p.polname, p.polroles) NOT IN (
           ('owner', ARRAY['mcp_owner'::regrole::oid]), ('monitor', ARRAY['mcp_monitor'::regrole::oid]))

    UNION ALL
    -- Readers of the identity, for policies; they are not SECURITY DEFINER.
    SELECT '0028 public_functions', f.name, 'everybody may call it'
      FROM functions AS f
     CROSS JOIN LATERAL aclexplode(coalesce(f.proacl, acldefault('f', f.proowner))) AS a
     WHERE a.grantee = 0 AND f.name ~ '^mcp\.'
       AND (f.prosecdef OR f.proname NOT IN ('user_id', 'session_id', 'issuer', 'subject', 'client_id', 'scopes', 'claims',
                                             'has_scope', 'require_user'))

    UNION ALL
    -- What users do for themselves, each under the armed identity.
    SELECT '0029 definer_functions_for_users', f.name, c.name || ' may call it, and it runs as its owner'
      FROM functions AS f CROSS JOIN callers AS c
     WHERE f.prosecdef AND c.name IN ('PUBLIC', 'mcp_user', 'anon', 'authenticated')
       AND f.proname NOT IN ('end_session', 'end_other_sessions', 'state', 'set_state')
       AND CASE c.oid WHEN 0 THEN EXISTS (
                    SELECT FROM aclexplode(coalesce(f.proacl, acldefault('f', f.proowner))) AS a WHERE a.grantee = 0)
                ELSE has_function_privilege(c.oid, f.oid, 'EXECUTE') END

    UNION ALL
    -- A leakproof function sees rows before policies do.
    SELECT 'leakproof_functions', f.name, 'may be called on rows that a policy hides' FROM functions AS f WHERE f.proleakproof

    UNION ALL
    SELECT 'superuser_owned', f.name, 'runs as a superuser'
      FROM functions AS f JOIN pg_roles AS r ON r.oid = f.proowner
     WHERE f.prosecdef AND r.rolsuper

    UNION ALL
    SELECT 'plpgsql_check', f.name, concat_ws(': ', c.level, c.message, c.detail)
      FROM functions AS f
     CROSS JOIN LATERAL plpgsql_check_function_tb(
           f.oid, security_warnings => true, extra_warnings => true, performance_warnings => true) AS c
     WHERE f.lanname = 'plpgsql' AND f.prorettype <> 'trigger'::regtype
)
SELECT format('%s: %s: %s', f.lint, f.object, f.why) FROM findings AS f ORDER BY 1;
