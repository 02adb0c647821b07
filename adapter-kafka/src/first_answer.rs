//! The first question to a broker, and what is said where no answer comes: which address, why, and what to do.

use std::sync::Arc;
use std::time::{Duration, Instant};

use messaging_core::{Error, ErrorKind, Result};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::producer::Producer as _;

use crate::config::ConnectionOptions;
use crate::connection::{ASK, Detached, Listener, PROBED, Probe, blocking};
use crate::error::from_code;

/// How long a broker may take for its first answer: whoever gave a wrong address is told within 5 s.
const FIRST: Duration = Duration::from_secs(4);
/// How long the first question may take, and each later one twice as long: an answer may be slow, but nobody listens meanwhile to
/// what the client complains of.
const TURN: Duration = Duration::from_millis(500);
/// How long it is listened to after each.
const LISTEN: Duration = Duration::from_millis(50);

/// Asks until the broker answers, or says clearly that it will not.
pub(crate) async fn first_answer(
    probe: &Arc<Detached<Probe>>,
    listener: &Listener,
    options: &ConnectionOptions,
) -> Result<()> {
    let begun = Instant::now();
    let mut turn = TURN;
    loop {
        let asking = Arc::clone(probe);
        let ask = move || {
            let Some(client) = asking.get() else { return Err(KafkaError::Canceled) };
            let answer = client.client().fetch_metadata(Some(PROBED), turn).map(drop);
            if answer.is_err() {
                // Without a time it would take in one event, which is a line of the log before it is a complaint.
                client.poll(LISTEN);
            }
            answer
        };
        let Err(error) = blocking("connecting", ASK, ask).await? else { return Ok(()) };
        let complaint = listener.complaint();
        let is_final = matches!(complaint, Some((Code::Authentication | Code::SSL, _)));
        if is_final || begun.elapsed() >= FIRST {
            return Err(explain(complaint, &error, options));
        }
        turn = (turn * 2).min(FIRST.saturating_sub(begun.elapsed())).max(LISTEN);
    }
}

/// Says where it happened, and what to do.
fn explain(complaint: Option<(Code, String)>, error: &KafkaError, options: &ConnectionOptions) -> Error {
    let (code, said) = complaint
        .or_else(|| error.rdkafka_error_code().map(|code| (code, code.to_string())))
        .unwrap_or((Code::BrokerTransportFailure, error.to_string()));
    let lower = said.to_lowercase();
    let kind = from_code("", code).kind();
    let (kind, next) = match code {
        Code::Authentication => (kind, options.login_to_check()),
        Code::SSL if lower.contains("certificate") => {
            let next = "set ca_file to the authority that signed the broker's certificate, and check its name and date";
            (ErrorKind::Config, next.to_owned())
        }
        _ if options.is_encrypted() && lower.contains("handshake") => {
            (kind, "does this port speak TLS, and is it kafka's?".to_owned())
        }
        _ if lower.contains("refused") => (kind, "is the broker running, and is this its port?".to_owned()),
        _ if options.is_encrypted() => (kind, "is the broker running, and is this its port for TLS?".to_owned()),
        _ => (kind, "is this kafka's port, and does it want kafkas:// instead of kafka://?".to_owned()),
    };
    Error::new(kind, format!("no answer from kafka at {}: {said}: {next}", options.servers()))
}
