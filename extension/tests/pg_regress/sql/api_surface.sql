-- Every object of the extension. What appears or goes here is a change that users see.
\pset format unaligned
\pset tuples_only on
-- Types that come with a relation or an element are members themselves from 17 on.
SELECT pg_describe_object(classid, objid, 0) COLLATE "C" AS object
  FROM pg_depend AS d
 WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e'
   AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'mcp_sessions')
   AND NOT (classid = 'pg_type'::regclass
            AND EXISTS (SELECT FROM pg_depend AS i WHERE (i.classid, i.objid, i.deptype) = (d.classid, d.objid, 'i')))
 ORDER BY 1;
-- Signatures with their defaults, and how the planner may treat them.
SELECT format('%s(%s) -> %s [%s, parallel %s%s%s]', proname, pg_get_function_arguments(oid), pg_get_function_result(oid),
              provolatile, proparallel, CASE WHEN prosecdef THEN ', definer' END, ', ' || proconfig::text)
  FROM pg_proc WHERE pronamespace = 'mcp'::regnamespace ORDER BY proname COLLATE "C", oid;
-- What keeps rows whole: keys, references, and what a result has to look like.
SELECT * FROM (SELECT CASE conrelid WHEN 0 THEN contypid::regtype::text ELSE conrelid::regclass::text END,
                      pg_get_constraintdef(oid)
                 FROM pg_constraint WHERE connamespace = 'mcp'::regnamespace AND contype IN ('p', 'u', 'f', 'c'))
                AS c (whose, what)
 ORDER BY whose COLLATE "C", what COLLATE "C";
-- Columns: what each must have and what it has by itself.
SELECT format('%s.%s %s%s%s', a.attrelid::regclass, a.attname, format_type(a.atttypid, a.atttypmod),
              CASE WHEN a.attnotnull THEN ' not null' END, ' default ' || pg_get_expr(d.adbin, d.adrelid))
       || coalesce(' identity ' || nullif(a.attidentity::text, ''), '') || coalesce(' collate ' || nullif(l.collname, 'default'), '')
  FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid
  LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
  LEFT JOIN pg_collation AS l ON l.oid = a.attcollation
 WHERE c.relnamespace = 'mcp'::regnamespace AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped
 ORDER BY c.relname COLLATE "C", a.attnum;
SELECT pg_get_indexdef(indexrelid) AS index FROM pg_index
 WHERE indrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'mcp'::regnamespace) ORDER BY 1;
-- Columns that are stored otherwise than their types say.
SELECT attrelid::regclass, attname, attstorage FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = a.atttypid
 WHERE attrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'mcp'::regnamespace AND relkind = 'r')
   AND attstorage <> typstorage ORDER BY 1, 2;
-- After which commands clients are told that a list may have changed.
SELECT evtname, evtevent, evtenabled, evttags FROM pg_event_trigger WHERE evtname LIKE 'mcp%';
-- Settings: who may change them, to what they are set by default, and within which bounds.
SELECT format('%s = %s%s [%s]', name, boot_val, unit, context) || coalesce(' from ' || min_val || ' to ' || max_val, '') FROM pg_settings
 WHERE name LIKE 'mcp.%' ORDER BY name COLLATE "C";
-- The version of a list changes with its entries and with the functions behind them, and with nothing else.
BEGIN;
INSERT INTO mcp.tools (name, function, owner) VALUES ('one', 'regress.one', 'regress_owner'), ('two', 'regress.two', 'regress_owner');
INSERT INTO mcp.resources (uri, template, function, owner, name) VALUES ('x:one', false, 'regress.one', 'regress_owner', 'one');
INSERT INTO mcp.prompts (name, function, owner) VALUES ('one', 'regress.one', 'regress_owner');
CREATE TEMPORARY TABLE seen ON COMMIT DROP AS SELECT * FROM mcp.list_versions();
CREATE VIEW pg_temp.changed AS SELECT list FROM mcp.list_versions() EXCEPT ALL SELECT list FROM seen NATURAL JOIN mcp.list_versions();
UPDATE mcp.tools SET title = title WHERE name = 'one';
SELECT * FROM pg_temp.changed;
UPDATE mcp.tools SET title = 'One' WHERE name = 'one';
SELECT * FROM pg_temp.changed;
UPDATE mcp.resources SET title = 'One';
SELECT * FROM pg_temp.changed ORDER BY 1;
UPDATE mcp.prompts SET title = 'One';
SELECT * FROM pg_temp.changed ORDER BY 1;
ROLLBACK;
