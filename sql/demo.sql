-- A table of notes that every user sees only their own rows of, and three tools on it.
--
-- Needs a superuser and the extension mcp_sessions. Runs as often as you like: what is there stays, and its rows too.

BEGIN;
SET LOCAL client_min_messages = warning;

-- Who owns the table and the functions. Not a superuser: what belongs to one passes by every policy.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'notes_owner') THEN
        CREATE ROLE notes_owner NOLOGIN;
    END IF;
END
$$;
-- So that it can expose tools by itself from now on.
GRANT EXECUTE ON FUNCTION mcp.expose_tool, mcp.withdraw_tool TO notes_owner;

CREATE TABLE IF NOT EXISTS public.notes (
    id         bigint      PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    owner      uuid        NOT NULL DEFAULT mcp.user_id(),
    body       text        NOT NULL CHECK (body <> ''),
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX IF NOT EXISTS notes_owner_created_at_idx ON public.notes (owner, created_at);
ALTER TABLE public.notes OWNER TO notes_owner;

-- FORCE, so that not even its owner sees the rows of others. Nobody signed in: mcp.user_id() is NULL, and no row matches.
ALTER TABLE public.notes ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS own_notes ON public.notes;
CREATE POLICY own_notes ON public.notes USING (owner = mcp.user_id()) WITH CHECK (owner = mcp.user_id());

-- Tools run as mcp_user: it can do what is granted here and nothing else.
GRANT USAGE ON SCHEMA public TO mcp_user;
GRANT SELECT, INSERT ON public.notes TO mcp_user;

CREATE OR REPLACE FUNCTION public.add_note(body text) RETURNS public.notes
LANGUAGE sql VOLATILE
BEGIN ATOMIC
    INSERT INTO public.notes (body) VALUES (add_note.body) RETURNING *;
END;
COMMENT ON FUNCTION public.add_note(text) IS 'Adds a note of yours.';

CREATE OR REPLACE FUNCTION public.list_notes() RETURNS TABLE (id bigint, body text, created_at timestamptz)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT n.id, n.body, n.created_at FROM public.notes AS n ORDER BY n.created_at DESC, n.id DESC;
END;
COMMENT ON FUNCTION public.list_notes() IS 'Lists your notes, the newest first.';

CREATE OR REPLACE FUNCTION public.search_notes(query text) RETURNS TABLE (id bigint, body text, created_at timestamptz)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT n.id, n.body, n.created_at
      FROM public.notes AS n
     WHERE strpos(lower(n.body), lower(search_notes.query)) > 0
     ORDER BY n.created_at DESC, n.id DESC;
END;
COMMENT ON FUNCTION public.search_notes(text) IS 'Finds those of your notes that contain a text, in upper or lower case.';

ALTER FUNCTION public.add_note(text) OWNER TO notes_owner;
ALTER FUNCTION public.list_notes() OWNER TO notes_owner;
ALTER FUNCTION public.search_notes(text) OWNER TO notes_owner;
REVOKE EXECUTE ON FUNCTION public.add_note(text), public.list_notes(), public.search_notes(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.add_note(text), public.list_notes(), public.search_notes(text) TO mcp_user;

SELECT mcp.expose_tool('public.add_note(text)', title => 'Add a note', annotations => '{"destructiveHint": false}');
SELECT mcp.expose_tool('public.list_notes()', title => 'List notes');
SELECT mcp.expose_tool('public.search_notes(text)', title => 'Search notes');

COMMIT;
