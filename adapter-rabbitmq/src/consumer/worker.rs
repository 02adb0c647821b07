//! The consumer's task: registers, has the channel served, and registers again when it is lost.

use std::sync::Arc;
use std::time::Duration;

use messaging_core::spi::{Tickets, TicketsOwner};

use messaging_core::{Error, ErrorKind, Event, MessageId, Result, Source};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep};

use super::attach::{Attached, attach};
use super::service::{End, Service};
use super::{Consumed, ConsumerContext, Finished, Plan, Request, Shared};
use crate::error::closed;
use crate::settle::{Epoch, Retries};

/// The longest pause between two attempts to register.
const PAUSE_MAX: Duration = Duration::from_secs(1);

pub(super) struct Worker {
    pub(super) around: ConsumerContext,
    pub(super) plan: Plan,
    pub(super) shared: Arc<Shared>,
    pub(super) requests: mpsc::UnboundedReceiver<Request>,
    pub(super) tickets: TicketsOwner<()>,
    /// Tells this member from others of the same source.
    pub(super) member: String,
    /// Settlements that were written since the last flush.
    pub(super) unflushed: u64,
    /// Of those, how many were on channels that are gone.
    pub(super) lost: u64,
}

impl Worker {
    pub(super) fn new(
        around: ConsumerContext,
        plan: Plan,
        shared: Arc<Shared>,
        requests: mpsc::UnboundedReceiver<Request>,
    ) -> Self {
        let member = MessageId::generate().to_string();
        Self { around, plan, shared, requests, tickets: Tickets::owned(), member, unflushed: 0, lost: 0 }
    }

    pub(super) async fn run(mut self, opened: oneshot::Sender<Result<()>>) {
        let attached = match self.attach_first().await {
            Ok(attached) => attached,
            Err(error) => {
                let _ = opened.send(Err(error));
                return;
            }
        };
        let mut service = self.begin(attached, false);
        if opened.send(Ok(())).is_err() {
            self.shared.set_dropped();
        }
        loop {
            match service.serve(&mut self).await {
                End::Finish { by, done } => {
                    let finished = service.finish(&mut self, by).await;
                    if let Some(done) = done {
                        let _ = done.send(finished);
                    }
                    return;
                }
                End::Lost { why, cancelled } => {
                    service.abandon(&mut self, &why).await;
                    match self.attach_again(why, cancelled).await {
                        Some(attached) => service = self.begin(attached, true),
                        None => return,
                    }
                }
            }
        }
    }

    /// Registers for the first time; again if the connection is lost meanwhile.
    async fn attach_first(&self) -> Result<Attached> {
        let by = Instant::now() + self.around.topology.config.request_timeout;
        loop {
            match attach(&self.around, &self.plan, &self.member, self.shared.flow()).await {
                Err(error) if error.kind() == ErrorKind::Disconnected && Instant::now() < by => {
                    sleep(Duration::from_millis(50)).await;
                }
                other => return other,
            }
        }
    }

    fn begin(&self, attached: Attached, is_back: bool) -> Service {
        let (commands, received) = mpsc::unbounded_channel();
        let retries = if self.plan.by_key || matches!(self.plan.what, Consumed::Ephemeral { .. }) {
            Retries::Here
        } else if attached.reading.counts {
            Retries::AtBroker
        } else {
            Retries::ByCopies
        };
        let tickets = self.tickets.tickets().clone();
        let epoch = Arc::new(Epoch::new(self.shared.clone(), commands, tickets, retries));
        self.shared.begin(epoch, is_back);
        if is_back && matches!(self.plan.what, Consumed::Ephemeral { .. }) {
            self.shared.happened(Event::Gap { missed: None });
        }
        Service::new(attached, received)
    }

    /// Registers again, however long it takes. None when nobody wants deliveries any more.
    async fn attach_again(&mut self, mut why: String, cancelled: bool) -> Option<Attached> {
        let mut pause = Duration::from_millis(20);
        if self.was_unsubscribed(cancelled).await {
            self.shared.set_ended();
            return None;
        }
        loop {
            if self.shared.is_dropped() {
                return None;
            }
            let (around, plan, member) = (self.around.clone(), self.plan.clone(), self.member.clone());
            let flow = self.shared.flow();
            let mut attaching = Box::pin(async move { attach(&around, &plan, &member, flow).await });
            loop {
                tokio::select! {
                    attached = &mut attaching => match attached {
                        Ok(attached) => return Some(attached),
                        Err(error) if error.kind() == ErrorKind::Closed => {
                            self.answer_without_channel(closed().text());
                            self.shared.set_closed();
                            return None;
                        }
                        Err(error) => {
                            why = error.text().to_owned();
                            self.shared.still_in_trouble(&why);
                            break;
                        }
                    },
                    request = self.requests.recv() => if self.answer(request, &why) { return None },
                    () = self.shared.changed.notified() => if self.shared.is_dropped() { return None },
                }
            }
            tokio::select! {
                () = sleep(pause) => {}
                request = self.requests.recv() => if self.answer(request, &why) { return None },
                () = self.shared.changed.notified() => {}
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Whether the subscription was ended, by whomever: its queue is gone then, and must not be made again.
    async fn was_unsubscribed(&self, cancelled: bool) -> bool {
        if self.shared.is_ended() {
            return true;
        }
        let Consumed::Source { source: source @ Source::Subscription(..), .. } = &self.plan.what else {
            return false;
        };
        if !cancelled {
            return false;
        }
        let mut session = self.around.topology.session();
        let found = session.queue(&self.around.topology.queue_names(source)[0]).await;
        session.close().await;
        matches!(found, Ok(None))
    }

    /// Answers a request while there is no channel. Returns whether it was the last.
    fn answer(&mut self, request: Option<Request>, why: &str) -> bool {
        match request {
            None => true,
            Some(Request::Flush { done, .. }) => {
                let _ = done.send(self.flushed());
                false
            }
            Some(Request::Finish { done, .. }) => {
                let error = Error::new(ErrorKind::Disconnected, format!("the consumer was away when it ended: {why}"));
                let unconfirmed = std::mem::take(&mut self.lost);
                let _ = done.send(Finished { unconfirmed, errors: vec![error], ..Finished::default() });
                true
            }
        }
    }

    fn answer_without_channel(&mut self, why: &str) {
        while let Ok(request) = self.requests.try_recv() {
            self.answer(Some(request), why);
        }
    }

    /// What a flush comes to once all that could be flushed is.
    pub(super) fn flushed(&mut self) -> Result<()> {
        match std::mem::take(&mut self.lost) {
            0 => Ok(()),
            lost => Err(Error::new(
                ErrorKind::StaleDelivery,
                format!(
                    "the connection was lost after {lost} settlements were written and before the broker was known to have them: their messages may come again"
                ),
            )),
        }
    }
}
