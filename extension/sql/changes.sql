-- Whoever LISTENs to mcp_changes hears which of the lists has changed: tools, resources or prompts. Exposing and
-- withdrawing say so themselves; this is for the functions behind them, and what their signatures mention.

CREATE FUNCTION mcp.notify_changes() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM pg_notify('mcp_changes', 'tools') WHERE EXISTS (SELECT FROM mcp.tools);
    PERFORM pg_notify('mcp_changes', 'resources') WHERE EXISTS (SELECT FROM mcp.resources);
    PERFORM pg_notify('mcp_changes', 'prompts') WHERE EXISTS (SELECT FROM mcp.prompts);
END
$$;
COMMENT ON FUNCTION mcp.notify_changes() IS 'Says on the channel mcp_changes that exposed functions may have changed';

-- For whoever cannot LISTEN, behind a pooler that does not carry it: what changes when a list does.
CREATE FUNCTION mcp.list_versions() RETURNS TABLE (list text, version text)
LANGUAGE sql STABLE SECURITY DEFINER PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    WITH exposed (list, entry, function) AS (
        SELECT 'tools', t::text, t.function FROM mcp.tools AS t
         UNION ALL
        SELECT 'resources', r::text, r.function FROM mcp.resources AS r
         UNION ALL
        SELECT 'prompts', p::text, p.function FROM mcp.prompts AS p
    ), behind (list, entry, function) AS (
        SELECT e.list, e.entry, concat(p.oid, ' ', p.xmin, ' ', obj_description(p.oid, 'pg_proc'))
          FROM exposed AS e
         CROSS JOIN LATERAL parse_ident(e.function, false) AS name (parts)
          LEFT JOIN pg_namespace AS n ON n.nspname = name.parts[1]::name
          LEFT JOIN pg_proc AS p ON p.pronamespace = n.oid AND p.proname = name.parts[2]::name
    )
    SELECT l.list, md5(coalesce(string_agg(concat(b.entry, ' ', b.function), ',' ORDER BY b.entry, b.function), ''))
      FROM (VALUES ('tools'), ('resources'), ('prompts')) AS l (list)
      LEFT JOIN behind AS b ON b.list = l.list
     GROUP BY l.list;
END;
COMMENT ON FUNCTION mcp.list_versions() IS 'A text for each list that changes when the list does';
GRANT EXECUTE ON FUNCTION mcp.list_versions() TO mcp_exec;
