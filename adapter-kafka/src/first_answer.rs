//! The first question to a broker, and what is said where no answer comes: which address, why, and what to do.

use std::sync::Arc;
use std::time::{Duration, Instant};

use messaging_core::{Error, ErrorKind, Result};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::producer::Producer as _;

use crate::blocking::{DropOnThread, REQUEST_TIMEOUT, blocking};
use crate::config::ConnectionOptions;
use crate::connection::{Listener, PROBED_TOPIC, Probe};
use crate::error::from_code;

/// Time limit of the first answer: a wrong address is reported within 5 s.
const FIRST_ANSWER_TIMEOUT: Duration = Duration::from_secs(4);
/// Time limit of the first question; each later one may take twice as long. An answer may be slow, but the client's complaints are
/// not served meanwhile.
const QUESTION_TIMEOUT: Duration = Duration::from_millis(500);
/// Time for the client's complaints after each question.
const COMPLAINTS_TIMEOUT: Duration = Duration::from_millis(50);

/// Asks until the broker answers, or says clearly that it will not.
pub(crate) async fn first_answer(
    probe: &Arc<DropOnThread<Probe>>,
    listener: &Listener,
    options: &ConnectionOptions,
) -> Result<()> {
    let begun = Instant::now();
    let mut turn = QUESTION_TIMEOUT;
    loop {
        let asking = Arc::clone(probe);
        let ask = move || {
            let Some(client) = asking.get() else { return Err(KafkaError::Canceled) };
            let answer = client.client().fetch_metadata(Some(PROBED_TOPIC), turn).map(drop);
            if answer.is_err() {
                // Without a time it would take in one event, which is a line of the log before it is a complaint.
                client.poll(COMPLAINTS_TIMEOUT);
            }
            answer
        };
        let Err(error) = blocking("connecting", REQUEST_TIMEOUT, ask).await? else { return Ok(()) };
        let complaint = listener.complaint();
        let is_final = matches!(complaint, Some((Code::Authentication | Code::SSL, _)));
        if is_final || begun.elapsed() >= FIRST_ANSWER_TIMEOUT {
            return Err(explain(complaint, &error, options));
        }
        turn = (turn * 2).min(FIRST_ANSWER_TIMEOUT.saturating_sub(begun.elapsed())).max(COMPLAINTS_TIMEOUT);
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
