//! Hearing that the lists of tools, resources or prompts have changed, in this process or any other.
//!
//! By LISTEN on a connection of its own; and, while somebody subscribes, by asking from time to time, for databases behind
//! a pooler that does not carry LISTEN.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::StreamExt;
use tokio::{sync::broadcast, time};
use tokio_postgres::AsyncMessage;
use tokio_util::sync::CancellationToken;

use crate::{notices::Messages, sessions::Sessions};

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

    fn parse(text: &str) -> Option<Self> {
        match text {
            "tools" => Some(List::Tools),
            "resources" => Some(List::Resources),
            "prompts" => Some(List::Prompts),
            _ => None,
        }
    }
}

/// The changes, for any number of subscribers.
#[derive(Clone)]
pub struct Changes {
    sender: broadcast::Sender<List>,
}

/// One subscriber.
pub struct Subscriber {
    receiver: broadcast::Receiver<List>,
    missed: Vec<List>,
}

impl Changes {
    pub fn new() -> Self {
        Self { sender: broadcast::Sender::new(UNREAD) }
    }

    pub fn subscribe(&self) -> Subscriber {
        Subscriber { receiver: self.sender.subscribe(), missed: Vec::new() }
    }

    fn tell(&self, list: List) {
        // Nobody may be listening.
        let _ = self.sender.send(list);
    }

    /// Follows the lists until `stop`.
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
            match sessions.listen_to_changes().await {
                Ok((client, messages)) => {
                    // What was said while nobody listened is not said again.
                    if !known {
                        List::ALL.into_iter().for_each(|list| self.tell(list));
                    }
                    self.hear(messages).await;
                    drop(client);
                }
                Err(error) => tracing::debug!(%error, "cannot listen for changes of the lists"),
            }
            known = false;
            time::sleep(PAUSE).await;
        }
    }

    async fn hear(&self, mut messages: Messages) {
        while let Some(Ok(message)) = messages.next().await {
            if let AsyncMessage::Notification(notification) = message
                && let Some(list) = List::parse(notification.payload())
            {
                self.tell(list);
            }
        }
    }

    async fn poll(&self, sessions: &Sessions) {
        let mut known: HashMap<String, String> = HashMap::new();
        loop {
            time::sleep(POLL).await;
            if self.sender.receiver_count() == 0 {
                // Whoever subscribes next reads the lists first.
                known.clear();
                continue;
            }
            let Ok(versions) = sessions.list_versions().await else { continue };
            for (list, version) in versions {
                let before = known.insert(list.clone(), version.clone());
                if before.is_some_and(|before| before != version)
                    && let Some(list) = List::parse(&list)
                {
                    self.tell(list);
                }
            }
        }
    }
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
        let mut subscriber = changes.subscribe();
        changes.tell(List::Prompts);
        assert_eq!(subscriber.next().await, List::Prompts);
        for _ in 0..=UNREAD {
            changes.tell(List::Tools);
        }
        let heard = [subscriber.next().await, subscriber.next().await, subscriber.next().await];
        assert!(List::ALL.iter().all(|list| heard.contains(list)), "{heard:?}");
    }
}
