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
ALTER FUNCTION mcp.notify_changes() OWNER TO mcp_owner;
COMMENT ON FUNCTION mcp.notify_changes() IS 'Says on the channel mcp_changes that exposed functions may have changed';

CREATE EVENT TRIGGER mcp_changes ON ddl_command_end
    WHEN TAG IN ('CREATE FUNCTION', 'ALTER FUNCTION', 'ALTER ROUTINE', 'DROP FUNCTION', 'DROP ROUTINE', 'COMMENT',
                 'ALTER SCHEMA', 'DROP SCHEMA', 'ALTER TYPE', 'ALTER DOMAIN', 'DROP TYPE', 'DROP DOMAIN', 'DROP OWNED',
                 'REASSIGN OWNED')
    EXECUTE FUNCTION mcp.notify_changes();
COMMENT ON EVENT TRIGGER mcp_changes IS 'Says on the channel mcp_changes that exposed functions may have changed';
