//! Faults while an adapter works: whatever breaks, what was confirmed is received, nothing is invented, and all goes on soon.
//!
//! Each run ends with a line: confirmed, received, lost, unexpected, duplicated, unknown outcomes, and how soon it was back.
//! The runs are short; with `MESSAGING_FAULTS=long` they are what a release is judged by.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed, and says why")]

mod address;
mod committed;
mod kafka;
mod killer;
mod length;
mod members;
mod memory;
mod processes;
mod rabbitmq;
mod real;
mod run;
mod shared;
mod stage;
mod traffic;

use std::future::Future;
use std::process::ExitCode;
use std::time::Duration;

use integration_tests::Kind;
use integration_tests::child::Role;
use integration_tests::runner::{self, Case, Verdict};
use length::Length;
use libtest_mimic::Arguments;
use processes::Dying;
use real::Real;
use run::Phase;
use stage::{Fault, Stage};
use traffic::Load;

fn main() -> ExitCode {
    match Role::current() {
        Ok(None) => {
            let mut arguments = Arguments::from_args();
            // Side by side they would measure each other.
            arguments.test_threads.get_or_insert(1);
            runner::run(&arguments, cases())
        }
        _ => runner::main_or_role(Vec::new(), members::play),
    }
}

fn cases() -> Vec<Case> {
    let mut cases = vec![
        case("memory::a_forgetful_server_is_found_out", memory::a_forgetful_server_is_found_out),
        case("memory::a_stray_duplicate_is_found_out", memory::a_stray_duplicate_is_found_out),
        case("memory::what_a_killed_process_lost_is_found_out", memory::what_a_killed_process_lost_is_found_out),
        case("memory::a_slow_recovery_is_found_out", memory::a_slow_recovery_is_found_out),
        case("memory::deleted", memory::deleted),
        case("memory::closed_with_a_dead_broker", memory::closed_with_a_dead_broker),
    ];
    for fault in [Fault::Killed, Fault::Cut, Fault::BlackHole] {
        for phase in [Phase::Publishing, Phase::Consuming, Phase::Both] {
            cases.push(case(format!("memory::{fault:?}_{phase:?}").to_lowercase(), move || {
                memory::through(fault, phase)
            }));
        }
    }
    cases.extend(of_rabbitmq());
    cases.extend(of_kafka());
    cases
}

const PHASES: [Phase; 3] = [Phase::Publishing, Phase::Consuming, Phase::Both];

/// The faults that every kind of broker has to bear.
fn of_every(kind: Kind) -> Vec<Case> {
    let mut cases = Vec::new();
    for fault in [Fault::Cut, Fault::BlackHole, Fault::Slow] {
        for phase in PHASES {
            cases.push(through(kind, fault, phase));
        }
    }
    for fault in [Fault::Killed, Fault::AnswersLost, Fault::Paused] {
        cases.push(through(kind, fault, Phase::Both));
    }
    for fault in [Fault::Killed, Fault::BlackHole] {
        let name = format!("{kind}::closed_with_a_broker_{fault:?}").to_lowercase();
        cases.push(case(name, move || async move {
            shared::closed_with_a_dead_broker(&Real::one(kind).await?, fault).await
        }));
    }
    for fault in [Fault::Cut, Fault::BlackHole] {
        cases.push(case(format!("{kind}::member_{fault:?}").to_lowercase(), move || async move {
            let stage = Real::one(kind).await?;
            shared::member_cut_off(&stage, fault, stage.queue().ordered()).await
        }));
    }
    cases.push(case(format!("{kind}::deleted"), move || async move {
        let stage = Real::one(kind).await?;
        shared::deleted_under_us(&stage, stage.queue()).await
    }));
    cases.push(case(format!("{kind}::publishers_killed"), move || async move {
        processes::publishers_killed(&Real::one(kind).await?).await
    }));
    cases
}

fn through(kind: Kind, fault: Fault, phase: Phase) -> Case {
    case(format!("{kind}::{fault:?}_{phase:?}").to_lowercase(), move || async move {
        shared::through(&Real::one(kind).await?, fault, phase).await
    })
}

fn of_rabbitmq() -> Vec<Case> {
    const KIND: Kind = Kind::RabbitMq;
    let mut cases = of_every(KIND);
    cases.push(through(KIND, Fault::Closed, Phase::Both));
    cases.push(case("rabbitmq::consumers_killed", || async move {
        let stage = Real::one(KIND).await?;
        let (every, messages) = (Duration::from_secs(2), Length::chosen().messages());
        let dying = Dying { members: 3, every, work: Duration::ZERO, twentieth: Duration::ZERO, keys: 0, messages };
        processes::consumers_killed(&stage, stage.queue(), dying).await
    }));
    cases.push(case("rabbitmq::consumers_killed_in_order", || async move {
        let stage = Real::one(KIND).await?;
        let (every, messages) = (Duration::from_secs(3), Length::chosen().pick(2_000, 20_000));
        let dying = Dying { members: 3, every, work: Duration::ZERO, twentieth: Duration::ZERO, keys: 1_000, messages };
        processes::consumers_killed(&stage, stage.queue().ordered(), dying).await
    }));
    cases.push(case("rabbitmq::exchange_deleted", || async move {
        let stage = Real::one(KIND).await?;
        shared::deleted_under_us(&stage, stage.queue().subscribed("all")).await
    }));
    cases.push(case("rabbitmq::memory_alarm", || rabbitmq::blocked(rabbitmq::Alarm::Memory)));
    cases.push(case("rabbitmq::disk_alarm", || rabbitmq::blocked(rabbitmq::Alarm::Disk)));
    cases.push(case("rabbitmq::young_queue", rabbitmq::young_queue));
    cases.push(case("rabbitmq::acks_before_a_clean_close", rabbitmq::acks_before_a_clean_close));
    cases.push(case("rabbitmq::settled_in_vain", rabbitmq::settled_in_vain));
    cases.push(case("rabbitmq::leader_killed", || async move {
        shared::through(&Real::cluster(KIND).await?, Fault::LeaderKilled, Phase::Both).await
    }));
    cases
}

fn of_kafka() -> Vec<Case> {
    const KIND: Kind = Kind::Kafka;
    let mut cases = of_every(KIND);
    cases.push(case("kafka::a_skipping_commit_is_found_out", kafka::a_skipping_commit_is_found_out));
    cases.push(case("kafka::consumers_killed", || async {
        let stage = Real::one(KIND).await?;
        let (every, messages) = (Duration::from_secs(3), Length::chosen().messages());
        let dying = Dying { members: 8, every, work: Duration::ZERO, twentieth: Duration::ZERO, keys: 1_000, messages };
        processes::consumers_killed(&stage, stage.queue().with("partitions", "12").ordered(), dying).await
    }));
    cases.push(case("kafka::members_come_and_go", || async {
        let stage = Real::one(KIND).await?;
        let (every, messages) = (Duration::from_secs(1), Length::chosen().pick(1_000, 10_000));
        let (work, twentieth) = (Duration::from_millis(5), Duration::ZERO);
        let dying = Dying { members: 4, every, work, twentieth, keys: 1_000, messages };
        processes::members_come_and_go(&stage, stage.queue().with("partitions", "12").ordered(), dying).await
    }));
    cases.push(case("kafka::members_come_and_go_at_long_work", || async {
        let stage = Real::one(KIND).await?;
        let (every, messages) = (Duration::from_secs(1), Length::chosen().pick(1_000, 5_000));
        // Five times longer than a partition that goes waits for what is out of it.
        let (work, twentieth) = (Duration::from_millis(5), Duration::from_secs(1));
        let at = stage.queue().with("partitions", "12").ordered();
        let at = at.by(format!("{}?revoke_wait=200ms", at.url));
        let dying = Dying { members: 4, every, work, twentieth, keys: 1_000, messages };
        processes::members_come_and_go(&stage, at, dying).await
    }));
    cases.push(case("kafka::killer_message", || async { killer::ends(&Real::one(KIND).await?).await }));
    cases.push(case("kafka::member_blackhole_on_three_nodes", || async {
        let stage = Real::cluster(KIND).await?;
        let by_proxies = stage.of_nodes()?.proxied_url();
        shared::member_cut_off(&stage, Fault::BlackHole, stage.queue().by(by_proxies).ordered()).await
    }));
    cases.push(case("kafka::leader_killed", || async {
        let stage = Real::cluster(KIND).await?;
        let load = Load { window: 5_000, backlog: 50_000, ..Load::default() };
        let messages = Length::chosen().pick(50_000, 1_000_000);
        shared::through_at(&stage, Fault::LeaderKilled, Phase::Both, stage.queue(), load, messages).await
    }));
    for fault in [Fault::LeaderPaused, Fault::CoordinatorKilled] {
        cases.push(case(format!("kafka::{fault:?}").to_lowercase(), move || async move {
            shared::through(&Real::cluster(KIND).await?, fault, Phase::Both).await
        }));
    }
    cases.push(case("kafka::paused_leader_of_a_reader", kafka::paused_leader_of_a_reader));
    cases.push(case("kafka::below_min_in_sync", kafka::below_min_in_sync));
    cases
}

/// A case with a limit that no case comes near.
fn case<F: Future<Output = Verdict>>(name: impl Into<String>, body: impl FnOnce() -> F + Send + 'static) -> Case {
    Case::new(name, body).within(Duration::from_secs(Length::chosen().pick(180, 900)))
}
