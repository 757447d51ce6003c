//! The memory plan against every plan there is.

use proptest::prelude::*;

use super::*;

/// Every plan: each set of cuts with each choice of what is recomputed.
fn all(count: usize) -> Vec<Vec<Segment>> {
    let mut plans = vec![vec![]];
    for _ in 0..count {
        plans = plans
            .into_iter()
            .flat_map(|plan: Vec<Segment>| {
                let at = plan.last().map_or(0, |segment| segment.units.end);
                let with = |recompute| [plan.clone(), vec![Segment { units: at..at + 1, recompute }]].concat();
                let mut more = vec![with(false), with(true)];
                if plan.last().is_some_and(|segment| segment.recompute) {
                    let mut longer = plan.clone();
                    longer.last_mut().unwrap().units.end += 1;
                    more.push(longer);
                }
                more
            })
            .collect();
    }
    plans
}

fn units() -> impl Strategy<Value = Vec<Footprint>> {
    // Small numbers, so that budgets are met exactly and plans tie.
    let unit = (0u64..12, 1u64..12, 1u64..12, 0u64..6, 0u64..10).prop_map(|(output, graph, part, transient, work)| Footprint {
        input: 0,
        output,
        graph,
        largest: (graph + output) * part / 12 + 1,
        transient,
        work,
    });
    (1u64..12, prop::collection::vec(unit, 1..=10)).prop_map(|(first, mut units)| {
        let mut input = first;
        for unit in &mut units {
            unit.input = input;
            input = unit.output;
        }
        units
    })
}

fn covers(units: &[Footprint], plan: &[Segment]) -> bool {
    plan[0].units.start == 0
        && plan.windows(2).all(|pair| pair[0].units.end == pair[1].units.start)
        && plan.last().unwrap().units.end == units.len()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_plan_that_fits_computes_less_again(units in units(), head in 0u64..20, part in 0u64..120) {
        let plans = all(units.len());
        let (least, most) = (least_memory(&units, head), peak(&units, head, &never(units.len())));
        let budget = least.saturating_sub(2) + most.saturating_sub(least) * part / 100;
        let best = plans.iter().filter(|plan| peak(&units, head, plan) <= budget).map(|plan| work(&units, plan)).min();
        let found = least_work(&units, head, budget);
        prop_assert_eq!(found.as_ref().map(|plan| work(&units, plan)), best);
        if let Some(plan) = found {
            prop_assert!(covers(&units, &plan) && peak(&units, head, &plan) <= budget);
        }
    }

    #[test]
    fn no_plan_needs_less_than_the_least_memory(units in units(), head in 0u64..20) {
        let best = all(units.len()).iter().map(|plan| peak(&units, head, plan)).min();
        prop_assert_eq!(Some(least_memory(&units, head)), best);
    }

    #[test]
    fn no_cuts_make_a_smaller_maximum(units in units(), segments in 1usize..6) {
        let size = |segment: &Segment| -> u64 { units[segment.units.clone()].iter().map(|unit| unit.graph + unit.output).sum() };
        let largest = |plan: &[Segment]| plan.iter().map(size).max();
        let plans = all(units.len());
        let allowed = plans.iter().filter(|plan| plan.len() <= segments && plan.iter().all(|segment| segment.recompute));
        let plan = min_max(&units, segments);
        prop_assert!(covers(&units, &plan) && plan.len() <= segments && plan.iter().all(|segment| segment.recompute));
        prop_assert_eq!(largest(&plan), allowed.map(|plan| largest(plan)).min().unwrap());
    }
}

#[test]
fn too_many_ways_still_fit() {
    // Powers of two with work alike: every subset is a way of its own.
    let unit = |i: u32| Footprint { input: 1, output: 1, graph: 1 << i, largest: (1 << i) + 1, transient: 0, work: 1 << i };
    let units: Vec<_> = (0..20).map(unit).collect();
    let budget = peak(&units, 0, &never(20)) / 2 + (1 << 20);
    let plan = least_work(&units, 0, budget).unwrap();
    assert!(covers(&units, &plan) && peak(&units, 0, &plan) <= budget);
}
