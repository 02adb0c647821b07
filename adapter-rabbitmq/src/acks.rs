//! Acknowledgements, coalesced.
//!
//! RabbitMQ takes a prefix of tags in one `multiple` frame (quorum queue: 72k/s against 10k/s one by one), so settled tags
//! wait here for a moment. Meaning never changes: a tag is sent only after its delivery was settled, and those behind one
//! that is still open go singly.

use std::collections::VecDeque;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tag {
    /// Not settled, or not seen yet: tags of several consumers on one channel arrive in any order.
    Open,
    /// Acknowledged, and the broker does not know.
    Acked,
    /// The broker knows.
    Gone,
}

/// The tags of one channel.
#[derive(Debug, Default)]
pub(crate) struct Acks {
    /// The broker knows of all up to here.
    low: u64,
    tags: VecDeque<Tag>,
    acked: usize,
}

/// What to send.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ToSend {
    /// All up to this tag.
    pub(crate) prefix: Option<u64>,
    /// And these.
    pub(crate) singles: Vec<u64>,
    /// How many deliveries that are.
    pub(crate) count: u64,
}

impl Acks {
    /// A delivery was acknowledged.
    pub(crate) fn ack(&mut self, tag: u64) {
        if let Some(place) = self.place(tag)
            && *place == Tag::Open
        {
            *place = Tag::Acked;
            self.acked += 1;
        }
    }

    /// A delivery was given back, or acknowledged otherwise.
    pub(crate) fn gone(&mut self, tag: u64) {
        if let Some(place) = self.place(tag) {
            if *place == Tag::Acked {
                self.acked -= 1;
            }
            if let Some(place) = self.place(tag) {
                *place = Tag::Gone;
            }
        }
    }

    /// The highest tag up to `last` that the broker still waits for; what waits to be sent counts as open.
    pub(crate) fn highest_open(&self, last: u64) -> Option<u64> {
        let mut tag = last;
        while tag > self.low {
            let index = usize::try_from(tag - self.low - 1).unwrap_or(usize::MAX);
            if self.tags.get(index).is_none_or(|state| *state != Tag::Gone) {
                return Some(tag);
            }
            tag -= 1;
        }
        None
    }

    /// How many acknowledgements wait to be sent.
    pub(crate) fn waiting(&self) -> usize {
        self.acked
    }

    /// Takes all that wait.
    pub(crate) fn take(&mut self) -> ToSend {
        let mut send = ToSend { count: self.acked as u64, ..ToSend::default() };
        while let Some(tag) = self.tags.pop_front_if(|tag| *tag != Tag::Open) {
            self.low += 1;
            if tag == Tag::Acked {
                send.prefix = Some(self.low);
                self.acked -= 1;
            }
        }
        if self.acked > 0 {
            for (tag, state) in (self.low + 1..).zip(&mut self.tags) {
                if *state == Tag::Acked {
                    *state = Tag::Gone;
                    send.singles.push(tag);
                }
            }
            self.acked = 0;
        }
        send
    }

    fn place(&mut self, tag: u64) -> Option<&mut Tag> {
        let index = usize::try_from(tag.checked_sub(self.low + 1)?).ok()?;
        if index >= self.tags.len() {
            self.tags.resize(index + 1, Tag::Open);
        }
        self.tags.get_mut(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_goes_at_once_and_the_rest_singly() {
        let mut acks = Acks::default();
        for tag in [1, 2, 3, 5, 7] {
            acks.ack(tag);
        }
        assert_eq!(acks.take(), ToSend { prefix: Some(3), singles: vec![5, 7], count: 5 });
        assert_eq!(acks.take(), ToSend::default());
        acks.ack(4);
        acks.gone(6);
        acks.ack(8);
        assert_eq!(acks.take(), ToSend { prefix: Some(8), singles: vec![], count: 2 });
    }

    #[test]
    fn what_was_given_back_is_not_acknowledged_by_a_prefix_alone() {
        let mut acks = Acks::default();
        acks.gone(1);
        acks.gone(2);
        assert_eq!(acks.take(), ToSend::default());
        acks.ack(3);
        acks.ack(3);
        assert_eq!(acks.waiting(), 1);
        assert_eq!(acks.take(), ToSend { prefix: Some(3), singles: vec![], count: 1 });
        acks.ack(2);
        assert_eq!(acks.waiting(), 0);
    }

    #[test]
    fn what_is_open_is_known() {
        let mut acks = Acks::default();
        assert_eq!(acks.highest_open(0), None);
        assert_eq!(acks.highest_open(3), Some(3));
        acks.gone(3);
        acks.ack(2);
        acks.take();
        assert_eq!(acks.highest_open(3), Some(1));
        acks.gone(1);
        acks.take();
        assert_eq!(acks.highest_open(3), None);
    }

    #[test]
    fn a_tag_that_was_skipped_holds_the_prefix() {
        let mut acks = Acks::default();
        acks.ack(2);
        assert_eq!(acks.take(), ToSend { prefix: None, singles: vec![2], count: 1 });
        acks.ack(1);
        assert_eq!(acks.take(), ToSend { prefix: Some(1), singles: vec![], count: 1 });
    }
}
