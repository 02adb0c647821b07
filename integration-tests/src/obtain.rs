//! Getting a broker, by the first way that works.

use std::collections::HashMap;
use std::env;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use tokio::sync::OnceCell;

use crate::environment::{self, Elsewhere};
use crate::raw::Location;
use crate::report::{self, Start};
use crate::{Broker, Error, ErrorKind, Kind, Result, Way, native};

/// A broker for all cases of this process that leave it as it is: started at the first call, ended with the process.
///
/// The first way that works: the address in [`Kind::variable`], a container, a native process. Cases share it, so each
/// uses fresh names, takes its faults from a [`Proxy`](crate::Proxy) of its own, and kills nothing.
///
/// # Errors
/// [`ErrorKind::Missing`] if this machine has no way to provide it. An address in the environment that
/// does not answer is a failure, and no reason to try the next way.
pub async fn shared(kind: Kind) -> Result<Arc<dyn Broker>> {
    type Cell = Arc<OnceCell<Arc<dyn Broker>>>;
    static BROKERS: OnceLock<Mutex<HashMap<Kind, Cell>>> = OnceLock::new();

    let cell = {
        let mut brokers = BROKERS.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(brokers.entry(kind).or_default())
    };
    cell.get_or_try_init(|| async { start_shared(kind).await.map(Arc::from) }).await.cloned()
}

async fn start_shared(kind: Kind) -> Result<Box<dyn Broker>> {
    match (wanted()?, environment::given(kind)) {
        (None | Some(Way::Environment), Some(url)) => {
            let began = Instant::now();
            let broker = Elsewhere::find(kind, url).await?;
            report::record(Start { kind, way: Way::Environment, nodes: 1, took: began.elapsed() });
            Ok(Box::new(broker))
        }
        (Some(Way::Environment), None) => Err(Error::missing(format!("{kind}: {} is not set", kind.variable()))),
        _ => own(kind).await,
    }
}

/// A broker of the caller's own, to be stopped, killed and paused at will; gone with its data when dropped.
///
/// The first way that is there: a container, a native process. `MESSAGING_BROKER_WAY` (`container` or `native`) allows one only.
///
/// # Errors
/// [`ErrorKind::Missing`] if this machine has no way to provide it, with each way's reason. A way that is there and fails is a
/// failure, and no reason to try the next.
pub async fn own(kind: Kind) -> Result<Box<dyn Broker>> {
    match wanted()? {
        Some(Way::Environment) => {
            Err(Error::missing(format!("{kind}: one of its own is asked for, and only addresses are allowed")))
        }
        Some(way) => own_by(kind, way).await,
        None => match own_by(kind, Way::Container).await {
            // An engine that is there and fails is a failure: what is passed over in silence is never mended.
            Err(first) if first.kind() == ErrorKind::Missing => {
                own_by(kind, Way::Native).await.map_err(|error| match error.kind() {
                    ErrorKind::Missing => Error::missing(format!("{error}; by container: {first}")),
                    _ => error,
                })
            }
            tried => tried,
        },
    }
}

/// A broker of the caller's own by this way and no other. Only a native one has TLS and accounts.
///
/// # Errors
/// [`ErrorKind::Missing`] if this machine lacks the way.
pub async fn own_by(kind: Kind, way: Way) -> Result<Box<dyn Broker>> {
    let began = Instant::now();
    let broker: Box<dyn Broker> = match way {
        Way::Native => Box::new(native::launch(kind).await?),
        #[cfg(feature = "containers")]
        Way::Container => Box::new(crate::container::launch(kind).await?),
        #[cfg(not(feature = "containers"))]
        Way::Container => {
            let text = format!("{kind}: this build starts no containers: enable the feature of integration-tests");
            return Err(Error::missing(text));
        }
        Way::Environment => {
            let variable = kind.variable();
            let text = format!("the {kind} of {variable} is nobody's own: share it, or start one another way");
            return Err(Error::unsupported(text));
        }
    };
    report::record(Start { kind, way, nodes: 1, took: began.elapsed() });
    Ok(broker)
}

/// Checks that this machine can start a broker natively, without starting one.
///
/// # Errors
/// [`ErrorKind::Missing`], with the reason and how to help it.
pub fn available(kind: Kind) -> Result<()> {
    native::install::check(kind)
}

/// The address of a broker named in the environment, without login and path.
pub fn recorded_address(kind: Kind) -> Option<String> {
    let url = environment::given(kind)?;
    Some(Location::parse(&url, None).map_or_else(|error| error.to_string(), |at| at.hosts()))
}

/// Describes the container engine for people.
pub async fn engine() -> String {
    #[cfg(feature = "containers")]
    return crate::container::engine().await.map_or_else(|error| error.to_string(), |_| "present".to_owned());
    #[cfg(not(feature = "containers"))]
    "left out of this build".to_owned()
}

/// True if a missing broker is a failure: `MESSAGING_REQUIRE_BROKERS=1`, as CI sets it.
pub fn brokers_are_required() -> bool {
    env::var_os("MESSAGING_REQUIRE_BROKERS").is_some_and(|value| value == "1")
}

/// The one way allowed by `MESSAGING_BROKER_WAY`, if it is set.
pub(crate) fn wanted() -> Result<Option<Way>> {
    let Ok(name) = env::var("MESSAGING_BROKER_WAY") else { return Ok(None) };
    let all = [Way::Environment, Way::Container, Way::Native];
    let found = all.into_iter().find(|way| way.to_string() == name);
    let wrong =
        || Error::unsupported(format!("MESSAGING_BROKER_WAY is {name:?}: use environment, container or native"));
    found.ok_or_else(wrong).map(Some)
}
