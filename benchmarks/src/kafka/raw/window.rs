//! Acknowledged offsets of a partition, in any order, and the end of their contiguous part.

use std::collections::VecDeque;

/// The offsets that were handed over, from the lowest that is not acknowledged.
#[derive(Debug, Default)]
pub(super) struct Window {
    /// The offsets in the order of the log, which has holes, and whether each is acknowledged.
    handed: VecDeque<(i64, bool)>,
}

impl Window {
    pub(super) fn hand_over(&mut self, offset: i64) {
        self.handed.push_back((offset, false));
    }

    /// Acknowledges one; how often it was not known.
    pub(super) fn ack(&mut self, offset: i64) {
        // Nearly always the log has no holes, and the place follows from the offset.
        let Some((first, _)) = self.handed.front() else { return };
        let guess = usize::try_from(offset - first).unwrap_or(usize::MAX);
        let place = match self.handed.get(guess) {
            Some((found, _)) if *found == offset => Ok(guess),
            _ => self.handed.binary_search_by_key(&offset, |(handed, _)| *handed),
        };
        if let Ok(place) = place {
            self.handed[place].1 = true;
        }
    }

    /// The highest offset up to which all is acknowledged since the last call, and how many those are.
    pub(super) fn contiguous(&mut self) -> (Option<i64>, usize) {
        let (mut last, mut count) = (None, 0);
        while let Some((offset, _)) = self.handed.pop_front_if(|(_, acked)| *acked) {
            (last, count) = (Some(offset), count + 1);
        }
        (last, count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_contiguous_is_found_whatever_the_order_and_the_holes() {
        let mut window = Window::default();
        for offset in [3, 4, 7, 8, 9] {
            window.hand_over(offset);
        }
        for offset in [4, 8, 5] {
            window.ack(offset);
        }
        assert_eq!(window.contiguous(), (None, 0));
        window.ack(3);
        assert_eq!(window.contiguous(), (Some(4), 2));
        window.ack(9);
        window.ack(7);
        assert_eq!(window.contiguous(), (Some(9), 3));
        assert_eq!(window.contiguous(), (None, 0));
    }
}
