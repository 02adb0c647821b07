//! Events that wait for the application.

use std::collections::VecDeque;

use messaging_core::Event;

/// The most events that are kept for an application that does not read them.
const EVENTS_MAX: usize = 64;

/// Events in the order in which they happened, at most 64.
///
/// An event that repeats the last one is not kept twice. When there is no room, the oldest event other than a gap is dropped. Gaps
/// are never dropped: neighbouring ones are summed, and the sum is unknown if one of them is.
#[derive(Default)]
pub(super) struct Events(VecDeque<Event>);

impl Events {
    pub(super) fn push(&mut self, event: Event) {
        match (self.0.back_mut(), &event) {
            (Some(Event::Gap { missed: known }), Event::Gap { missed }) => *known = sum(*known, *missed),
            (Some(last), event) if last == event => {}
            _ => {
                self.0.push_back(event);
                if self.0.len() > EVENTS_MAX {
                    self.drop_oldest();
                }
            }
        }
    }

    pub(super) fn pop(&mut self) -> Option<Event> {
        self.0.pop_front()
    }

    /// Drops the oldest event that is no gap. Two neighbours are never both gaps, so that there always is one.
    fn drop_oldest(&mut self) {
        let Some(at) = self.0.iter().position(|event| !matches!(event, Event::Gap { .. })) else { return };
        self.0.remove(at);
        let neighbours = at.checked_sub(1).map(|before| (self.0.get(before).cloned(), self.0.get(at).cloned()));
        if let Some((Some(Event::Gap { missed: one }), Some(Event::Gap { missed: other }))) = neighbours {
            self.0.remove(at);
            self.0[at - 1] = Event::Gap { missed: sum(one, other) };
        }
    }
}

/// Sum of two numbers of missed messages; unknown if one of them is.
fn sum(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    Some(one?.saturating_add(other?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn drain(mut events: Events) -> Vec<Event> {
        std::iter::from_fn(|| events.pop()).collect()
    }

    #[test]
    fn repeated_events_are_kept_once_and_neighbouring_gaps_are_summed() {
        let mut events = Events::default();
        for event in [Event::Disconnected, Event::Disconnected, Event::Reconnected] {
            events.push(event);
        }
        events.push(Event::Gap { missed: Some(2) });
        events.push(Event::Gap { missed: Some(3) });
        let expected = [Event::Disconnected, Event::Reconnected, Event::Gap { missed: Some(5) }];
        assert_eq!(drain(events), expected);
    }

    #[test]
    fn one_unknown_gap_makes_the_sum_unknown() {
        let mut events = Events::default();
        events.push(Event::Gap { missed: Some(2) });
        events.push(Event::Gap { missed: None });
        assert_eq!(drain(events), [Event::Gap { missed: None }]);
    }

    proptest! {
        #[test]
        fn overflow_drops_no_gap(gaps in proptest::collection::vec(proptest::option::of(1_u64..5), 0..400)) {
            let mut events = Events::default();
            let mut missed = 0;
            for (at, gap) in gaps.iter().enumerate() {
                let other = if at % 2 == 0 { Event::Disconnected } else { Event::Reconnected };
                events.push(gap.map_or(other, |count| Event::Gap { missed: Some(count) }));
                missed += gap.unwrap_or(0);
                prop_assert!(events.0.len() <= EVENTS_MAX);
            }
            let kept = drain(events);
            let told: u64 = kept.iter().map(|event| if let Event::Gap { missed: Some(count) } = event { *count } else { 0 }).sum();
            prop_assert_eq!(told, missed);
            let is_gap = |event: &Event| matches!(event, Event::Gap { .. });
            prop_assert!(!kept.windows(2).any(|pair| pair.iter().all(is_gap)));
        }
    }
}
