//! Handlers: async functions of extractors, as a tower service.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tower::Service;

use super::failure::{BoxError, Failure};
use crate::extract::{DeliveryContext, FromDelivery, Incoming, Needs, Rejection};

/// A handler of deliveries: an async function, or closure, of up to eight extractors that returns `()` or
/// `Result<(), E>`, where `E` is any error.
///
/// Every worker of a listener has a clone.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a handler",
    label = "not a handler",
    note = "a handler is an `async fn` of up to eight extractors (`Json<T>`, `Bytes`, `State<S>` …), all owned, that returns `()` or `Result<(), E>`, and whose future is `Send`"
)]
pub trait Handler<Arguments>: Clone + Send + 'static {
    /// The future of one call.
    type Future: Future<Output = Self::Output> + Send + 'static;

    /// Future of a call.
    type Output: IntoHandled;

    /// Makes the arguments and calls the function.
    ///
    /// # Errors
    /// Failure of an extractor.
    fn call(&self, delivery: &mut DeliveryContext<'_>) -> Result<Self::Future, Rejection>;

    /// Collects what the arguments need.
    fn needs(needs: &mut Needs);
}

/// Result of a handler.
#[diagnostic::on_unimplemented(
    message = "a handler cannot return `{Self}`",
    label = "not `()` or `Result<(), E>`",
    note = "return `()`, or `Result<(), E>` where `E` is an error: `HandlerError`, any `std::error::Error`, `anyhow::Error` or `String`"
)]
pub trait IntoHandled {
    /// Converts the result into success or the failure that decides about the delivery.
    ///
    /// # Errors
    /// Result that the handler returned.
    fn into_handled(self) -> Result<(), Failure>;
}

impl IntoHandled for () {
    fn into_handled(self) -> Result<(), Failure> {
        Ok(())
    }
}

impl<E: Into<BoxError>> IntoHandled for Result<(), E> {
    fn into_handled(self) -> Result<(), Failure> {
        self.map_err(|error| Failure::from_boxed(error.into()))
    }
}

macro_rules! handler {
    ($($argument:ident),*) => {
        #[allow(non_snake_case, unused_variables, reason = "one macro for all numbers of arguments, none included")]
        impl<F, Fut, $($argument,)*> Handler<($($argument,)*)> for F
        where
            F: Fn($($argument),*) -> Fut + Clone + Send + 'static,
            Fut: Future + Send + 'static,
            Fut::Output: IntoHandled,
            $($argument: FromDelivery,)*
        {
            type Future = Fut;
            type Output = Fut::Output;

            fn call(&self, delivery: &mut DeliveryContext<'_>) -> Result<Fut, Rejection> {
                $(let $argument = $argument::from_delivery(delivery)?;)*
                Ok(self($($argument),*))
            }

            fn needs(needs: &mut Needs) {
                $($argument::needs(needs);)*
            }
        }
    };
}

handler!();
handler!(A1);
handler!(A1, A2);
handler!(A1, A2, A3);
handler!(A1, A2, A3, A4);
handler!(A1, A2, A3, A4, A5);
handler!(A1, A2, A3, A4, A5, A6);
handler!(A1, A2, A3, A4, A5, A6, A7);
handler!(A1, A2, A3, A4, A5, A6, A7, A8);

/// A handler as a [`tower::Service`]: what the layers of a listener are put around.
pub struct HandlerService<H, Arguments> {
    handler: H,
    arguments: PhantomData<fn() -> Arguments>,
}

impl<H, Arguments> HandlerService<H, Arguments> {
    pub(crate) fn new(handler: H) -> Self {
        Self { handler, arguments: PhantomData }
    }
}

impl<H: Clone, Arguments> Clone for HandlerService<H, Arguments> {
    fn clone(&self) -> Self {
        Self::new(self.handler.clone())
    }
}

impl<H, Arguments> fmt::Debug for HandlerService<H, Arguments> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HandlerService").field(&std::any::type_name::<H>()).finish()
    }
}

impl<H, Arguments> Service<Incoming> for HandlerService<H, Arguments>
where
    H: Handler<Arguments>,
{
    type Response = ();
    type Error = Failure;
    type Future = HandlerFuture<H::Future>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut incoming: Incoming) -> HandlerFuture<H::Future> {
        let state = match self.handler.call(&mut incoming.context()) {
            Ok(future) => State::Called { future },
            Err(rejection) => State::Rejected { failure: Some(rejection.into_failure()) },
        };
        HandlerFuture { state }
    }
}

pin_project! {
    /// One call of a handler.
    pub struct HandlerFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<F> {
        Called { #[pin] future: F },
        Rejected { failure: Option<Failure> },
    }
}

impl<F> Future for HandlerFuture<F>
where
    F: Future,
    F::Output: IntoHandled,
{
    type Output = Result<(), Failure>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProjection::Called { future } => Poll::Ready(ready!(future.poll(cx)).into_handled()),
            StateProjection::Rejected { failure } => match failure.take() {
                Some(failure) => Poll::Ready(Err(failure)),
                None => Poll::Pending,
            },
        }
    }
}

impl<F> fmt::Debug for HandlerFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandlerFuture").finish_non_exhaustive()
    }
}
