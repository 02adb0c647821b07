//! Perturbation of schedules: polls that are told to come again, at random.

use std::sync::Arc;
use std::task::{Context, Poll};

use messaging_core::{Delivery, Result};
use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::intercept::{Intercept, Stream};

/// Lets one poll in four give way, and one in four bring less than it could.
#[derive(Debug)]
pub(crate) struct Perturb(Arc<Mutex<SmallRng>>);

impl Perturb {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(SmallRng::seed_from_u64(seed))))
    }
}

impl Intercept for Perturb {
    fn poll(
        &self,
        from: &mut Stream,
        cx: &mut Context<'_>,
        max: usize,
        out: &mut Vec<Delivery>,
    ) -> Poll<Result<usize>> {
        let max = match self.0.lock().random_range(0..4) {
            0 => {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            1 => max.min(1),
            _ => max,
        };
        from.source.poll_next_many(cx, max, out)
    }
}
