//! A way to a server through a proxy that nobody else uses, so that a fault on it is one test's alone.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Proxy;
use crate::{Error, Result, run};

/// A proxy of one's own with the URL that goes through it; whole again, and free for others, when dropped.
#[derive(Debug)]
pub struct Route {
    proxy: Arc<Proxy>,
    url: String,
    /// Where it goes back to, if it is borrowed.
    lent: Option<(Arc<Lanes>, OwnedSemaphorePermit)>,
}

impl Route {
    pub(crate) fn own(proxy: Proxy, url: String) -> Self {
        Self { proxy: Arc::new(proxy), url, lent: None }
    }

    /// The proxy.
    pub fn proxy(&self) -> &Arc<Proxy> {
        &self.proxy
    }

    /// The server's URL by way of the proxy.
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Route {
    fn drop(&mut self) {
        let Some((lanes, permit)) = self.lent.take() else { return };
        let proxy = Arc::clone(&self.proxy);
        run::spawn(async move {
            proxy.cut_off().await;
            // Should its port not open again, it is not lent any more.
            if proxy.heal().await.is_ok() {
                lanes.idle().push(proxy);
                drop(permit);
            } else {
                permit.forget();
            }
        });
    }
}

/// Proxies that a server knows by name, each in front of a listener of its own, to be lent one by one.
#[derive(Debug)]
pub(crate) struct Lanes {
    idle: Mutex<Vec<Arc<Proxy>>>,
    free: Arc<Semaphore>,
}

impl Lanes {
    pub(crate) fn new(proxies: Vec<Proxy>) -> Arc<Self> {
        let free = Arc::new(Semaphore::new(proxies.len()));
        Arc::new(Self { idle: Mutex::new(proxies.into_iter().map(Arc::new).collect()), free })
    }

    /// Waits until one is free.
    pub(crate) async fn borrow(self: &Arc<Self>, url: impl FnOnce(&Proxy) -> String) -> Result<Route> {
        let none = || Error::failed("a lane is free and not there");
        let permit = Arc::clone(&self.free).acquire_owned().await.map_err(|_| none())?;
        let proxy = self.idle().pop().ok_or_else(none)?;
        Ok(Route { url: url(&proxy), proxy, lent: Some((Arc::clone(self), permit)) })
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Arc<Proxy>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
