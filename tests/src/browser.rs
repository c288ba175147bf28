//! A person's browser: cookies, redirects, and forms, of the identity provider and of our consent page.

use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use reqwest::cookie::{CookieStore as _, Jar};
use reqwest::{Response, StatusCode};
use serde_json::Value;
use url::Url;

use crate::ledger;

/// More redirects than any sign-in takes.
const MOST_REDIRECTS: usize = 20;

/// A browser with a cookie jar of its own.
#[derive(Debug, Clone)]
pub struct Browser {
    http: reqwest::Client,
    jar: Arc<Jar>,
}

/// A page, or the JSON in its place.
#[derive(Debug, Clone)]
pub struct Page {
    /// Where the browser came to stand.
    pub url: Url,
    /// The status of the last answer.
    pub status: StatusCode,
    /// Its headers.
    pub headers: reqwest::header::HeaderMap,
    /// Its body.
    pub text: String,
}

/// A form on a page: where it goes, and what is filled in already.
#[derive(Debug, Clone)]
pub struct Form {
    /// Where it is posted.
    pub action: Url,
    /// The hidden fields, in their order.
    pub fields: Vec<(String, String)>,
}

/// What the frontend answers at the end of a sign-in.
#[derive(Debug, Clone)]
pub struct SignedIn {
    /// The session token.
    pub token: String,
    /// The whole answer.
    pub answer: Value,
}

impl Browser {
    /// A fresh profile.
    pub fn new() -> Self {
        let jar = Arc::new(Jar::default());
        let http = reqwest::Client::builder()
            .cookie_provider(jar.clone())
            .redirect(reqwest::redirect::Policy::none())
            // A server that is killed takes idle connections along, at a moment of its own.
            .pool_max_idle_per_host(0)
            .build()
            .expect("a client without TLS always builds");
        Self { http, jar }
    }

    /// Plants a cookie, as another program on the same host can.
    pub fn plant(&self, url: &str, cookie: &str) -> Result<()> {
        self.jar.add_cookie_str(cookie, &Url::parse(url)?);
        Ok(())
    }

    /// The value of the cookie that would be sent to `url` under `name`.
    pub fn cookie(&self, url: &str, name: &str) -> Result<Option<String>> {
        let Some(cookies) = self.jar.cookies(&Url::parse(url)?) else { return Ok(None) };
        let mut pairs = cookies.to_str()?.split("; ").filter_map(|pair| pair.split_once('='));
        Ok(pairs.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned()))
    }

    /// One request, asking for JSON as programs do, without following where it points.
    pub async fn step(&self, url: &str) -> Result<Page> {
        self.read(self.http.get(url).header("accept", "application/json").send().await?).await
    }

    /// One request as a person's browser makes it.
    pub async fn html_step(&self, url: &str) -> Result<Page> {
        self.read(
            self.http.get(url).header("accept", "text/html,application/xhtml+xml,*/*;q=0.8").send().await?,
        )
        .await
    }

    /// Follows redirects from `url` to the page they end at.
    pub async fn open(&self, url: &str) -> Result<Page> {
        let page = self.step(url).await?;
        self.follow(page).await
    }

    async fn follow(&self, mut page: Page) -> Result<Page> {
        for _ in 0..MOST_REDIRECTS {
            match page.location()? {
                Some(next) => page = self.step(next.as_str()).await?,
                None => return Ok(page),
            }
        }
        bail!("still redirected after {MOST_REDIRECTS} steps, at {}", page.url)
    }

    /// Follows the sign-in from `url`, filling in the provider's forms as `user`, up to the URL that `stop`
    /// accepts; that one is not requested.
    pub async fn sign_in_until(&self, url: &str, user: &str, stop: impl Fn(&Url) -> bool) -> Result<Url> {
        let mut page = self.step(url).await?;
        for _ in 0..MOST_REDIRECTS {
            if let Some(next) = page.location()? {
                if stop(&next) {
                    return Ok(next);
                }
                page = self.step(next.as_str()).await?;
                continue;
            }
            ensure!(
                page.status == StatusCode::OK,
                "sign-in stopped at {} with {}: {}",
                page.url,
                page.status,
                page.text
            );
            page = self.submit(&page, user).await?;
        }
        bail!("still not signed in after {MOST_REDIRECTS} steps, at {}", page.url)
    }

    /// Does what the page asks for: signs in, consents, allows.
    async fn submit(&self, page: &Page, user: &str) -> Result<Page> {
        let mut form = page.form()?;
        form.set("login", user);
        form.set("password", "any");
        if page.text.contains("name=\"decision\"") {
            form.set("decision", "allow");
        }
        self.post(&form).await
    }

    /// Posts a form, as a browser does that shows it.
    pub async fn post(&self, form: &Form) -> Result<Page> {
        let request = self
            .http
            .post(form.action.clone())
            .header("accept", "text/html,application/xhtml+xml,*/*;q=0.8")
            .header("origin", form.action.origin().ascii_serialization())
            .header("sec-fetch-site", "same-origin");
        self.read(request.form(&form.fields).send().await?).await
    }

    /// The whole sign-in at a frontend: from `/auth/init` to the JSON of `/auth/callback`.
    pub async fn sign_in(&self, frontend: &str, user: &str) -> Result<SignedIn> {
        let callback = self.sign_in_to_callback(frontend, user).await?;
        self.finish(callback.as_str()).await
    }

    /// The sign-in up to the callback URL, not requested yet.
    pub async fn sign_in_to_callback(&self, frontend: &str, user: &str) -> Result<Url> {
        let mut start = Url::parse(&format!("{frontend}/auth/init"))?;
        start.query_pairs_mut().append_pair("login_hint", user);
        self.sign_in_until(start.as_str(), user, |url| url.path() == "/auth/callback").await
    }

    /// Requests the callback, and fails unless it hands out a session.
    pub async fn finish(&self, callback: &str) -> Result<SignedIn> {
        let page = self.step(callback).await?;
        ensure!(page.status == StatusCode::OK, "the callback answered {}: {}", page.status, page.text);
        let answer: Value = serde_json::from_str(&page.text)
            .with_context(|| format!("the callback answered no JSON: {}", page.text))?;
        let token =
            answer["session_id"].as_str().with_context(|| format!("no session_id in {answer}"))?.to_owned();
        Ok(SignedIn { token, answer })
    }

    async fn read(&self, response: Response) -> Result<Page> {
        let (url, status, headers) = (response.url().clone(), response.status(), response.headers().clone());
        for cookie in response.cookies() {
            ledger::record("cookie", cookie.value());
        }
        note_secrets(&url);
        let page = Page { url, status, headers, text: response.text().await? };
        if let Some(next) = page.location()? {
            note_secrets(&next);
        }
        if let Ok(json) = serde_json::from_str::<Value>(&page.text) {
            ledger::record_fields("session token", &json, &["session_id"]);
        }
        Ok(page)
    }
}

impl Default for Browser {
    fn default() -> Self {
        Self::new()
    }
}

impl Page {
    /// Where a redirect points.
    pub fn location(&self) -> Result<Option<Url>> {
        if !self.status.is_redirection() {
            return Ok(None);
        }
        let location = self.headers.get("location").context("a redirect without Location")?.to_str()?;
        Ok(Some(self.url.join(location)?))
    }

    /// The form on the page.
    pub fn form(&self) -> Result<Form> {
        let action = attribute(&self.text, "<form", "action")
            .with_context(|| format!("no form on the page at {}: {}", self.url, self.text))?;
        let inputs = self.text.split("<input ").skip(1).filter_map(|rest| rest.split_once('>'));
        let fields = inputs
            .map(|(input, _)| format!("<input {input}>"))
            .filter(|input| attribute(input, "<input", "type").as_deref() == Some("hidden"))
            .filter_map(|input| {
                Some((attribute(&input, "<input", "name")?, attribute(&input, "<input", "value")?))
            })
            .inspect(|(name, value)| {
                if name == "token" {
                    ledger::record("consent token", value);
                }
            })
            .collect();
        Ok(Form { action: self.url.join(&action)?, fields })
    }

    /// The body as JSON.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.text).with_context(|| format!("{} is no JSON: {}", self.url, self.text))
    }
}

impl Form {
    /// Fills in a field.
    pub fn set(&mut self, name: &str, value: &str) {
        self.remove(name);
        self.fields.push((name.to_owned(), value.to_owned()));
    }

    /// Takes a field away.
    pub fn remove(&mut self, name: &str) {
        self.fields.retain(|(known, _)| known != name);
    }

    /// What a field holds.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Codes and states travel in URLs, which is why URLs must not be logged.
fn note_secrets(url: &Url) {
    for (key, value) in url.query_pairs() {
        if matches!(&*key, "code" | "state" | "nonce" | "code_verifier") {
            ledger::record(&key, &value);
        }
    }
}

/// The value of `attribute` in the first tag that holds `tag`.
fn attribute(html: &str, tag: &str, attribute: &str) -> Option<String> {
    let found = html.find(tag)?;
    let start = html[..=found].rfind('<')?;
    let end = start + html[start..].find('>')?;
    let (_, after) = html[start..end].split_once(&format!("{attribute}=\""))?;
    Some(html_escape::decode_html_entities(after.split_once('"')?.0).into_owned())
}
