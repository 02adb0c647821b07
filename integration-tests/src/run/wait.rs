//! Waiting for a condition, never for a time.

use std::fmt::Display;
use std::future::Future;
use std::time::{Duration, Instant};

use crate::{Error, ErrorKind, Result};

const RETRY_INTERVAL: Duration = Duration::from_millis(25);

/// Asks again and again, with 25 ms between, until `condition` answers `Ok`.
///
/// # Errors
/// [`ErrorKind::TimedOut`] after `limit`, with what was awaited and the last refusal in its text. One call of `condition` that
/// hangs is cut off at the limit too. [`ErrorKind::Unsupported`] ends the waiting at once.
pub async fn until<T, F>(what: impl Display, limit: Duration, mut condition: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let end = Instant::now() + limit;
    let mut last = String::from("no answer");
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        match tokio::time::timeout(left, condition()).await {
            Ok(Ok(found)) => return Ok(found),
            // That will not change by waiting.
            Ok(Err(error)) if error.kind() == ErrorKind::Unsupported => return Err(error),
            Ok(Err(error)) => last = error.to_string(),
            Err(_) => last = format!("no answer ({last} before)"),
        }
        tokio::time::sleep(RETRY_INTERVAL).await;
    }
    Err(Error::new(ErrorKind::TimedOut, format!("{what} did not happen within {limit:?}: {last}")))
}
