//! Values that an application shares with its handlers, by type.

use std::any::{Any, TypeId};
use std::fmt;
use std::ops::Deref;

use super::{DeliveryContext, FromDelivery, Needs, Rejection};

/// State of type `S` that [`App::state`](crate::App::state) was given; a clone for each call.
///
/// A type that no state was given of is refused when the application starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State<S>(pub S);

impl<S> Deref for State<S> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.0
    }
}

impl<S: Clone + Send + Sync + 'static> FromDelivery for State<S> {
    fn from_delivery(delivery: &mut DeliveryContext<'_>) -> Result<Self, Rejection> {
        match delivery.state::<S>() {
            Some(state) => Ok(Self(state.clone())),
            None => Err(missing::<S>()),
        }
    }

    fn needs(needs: &mut Needs) {
        needs.state::<S>();
    }
}

/// Only an extractor that hides its needs gets here: the start checks them.
#[cold]
fn missing<S>() -> Rejection {
    Rejection::failed(format!("no state of type {} was given to the app", std::any::type_name::<S>()))
}

/// One value a type. Applications have a handful: a search from the start is faster than hashing.
#[derive(Default)]
pub(crate) struct States(Vec<(TypeId, Box<dyn Any + Send + Sync>)>);

impl States {
    /// Sets the value of a type, replacing an earlier one.
    pub(crate) fn set<S: Send + Sync + 'static>(&mut self, state: S) {
        let id = TypeId::of::<S>();
        self.0.retain(|(known, _)| *known != id);
        self.0.push((id, Box::new(state)));
    }

    pub(crate) fn get<S: Send + Sync + 'static>(&self) -> Option<&S> {
        let id = TypeId::of::<S>();
        self.0.iter().find(|(known, _)| *known == id)?.1.downcast_ref()
    }

    pub(crate) fn has(&self, id: TypeId) -> bool {
        self.0.iter().any(|(known, _)| *known == id)
    }
}

impl fmt::Debug for States {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("States").field("types", &self.0.len()).finish()
    }
}
