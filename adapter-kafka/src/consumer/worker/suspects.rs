//! Messages that were in flight when a member died, released one commit at a time.

use std::collections::HashSet;

use adapter_kit::Held as _;

use super::assigned::Assigned;
use super::client::GroupClient;
use crate::consumer::offsets;
use crate::consumer::shared::Shared;

/// Releases messages that were in flight when a member died, as many as there is room for, after their attempt is committed: so
/// an attempt counts though the message may kill this member too.
///
/// They go before all that was read behind them, and have room of their own: a backlog does not hold them up. Those that would
/// only wait behind another of their key are not noted yet: a member that dies has not tried them.
pub(super) fn release_suspects(shared: &Shared, client: &GroupClient, assigned: &mut Assigned) {
    if !assigned.has_suspects() {
        return;
    }
    let waiting = shared.outlet.buffered();
    let mut room = shared.settings.options.prefetch.saturating_sub(waiting.first + waiting.held);
    let (mut ready, mut commits) = (Vec::new(), Vec::new());
    for (id, one) in assigned.iter_mut() {
        let below = one.partition.suspects_below;
        if one.suspects.front().is_some_and(|item| item.offset >= below) {
            // These waited behind suspects, and were never any.
            shared.outlet.offer(&mut one.suspects);
            continue;
        }
        let mut keys = HashSet::new();
        let next = one.suspects.iter().take(room).take_while(|item| {
            let is_first = item.key().is_none_or(|key| !shared.is_ordered() || keys.insert(key.into_owned()));
            item.offset < below && is_first && item.key().is_none_or(|key| shared.outlet.is_key_free(&key))
        });
        let tried: Vec<_> = next.map(|item| (item.offset, item.attempt)).collect();
        if !tried.is_empty() {
            room -= tried.len();
            ready.push((id.clone(), tried.len()));
            let (offset, metadata) = one.partition.commit_with(tried.into_iter());
            commits.push((id.clone(), offset, metadata));
        }
    }
    // Nothing to note is nothing to commit.
    if offsets::commit_now(client.consumer(), &commits).is_err() {
        return;
    }
    for (id, count) in ready {
        if let Some(one) = assigned.get_mut(&id) {
            shared.outlet.offer_first(one.suspects.drain(..count));
        }
    }
}
