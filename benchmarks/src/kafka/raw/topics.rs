//! Topics by the admin interface.

use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;

/// How long a topic may take to have its leaders.
const LEADERS_TIMEOUT: Duration = Duration::from_secs(20);

pub(crate) struct Topics {
    admin: AdminClient<DefaultClientContext>,
}

impl Topics {
    pub(crate) fn at(servers: &str) -> Self {
        let config: ClientConfig = super::client(servers);
        Self { admin: config.create().unwrap() }
    }

    /// Makes a topic, and waits until every partition has a leader.
    pub(crate) async fn create(&self, name: &str, partitions: i32) {
        // Deleted topics leave the disk at once.
        let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1))
            .set("file.delete.delay.ms", "1000")
            .set("retention.ms", "-1");
        for created in self.admin.create_topics([&topic], &AdminOptions::new()).await.unwrap() {
            created.unwrap();
        }
        let begun = Instant::now();
        while !self.has_leaders(name, partitions) {
            assert!(begun.elapsed() < LEADERS_TIMEOUT, "topic {name} has no leaders");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) async fn delete(&self, name: &str) {
        for deleted in self.admin.delete_topics(&[name], &AdminOptions::new()).await.unwrap() {
            deleted.unwrap();
        }
    }

    fn has_leaders(&self, name: &str, partitions: i32) -> bool {
        let metadata = self.admin.inner().fetch_metadata(Some(name), LEADERS_TIMEOUT).unwrap();
        metadata.topics().iter().any(|topic| {
            topic.name() == name
                && topic.partitions().len() == partitions as usize
                && topic.partitions().iter().all(|partition| partition.leader() >= 0)
        })
    }
}
