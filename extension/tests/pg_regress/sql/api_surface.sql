-- Every object of the extension. What appears or goes here is a change that users see.
\pset format unaligned
\pset tuples_only on
SELECT pg_describe_object(classid, objid, 0) COLLATE "C" AS object
  FROM pg_depend
 WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e'
   AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'mcp_sessions')
 ORDER BY 1;
-- Signatures with their defaults, and how the planner may treat them.
SELECT format('%s(%s) -> %s [%s, parallel %s%s%s]', proname, pg_get_function_arguments(oid), pg_get_function_result(oid),
              provolatile, proparallel, CASE WHEN prosecdef THEN ', definer' END, ', ' || proconfig::text)
  FROM pg_proc WHERE pronamespace = 'mcp'::regnamespace ORDER BY proname COLLATE "C", oid;
-- Settings: who may change them, and to what they are set by default.
SELECT format('%s = %s%s [%s]', name, boot_val, unit, context) FROM pg_settings WHERE name LIKE 'mcp.%' ORDER BY name COLLATE "C";
