//! The features a broker may have.

use std::fmt;

macro_rules! features {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)+) => {
        /// Something a broker may be able to do. More features may come.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        #[repr(usize)]
        pub enum Feature {
            $($(#[$doc])* $variant,)+
        }

        impl Feature {
            /// All features, in the order in which documents list them.
            pub const ALL: [Self; [$(Self::$variant),+].len()] = [$(Self::$variant),+];

            /// The name in configuration and documents, such as `delayed_retry`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }
    };
}

features! {
    /// Queues: point-to-point, competing consumers.
    Queue = "queue",
    /// Topics: every subscription gets every message.
    Topic = "topic",
    /// Subscriptions that outlive their consumers.
    DurableSubscription = "durable_subscription",
    /// Durable subscriptions whose members share the messages.
    SharedSubscription = "shared_subscription",
    /// Subscriptions that see only what is published while they are attached.
    EphemeralSubscription = "ephemeral_subscription",
    /// Messages of one key are handled in order, across competing consumers.
    KeyOrder = "key_order",
    /// Key order is kept through retries.
    Hold = "hold",
    /// Settling unstarted without counting an attempt.
    Release = "release",
    /// Deliveries are held under a lease that can be extended.
    Lease = "lease",
    /// A retry can wait.
    DelayedRetry = "delayed_retry",
    /// A message can be published for later.
    DelayedPublish = "delayed_publish",
    /// Messages expire.
    Ttl = "ttl",
    /// Higher priorities go first.
    Priority = "priority",
    /// A new durable subscription can begin in the past.
    Replay = "replay",
    /// Subscriptions can filter by subject.
    SubjectFilter = "subject_filter",
    /// A publish to a topic without a subscription can be refused.
    RequireSubscriber = "require_subscriber",
    /// Many messages in one call to the broker.
    Batch = "batch",
    /// Messages can go to a dead letter of their source.
    DeadLetter = "dead_letter",
    /// Dead letters can be sent back to where they failed.
    Redrive = "redrive",
    /// Messages that wait, and dead letters, can be deleted.
    Purge = "purge",
    /// Requests with replies.
    RequestReply = "request_reply",
    /// Sends and acknowledgements that happen together or not at all.
    Transactions = "transactions",
    /// How much waits can be read.
    Depth = "depth",
    /// How far a subscription is behind can be read.
    Lag = "lag",
    /// Current and committed positions in a log can be read.
    Positions = "positions",
    /// Waiting messages can be looked at.
    Browse = "browse",
    /// Messages survive a restart of the broker.
    SurvivesRestart = "survives_restart",
}

impl Feature {
    /// The feature of a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|feature| feature.name() == name)
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
