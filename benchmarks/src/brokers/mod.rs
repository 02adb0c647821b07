//! Parts shared by the comparisons on real brokers: the load, our side of each through `Arc<dyn Broker>`, and how latency and
//! memory are measured.

#[cfg(any(feature = "rabbitmq", feature = "kafka"))]
pub(crate) mod latency;
pub(crate) mod load;
pub(crate) mod ours;
#[cfg(any(feature = "rabbitmq", feature = "kafka"))]
pub(crate) mod resident;
#[cfg(any(feature = "rabbitmq", feature = "kafka"))]
mod site;
#[cfg(test)]
mod tests;

#[cfg(any(feature = "rabbitmq", feature = "kafka"))]
pub(crate) use self::site::Site;
