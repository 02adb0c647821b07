//! The guard around code of the application: one place that turns a panic into a value.
//!
//! Handlers, layers, extractors, errors and values that are dropped belong to the application, and any of them may panic. A
//! worker calls them through this module alone, so that a panic counts against the delivery at hand and never ends the
//! worker.

use std::any::Any;
use std::error::Error as StdError;
use std::fmt::Write;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

/// The most causes that are read of one error: a chain that leads back to itself has no end.
const CAUSES_MAX: usize = 32;

/// Text of a panic that was caught.
#[derive(Debug)]
pub(crate) struct Panic(pub(crate) String);

impl Panic {
    #[cold]
    fn new(payload: Box<dyn Any + Send>) -> Self {
        let text = payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("the panic carried no text")
            .to_owned();
        discard(payload);
        Self(text)
    }
}

/// Runs code of the application; a panic is returned.
///
/// The caller does not use again what a panic may have left half done.
#[inline]
pub(crate) fn caught<T>(run: impl FnOnce() -> T) -> Result<T, Panic> {
    catch_unwind(AssertUnwindSafe(run)).map_err(Panic::new)
}

/// Polls a future of the application, if it is there; a panic is returned. A future that has panicked is not polled again.
#[inline]
pub(crate) fn poll_caught<F: Future>(
    future: Pin<&mut Option<F>>,
    cx: &mut Context<'_>,
) -> Poll<Result<F::Output, Panic>> {
    match future.as_pin_mut() {
        Some(future) => match caught(|| future.poll(cx)) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
            Err(panic) => Poll::Ready(Err(panic)),
        },
        None => Poll::Pending,
    }
}

/// Drops a value of the application. A panic of its destructor ends here: there is nothing left that it could spoil.
#[inline]
pub(crate) fn discard<T>(value: T) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(value))) {
        // Its own destructor may panic too.
        std::mem::forget(payload);
    }
}

/// Drops a future where it is pinned, as [`discard`] does.
#[inline]
pub(crate) fn discard_pinned<F>(mut future: Pin<&mut Option<F>>) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| future.set(None))) {
        std::mem::forget(payload);
    }
}

/// An error of the application in words, outermost first, and never empty.
#[derive(Debug)]
pub(crate) struct Described {
    pub(crate) chain: Vec<String>,
    /// Whether the error panicked, or failed to format itself.
    pub(crate) is_broken: bool,
}

impl Described {
    /// Reads an error and its causes.
    #[cold]
    pub(crate) fn of(error: &(dyn StdError + 'static)) -> Self {
        let mut described = Self { chain: Vec::with_capacity(1), is_broken: false };
        let mut next = Some(error);
        while let Some(error) = next
            && described.chain.len() < CAUSES_MAX
        {
            described.add(error);
            next = match caught(|| error.source()) {
                Ok(source) => source,
                Err(Panic(text)) => {
                    described.broken(format!("the cause of this error cannot be read: it panicked: {text}"));
                    None
                }
            };
        }
        described
    }

    /// The outermost text.
    pub(crate) fn first(&self) -> &str {
        self.chain.first().map_or("", String::as_str)
    }

    fn add(&mut self, error: &(dyn StdError + 'static)) {
        let mut text = String::new();
        match caught(|| write!(text, "{error}")) {
            Ok(Ok(())) => self.chain.push(text),
            Ok(Err(_)) => self.broken("an error whose text cannot be shown: its Display failed".to_owned()),
            Err(Panic(panic)) => {
                self.broken(format!("an error whose text cannot be shown: its Display panicked: {panic}"));
            }
        }
    }

    fn broken(&mut self, text: String) {
        self.chain.push(text);
        self.is_broken = true;
    }
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use super::*;

    struct PanicsWhenDropped;

    impl Drop for PanicsWhenDropped {
        fn drop(&mut self) {
            if !std::thread::panicking() {
                panic!("dropped");
            }
        }
    }

    #[derive(Debug)]
    struct Endless;

    impl fmt::Display for Endless {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("endless")
        }
    }

    impl StdError for Endless {
        fn source(&self) -> Option<&(dyn StdError + 'static)> {
            Some(self)
        }
    }

    #[test]
    fn a_panic_becomes_its_text_whatever_it_carries() {
        assert_eq!(caught(|| panic!("plain")).map_err(|Panic(text)| text), Err::<(), _>("plain".to_owned()));
        assert_eq!(caught(|| panic!("number {}", 7)).map_err(|Panic(text)| text), Err::<(), _>("number 7".to_owned()));
        let odd = caught(|| std::panic::panic_any(PanicsWhenDropped));
        assert_eq!(odd.map_err(|Panic(text)| text), Err::<(), _>("the panic carried no text".to_owned()));
    }

    #[test]
    fn a_destructor_that_panics_ends_here() {
        discard(PanicsWhenDropped);
        let mut called = std::pin::pin!(Some(async move {
            let _held = PanicsWhenDropped;
            std::future::pending::<()>().await;
        }));
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert!(poll_caught(called.as_mut(), &mut cx).is_pending());
        discard_pinned(called.as_mut());
        assert!(called.is_none());
    }

    #[test]
    fn a_chain_that_leads_back_to_itself_is_bounded() {
        assert_eq!(Described::of(&Endless).chain.len(), CAUSES_MAX);
    }
}
