-- Says whether the sessions are set up: one line each for the table, its indexes, row level security, the helper
-- functions and the clean-up. ✓ means that it is; ✗ that it is not, and what to do.
--
-- Changes nothing. Anybody may run it: with psql -f, or pasted into an SQL editor.

WITH sessions AS (
    SELECT c.oid, c.relrowsecurity AND c.relforcerowsecurity AS protected
      FROM pg_class AS c
     WHERE c.oid = to_regclass('mcp.sessions')
), checks (line, holds, subject, detail) AS (
    SELECT 1,
           EXISTS (SELECT FROM sessions) AND count(c.oid) = 2 AND bool_and(c.reloptions @> '{security_invoker=true}'),
           'table',
           'mcp.sessions, seen through the views mcp_sessions and active_mcp_sessions'
      FROM pg_class AS c
     WHERE c.oid IN (to_regclass('public.mcp_sessions'), to_regclass('public.active_mcp_sessions')) AND c.relkind = 'v'
     UNION ALL
    SELECT 2 + wanted.position::integer,
           EXISTS (SELECT FROM pg_index AS i
                     JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
                    WHERE i.indrelid = (SELECT s.oid FROM sessions AS s)
                      AND i.indisvalid AND i.indpred IS NULL AND a.attname = wanted.name),
           'index on ' || wanted.name,
           'for finding sessions by it'
      FROM unnest(ARRAY['user_id', 'expires_at', 'created_at']) WITH ORDINALITY AS wanted (name, position)
     UNION ALL
    SELECT 6,
           (SELECT s.protected FROM sessions AS s)
           AND EXISTS (SELECT FROM pg_policy AS p
                        WHERE p.polrelid = (SELECT s.oid FROM sessions AS s) AND p.polname = 'own_sessions'
                          -- A dump leaves out the roles that an extension's policy was given.
                          AND p.polroles @> ARRAY(SELECT r.oid FROM pg_roles AS r
                                                   WHERE r.rolname IN ('anon', 'authenticated', 'service_role'))),
           'row level security',
           'enabled and forced; users see their own sessions'
     UNION ALL
    SELECT 7,
           to_regprocedure('public.verify_session_ownership(text)') IS NOT NULL
           AND to_regprocedure('public.cleanup_expired_mcp_sessions()') IS NOT NULL
           AND NOT EXISTS (SELECT FROM pg_proc AS p
                            CROSS JOIN LATERAL aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS a
                            WHERE p.oid = to_regprocedure('public.cleanup_expired_mcp_sessions()') AND a.grantee = 0),
           'helper functions',
           'verify_session_ownership(text), cleanup_expired_mcp_sessions()'
     UNION ALL
    SELECT 8,
           to_regprocedure('mcp.cleanup_expired_sessions(integer, interval)') IS NOT NULL,
           'clean-up',
           CASE WHEN EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'mcp_sessions cleanup')
                THEN 'by the background worker, and by calling cleanup_expired_mcp_sessions()'
                -- Nobody else is shown what other processes are.
                WHEN NOT pg_has_role('pg_read_all_stats', 'USAGE')
                THEN 'by calling cleanup_expired_mcp_sessions(); ask mcp.worker_status() whether a background worker does it too'
                ELSE 'by calling cleanup_expired_mcp_sessions(); mcp.worker_status() says why no background worker does it'
           END
)
SELECT CASE WHEN holds THEN '✓ ' || subject || ': ' || detail
            ELSE '✗ ' || subject || ': run setup_all_mcp_sessions.sql, also after a restore'
       END AS "mcp_sessions"
  FROM checks
 ORDER BY line;
