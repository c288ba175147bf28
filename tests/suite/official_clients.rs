//! Applications built on the official TypeScript clients, given nothing but the URL of `/mcp/v1`: they find out the rest,
//! a person signs in and consents, and from then on they refresh, ask for more, and notice when it has ended.

use anyhow::{Context, Result, ensure};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tests::browser::Browser;
use tests::database::Database;
use tests::documents::DocumentServer;
use tests::frontend::Frontend;
use tests::official::{Application, Choice, Generation, Outcome};
use tests::session::{NewSession, call_tool};
use url::Url;
use uuid::Uuid;

use crate::world::{self, Shared, Trials};

/// Whose browser it is.
const USER: &str = "alice@example.com";
const DOCUMENT: &str = "/client.json";

pub fn tests(world: &Shared) -> Trials {
    world::tests![world;
        first_generation_signs_in_by_registration,
        first_generation_signs_in_by_document,
        second_generation_signs_in_by_registration,
        second_generation_signs_in_by_document,
        second_generation_asks_for_the_revision_and_signs_in_by_registration,
        second_generation_asks_for_the_revision_and_signs_in_by_document,
        second_generation_insists_on_the_newest_revision,
        slash_behind_the_url_makes_no_difference,
        forgotten_clients_register_anew,
        refusal_reaches_the_client,
    ]
}

async fn first_generation_signs_in_by_registration(world: &Shared) -> Result<()> {
    whole_life(world, Generation::First, Choice::Legacy, false).await
}

async fn first_generation_signs_in_by_document(world: &Shared) -> Result<()> {
    whole_life(world, Generation::First, Choice::Legacy, true).await
}

async fn second_generation_signs_in_by_registration(world: &Shared) -> Result<()> {
    whole_life(world, Generation::Second, Choice::Legacy, false).await
}

async fn second_generation_signs_in_by_document(world: &Shared) -> Result<()> {
    whole_life(world, Generation::Second, Choice::Legacy, true).await
}

async fn second_generation_asks_for_the_revision_and_signs_in_by_registration(world: &Shared) -> Result<()> {
    whole_life(world, Generation::Second, Choice::Auto, false).await
}

async fn second_generation_asks_for_the_revision_and_signs_in_by_document(world: &Shared) -> Result<()> {
    whole_life(world, Generation::Second, Choice::Auto, true).await
}

async fn second_generation_insists_on_the_newest_revision(world: &Shared) -> Result<()> {
    whole_life(world, Generation::Second, Choice::Modern, false).await
}

/// A frontend of `database` that reads documents of `documents`.
async fn frontend(world: &Shared, database: &Database<'_>, documents: &DocumentServer) -> Result<Frontend> {
    let settings = documents.trusted_by(world.settings(database)?);
    world.oidc().await?.register(settings).await?.start().await
}

/// From the first 401 to the last.
async fn whole_life(world: &Shared, generation: Generation, choice: Choice, by_document: bool) -> Result<()> {
    let database = world.database().await?;
    let documents = DocumentServer::start().await?;
    let frontend = frontend(world, &database, &documents).await?;
    let document = by_document.then(|| documents.publish_client(DOCUMENT, &["http://localhost/callback"]));
    let life = Life {
        database: &database,
        frontend: &frontend,
        application: start(&frontend, generation, choice, document.as_deref())?,
        browser: Browser::new(),
    };
    add_note_of_somebody_else(&database).await?;

    life.sign_in(document.as_deref()).await?;
    let connected = life.application.connect().await?.value()?;
    let revision = if choice == Choice::Legacy { "2025-11-25" } else { "2026-07-28" };
    assert_eq!(connected["version"], revision, "{connected}");
    life.use_tools(document.as_deref()).await?;
    life.refresh(generation).await?;
    life.step_up().await?;
    life.end().await
}

fn start(
    frontend: &Frontend,
    generation: Generation,
    choice: Choice,
    document: Option<&str>,
) -> Result<Application> {
    let mcp = frontend.resource();
    tokio::task::block_in_place(|| Application::start(generation, choice, &mcp, document))
}

/// What nobody but Bob may see.
async fn add_note_of_somebody_else(database: &Database<'_>) -> Result<()> {
    let bob = NewSession::of("bob@example.com").create(&database.auth().await?).await?;
    call_tool(&database.exec().await?, &bob.token, "add_note", json!({"body": "Bob's own"})).await?;
    Ok(())
}

/// One application, and the person who uses it.
struct Life<'a> {
    database: &'a Database<'a>,
    frontend: &'a Frontend,
    application: Application,
    browser: Browser,
}

impl Life<'_> {
    /// The first contact: everything is found out from the URL.
    async fn sign_in(&self, document: Option<&str>) -> Result<()> {
        let authorize = self.application.connect().await?.unauthorized()?;
        let mut expected = vec![
            "POST /mcp/v1 401",
            "GET /.well-known/oauth-protected-resource/mcp/v1 200",
            "GET /.well-known/oauth-authorization-server 200",
        ];
        if document.is_none() {
            expected.push("POST /register 201");
        }
        assert_eq!(self.application.requests().await?, expected);
        let client = self.application.kept().await?["client"]["client_id"].take();
        assert_eq!(parameter(&authorize, "client_id"), client.as_str().unwrap_or_default());
        assert_eq!(parameter(&authorize, "resource"), self.frontend.resource());
        assert_eq!(parameter(&authorize, "scope"), "mcp");
        self.consent(&authorize).await?;
        assert_eq!(self.application.requests().await?, ["POST /token 200"]);
        Ok(())
    }

    /// The person opens `authorize`, lets the application in, signs in, and comes back to the application.
    async fn consent(&self, authorize: &str) -> Result<()> {
        let back = self.browser.sign_in_until(authorize, USER, |url| url.path() == "/callback").await?;
        let page = self.browser.step(back.as_str()).await?;
        assert_eq!(Outcome::of(page.json()?).value()?, "You may close this page.");
        Ok(())
    }

    async fn use_tools(&self, document: Option<&str>) -> Result<()> {
        let tools = self.application.tools().await?.value()?;
        let names: Vec<_> = tools.as_array().into_iter().flatten().map(|tool| &tool["name"]).collect();
        assert!(names.contains(&&json!("list_notes")), "{names:?}");

        self.call("add_note", json!({"body": "Alice's own"})).await?;
        let notes = self.call("list_notes", json!({})).await?["structuredContent"]["rows"].take();
        assert_eq!(bodies(&notes), ["Alice's own"]);

        let me = self.whoami().await?;
        assert_eq!(me["subject"], USER);
        assert_eq!(me["scopes"], json!(["mcp"]));
        assert_eq!(me["client_id"], self.application.kept().await?["client"]["client_id"]);
        if let Some(document) = document {
            assert_eq!(me["client_id"], document);
        }
        Ok(())
    }

    /// The access token expires; the client notices by itself, and nobody is asked.
    async fn refresh(&self, generation: Generation) -> Result<()> {
        let (me, before) = (self.whoami().await?, self.application.kept().await?);
        self.application.requests().await?;
        self.expire_access(&me).await?;
        assert_eq!(self.whoami().await?["session_id"], me["session_id"]);
        let after = self.application.kept().await?;
        for token in ["access_token", "refresh_token"] {
            assert_ne!(before["tokens"][token], after["tokens"][token], "{token}");
        }
        let requests = self.application.requests().await?;
        assert_eq!(requests, ["POST /mcp/v1 401", "POST /token 200", "POST /mcp/v1 200"]);

        // The first generation gives up where a second request is refused before the first has refreshed.
        if generation == Generation::Second {
            self.expire_access(&me).await?;
            let calls = [("whoami", json!({})), ("list_notes", json!({})), ("echo", json!({"word": "x"}))];
            let results = self.application.call_at_once(&calls).await?.value()?;
            assert_eq!(results.as_array().map_or(0, Vec::len), 3, "{results}");
            let refreshes = self.application.requests().await?;
            let refreshes = refreshes.iter().filter(|request| *request == "POST /token 200").count();
            ensure!(refreshes > 1, "requests that are refused at once all refresh: {refreshes}");
            // Whichever of the successors it kept.
            assert_eq!(self.whoami().await?["session_id"], me["session_id"]);
        }
        Ok(())
    }

    async fn expire_access(&self, me: &Value) -> Result<()> {
        let session = session_id(me)?;
        let superuser = self.database.superuser().await?;
        let aged = superuser
            .execute(
                "UPDATE mcp.sessions SET access_expires_at = now() - interval '1 second' WHERE session_id = $1",
                &[&session],
            )
            .await?;
        ensure!(aged == 1, "there is no session {session}");
        Ok(())
    }

    /// A tool wants a scope: the person is asked for that, and what there was stays.
    async fn step_up(&self) -> Result<()> {
        let authorize = self.application.call("privileged", json!({})).await?.unauthorized()?;
        let mut scopes: Vec<_> = parameter(&authorize, "scope").split(' ').map(str::to_owned).collect();
        scopes.sort();
        assert_eq!(scopes, ["mcp", "notes:admin"]);
        self.application.requests().await?;
        self.consent(&authorize).await?;
        let result = self.call("privileged", json!({})).await?;
        assert_eq!(result["content"][0]["text"], "privileged", "{result}");
        assert_eq!(self.whoami().await?["scopes"], json!(["mcp", "notes:admin"]));
        let notes = self.call("list_notes", json!({})).await?["structuredContent"]["rows"].take();
        assert_eq!(bodies(&notes), ["Alice's own"]);
        Ok(())
    }

    /// The person ends the application's session from elsewhere; it is told, and can begin anew.
    async fn end(&self) -> Result<()> {
        let session = session_id(&self.whoami().await?)?;
        let elsewhere = Browser::new().sign_in(&self.frontend.url(), USER).await?;
        let ended = reqwest::Client::new()
            .delete(format!("{}/auth/sessions/{session}", self.frontend.url()))
            .bearer_auth(&elsewhere.token)
            .send()
            .await?;
        assert!(ended.status().is_success(), "{}", ended.status());

        self.application.requests().await?;
        let authorize = self.application.call("whoami", json!({})).await?.unauthorized()?;
        assert_eq!(self.application.requests().await?, ["POST /mcp/v1 401", "POST /token 400"]);
        self.consent(&authorize).await?;
        assert_ne!(session_id(&self.whoami().await?)?, session);
        Ok(())
    }

    async fn whoami(&self) -> Result<Value> {
        let result = self.call("whoami", json!({})).await?;
        let text = result["content"][0]["text"].as_str().context("whoami answers in text")?;
        Ok(serde_json::from_str(text)?)
    }

    async fn call(&self, name: &str, arguments: Value) -> Result<Value> {
        let result = self.application.call(name, arguments).await?.value()?;
        ensure!(result["isError"] != true, "{name} failed: {result}");
        Ok(result)
    }
}

fn session_id(me: &Value) -> Result<Uuid> {
    Ok(me["session_id"].as_str().with_context(|| format!("no session_id in {me}"))?.parse()?)
}

fn bodies(notes: &Value) -> Vec<&str> {
    notes.as_array().into_iter().flatten().filter_map(|note| note["body"].as_str()).collect()
}

fn parameter(url: &str, name: &str) -> String {
    let url = Url::parse(url).expect("a client sends people to a URL");
    url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned()).unwrap_or_default()
}

/// The resource is the URL without it, and has to cover the one with it in the eyes of the clients.
async fn slash_behind_the_url_makes_no_difference(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let frontend = world.frontend(&database).await?;
    let mcp = format!("{}/mcp/v1/", frontend.url());
    for (generation, choice) in [
        (Generation::First, Choice::Legacy),
        (Generation::Second, Choice::Legacy),
        (Generation::Second, Choice::Auto),
    ] {
        let application = tokio::task::block_in_place(|| Application::start(generation, choice, &mcp, None))?;
        let browser = Browser::new();
        let life = Life { database: &database, frontend: &frontend, application, browser };
        let authorize = life.application.connect().await?.unauthorized()?;
        assert_eq!(parameter(&authorize, "resource"), mcp.trim_end_matches('/'));
        life.consent(&authorize).await?;
        life.application.connect().await?.value()?;
        assert_eq!(life.whoami().await?["subject"], USER);
    }
    Ok(())
}

/// Registrations that are not used are swept, and operators remove clients.
async fn forgotten_clients_register_anew(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let frontend = world.frontend(&database).await?;
    for generation in [Generation::First, Generation::Second] {
        let life = Life {
            database: &database,
            frontend: &frontend,
            application: start(&frontend, generation, Choice::Legacy, None)?,
            browser: Browser::new(),
        };
        life.sign_in(None).await?;
        life.application.connect().await?.value()?;
        let client = life.application.kept().await?["client"]["client_id"].take();
        let client = client.as_str().context("a client has an id")?;

        life.expire_access(&life.whoami().await?).await?;
        let superuser = database.superuser().await?;
        superuser.execute("SELECT mcp.remove_client($1)", &[&client]).await?;
        life.application.requests().await?;
        let authorize = life.application.call("whoami", json!({})).await?.unauthorized()?;
        let requests = life.application.requests().await?;
        assert!(requests.contains(&"POST /token 401".to_owned()), "{generation:?} {requests:?}");
        assert!(requests.contains(&"POST /register 201".to_owned()), "{generation:?} {requests:?}");
        assert_ne!(parameter(&authorize, "client_id"), client);
        life.consent(&authorize).await?;
        assert_eq!(life.whoami().await?["subject"], USER);
    }
    Ok(())
}

async fn refusal_reaches_the_client(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let frontend = world.frontend(&database).await?;
    for generation in [Generation::First, Generation::Second] {
        let application = start(&frontend, generation, Choice::Legacy, None)?;
        let authorize = application.connect().await?.unauthorized()?;
        let browser = Browser::new();
        let page = browser.html_step(&authorize).await?;
        assert_eq!(page.status, StatusCode::OK, "{}", page.text);
        let mut form = page.form()?;
        form.set("decision", "deny");
        let back = browser.post(&form).await?.location()?.context("the client is told")?;
        let told = Outcome::of(browser.step(back.as_str()).await?.json()?);
        // The second generation shows the text, once it has found the issuer to be the one it asked.
        let expected = match generation {
            Generation::First => "Error: access_denied",
            Generation::Second => "OAuthError: The user said no.",
        };
        assert!(matches!(&told, Outcome::Error(error) if error == expected), "{told:?}");
        application.connect().await?.unauthorized()?;
    }
    Ok(())
}
