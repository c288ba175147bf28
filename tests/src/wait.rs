//! Waiting for a condition with a deadline, never for a length of time.

use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(10);

/// Asks `condition` until it answers `Some`, or fails once `deadline` has passed, naming `what` was awaited.
pub async fn wait_for<T, F, Fut>(what: &str, deadline: Duration, mut condition: F) -> Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<Option<T>>>,
{
    let start = Instant::now();
    loop {
        if let Some(value) = condition().await? {
            return Ok(value);
        }
        if start.elapsed() > deadline {
            bail!("waited {deadline:?} for {what}, in vain");
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Asks `condition` until it holds, or fails once `deadline` has passed.
pub async fn wait_until<F, Fut>(what: &str, deadline: Duration, mut condition: F) -> Result<()>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<bool>>,
{
    wait_for(what, deadline, || {
        let asked = condition();
        async move { Ok(asked.await?.then_some(())) }
    })
    .await
}
