//! The client's errors, as ours. One place, because what a reply code means depends on the call.

use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};
use messaging_core::{Error, ErrorKind, ErrorOutcome};

/// What was asked of the broker when it refused: 406 alone has four meanings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Connect,
    Declare,
    Publish,
    Consume,
    Other,
}

/// Turns a client's error into ours. Nothing that the client prints holds a credential.
pub(crate) fn from_lapin(error: &lapin::Error, call: Call) -> Error {
    let (kind, text) = match error.kind() {
        lapin::ErrorKind::ProtocolError(said) => protocol(said, call),
        lapin::ErrorKind::IOError(cause) if call == Call::Connect => (ErrorKind::Unreachable, cause.to_string()),
        lapin::ErrorKind::ParsingError(_) | lapin::ErrorKind::InvalidProtocolVersion(_) => {
            (ErrorKind::Protocol, format!("what answers there does not speak AMQP 0-9-1: {error}"))
        }
        // The client forgot a channel while it was being opened or closed, which ends the connection (lapin 4.12.3).
        lapin::ErrorKind::InvalidChannel(_)
        | lapin::ErrorKind::IOError(_)
        | lapin::ErrorKind::MissingHeartbeatError => {
            (ErrorKind::Disconnected, error.to_string())
        }
        lapin::ErrorKind::InvalidChannelState(..) | lapin::ErrorKind::InvalidConnectionState(_) => {
            // The client looked at its own state and sent nothing.
            let error = Error::new(ErrorKind::Disconnected, "the channel is closed");
            return error.with_outcome(ErrorOutcome::NotSent);
        }
        lapin::ErrorKind::RuntimeShutdownError(_) => (ErrorKind::Closed, "the runtime has ended".to_owned()),
        lapin::ErrorKind::ChannelsLimitReached => (
            ErrorKind::Full,
            "the connection has as many channels as the broker allows: close consumers and publishers, or raise channel_max".to_owned(),
        ),
        lapin::ErrorKind::AuthProviderError(_) => (ErrorKind::Unauthenticated, error.to_string()),
        lapin::ErrorKind::SerialisationError(_) => (ErrorKind::InvalidMessage, error.to_string()),
        _ => (ErrorKind::Internal, error.to_string()),
    };
    Error::new(kind, text)
}

fn protocol(said: &lapin::protocol::AMQPError, call: Call) -> (ErrorKind, String) {
    use AMQPHardError as Hard;
    use AMQPSoftError as Soft;

    let text = said.get_message().to_string();
    let kind = match said.kind() {
        AMQPErrorKind::Soft(Soft::NOTFOUND) => ErrorKind::NotFound,
        AMQPErrorKind::Soft(Soft::ACCESSREFUSED) if call == Call::Connect => ErrorKind::Unauthenticated,
        AMQPErrorKind::Soft(Soft::ACCESSREFUSED) => ErrorKind::Forbidden,
        AMQPErrorKind::Soft(Soft::RESOURCELOCKED) => ErrorKind::Mismatch,
        AMQPErrorKind::Soft(Soft::PRECONDITIONFAILED) => match call {
            Call::Declare => ErrorKind::Mismatch,
            Call::Publish if text.contains("size") => ErrorKind::TooLarge,
            // Of a consumer: an unknown tag, or `consumer_timeout`. Both end the channel, and all on it comes again.
            _ => ErrorKind::Disconnected,
        },
        AMQPErrorKind::Hard(Hard::NOTALLOWED) if call == Call::Connect => ErrorKind::NotFound,
        AMQPErrorKind::Hard(Hard::CONNECTIONFORCED) => ErrorKind::Disconnected,
        AMQPErrorKind::Hard(Hard::NOTALLOWED) => ErrorKind::Forbidden,
        AMQPErrorKind::Hard(Hard::INTERNALERROR) => ErrorKind::Disconnected,
        _ => ErrorKind::Protocol,
    };
    (kind, text)
}

/// Nothing was heard within the time limit.
pub(crate) fn silent(what: &str, limit: std::time::Duration) -> Error {
    Error::silent(what, limit)
}

/// The broker handle was closed.
pub(crate) fn closed() -> Error {
    Error::closed("the broker")
}

/// The channel that the delivery came on is gone, and its deliveries with it.
pub(crate) fn stale() -> Error {
    Error::stale("the channel it came on is gone, and the broker hands the message out again")
}
