//! Hearing from other processes: that the lists of tools, resources or prompts have changed, and that calls are cancelled.
//!
//! By LISTEN on a connection of its own; and, while somebody subscribes to changes, by asking from time to time, for
//! databases behind a pooler that does not carry LISTEN.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::{FutureExt, StreamExt};
use tokio::{
    sync::{Mutex, broadcast},
    time,
};
use tokio_postgres::AsyncMessage;
use tokio_util::sync::CancellationToken;

use crate::{
    cancellations::{Cancellations, Key},
    notices::Messages,
    sessions::{CANCELLATIONS, CHANGES, Sessions},
};

/// How often the versions of the lists are asked for while somebody subscribes.
const POLL: Duration = Duration::from_secs(10);
/// The pause before connecting again.
const PAUSE: Duration = Duration::from_secs(2);
/// A slow subscriber that misses more than this is told that everything has changed.
const UNREAD: usize = 64;

/// A list that has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum List {
    Tools,
    Resources,
    Prompts,
}

impl List {
    pub const ALL: [List; 3] = [List::Tools, List::Resources, List::Prompts];

    /// What the extension calls it.
    fn name(self) -> &'static str {
        match self {
            List::Tools => "tools",
            List::Resources => "resources",
            List::Prompts => "prompts",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|list| list.name() == text)
    }
}

/// The changes, for any number of subscribers.
#[derive(Clone)]
pub struct Changes {
    sender: broadcast::Sender<List>,
    /// The versions of the lists that subscribers know of; `None` while nobody subscribes, or nobody could say.
    versions: Arc<Mutex<Option<HashMap<String, String>>>>,
    cancellations: Cancellations,
}

/// One subscriber.
pub struct Subscriber {
    receiver: broadcast::Receiver<List>,
    missed: Vec<List>,
}

impl Changes {
    pub fn new() -> Self {
        Self {
            sender: broadcast::Sender::new(UNREAD),
            versions: Arc::default(),
            cancellations: Cancellations::default(),
        }
    }

    /// The calls of this process that may be cancelled from any other.
    pub fn cancellations(&self) -> &Cancellations {
        &self.cancellations
    }

    /// Subscribes to what changes from now on.
    pub async fn subscribe(&self, sessions: &Sessions) -> Subscriber {
        let receiver = self.sender.subscribe();
        let mut versions = self.versions.lock().await;
        if versions.is_none() {
            *versions = read_versions(sessions).await;
        }
        Subscriber { receiver, missed: Vec::new() }
    }

    /// How many subscribe now.
    pub fn subscribers(&self) -> usize {
        self.sender.receiver_count()
    }

    fn tell(&self, list: List) {
        // Nobody may be listening.
        let _ = self.sender.send(list);
    }

    /// Follows what other processes say until `stop`.
    pub async fn follow(self, sessions: Arc<Sessions>, stop: CancellationToken) {
        tokio::select! {
            () = self.listen(&sessions) => {}
            () = self.poll(&sessions) => {}
            () = stop.cancelled() => {}
        }
    }

    async fn listen(&self, sessions: &Sessions) {
        let mut known = true;
        loop {
            match sessions.listen_to_others().await {
                Ok((client, messages)) => {
                    // What was said while nobody listened is not said again.
                    if !known {
                        List::ALL.into_iter().for_each(|list| self.tell(list));
                    }
                    self.hear(sessions, messages).await;
                    drop(client);
                }
                Err(error) => tracing::debug!(%error, "cannot listen to other processes"),
            }
            known = false;
            time::sleep(PAUSE).await;
        }
    }

    async fn hear(&self, sessions: &Sessions, mut messages: Messages) {
        while let Some(Ok(message)) = messages.next().await {
            let mut changed = self.heed(&message);
            // One statement may change several lists.
            while let Some(Some(Ok(message))) = messages.next().now_or_never() {
                changed |= self.heed(&message);
            }
            if changed && self.subscribers() > 0 {
                // Or the next poll would find the same change and tell of it once more.
                let mut versions = self.versions.lock().await;
                *versions = read_versions(sessions).await;
            }
        }
    }

    /// Passes on what another process says; whether it is that a list has changed.
    fn heed(&self, message: &AsyncMessage) -> bool {
        let AsyncMessage::Notification(notification) = message else { return false };
        match notification.channel() {
            CHANGES => List::parse(notification.payload()).map(|list| self.tell(list)).is_some(),
            CANCELLATIONS => {
                self.cancellations.cancel(&Key::from(notification.payload()));
                false
            }
            _ => false,
        }
    }

    async fn poll(&self, sessions: &Sessions) {
        loop {
            time::sleep(POLL).await;
            let mut versions = self.versions.lock().await;
            if self.subscribers() == 0 {
                *versions = None;
                continue;
            }
            let Some(now) = read_versions(sessions).await else { continue };
            for list in List::ALL {
                let unchanged =
                    versions.as_ref().is_some_and(|before| before.get(list.name()) == now.get(list.name()));
                if !unchanged {
                    self.tell(list);
                }
            }
            *versions = Some(now);
        }
    }
}

/// `None` where the database does not answer.
async fn read_versions(sessions: &Sessions) -> Option<HashMap<String, String>> {
    Some(sessions.list_versions().await.ok()?.into_iter().collect())
}

impl Subscriber {
    /// The next list that has changed.
    pub async fn next(&mut self) -> List {
        loop {
            if let Some(list) = self.missed.pop() {
                return list;
            }
            match self.receiver.recv().await {
                Ok(list) => return list,
                Err(broadcast::error::RecvError::Lagged(_)) => self.missed.extend(List::ALL),
                Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_missed_something_is_told_everything() {
        let changes = Changes::new();
        let mut subscriber = Subscriber { receiver: changes.sender.subscribe(), missed: Vec::new() };
        changes.tell(List::Prompts);
        assert_eq!(subscriber.next().await, List::Prompts);
        for _ in 0..=UNREAD {
            changes.tell(List::Tools);
        }
        let heard = [subscriber.next().await, subscriber.next().await, subscriber.next().await];
        assert!(List::ALL.iter().all(|list| heard.contains(list)), "{heard:?}");
    }
}
