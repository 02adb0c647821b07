//! A listener: a declaration and a handler, ready to be mounted, whatever the handler's type.

use std::fmt;
use std::sync::Arc;

use tower::util::BoxCloneService;
use tower::{Layer, Service};

use super::Listen;
use super::failure::BoxError;
use super::handler::{Handler, HandlerService};
use super::worker::{Worker, WorkerTask};
use crate::extract::{Incoming, Needs};

/// A listener's service with its type forgotten; a call costs a boxed future.
pub type BoxListenerService = BoxCloneService<Incoming, (), BoxError>;

/// A layer of the whole application, with its type forgotten.
pub(crate) type AppLayer = Arc<dyn Fn(BoxListenerService) -> BoxListenerService + Send + Sync>;

/// A [`Listen`] and the handler it is for, ready for [`App::mount`](crate::App::mount).
///
/// ```
/// use bytes::Bytes;
/// use messaging::{Listen, Listener};
///
/// async fn store(payload: Bytes) -> std::io::Result<()> {
///     # let _ = payload;
///     Ok(())
/// }
///
/// let listener = Listener::new(Listen::queue("orders").concurrency(4), store);
/// assert_eq!(listener.id(), "orders");
/// ```
pub struct Listener {
    pub(crate) listen: Listen,
    pub(crate) needs: Needs,
    mount: Box<dyn Mount>,
}

impl Listener {
    /// A listener whose handler is called directly.
    #[must_use]
    pub fn new<H, Arguments>(listen: Listen, handler: H) -> Self
    where
        H: Handler<Arguments>,
        Arguments: 'static,
    {
        Self { listen, needs: needs_of::<H, Arguments>(), mount: Box::new(Static(HandlerService::new(handler))) }
    }

    /// A listener with a layer around its handler, compiled into one: it costs what the layer itself costs.
    ///
    /// Several layers are put together with [`tower::ServiceBuilder`] or [`tower::layer::util::Stack`].
    #[must_use]
    pub fn layered<L, H, Arguments>(listen: Listen, layer: L, handler: H) -> Self
    where
        H: Handler<Arguments>,
        Arguments: 'static,
        L: Layer<HandlerService<H, Arguments>>,
        L::Service: Service<Incoming, Response = ()> + Clone + Send + 'static,
        <L::Service as Service<Incoming>>::Error: Into<BoxError>,
        <L::Service as Service<Incoming>>::Future: Send + 'static,
    {
        let service = layer.layer(HandlerService::new(handler));
        Self { listen, needs: needs_of::<H, Arguments>(), mount: Box::new(Static(service)) }
    }

    /// Puts a layer around a listener whose type is forgotten, such as one made by a macro. A call costs a boxed future or
    /// two; [`layered`](Self::layered) has none.
    #[must_use]
    pub fn layer<L>(self, layer: L) -> Self
    where
        L: Layer<BoxListenerService>,
        L::Service: Service<Incoming, Response = ()> + Clone + Send + 'static,
        <L::Service as Service<Incoming>>::Error: Into<BoxError>,
        <L::Service as Service<Incoming>>::Future: Send + 'static,
    {
        let service = layer.layer(self.mount.boxed());
        Self { mount: Box::new(Static(service)), ..self }
    }

    /// The id, as far as the code says: it names the listener in the configuration, the ledger and logs.
    #[must_use]
    pub fn id(&self) -> String {
        self.listen.effective_id()
    }

    /// One task for each worker.
    pub(crate) fn tasks(self, layers: &[AppLayer], workers: Vec<Worker>) -> Vec<WorkerTask> {
        if layers.is_empty() {
            return self.mount.tasks(workers);
        }
        // The layer given first is the outermost.
        let service = layers.iter().rev().fold(self.mount.boxed(), |service, layer| layer(service));
        Box::new(Static(service)).tasks(workers)
    }
}

fn needs_of<H: Handler<Arguments>, Arguments>() -> Needs {
    let mut needs = Needs::default();
    H::needs(&mut needs);
    needs
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").field("listen", &self.listen).finish_non_exhaustive()
    }
}

/// Operations on a listener's service that hide its type.
trait Mount: Send {
    fn tasks(self: Box<Self>, workers: Vec<Worker>) -> Vec<WorkerTask>;
    fn boxed(self: Box<Self>) -> BoxListenerService;
}

/// A service whose type is known here and nowhere else.
struct Static<S>(S);

impl<S> Mount for Static<S>
where
    S: Service<Incoming, Response = ()> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
{
    fn tasks(self: Box<Self>, workers: Vec<Worker>) -> Vec<WorkerTask> {
        workers.into_iter().map(|worker| Box::pin(worker.run(self.0.clone())) as WorkerTask).collect()
    }

    fn boxed(self: Box<Self>) -> BoxListenerService {
        use tower::ServiceExt;
        BoxCloneService::new(self.0.map_err(Into::into))
    }
}
