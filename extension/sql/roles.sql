-- Roles of the extension. They outlive it, as all roles do, and belong to the cluster: a second database finds them.
-- None of them can log in.
DO $$
DECLARE
    role_name pg_catalog.text;
    attributes pg_catalog.pg_roles;
BEGIN
    IF pg_catalog.current_setting('server_encoding') OPERATOR(pg_catalog.<>) 'UTF8' THEN
        RAISE EXCEPTION USING
            ERRCODE = 'feature_not_supported',
            MESSAGE = 'mcp_sessions needs a database with encoding UTF8',
            HINT = 'CREATE DATABASE … ENCODING ''UTF8'' TEMPLATE template0';
    END IF;
    FOREACH role_name IN ARRAY ARRAY['mcp_owner', 'mcp_auth', 'mcp_exec', 'mcp_user', 'mcp_monitor'] LOOP
        SELECT * INTO attributes FROM pg_catalog.pg_roles AS r
         WHERE r.rolname OPERATOR(pg_catalog.=) role_name::pg_catalog.name;
        IF NOT FOUND THEN
            EXECUTE pg_catalog.format('CREATE ROLE %I NOLOGIN NOINHERIT', role_name);
        ELSIF attributes.rolsuper OR attributes.rolbypassrls OR attributes.rolcreaterole OR attributes.rolreplication
              OR attributes.rolcanlogin THEN
            -- A role of this name that can do more than ours would carry everything that runs as it.
            RAISE EXCEPTION USING
                ERRCODE = 'object_not_in_prerequisite_state',
                MESSAGE = pg_catalog.format('role %I exists and is too powerful for mcp_sessions', role_name),
                HINT = pg_catalog.format(
                    'ALTER ROLE %I NOSUPERUSER NOBYPASSRLS NOCREATEROLE NOREPLICATION NOLOGIN, or rename it.',
                    role_name);
        ELSIF role_name OPERATOR(pg_catalog.=) 'mcp_owner'
              AND EXISTS (SELECT FROM pg_catalog.pg_auth_members AS m JOIN pg_catalog.pg_roles AS r ON r.oid OPERATOR(pg_catalog.=) m.member
                           WHERE m.roleid OPERATOR(pg_catalog.=) attributes.oid AND NOT r.rolsuper) THEN
            -- Whoever made it beforehand may have put themselves into it.
            RAISE EXCEPTION USING
                ERRCODE = 'object_not_in_prerequisite_state',
                MESSAGE = 'role mcp_owner exists and has members, who would own every session',
                HINT = 'REVOKE mcp_owner FROM each of them; pg_auth_members has them.';
        END IF;
    END LOOP;
    IF EXISTS (SELECT FROM (VALUES (15, 20), (16, 16), (17, 12), (18, 7)) AS least (major, minor)
                WHERE least.major OPERATOR(pg_catalog.=) (pg_catalog.current_setting('server_version_num')::pg_catalog.int4 OPERATOR(pg_catalog./) 10000)
                  AND least.minor OPERATOR(pg_catalog.>) (pg_catalog.current_setting('server_version_num')::pg_catalog.int4 OPERATOR(pg_catalog.%) 10000)) THEN
        RAISE WARNING USING
            MESSAGE = 'this server lacks security fixes that row level security depends on',
            HINT = 'Update to PostgreSQL 15.20, 16.16, 17.12, 18.7 or later.';
    END IF;
END
$$;
