//! A person's browser: cookies, redirects, and the forms of the identity provider.

use anyhow::{Context, Result, bail, ensure};
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
        let http = reqwest::Client::builder()
            .cookie_store(true)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .expect("a client without TLS always builds");
        Self { http }
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

    /// Fills in a form of `oidc-provider`: its login page, then its consent page.
    async fn submit(&self, page: &Page, user: &str) -> Result<Page> {
        let action = attribute(&page.text, "<form", "action")
            .with_context(|| format!("no form on the page at {}: {}", page.url, page.text))?;
        let prompt = attribute(&page.text, "name=\"prompt\"", "value").unwrap_or_else(|| "login".to_owned());
        let form = [("prompt", prompt.as_str()), ("login", user), ("password", "any")];
        let target = page.url.join(&action)?;
        self.read(self.http.post(target).form(&form).send().await?).await
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

    /// The body as JSON.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.text).with_context(|| format!("{} is no JSON: {}", self.url, self.text))
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
    Some(after.split_once('"')?.0.replace("&amp;", "&"))
}
