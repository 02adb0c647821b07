//! Calls to the broker in a row, each repeated if the connection is lost meanwhile.

use std::time::Duration;

use lapin::options::{
    ExchangeBindOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, ExchangeKind};
use messaging_core::{Error, ErrorKind, Result, TopologyMode};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::{Binding, QueueDeclaration, Topology};
use crate::config::QueueType;
use crate::connection::{Line, Link};
use crate::error::{Call, from_lapin, silent};
use crate::layout::short;

/// Pause before a call is repeated.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// How many messages a queue has ready.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QueueState {
    pub(crate) ready: u64,
}

/// Calls in a row, on one channel until a refused call ends it.
pub(crate) struct Session<'a> {
    pub(super) topology: &'a Topology,
    pub(super) link: &'a Link,
    pub(super) channel: Option<Line>,
}

impl Session<'_> {
    /// Runs one call, again if the connection is lost meanwhile: every call here comes to the same when it is repeated.
    pub(crate) async fn call<T, F: Future<Output = lapin::Result<T>> + Send>(
        &mut self,
        what: &str,
        call: Call,
        run: impl Fn(Channel) -> F,
    ) -> Result<T> {
        let limit = self.topology.config.request_timeout;
        let by = Instant::now() + limit;
        loop {
            let error = match timeout_at(by, self.call_once(by, call, &run)).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => error,
                Err(_) => return Err(silent(what, limit)),
            };
            if error.kind() != ErrorKind::Disconnected || Instant::now() + RETRY_PAUSE > by {
                return Err(error);
            }
            sleep(RETRY_PAUSE).await;
        }
    }

    async fn call_once<T, F: Future<Output = lapin::Result<T>> + Send>(
        &mut self,
        by: Instant,
        call: Call,
        run: impl Fn(Channel) -> F,
    ) -> Result<T> {
        let channel = match self.channel.take().filter(|channel| channel.status().connected()) {
            Some(channel) => channel,
            None => self.link.channel(by).await?,
        };
        let answered = channel.unless_lost(run(Channel::clone(&channel))).await?;
        let answer = answered.map_err(|error| {
            self.link.note(&error);
            from_lapin(&error, call)
        })?;
        self.channel = Some(channel);
        Ok(answer)
    }

    /// What is known of a queue; none if it is not there.
    pub(crate) async fn queue(&mut self, name: &str) -> Result<Option<QueueState>> {
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let queue = short("the name of a queue", name)?;
        let declared = self
            .call("looking for a queue", Call::Declare, |channel| {
                let name = queue.clone();
                async move { channel.queue_declare(name, options, FieldTable::default()).await }
            })
            .await;
        match declared {
            Ok(queue) => Ok(Some(QueueState { ready: u64::from(queue.message_count()) })),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn must_exist(&mut self, name: &str) -> Result<()> {
        match self.queue(name).await? {
            Some(_) => Ok(()),
            None => Err(Error::missing("the queue", name)),
        }
    }

    pub(crate) async fn exchange_exists(&mut self, name: &str) -> Result<bool> {
        let options = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
        let exchange = short("the name of an exchange", name)?;
        let declared = self
            .call("looking for an exchange", Call::Declare, |channel| {
                let name = exchange.clone();
                async move { channel.exchange_declare(name, ExchangeKind::Fanout, options, FieldTable::default()).await }
            })
            .await;
        match declared {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Makes sure of queues by the topology mode, and compares their arguments.
    pub(crate) async fn ensure(&mut self, declarations: &[QueueDeclaration]) -> Result<()> {
        // What is there is compared before anything is made: a difference leaves nothing behind.
        let mut absent = Vec::new();
        for declaration in declarations {
            match self.queue(&declaration.name).await? {
                Some(_) => self.declare(declaration).await?,
                None => absent.push(declaration),
            }
        }
        for declaration in absent {
            if self.topology.mode == TopologyMode::Verify {
                return Err(Error::missing("the queue", &declaration.name));
            }
            self.declare(declaration).await?;
            if declaration.queue_type == QueueType::Quorum {
                let until = Instant::now() + self.topology.config.new_queue_wait;
                self.topology.provisional.lock().insert(declaration.name.clone(), until);
            }
        }
        Ok(())
    }

    /// Declares a queue: makes it, or compares its arguments with those of the one that is there.
    pub(crate) async fn declare(&mut self, declaration: &QueueDeclaration) -> Result<()> {
        let QueueDeclaration { name, arguments, queue_type: _ } = declaration;
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        let queue = short("the name of a queue", name)?;
        self.call("declaring a queue", Call::Declare, |channel| {
            let (name, arguments) = (queue.clone(), arguments.clone());
            async move { channel.queue_declare(name, options, arguments).await }
        })
        .await
        .map(drop)
        .map_err(|error| mismatch(error, "queue", name))
    }

    pub(crate) async fn declare_exchange(&mut self, name: &str, kind: &str, auto_delete: bool) -> Result<()> {
        let options = ExchangeDeclareOptions { durable: true, auto_delete, ..ExchangeDeclareOptions::default() };
        let kind = match kind {
            "topic" => ExchangeKind::Topic,
            "fanout" => ExchangeKind::Fanout,
            "direct" => ExchangeKind::Direct,
            "headers" => ExchangeKind::Headers,
            other => ExchangeKind::Custom(other.to_owned()),
        };
        let exchange = short("the name of an exchange", name)?;
        self.call("declaring an exchange", Call::Declare, |channel| {
            let (name, kind) = (exchange.clone(), kind.clone());
            async move { channel.exchange_declare(name, kind, options, FieldTable::default()).await }
        })
        .await
        .map_err(|error| mismatch(error, "exchange", name))
    }

    pub(crate) async fn bind_queue(&mut self, binding: &Binding) -> Result<()> {
        let Binding { queue, exchange, key, arguments } = binding;
        let queue = short("the name of a queue", queue)?;
        let exchange = short("the name of an exchange", exchange)?;
        let key = short("the key of a binding", key)?;
        self.call("binding a queue", Call::Declare, |channel| {
            let (queue, exchange, key, arguments) = (queue.clone(), exchange.clone(), key.clone(), arguments.clone());
            async move { channel.queue_bind(queue, exchange, key, QueueBindOptions::default(), arguments).await }
        })
        .await
    }

    /// Lets what one exchange gets go to another too.
    pub(crate) async fn bind_exchange(&mut self, to: &str, from: &str) -> Result<()> {
        let (to, from) = (short("the name of an exchange", to)?, short("the name of an exchange", from)?);
        self.call("binding an exchange", Call::Declare, |channel| {
            let (to, from) = (to.clone(), from.clone());
            async move {
                let options = ExchangeBindOptions::default();
                channel.exchange_bind(to, from, ShortString::default(), options, FieldTable::default()).await
            }
        })
        .await
    }

    pub(crate) async fn delete_queue(&mut self, name: &str) -> Result<u64> {
        let queue = short("the name of a queue", name)?;
        self.call("deleting a queue", Call::Other, |channel| {
            let name = queue.clone();
            async move { channel.queue_delete(name, QueueDeleteOptions::default()).await }
        })
        .await
        .map(u64::from)
    }

    /// Gives the channel back to the broker.
    pub(crate) async fn close(self) {
        if let Some(channel) = self.channel {
            let _ = timeout(Duration::from_secs(1), channel.close(200, "done".into())).await;
        }
    }
}

/// Says which argument differs, and both values, from the broker's words.
fn mismatch(error: Error, what: &str, name: &str) -> Error {
    if error.kind() != ErrorKind::Mismatch {
        return error;
    }
    let said = error.text();
    let between = |from: &str, to: &str| {
        let start = said.find(from)? + from.len();
        let end = if to.is_empty() { said.len() } else { start + said[start..].find(to)? };
        Some(said[start..end].trim().to_owned())
    };
    let parts =
        (between("inequivalent arg '", "'"), between("received ", " but current is "), between(" but current is ", ""));
    let text = match parts {
        (Some(argument), Some(asked), Some(is)) => format!(
            "{what} {name:?} exists with {argument} {is}, the configuration asks for {asked}: set it as it is, or choose another name; nothing was changed"
        ),
        // Words of the broker for an argument that it does not take, whether there is such a queue or not.
        _ if said.contains("invalid arg") => {
            return Error::new(
                ErrorKind::Config,
                format!("{what} {name:?} cannot be declared: {said}: correct its arguments; nothing was changed"),
            );
        }
        _ => format!("{what} {name:?} exists and differs: {said}; nothing was changed"),
    };
    Error::new(ErrorKind::Mismatch, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_argument_that_the_broker_does_not_take_is_no_difference() {
        let said = "PRECONDITION_FAILED - invalid arg 'x-max-length' for queue 'q5' in vhost '/': \"expected integer, got longstr\"";
        let error = mismatch(Error::new(ErrorKind::Mismatch, said), "queue", "q5");
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.text().contains("x-max-length") && !error.text().contains("exists"), "{error}");
    }

    #[test]
    fn a_difference_is_told_with_both_values() {
        let said = "PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue 'orders' in vhost '/': received 'quorum' but current is 'classic'";
        let error = mismatch(Error::new(ErrorKind::Mismatch, said), "queue", "orders");
        assert_eq!(
            error.text(),
            "queue \"orders\" exists with x-queue-type 'classic', the configuration asks for 'quorum': set it as it is, or choose another name; nothing was changed"
        );
    }
}
