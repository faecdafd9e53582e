//! Answers for which there is little room: parts of the whole answer, and said to be parts.

use std::{collections::BTreeSet, net::IpAddr};

use lodestone::{
    cluster::load,
    query::Question,
    reply::Reply,
    wire::{Class, Name},
    zone::{ClusterView, Lookup, Outcome, Rules, SizeBudget},
};
use proptest::{prelude::*, test_runner::TestCaseResult};

use crate::{
    agreement::{cases, view},
    ask::{Said, said},
    generate::{local, rules, world},
    questions::{Dice, NAMES},
};

/// What is said with so much room, whether it was cut, and whether there was an answer at all.
fn within(view: &ClusterView, question: &Question, room: SizeBudget) -> (Said, bool, bool) {
    let mut reply = Reply::default();
    let outcome = view.answer_within(question, || room, &mut reply);
    let is_answered = matches!(outcome, Outcome::Answered);
    (said(question, &reply), reply.truncated, is_answered)
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
    // Cut where something is missing, and only there.
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
    fn with_little_room_a_part_is_answered_and_said_to_be_one(
        world in world(), rules in rules(), local in local(), seed in any::<u64>(),
    ) {
        let (world, rules, local): (_, Rules, Vec<IpAddr>) = (world, rules, local);
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
