//! Answers within a size limit: parts of the complete answer, with TC.

use std::{collections::BTreeSet, net::IpAddr};

use lodestone::{
    cluster::load,
    query::Question,
    reply::Reply,
    wire::{Class, Name},
    zone::{AnswerRules, ClusterLookup, ClusterView, Outcome, SizeBudget},
};
use proptest::{prelude::*, test_runner::TestCaseResult};

use crate::{
    agreement::{cases, view},
    ask::{Response, response},
    generate::{local, rules, world},
    questions::{Dice, NAMES},
};

/// The reply within a size limit, whether it was truncated, and whether it has an answer.
fn within(view: &ClusterView, question: &Question, room: SizeBudget) -> (Response, bool, bool) {
    let mut reply = Reply::default();
    let outcome = view.answer_within(question, || room, &mut reply);
    let is_answered = matches!(outcome, Outcome::Answered);
    (response(question, &reply), reply.truncated, is_answered)
}

fn check(
    view: &ClusterView,
    name: &str,
    rtype: &str,
    bytes: usize,
    draw: fn(usize) -> usize,
) -> TestCaseResult {
    let question = Question::new(
        Name::parse(name).unwrap(),
        rtype.parse().unwrap(),
        Class::IN,
    );
    let (whole, cut, _) = within(view, &question, SizeBudget::UNLIMITED);
    prop_assert!(!cut);
    let (part, cut, is_answered) = within(view, &question, SizeBudget::new(bytes, draw));
    let set = |records: &[String]| records.iter().cloned().collect::<BTreeSet<_>>();
    let (all, some) = (set(&whole.answer), set(&part.answer));
    prop_assert_eq!(some.len(), part.answer.len(), "each once");
    prop_assert!(some.is_subset(&all), "{:?} of {:?}", some, all);
    // Truncated if and only if something is missing.
    prop_assert_eq!(
        cut,
        some.len() < all.len(),
        "? {} {}: {:?} of {:?}",
        name,
        rtype,
        some,
        all
    );
    let (all, some) = (set(&whole.additional), set(&part.additional));
    prop_assert!(some.is_subset(&all));
    prop_assert!(!cut || some.is_empty());
    if is_answered && !cut {
        prop_assert_eq!(part.authority, whole.authority);
    }
    Ok(())
}

proptest! {
    #![proptest_config(cases(8))]

    #[test]
    fn reply_within_a_size_limit_is_a_part_with_tc(
        world in world(), rules in rules(), local in local(), seed in any::<u64>(),
    ) {
        let (world, rules, local): (_, AnswerRules, Vec<IpAddr>) = (world, rules, local);
        let view = view(load(world.objects()), &rules, &local);
        let mut dice = Dice::new(seed);
        let draws: [fn(usize) -> usize; 3] = [|_| 0, |count| count / 2, |count| count - 1];
        for name in &*NAMES {
            let draw = draws[dice.roll(draws.len())];
            let bytes = dice.roll(300);
            check(&view, name, dice.rtype(), bytes, draw)?;
        }
    }
}
