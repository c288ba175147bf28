//! What clients find out from the URL alone: one resource, one issuer, the same bytes wherever they stand.

use anyhow::{Context, Result};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tests::browser::Browser;
use tests::oauth::{Client, LOOPBACK, parameter, resource};

use crate::world::{self, Shared, Trials};

pub fn tests(world: &Shared) -> Trials {
    world::tests![world; checklist_33_issuer_is_one_text_everywhere]
}

/// Clients refuse a document whose issuer is not the one they asked for, and answers of another issuer; and nobody who
/// can send headers may choose it.
async fn checklist_33_issuer_is_one_text_everywhere(world: &Shared) -> Result<()> {
    let database = world.database().await?;
    let frontend = world.frontend(&database).await?;
    let issuer = frontend.url();
    let port = issuer.rsplit(':').next().context("a port")?;
    let http = reqwest::Client::new();
    let other_name = format!("localhost:{port}");
    for host in [None, Some(other_name.as_str())] {
        let get = async |path: &str| -> Result<Value> {
            let mut request = http
                .get(format!("{issuer}{path}"))
                .header("x-forwarded-host", "evil.example")
                .header("x-forwarded-proto", "https")
                .header("forwarded", "host=evil.example;proto=https");
            if let Some(host) = host {
                request = request.header("host", host);
            }
            let answer = request.send().await?;
            assert_eq!(answer.status(), StatusCode::OK, "{path}");
            Ok(answer.json().await?)
        };
        for path in ["", "/mcp/v1"] {
            let document = get(&format!("/.well-known/oauth-protected-resource{path}")).await?;
            assert_eq!(document["resource"], resource(&issuer), "{path} {host:?}");
            assert_eq!(document["authorization_servers"], json!([issuer]), "{path} {host:?}");
            let document = get(&format!("/.well-known/oauth-authorization-server{path}")).await?;
            assert_eq!(document["issuer"], issuer, "{path} {host:?}");
            for endpoint in
                ["authorization_endpoint", "token_endpoint", "registration_endpoint", "revocation_endpoint"]
            {
                let url = document[endpoint].as_str().with_context(|| format!("no {endpoint}"))?;
                assert!(url.starts_with(&format!("{issuer}/")), "{url} {host:?}");
            }
        }
        let mut request = http.post(resource(&issuer)).header("x-forwarded-host", "evil.example");
        if let Some(host) = host {
            request = request.header("host", host);
        }
        let challenge = request.send().await?.headers()["www-authenticate"].to_str()?.to_owned();
        let metadata = format!("resource_metadata=\"{issuer}/.well-known/oauth-protected-resource/mcp/v1\"");
        assert!(challenge.contains(&metadata), "{challenge} {host:?}");
    }

    let client = Client::register(&issuer, LOOPBACK).await?;
    let code = client.authorize(&Browser::new(), "alice@example.com", "mcp").await?;
    assert_eq!(parameter(&code.answer, "iss").as_deref(), Some(issuer.as_str()));
    let refused = client.request("mcp").decide(&Browser::new(), "deny").await?;
    let refused = refused.location()?.context("the client is told")?;
    assert_eq!(parameter(&refused, "error").as_deref(), Some("access_denied"));
    assert_eq!(parameter(&refused, "iss").as_deref(), Some(issuer.as_str()));
    client.redeem(&code).await?;
    Ok(())
}
