//! The checker is checked: with histories made by hand, and with random ones whose offences are known.

#![allow(clippy::unwrap_used, reason = "a test program")]

use std::sync::Arc;
use std::time::Duration;

use std::time::SystemTime;

use messaging_conformance::history::{Event, Fate, Findings, History, Mark, OffenceKind, Recorder, What};
use proptest::collection::vec;
use proptest::prelude::*;

fn history(groups: u32, whats: impl IntoIterator<Item = What>) -> History {
    let at = |index: usize| Duration::from_millis(index as u64);
    let events = whats.into_iter().enumerate().map(|(index, what)| Event { at: at(index), what });
    History { events: events.collect(), groups }
}

fn intent(mark: Mark, key: Option<&str>) -> What {
    What::Intent { mark, key: key.map(Arc::from) }
}

fn outcome(mark: Mark, fate: Fate) -> What {
    What::Outcome { mark, fate }
}

fn receipt(mark: Mark) -> What {
    What::Receipt { mark, group: 0, consumer: 0 }
}

fn returned(mark: Mark) -> What {
    What::Returned { mark, group: 0 }
}

fn kinds(findings: &Findings) -> Vec<OffenceKind> {
    [&findings.lost, &findings.duplicated, &findings.unexpected, &findings.reordered]
        .into_iter()
        .flatten()
        .map(|offence| offence.kind)
        .collect()
}

#[test]
fn a_good_history_offends_in_nothing() {
    let good = [
        intent(0, Some("k")),
        outcome(0, Fate::Confirmed),
        intent(1, Some("k")),
        outcome(1, Fate::Unknown),
        intent(2, None),
        outcome(2, Fate::NotSent),
        receipt(0),
        returned(0),
        receipt(0),
    ];
    let findings = history(1, good).check();
    assert_eq!(kinds(&findings), []);
    assert_eq!((findings.intended, findings.confirmed, findings.redelivered, findings.recovered), (3, 1, 1, 0));
    findings.exact().unwrap();
}

#[test]
fn each_offence_is_found_and_shown() {
    let bad = [
        intent(0, None),
        outcome(0, Fate::Confirmed),
        intent(1, None),
        outcome(1, Fate::NotSent),
        receipt(1),
        intent(2, None),
        outcome(2, Fate::Confirmed),
        receipt(2),
        receipt(2),
        receipt(99),
    ];
    let findings = history(1, bad).check();
    let expected = [OffenceKind::Lost, OffenceKind::Duplicated, OffenceKind::Unexpected, OffenceKind::Unexpected];
    assert_eq!(kinds(&findings), expected);
    let shown = findings.exact().unwrap_err();
    assert!(shown.contains("Lost in group 0: 0"), "{shown}");
    assert!(!shown.contains("99"), "only the first of a kind is shown: {shown}");
    let shown = findings.at_least_once().unwrap_err();
    assert!(!shown.contains("Duplicated"), "{shown}");
}

#[test]
fn given_back_and_never_received_again_is_lost() {
    let findings = history(1, [intent(0, None), outcome(0, Fate::Confirmed), receipt(0), returned(0)]).check();
    assert_eq!(kinds(&findings), [OffenceKind::Lost]);
    let unsure = What::Unsure { mark: 0, group: 0 };
    let findings = history(1, [intent(0, None), outcome(0, Fate::Confirmed), receipt(0), unsure]).check();
    assert_eq!(kinds(&findings), []);
}

#[test]
fn order_counts_within_a_key_and_from_the_first_receipt() {
    let sent = [intent(0, Some("a")), intent(1, Some("b")), intent(2, Some("a"))];
    let swapped = sent.clone().into_iter().chain([receipt(2), receipt(1), receipt(0)]);
    let findings = history(1, swapped).check();
    assert_eq!(kinds(&findings), [OffenceKind::Reordered]);
    assert_eq!(findings.reordered[0].marks, [2, 0]);
    let again = sent.into_iter().chain([receipt(0), returned(0), receipt(2), receipt(0), receipt(1)]);
    assert_eq!(kinds(&history(1, again).check()), []);
}

#[test]
fn every_group_has_to_receive_all() {
    let one = [intent(0, None), outcome(0, Fate::Confirmed), receipt(0)];
    let findings = history(2, one).check();
    assert_eq!(kinds(&findings), [OffenceKind::Lost]);
    assert_eq!(findings.lost[0].group, 1);
}

#[test]
fn recovery_is_timed_from_the_end_of_the_last_fault() {
    let whats = [intent(0, None), What::FaultBegan, What::FaultEnded, outcome(0, Fate::Unknown), receipt(0)];
    let findings = history(1, whats).check();
    assert_eq!((findings.time_to_recover, findings.recovered), (Some(Duration::from_millis(2)), 1));
}

/// A history without an offence: sent in order, each received once or given back and received again.
fn good() -> impl Strategy<Value = (History, usize)> {
    vec((0..3_u8, 0..3_u8), 3..40).prop_map(|messages| {
        let keys = ["a", "b"];
        let mut whats = Vec::new();
        for (mark, (key, _)) in messages.iter().enumerate() {
            whats.push(intent(mark as Mark, keys.get(*key as usize).copied()));
            whats.push(outcome(mark as Mark, Fate::Confirmed));
        }
        for (mark, (_, times_returned)) in messages.iter().enumerate() {
            for _ in 0..*times_returned {
                whats.extend([receipt(mark as Mark), returned(mark as Mark)]);
            }
            whats.push(receipt(mark as Mark));
        }
        (history(1, whats), messages.len())
    })
}

fn receipts_of(history: &History, of: Mark) -> Vec<usize> {
    let is = |event: &Event| matches!(event.what, What::Receipt { mark, .. } if mark == of);
    (0..history.events.len()).filter(|at| is(&history.events[*at])).collect()
}

fn marks(findings: &Findings, of: OffenceKind) -> Vec<Vec<Mark>> {
    let all = [&findings.lost, &findings.duplicated, &findings.unexpected, &findings.reordered];
    all.into_iter().flatten().filter(|one| one.kind == of).map(|one| one.marks.clone()).collect()
}

proptest! {
    #[test]
    fn good_histories_pass((history, count) in good()) {
        let findings = history.check();
        prop_assert_eq!(kinds(&findings), vec![]);
        prop_assert_eq!(findings.confirmed, count);
    }

    #[test]
    fn a_loss_is_found_exactly((mut history, count) in good(), pick in any::<prop::sample::Index>()) {
        let lost = pick.index(count) as Mark;
        history.events.retain(|event| !matches!(event.what,
            What::Receipt { mark, .. } | What::Returned { mark, .. } if mark == lost));
        prop_assert_eq!(marks(&history.check(), OffenceKind::Lost), vec![vec![lost]]);
    }

    #[test]
    fn a_duplicate_is_found_exactly((mut history, count) in good(), pick in any::<prop::sample::Index>()) {
        let doubled = pick.index(count) as Mark;
        let last = *receipts_of(&history, doubled).last().unwrap();
        let copy = history.events[last].clone();
        history.events.push(copy);
        let findings = history.check();
        prop_assert_eq!(kinds(&findings), vec![OffenceKind::Duplicated]);
        prop_assert_eq!(marks(&findings, OffenceKind::Duplicated), vec![vec![doubled]]);
    }

    #[test]
    fn an_unexpected_one_is_found_exactly((mut history, count) in good()) {
        history.events.push(Event { at: Duration::ZERO, what: receipt(count as Mark + 7) });
        prop_assert_eq!(marks(&history.check(), OffenceKind::Unexpected), vec![vec![count as Mark + 7]]);
    }

    #[test]
    fn what_is_shown_is_small_and_still_offends((mut history, count) in good(), pick in any::<prop::sample::Index>()) {
        let doubled = pick.index(count) as Mark;
        let last = *receipts_of(&history, doubled).last().unwrap();
        let copy = history.events[last].clone();
        history.events.push(copy);
        let findings = history.check();
        let offence = &findings.duplicated[0];
        prop_assert!(offence.part.events.len() <= 9);
        prop_assert!(offence.part.events.iter().all(|event| event.what.mark() == Some(doubled)));
        prop_assert_eq!(kinds(&offence.part.check()), vec![OffenceKind::Duplicated]);
    }

    #[test]
    fn a_swap_within_a_key_is_found(count in 2..30_u64, pick in any::<prop::sample::Index>()) {
        let first = pick.index(count as usize - 1) as Mark;
        let mut order: Vec<Mark> = (0..count).collect();
        order.swap(first as usize, first as usize + 1);
        let whats = (0..count).map(|mark| intent(mark, Some("k"))).chain(order.into_iter().map(receipt));
        prop_assert_eq!(marks(&history(1, whats).check(), OffenceKind::Reordered), vec![vec![first + 1, first]]);
    }
}

#[test]
fn every_message_is_counted_once_by_what_became_of_it() {
    let mixed = [
        intent(0, None),
        outcome(0, Fate::Confirmed),
        receipt(0),
        receipt(0),
        intent(1, None),
        outcome(1, Fate::Unknown),
        receipt(1),
        intent(2, None),
        intent(3, None),
        outcome(3, Fate::NotSent),
    ];
    let findings = history(1, mixed).check();
    assert_eq!((findings.intended, findings.confirmed, findings.unknown, findings.not_sent), (4, 1, 2, 1));
    assert_eq!((findings.received, findings.receipts, findings.recovered), (2, 3, 1));
}

#[test]
fn what_is_missing_follows_receipts_and_returns() {
    let recorder = Recorder::new(1);
    let missing_after = |what| {
        recorder.note(SystemTime::now(), what);
        recorder.missing(0)
    };
    let steps = [
        (outcome(0, Fate::Confirmed), 1),
        (receipt(1), 1),
        // Received before it was confirmed: nothing is missing.
        (outcome(1, Fate::Confirmed), 1),
        (receipt(0), 0),
        (receipt(0), 0),
        (returned(0), 0),
        (returned(0), 1),
        (outcome(0, Fate::Confirmed), 1),
        (receipt(0), 0),
    ];
    for (step, (what, missing)) in steps.into_iter().enumerate() {
        assert_eq!(missing_after(what), missing, "step {step}");
    }
}

#[test]
fn what_other_processes_noted_is_put_in_its_place() {
    let recorder = Recorder::new(1);
    let begun = SystemTime::now();
    let at = |ms: u64| begun + Duration::from_millis(ms);
    // The consumer's file is read before the publisher's.
    recorder.note(at(30), receipt(0));
    recorder.note(at(40), receipt(1));
    recorder.note(at(10), intent(0, Some("k")));
    recorder.note(at(20), intent(1, Some("k")));
    recorder.note(at(25), outcome(0, Fate::Confirmed));
    assert_eq!(kinds(&recorder.check()), []);
}
