//! A failing scenario made small: faults that do not matter are left out.

use crate::scenario::Scenario;

/// The smallest scenario found that still fails: faults are dropped one by one, then the strikes of those that come often, then
/// nodes.
pub fn smallest(scenario: &Scenario, mut fails: impl FnMut(&Scenario) -> bool) -> Scenario {
    let mut smallest = scenario.clone();
    let mut at = 0;
    while at < smallest.faults.len() {
        let mut smaller = smallest.clone();
        smaller.faults.remove(at);
        if fails(&smaller) {
            smallest = smaller;
        } else {
            at += 1;
        }
    }
    for at in 0..smallest.faults.len() {
        let mut smaller = smallest.clone();
        smaller.faults[at].times = None;
        smaller.faults[at].every = None;
        if smaller != smallest && fails(&smaller) {
            smallest = smaller;
        }
    }
    while smallest.cluster.nodes > 2 {
        let mut smaller = smallest.clone();
        smaller.cluster.nodes = (smallest.cluster.nodes / 2).max(2);
        if !fails(&smaller) {
            smaller.cluster.nodes = smallest.cluster.nodes - 1;
            if !fails(&smaller) {
                break;
            }
        }
        smallest = smaller;
    }
    smallest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_matter_is_left_out() {
        let fault = |kind: &str| format!("[[fault]]\nat = {{ step = 1 }}\nkind = '{kind}'\ntarget = 'one'\ntimes = 5\n");
        let text = format!("name = 'x'\n[cluster]\nnodes = 11\n{}{}{}", fault("kill"), fault("stop"), fault("slow"));
        let scenario = Scenario::parse(&text).unwrap();
        let needs_a_stop =
            |scenario: &Scenario| scenario.cluster.nodes >= 5 && scenario.faults.iter().any(|fault| fault.kind == crate::fault::Kind::Stop);
        let small = smallest(&scenario, needs_a_stop);
        assert_eq!((small.faults.len(), small.cluster.nodes, small.faults[0].times), (1, 5, None));
        assert!(needs_a_stop(&small));
    }
}
