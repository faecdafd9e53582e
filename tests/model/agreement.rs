//! The server's answers equal the model's: for random clusters, and after any prefix of a random history.

use std::{net::IpAddr, sync::Arc};

use lodestone::{
    cluster::{Cluster, Kind, StateWriter, load},
    wire::Name,
    zone::{AnswerRules, ClusterView, Zones},
};
use proptest::{prelude::*, test_runner::TestCaseResult};

use crate::{
    ask::ask,
    generate::{KINDS, history, local, rules, world},
    naive::{IMPORTS, Model, ZONES},
    questions::{Dice, NAMES},
    source::Received,
};

/// Number of cases, unless `PROPTEST_CASES` is set.
pub fn cases(number: u32) -> ProptestConfig {
    let config = ProptestConfig::default();
    let is_set = std::env::var_os("PROPTEST_CASES").is_some();
    ProptestConfig {
        cases: if is_set { config.cases } else { number },
        failure_persistence: None,
        ..config
    }
}

pub fn view(cluster: Arc<Cluster>, rules: &AnswerRules, local: &[IpAddr]) -> ClusterView {
    let zones = ZONES.map(|zone| Name::parse(zone).unwrap());
    ClusterView::new(
        cluster,
        Zones::with_imports(&zones, &[Name::parse(IMPORTS).unwrap()]).unwrap(),
        rules.clone(),
        local.into(),
    )
}

fn compare(view: &ClusterView, model: &Model<'_>, name: &str, rtype: &str) -> TestCaseResult {
    let (response, expected) = (ask(view, name, rtype), model.answer(name, rtype));
    prop_assert_eq!(response, expected, "? {} {}", name, rtype);
    Ok(())
}

proptest! {
    #![proptest_config(cases(8))]

    #[test]
    fn answers_of_a_random_cluster_equal_the_model(
        world in world(), rules in rules(), local in local(), seed in any::<u64>(),
    ) {
        let view = view(load(world.objects()), &rules, &local);
        let model = Model { world: &world, rules: &rules, local: &local, synced: true };
        let mut dice = Dice::new(seed);
        for name in &*NAMES {
            for _ in 0..2 {
                compare(&view, &model, &dice.spell(name), dice.rtype())?;
            }
        }
    }
}

proptest! {
    #![proptest_config(cases(40))]

    #[test]
    fn answers_after_any_prefix_of_a_history_equal_the_model(
        history in history(), rules in rules(), local in local(), seed in any::<u64>(),
    ) {
        let cluster = Arc::new(Cluster::new(&KINDS));
        let mut writer = StateWriter::new(Arc::clone(&cluster));
        let mut told = Received::default();
        let mut dice = Dice::new(seed);
        let stop = dice.roll(history.len());
        for (at, say) in history.iter().enumerate() {
            writer.fold(say.event());
            told.apply(say);
            let is_end = at + 1 == history.len();
            if !is_end && at != stop {
                continue;
            }
            let synced = told.is_synced(&KINDS);
            let model = Model { world: &told.world, rules: &rules, local: &local, synced };
            let view = view(Arc::clone(&cluster), &rules, &local);
            for _ in 0..100 {
                compare(&view, &model, &dice.name(), dice.rtype())?;
            }
        }
        // So does the final state alone.
        let (folded, loaded) = (cluster, load(told.world.objects()));
        prop_assert!(folded.synced());
        for kind in Kind::ALL {
            let counts = [&folded, &loaded].map(|it| it.stats().objects(kind));
            prop_assert_eq!(counts[0], counts[1], "{:?}", kind);
        }
        let views = [folded, loaded].map(|cluster| view(cluster, &rules, &local));
        for _ in 0..100 {
            let (name, rtype) = (dice.name(), dice.rtype());
            let [folded, loaded] = [0, 1].map(|it| ask(&views[it], &name, rtype));
            prop_assert_eq!(folded, loaded, "? {} {}", name, rtype);
        }
    }
}
