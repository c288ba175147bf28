//! What tools return: complete results of every shape, what is none, what is too large, and lists in pages.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tests::mcp::{Door, Era, McpClient, text_blocks};
use tests::session::{NewSession, call_tool};

use crate::world::{self, Shared, Trials};

pub fn tests(world: &Shared) -> Trials {
    world::tests![world;
        complete_results_of_every_shape,
        what_is_no_result_is_said_to_be_none,
        results_that_are_too_large_are_refused,
        lists_come_in_pages,
    ]
}

/// A tool that returns what it is told to.
const TELL: &str =
    "CREATE FUNCTION app.tell(result jsonb) RETURNS mcp.tool_result LANGUAGE sql STABLE AS 'SELECT result';
                    SELECT mcp.expose_tool('app.tell'::regproc)";

/// A frontend over HTTP, a client of each era, and what keeps them running.
async fn clients(world: &Shared, sql: &str) -> Result<(tests::frontend::Frontend, [McpClient; 2])> {
    let database = world.database().await?;
    database.superuser().await?.batch_execute(sql).await?;
    let frontend = world.frontend(&database).await?;
    let auth = database.auth().await?;
    let session = NewSession::of("alice").at(&frontend.resource()).create(&auth).await?;
    let client = |era| frontend.mcp(era).with(Door::Bearer, &session.token);
    let clients = [client(Era::Modern), client(Era::Legacy)];
    Ok((frontend, clients))
}

async fn complete_results_of_every_shape(world: &Shared) -> Result<()> {
    let (_frontend, clients) = clients(world, TELL).await?;
    let text = |text: &str| json!({"type": "text", "text": text});
    for (told, expected) in [
        (json!({"content": []}), None),
        (json!({"content": [text("a"), text("")]}), None),
        (json!({"content": [{"type": "image", "data": "AAEC", "mimeType": "image/png"}]}), None),
        (json!({"content": [{"type": "audio", "data": "UklGRg==", "mimeType": "audio/wav"}]}), None),
        (
            json!({"content": [{"type": "resource", "resource": {"uri": "note://1", "mimeType": "text/plain", "text": "n"}}]}),
            None,
        ),
        (json!({"content": [{"type": "resource", "resource": {"uri": "note://1", "blob": "AAEC"}}]}), None),
        (
            json!({"content": [{"type": "resource_link", "uri": "note://1", "name": "one", "description": "d"}]}),
            None,
        ),
        (
            json!({"content": [{"type": "text", "text": "a", "annotations": {"audience": ["user"], "priority": 0.5}}]}),
            None,
        ),
        (json!({"content": [text("it is gone")], "isError": true}), None),
        (json!({"content": [text("7")], "structuredContent": {"seven": 7}}), None),
        // Clients of the older revisions read the text alone.
        (
            json!({"structuredContent": {"seven": 7}}),
            Some(json!({"content": [text("{\"seven\": 7}")], "structuredContent": {"seven": 7}})),
        ),
        (json!({"content": [text("a")], "_meta": {"com.example/cost": 1}}), None),
    ] {
        for client in &clients {
            let mut result = client.call("tell", json!({"result": told})).await?.result()?;
            if let Value::Object(members) = &mut result {
                members.remove("resultType");
                if let Some(Value::Object(meta)) = members.get_mut("_meta") {
                    meta.remove("io.modelcontextprotocol/serverInfo");
                    if meta.is_empty() {
                        members.remove("_meta");
                    }
                }
            }
            assert_eq!(result, *expected.as_ref().unwrap_or(&told));
        }
    }
    Ok(())
}

async fn what_is_no_result_is_said_to_be_none(world: &Shared) -> Result<()> {
    let (_frontend, clients) = clients(world, TELL).await?;
    let block = |block: Value| json!({"content": [{"type": "text", "text": "fine"}, block]});
    let outline = "it must be an object with \"content\", an array, or \"structuredContent\", an object";
    for (told, words) in [
        (json!({}), outline),
        (json!([]), outline),
        (json!("text"), outline),
        (json!({"content": "text"}), outline),
        (json!({"content": {}}), outline),
        (json!({"content": [], "isError": "yes"}), outline),
        (json!({"structuredContent": [1]}), outline),
        (json!({"content": [], "_meta": 1}), "\"_meta\" must be an object"),
        (json!({"content": [], "resultType": "input_required"}), "\"resultType\" must be \"complete\""),
        (block(json!("text")), "content[1] must be an object"),
        (block(json!({})), "content[1] must have \"type\", a string"),
        (block(json!({"type": "video"})), "content[1] has the type \"video\"; MCP knows"),
        (block(json!({"type": "text"})), "content[1] must have \"text\", a string"),
        (
            block(json!({"type": "image", "data": "AA\nEC", "mimeType": "image/png"})),
            "content[1] must have \"data\" in base64 without line breaks",
        ),
        (block(json!({"type": "image", "data": "AAEC"})), "content[1] must have \"mimeType\", a string"),
        (block(json!({"type": "audio", "mimeType": "audio/wav"})), "content[1] must have \"data\", a string"),
        (block(json!({"type": "resource_link", "name": "x"})), "content[1] must have \"uri\", a string"),
        (
            block(json!({"type": "resource", "resource": {"uri": "x"}})),
            "content[1] has a resource that must have either \"text\" or \"blob\"",
        ),
    ] {
        for client in &clients {
            let error = client.call("tell", json!({"result": told})).await?.tool_error()?;
            ensure!(error.starts_with("the tool returned what is no result: "), "{told}: {error}");
            ensure!(error.contains(words), "{told}: {error}");
        }
    }
    Ok(())
}

async fn results_that_are_too_large_are_refused(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let superuser = database.superuser().await?;
    superuser
        .batch_execute(&format!(
            "CREATE FUNCTION app.text(size integer) RETURNS text LANGUAGE plpgsql AS
                 $$ BEGIN INSERT INTO app.notes (body) VALUES ('large'); RETURN repeat('x', size); END $$;
             CREATE FUNCTION app.rows(size integer) RETURNS SETOF text LANGUAGE sql STABLE AS
                 $$ SELECT repeat('y', 1000) FROM generate_series(1, size / 1000) $$;
             CREATE FUNCTION app.endless(size integer) RETURNS SETOF integer LANGUAGE plpgsql STABLE AS
                 $$ BEGIN FOR i IN 1 .. size LOOP RETURN NEXT i; END LOOP; END $$;
             CREATE FUNCTION app.document(size integer) RETURNS jsonb LANGUAGE sql STABLE AS
                 $$ SELECT jsonb_build_object('a', repeat('z', size)) $$;
             CREATE FUNCTION app.complete(size integer) RETURNS mcp.tool_result LANGUAGE sql STABLE AS
                 $$ SELECT jsonb_build_object('content', jsonb_build_array(jsonb_build_object('type', 'text', 'text', repeat('z', size)))) $$;
             SELECT mcp.expose_tool(f::regproc) FROM unnest('{{app.text, app.rows, app.endless, app.document, app.complete}}'::text[]) AS f;
             ALTER DATABASE {} SET mcp.max_result_bytes = '64kB'",
            database.name()
        ))
        .await?;
    let frontend = world.frontend(&database).await?;
    let (auth, exec) = (database.auth().await?, database.exec().await?);
    let session = NewSession::of("alice").at(&frontend.resource()).create(&auth).await?;
    let words = "the result is too large: it is over the limit of 65536 bytes; ask for less";
    for tool in ["text", "rows", "endless", "document", "complete"] {
        let fits = call_tool(&exec, &session.token, tool, json!({"size": 1000})).await?;
        ensure!(fits["isError"] != true && fits["content"][0]["text"].is_string(), "{tool}: {fits}");
        let refused = call_tool(&exec, &session.token, tool, json!({"size": 100_000})).await?;
        ensure!(refused["isError"] == true, "{tool}: {refused}");
        assert_eq!(text_blocks(&refused), words, "{tool}");
        for era in [Era::Modern, Era::Legacy] {
            let client = frontend.mcp(era).with(Door::Bearer, &session.token);
            assert_eq!(client.call(tool, json!({"size": 100_000})).await?.tool_error()?, words);
        }
    }
    // What was refused has not been written either: one note for each text that was returned.
    let notes: i64 = superuser.query_one("SELECT count(*) FROM app.notes", &[]).await?.get(0);
    assert_eq!(notes, 1);
    Ok(())
}

async fn lists_come_in_pages(world: &Shared) -> Result<()> {
    let (_frontend, clients) = clients(
        world,
        "DO $$ BEGIN
             FOR n IN 1 .. 230 LOOP
                 EXECUTE format('CREATE FUNCTION app.page_%s() RETURNS text LANGUAGE sql STABLE AS ''SELECT 1''', n);
                 PERFORM mcp.expose_tool(format('app.page_%s', n)::regproc);
                 CONTINUE WHEN n > 120;
                 EXECUTE format('CREATE FUNCTION app.item_%s(id text) RETURNS text LANGUAGE sql STABLE AS ''SELECT $1''', n);
                 PERFORM mcp.expose_resource(format('app.page_%s', n)::regproc, format('test://page/%s', n)),
                         mcp.expose_resource(format('app.item_%s', n)::regproc, format('test://item/%s/{id}', n)),
                         mcp.expose_prompt(format('app.page_%s', n)::regproc);
             END LOOP;
         END $$",
    )
    .await?;
    for client in &clients {
        let (mut names, mut cursor, mut pages) = (Vec::new(), None, 0);
        loop {
            let params = cursor.map_or_else(|| json!({}), |cursor: String| json!({ "cursor": cursor }));
            let page = client.request("tools/list", params).await?.result()?;
            let tools = page["tools"].as_array().cloned().unwrap_or_default();
            ensure!(tools.len() <= 100, "{} tools on a page", tools.len());
            names.extend(tools.iter().filter_map(|tool| tool["name"].as_str().map(str::to_owned)));
            pages += 1;
            match page["nextCursor"].as_str() {
                Some(next) => cursor = Some(next.to_owned()),
                None => break,
            }
        }
        let paged = names.iter().filter(|name| name.starts_with("page_")).count();
        assert_eq!((paged, pages), (230, 3));
        ensure!(names.is_sorted(), "ordered by name");
        names.dedup();
        assert_eq!(names.iter().filter(|name| name.starts_with("page_")).count(), 230, "each of them once");
        for (method, member) in [
            ("resources/list", "resources"),
            ("resources/templates/list", "resourceTemplates"),
            ("prompts/list", "prompts"),
        ] {
            let first = client.request(method, json!({})).await?.result()?;
            ensure!(first["nextCursor"].is_string(), "{method}: {} and no more", first[member]);
            let rest = client.request(method, json!({"cursor": first["nextCursor"]})).await?.result()?;
            ensure!(rest["nextCursor"].is_null(), "{method}: {rest}");
            let count = |page: &Value| page[member].as_array().map_or(0, Vec::len);
            assert_eq!((count(&first), count(&rest)), (100, 20), "{method}");
        }
        let answer = client.request("tools/list", json!({"cursor": "\u{0}"})).await?;
        ensure!(
            answer.status.is_success() || answer.status.is_client_error(),
            "{} {}",
            answer.status,
            answer.text
        );
    }
    Ok(())
}
