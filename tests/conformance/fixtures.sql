-- What the MCP conformance suite (npm @modelcontextprotocol/conformance) calls: tools, resources and prompts with the
-- names and the answers that its scenarios want, all of them SQL functions.

CREATE SCHEMA conformance;
GRANT USAGE ON SCHEMA conformance TO mcp_user;
SET search_path = conformance;

-- A PNG of one red pixel, and a WAV of silence.
CREATE FUNCTION png() RETURNS text LANGUAGE sql IMMUTABLE
RETURN 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg==';
CREATE FUNCTION wav() RETURNS text LANGUAGE sql IMMUTABLE
RETURN 'UklGRiQAAABXQVZFZm10IBAAAAABAAEARKwAAIhYAQACABAAZGF0YQAAAAA=';

-- Content

CREATE FUNCTION test_simple_text() RETURNS text LANGUAGE sql IMMUTABLE
RETURN 'This is a simple text response for testing.';
COMMENT ON FUNCTION test_simple_text() IS 'Returns a text.';

CREATE FUNCTION test_image_content() RETURNS mcp.tool_result LANGUAGE sql IMMUTABLE
RETURN jsonb_build_object('content', jsonb_build_array(
    jsonb_build_object('type', 'image', 'data', png(), 'mimeType', 'image/png')));
COMMENT ON FUNCTION test_image_content() IS 'Returns an image.';

CREATE FUNCTION test_audio_content() RETURNS mcp.tool_result LANGUAGE sql IMMUTABLE
RETURN jsonb_build_object('content', jsonb_build_array(
    jsonb_build_object('type', 'audio', 'data', wav(), 'mimeType', 'audio/wav')));
COMMENT ON FUNCTION test_audio_content() IS 'Returns a sound.';

CREATE FUNCTION test_embedded_resource() RETURNS mcp.tool_result LANGUAGE sql IMMUTABLE
RETURN jsonb_build_object('content', jsonb_build_array(jsonb_build_object('type', 'resource', 'resource',
    jsonb_build_object('uri', 'test://embedded-resource', 'mimeType', 'text/plain',
                       'text', 'This is an embedded resource content.'))));
COMMENT ON FUNCTION test_embedded_resource() IS 'Returns a resource.';

CREATE FUNCTION test_multiple_content_types() RETURNS mcp.tool_result LANGUAGE sql IMMUTABLE
RETURN jsonb_build_object('content', jsonb_build_array(
    jsonb_build_object('type', 'text', 'text', 'Multiple content types test:'),
    jsonb_build_object('type', 'image', 'data', png(), 'mimeType', 'image/png'),
    jsonb_build_object('type', 'resource', 'resource', jsonb_build_object(
        'uri', 'test://mixed-content-resource', 'mimeType', 'application/json',
        'text', '{"test":"data","value":123}'))));
COMMENT ON FUNCTION test_multiple_content_types() IS 'Returns a text, an image and a resource.';

CREATE FUNCTION test_error_handling() RETURNS text LANGUAGE plpgsql STABLE AS
$$ BEGIN RAISE 'This tool intentionally returns an error for testing'; END $$;
COMMENT ON FUNCTION test_error_handling() IS 'Fails.';

-- While a tool runs

CREATE FUNCTION test_tool_with_progress() RETURNS text LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM mcp.progress(0, 100, 'Completed step 0 of 100');
    PERFORM pg_sleep(0.05);
    PERFORM mcp.progress(50, 100, 'Completed step 50 of 100');
    PERFORM pg_sleep(0.05);
    PERFORM mcp.progress(100, 100, 'Completed step 100 of 100');
    RETURN 'done';
END $$;
COMMENT ON FUNCTION test_tool_with_progress() IS 'Says how far it is.';

CREATE FUNCTION test_tool_with_logging() RETURNS text LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    RAISE INFO 'Tool execution started';
    PERFORM pg_sleep(0.05);
    RAISE INFO 'Tool processing data';
    PERFORM pg_sleep(0.05);
    RAISE INFO 'Tool execution completed';
    RETURN 'done';
END $$;
COMMENT ON FUNCTION test_tool_with_logging() IS 'Logs what it does.';

CREATE FUNCTION test_logging_tool() RETURNS text LANGUAGE plpgsql VOLATILE AS
$$ BEGIN RAISE INFO 'a message'; RETURN 'done'; END $$;
COMMENT ON FUNCTION test_logging_tool() IS 'Logs a message.';

CREATE FUNCTION test_reconnection() RETURNS text LANGUAGE plpgsql VOLATILE AS
$$ BEGIN PERFORM pg_sleep(0.1); RETURN 'Reconnection test completed'; END $$;
COMMENT ON FUNCTION test_reconnection() IS 'Takes a moment.';

-- Schemas

CREATE FUNCTION json_schema_2020_12_tool(name text DEFAULT NULL, address jsonb DEFAULT NULL, "contactMethod" text DEFAULT NULL,
                                         phone text DEFAULT NULL, email text DEFAULT NULL)
RETURNS text LANGUAGE sql IMMUTABLE RETURN 'ok';
COMMENT ON FUNCTION json_schema_2020_12_tool(text, jsonb, text, text, text) IS 'Has a schema of its own.';

CREATE FUNCTION test_x_mcp_header(region text DEFAULT NULL) RETURNS text LANGUAGE sql IMMUTABLE
RETURN concat('region: ', region);
COMMENT ON FUNCTION test_x_mcp_header(text) IS 'Has an argument that is repeated in a header.';

-- Input

CREATE FUNCTION form(property text, type text) RETURNS jsonb LANGUAGE sql IMMUTABLE
RETURN jsonb_build_object('type', 'object', 'properties', jsonb_build_object(property, jsonb_build_object('type', type)),
                          'required', jsonb_build_array(property));

CREATE FUNCTION test_input_required_result_elicitation() RETURNS text LANGUAGE sql VOLATILE
RETURN concat('Hello, ', mcp.elicit('user_name', 'What is your name?', form('name', 'string')) #>> '{content,name}', '!');
COMMENT ON FUNCTION test_input_required_result_elicitation() IS 'Asks for a name.';

CREATE FUNCTION question(prompt text) RETURNS jsonb LANGUAGE sql IMMUTABLE
RETURN jsonb_build_array(jsonb_build_object('role', 'user', 'content', jsonb_build_object('type', 'text', 'text', prompt)));

CREATE FUNCTION test_input_required_result_sampling() RETURNS text LANGUAGE sql VOLATILE
RETURN mcp.sample('capital_question', question('What is the capital of France?'), 100) #>> '{content,text}';
COMMENT ON FUNCTION test_input_required_result_sampling() IS 'Asks the client''s model.';

CREATE FUNCTION test_missing_capability() RETURNS text LANGUAGE sql VOLATILE
RETURN mcp.sample('any', question('Anything?'), 10) #>> '{content,text}';
COMMENT ON FUNCTION test_missing_capability() IS 'Needs a client with a model.';

CREATE FUNCTION test_input_required_result_list_roots() RETURNS text LANGUAGE sql VOLATILE
RETURN mcp.roots('client_roots')::text;
COMMENT ON FUNCTION test_input_required_result_list_roots() IS 'Asks for the client''s roots.';

CREATE FUNCTION test_input_required_result_request_state() RETURNS text LANGUAGE sql VOLATILE
RETURN concat('state-ok ', mcp.elicit('confirm', 'Please confirm', form('ok', 'boolean')) ->> 'action');
COMMENT ON FUNCTION test_input_required_result_request_state() IS 'Asks for a confirmation.';

CREATE FUNCTION test_input_required_result_tampered_state() RETURNS text LANGUAGE sql VOLATILE
RETURN mcp.elicit('confirm', 'Please confirm', form('ok', 'boolean')) ->> 'action';
COMMENT ON FUNCTION test_input_required_result_tampered_state() IS 'Asks for a confirmation.';

CREATE FUNCTION test_input_required_result_multi_round() RETURNS text LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    name  text := mcp.elicit('step1', 'Step 1: What is your name?', conformance.form('name', 'string')) #>> '{content,name}';
    color text := mcp.elicit('step2', 'Step 2: What is your favorite color?', conformance.form('color', 'string')) #>> '{content,color}';
BEGIN
    RETURN format('%s likes %s', name, color);
END $$;
COMMENT ON FUNCTION test_input_required_result_multi_round() IS 'Asks twice.';

CREATE FUNCTION test_input_required_result_multiple_inputs() RETURNS text LANGUAGE sql VOLATILE
RETURN mcp.request_input(jsonb_build_object(
    'user_name', jsonb_build_object('method', 'elicitation/create', 'params', jsonb_build_object(
        'message', 'What is your name?', 'requestedSchema', form('name', 'string'))),
    'greeting', jsonb_build_object('method', 'sampling/createMessage', 'params', jsonb_build_object(
        'messages', question('Generate a greeting'), 'maxTokens', 50)),
    'client_roots', jsonb_build_object('method', 'roots/list', 'params', jsonb_build_object())))::text;
COMMENT ON FUNCTION test_input_required_result_multiple_inputs() IS 'Asks for three things at once.';

CREATE FUNCTION test_input_required_result_capabilities() RETURNS text LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF mcp.client_capabilities() ? 'elicitation' THEN
        RETURN mcp.elicit('user_name', 'What is your name?', conformance.form('name', 'string')) #>> '{content,name}';
    END IF;
    RETURN mcp.sample('greeting', conformance.question('Generate a greeting'), 50) #>> '{content,text}';
END $$;
COMMENT ON FUNCTION test_input_required_result_capabilities() IS 'Asks for what the client can be asked for.';

CREATE FUNCTION test_streaming_elicitation() RETURNS text LANGUAGE sql VOLATILE
RETURN mcp.elicit('confirm', 'Please confirm', form('ok', 'boolean')) ->> 'action';
COMMENT ON FUNCTION test_streaming_elicitation() IS 'Asks for a confirmation.';

-- Changes. Exposing is for owners, whom a tool does not act for: these say that a list has changed as exposing does.

CREATE FUNCTION test_trigger_tool_change() RETURNS text LANGUAGE plpgsql VOLATILE AS
$$ BEGIN PERFORM pg_notify('mcp_changes', 'tools'); RETURN 'done'; END $$;
COMMENT ON FUNCTION test_trigger_tool_change() IS 'Says that the tools have changed.';
CREATE FUNCTION test_trigger_prompt_change() RETURNS text LANGUAGE plpgsql VOLATILE AS
$$ BEGIN PERFORM pg_notify('mcp_changes', 'prompts'); RETURN 'done'; END $$;
COMMENT ON FUNCTION test_trigger_prompt_change() IS 'Says that the prompts have changed.';

-- Resources

CREATE FUNCTION static_text() RETURNS text LANGUAGE sql IMMUTABLE
RETURN 'This is the content of the static text resource.';
COMMENT ON FUNCTION static_text() IS 'A text that stays as it is.';
CREATE FUNCTION static_binary() RETURNS bytea LANGUAGE sql IMMUTABLE RETURN decode(png(), 'base64');
COMMENT ON FUNCTION static_binary() IS 'An image that stays as it is.';
CREATE FUNCTION watched() RETURNS text LANGUAGE sql IMMUTABLE RETURN 'Watched.';
COMMENT ON FUNCTION watched() IS 'A text that clients subscribe to.';
CREATE FUNCTION template_data(id text) RETURNS jsonb LANGUAGE sql IMMUTABLE
RETURN jsonb_build_object('id', id, 'templateTest', true, 'data', concat('Data for ID: ', id));
COMMENT ON FUNCTION template_data(text) IS 'Data by its id.';

-- Prompts

CREATE FUNCTION test_simple_prompt() RETURNS text LANGUAGE sql IMMUTABLE RETURN 'This is a simple prompt for testing.';
COMMENT ON FUNCTION test_simple_prompt() IS 'A text.';
CREATE FUNCTION test_prompt_with_arguments(arg1 text, arg2 text) RETURNS text LANGUAGE sql IMMUTABLE
RETURN format('Prompt with arguments: arg1=''%s'', arg2=''%s''', arg1, arg2);
COMMENT ON FUNCTION test_prompt_with_arguments(text, text) IS 'A text of two arguments.';
CREATE FUNCTION test_prompt_with_embedded_resource("resourceUri" text) RETURNS TABLE (role text, content jsonb)
LANGUAGE sql IMMUTABLE
BEGIN ATOMIC
    SELECT 'user', jsonb_build_object('type', 'resource', 'resource', jsonb_build_object(
               'uri', "resourceUri", 'mimeType', 'text/plain', 'text', 'Embedded resource content for testing.'))
    UNION ALL
    SELECT 'user', jsonb_build_object('type', 'text', 'text', 'Please process the embedded resource above.');
END;
COMMENT ON FUNCTION test_prompt_with_embedded_resource(text) IS 'A resource and what to do with it.';
CREATE FUNCTION test_prompt_with_image() RETURNS TABLE (role text, content jsonb) LANGUAGE sql IMMUTABLE
BEGIN ATOMIC
    SELECT 'user', jsonb_build_object('type', 'image', 'data', png(), 'mimeType', 'image/png')
    UNION ALL
    SELECT 'user', jsonb_build_object('type', 'text', 'text', 'Please analyze the image above.');
END;
COMMENT ON FUNCTION test_prompt_with_image() IS 'An image and what to do with it.';
CREATE FUNCTION test_input_required_result_prompt() RETURNS text LANGUAGE sql VOLATILE
RETURN concat('Context: ', mcp.elicit('user_context', 'What context should the prompt use?', form('context', 'string'))
                           #>> '{content,context}');
COMMENT ON FUNCTION test_input_required_result_prompt() IS 'A text of what the user answers.';
CREATE FUNCTION complete_arg1(typed text) RETURNS SETOF text LANGUAGE sql IMMUTABLE
BEGIN ATOMIC
    SELECT v FROM unnest(ARRAY['paris', 'park', 'party', 'test1', 'test2']) AS v WHERE starts_with(v, typed);
END;

SELECT mcp.expose_tool(oid) FROM pg_proc
 WHERE pronamespace = 'conformance'::regnamespace
   AND starts_with(proname, 'test_') AND proname !~ 'prompt' AND proname <> 'test_x_mcp_header';
SELECT mcp.expose_tool('test_trigger_prompt_change()');
SELECT mcp.expose_tool('test_x_mcp_header(text)', input_schema =>
    '{"type": "object", "properties": {"region": {"type": "string", "x-mcp-header": "Region"}}}');
SELECT mcp.expose_tool('json_schema_2020_12_tool(text, jsonb, text, text, text)', input_schema => '{
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {"address": {"$anchor": "addressDef", "type": "object",
                          "properties": {"street": {"type": "string"}, "city": {"type": "string"}}}},
    "properties": {"name": {"type": "string"}, "address": {"$ref": "#/$defs/address"},
                   "contactMethod": {"type": "string", "enum": ["phone", "email"]},
                   "phone": {"type": "string"}, "email": {"type": "string"}},
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": false}');

SELECT mcp.expose_resource('static_text()', 'test://static-text', name => 'static-text', mime_type => 'text/plain');
SELECT mcp.expose_resource('static_binary()', 'test://static-binary', name => 'static-binary', mime_type => 'image/png');
SELECT mcp.expose_resource('watched()', 'test://watched-resource', name => 'watched-resource');
SELECT mcp.expose_resource('template_data(text)', 'test://template/{id}/data', name => 'template-data');

SELECT mcp.expose_prompt('test_simple_prompt()');
SELECT mcp.expose_prompt('test_prompt_with_arguments(text, text)', completions => '{"arg1": "complete_arg1(text)"}',
                         arguments => '{"arg1": "The first argument", "arg2": "The second argument"}');
SELECT mcp.expose_prompt('test_prompt_with_embedded_resource(text)');
SELECT mcp.expose_prompt('test_prompt_with_image()');
SELECT mcp.expose_prompt('test_input_required_result_prompt()');
