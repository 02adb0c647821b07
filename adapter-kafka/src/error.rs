//! librdkafka's errors as the core's, in one place.

use messaging_core::{Error, ErrorKind, ErrorOutcome};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

/// The core's error for one of the client's, with what was being done.
pub(crate) fn from_kafka(what: &str, error: &KafkaError) -> Error {
    match code_of(error) {
        Some(code) => from_code(what, code),
        None => match error {
            KafkaError::ClientConfig(_, text, key, _) => {
                Error::new(ErrorKind::Config, format!("{what}: kafka's client refuses {key:?}: {text}"))
            }
            // The one reason why a seek as a whole fails.
            KafkaError::Seek(_) => Error::new(ErrorKind::Timeout, format!("{what}: {error}")),
            KafkaError::ClientCreation(text) => Error::new(ErrorKind::Config, format!("{what}: {text}")),
            other => Error::new(ErrorKind::Internal, format!("{what}: {other}")),
        },
    }
}

/// The client's code of an error, those of the admin calls included, which `rdkafka` leaves out.
pub(crate) fn code_of(error: &KafkaError) -> Option<Code> {
    match error {
        KafkaError::AdminOp(code) => Some(*code),
        other => other.rdkafka_error_code(),
    }
}

/// The core's error for one of the client's codes.
pub(crate) fn from_code(what: &str, code: Code) -> Error {
    let (kind, next) = kind_of(code);
    Error::new(kind, format!("{what}: {code}{next}"))
}

/// The core's error for a message that was not confirmed. `not_persisted` is the client's own word, which counts where the broker
/// or the client refused the message: of one that ran out of time around a restart it was wrong (1 of 114 was there).
pub(crate) fn from_delivery(error: &KafkaError, not_persisted: bool) -> Error {
    let is_refused = !matches!(
        code_of(error),
        None | Some(
            Code::MessageTimedOut
                | Code::OperationTimedOut
                | Code::RequestTimedOut
                | Code::TimedOutQueue
                | Code::BrokerTransportFailure
                | Code::BrokerDestroy
                | Code::DestroyBroker
                | Code::PurgeInflight
                | Code::Fatal
        )
    );
    let outcome = if not_persisted && is_refused { ErrorOutcome::NotSent } else { ErrorOutcome::Unknown };
    from_kafka("the message was not confirmed", error).with_outcome(outcome)
}

fn kind_of(code: Code) -> (ErrorKind, &'static str) {
    match code {
        Code::UnknownTopic
        | Code::UnknownTopicOrPartition
        | Code::UnknownTopicId
        | Code::UnknownPartition
        | Code::GroupIdNotFound => (ErrorKind::NotFound, ": create it, or use topology = create"),
        Code::InvalidRecord => (
            ErrorKind::InvalidMessage,
            ": the broker refuses what it says, as it does without a key on a compacted topic",
        ),
        Code::MessageSizeTooLarge | Code::MessageBatchTooLarge | Code::InvalidMessageSize => {
            (ErrorKind::TooLarge, ": send a reference to the data, or raise `message_bytes` here and at the broker")
        }
        Code::Authentication | Code::SaslAuthenticationFailed => {
            (ErrorKind::Unauthenticated, ": check user, password and sasl_mechanism")
        }
        Code::TopicAuthorizationFailed
        | Code::GroupAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::TransactionalIdAuthorizationFailed => {
            (ErrorKind::Forbidden, ": give the user this permission at the broker")
        }
        Code::SSL => (ErrorKind::Unreachable, ": check the certificates and whether this port speaks TLS"),
        Code::BrokerTransportFailure | Code::Resolve | Code::AllBrokersDown | Code::BrokerNotAvailable => {
            (ErrorKind::Unreachable, ": check the address and whether the broker runs")
        }
        // The leader of a partition or the coordinator of a group is about to change.
        Code::NotLeaderForPartition
        | Code::LeaderNotAvailable
        | Code::CoordinatorNotAvailable
        | Code::NotCoordinator
        | Code::CoordinatorLoadInProgress
        | Code::WaitingForCoordinator
        | Code::OffsetNotAvailable
        | Code::FencedLeaderEpoch
        | Code::UnknownLeaderEpoch
        | Code::ReplicaNotAvailable
        | Code::KafkaStorageError => {
            (ErrorKind::Unreachable, ": another of the cluster's brokers takes over, try again")
        }
        Code::MessageTimedOut
        | Code::OperationTimedOut
        | Code::RequestTimedOut
        | Code::TimedOutQueue
        | Code::UnstableOffsetCommit
        | Code::NotEnoughReplicas
        | Code::NotEnoughReplicasAfterAppend => (ErrorKind::Timeout, ""),
        Code::NetworkException => (ErrorKind::Disconnected, ": the broker lost the connection"),
        Code::BrokerDestroy | Code::DestroyBroker => {
            (ErrorKind::Disconnected, ": the client let go of this broker's node")
        }
        Code::QueueFull => (ErrorKind::Full, ": lower in_flight, or wait"),
        Code::Fatal => (ErrorKind::Disconnected, ": the producer is replaced"),
        Code::PurgeQueue | Code::PurgeInflight => (ErrorKind::Closed, ": the broker was closed meanwhile"),
        Code::IllegalGeneration
        | Code::UnknownMemberId
        | Code::StaleMemberEpoch
        | Code::FencedMemberEpoch
        | Code::FencedInstanceId => (ErrorKind::StaleDelivery, ": the partition belongs to another member by now"),
        Code::RebalanceInProgress | Code::NonEmptyGroup => (ErrorKind::Conflict, ": the group has members"),
        Code::InvalidReplicationFactor | Code::InvalidPartitions | Code::InvalidConfig | Code::PolicyViolation => {
            (ErrorKind::Config, ": nothing was made")
        }
        Code::InvalidTopic => (ErrorKind::InvalidName, ""),
        Code::BadMessage | Code::Underflow => (ErrorKind::Protocol, ": check whether kafka listens at this port"),
        Code::UnsupportedVersion | Code::UnsupportedFeature | Code::UnsupportedForMessageFormat => {
            (ErrorKind::Unsupported, ": this broker is too old for it")
        }
        _ => (ErrorKind::Internal, ""),
    }
}

/// Errors after which the client goes on by itself.
const PASSING_CODES: &[Code] = &[
    Code::BrokerTransportFailure,
    Code::AllBrokersDown,
    Code::Resolve,
    Code::OperationTimedOut,
    Code::RequestTimedOut,
    Code::NotLeaderForPartition,
    Code::LeaderNotAvailable,
    Code::CoordinatorNotAvailable,
    Code::NotCoordinator,
    Code::CoordinatorLoadInProgress,
    Code::OffsetNotAvailable,
    Code::FencedLeaderEpoch,
    Code::UnknownLeaderEpoch,
    Code::ReplicaNotAvailable,
    Code::KafkaStorageError,
    Code::RebalanceInProgress,
];

/// Returns whether the client goes on by itself after an error that a poll returned.
pub(crate) fn is_passing(code: Code) -> bool {
    PASSING_CODES.contains(&code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_refused_was_not_sent() {
        let refused = KafkaError::MessageProduction(Code::MessageSizeTooLarge);
        assert_eq!(from_delivery(&refused, true).outcome(), ErrorOutcome::NotSent);
        let unknown = from_delivery(&KafkaError::MessageProduction(Code::MessageTimedOut), true);
        assert_eq!((unknown.kind(), unknown.outcome()), (ErrorKind::Timeout, ErrorOutcome::Unknown));
        assert!(unknown.is_retryable());
    }

    #[test]
    fn errors_of_an_ordinary_day_are_no_defects() {
        let expected = |code| match code {
            Code::OperationTimedOut | Code::RequestTimedOut => ErrorKind::Timeout,
            Code::RebalanceInProgress => ErrorKind::Conflict,
            _ => ErrorKind::Unreachable,
        };
        for code in PASSING_CODES.iter().copied() {
            assert_eq!(from_code("asking", code).kind(), expected(code), "{code:?}");
        }
    }

    #[test]
    fn a_member_that_the_group_left_behind_holds_what_is_stale() {
        let left_behind = [
            Code::IllegalGeneration,
            Code::UnknownMemberId,
            Code::StaleMemberEpoch,
            Code::FencedMemberEpoch,
            Code::FencedInstanceId,
        ];
        for code in left_behind {
            assert_eq!(from_code("committing", code).kind(), ErrorKind::StaleDelivery, "{code:?}");
        }
    }

    #[test]
    fn a_record_that_the_broker_refuses_is_an_invalid_message() {
        let error = from_delivery(&KafkaError::MessageProduction(Code::InvalidRecord), true);
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::InvalidMessage, ErrorOutcome::NotSent));
        assert!(error.text().contains("key") && !error.is_retryable());
    }

    #[test]
    fn errors_of_admin_calls_have_their_kind_too() {
        let error = from_kafka("creating", &KafkaError::AdminOp(Code::InvalidReplicationFactor));
        assert_eq!(error.kind(), ErrorKind::Config);
    }
}
