//! The cases, one file for each part of the contract.

mod batch;
mod concurrency;
mod dead_letter;
mod errors;
mod faults;
mod flow;
mod honesty;
mod insight;
mod lifecycle;
mod message;
mod order;
mod publish;
mod queue;
mod redelivery;
mod request_reply;
mod settlement;
mod time;
mod topic;
mod traffic;

use crate::Case;

/// All cases, in the order of the contract's table.
pub fn all_cases() -> impl Iterator<Item = &'static Case> {
    [
        publish::CASES,
        queue::CASES,
        topic::CASES,
        order::CASES,
        redelivery::CASES,
        settlement::CASES,
        flow::CASES,
        dead_letter::CASES,
        time::CASES,
        batch::CASES,
        message::CASES,
        request_reply::CASES,
        insight::CASES,
        concurrency::CASES,
        lifecycle::CASES,
        faults::CASES,
        errors::CASES,
        honesty::CASES,
    ]
    .into_iter()
    .flatten()
}
