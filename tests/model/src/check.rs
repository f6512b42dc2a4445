//! Runs the checker and says what it looked at.

use std::fmt::Debug;
use std::hash::Hash;

use stateright::{Checker, HasDiscoveries, Model};

/// Explores all states within the bounds of the model. Every property must hold.
pub(crate) fn holds<M>(name: &str, model: M)
where
    M: Model + Send + Sync + 'static,
    M::State: Debug + Hash + Clone + PartialEq + Send + Sync,
    M::Action: Debug + Clone + PartialEq + Send + Sync,
{
    let checker = model.checker().threads(1).spawn_bfs().join();
    println!("{name}: {} states, {} steps at most", checker.unique_state_count(), checker.max_depth());
    for (property, path) in checker.discoveries() {
        if checker.discovery_classification(property).to_string() == "counterexample" {
            tell(name, property, &path);
        }
    }
    checker.assert_properties();
}

/// Looks for a shortest counterexample to the property, and prints the way to it.
pub(crate) fn breaks<M>(name: &str, model: impl Fn() -> M, property: &'static str)
where
    M: Model + Send + Sync + 'static,
    M::State: Debug + Hash + Clone + PartialEq + Send + Sync,
    M::Action: Debug + Clone + PartialEq + Send + Sync,
{
    // The checker keeps the last counterexample that it finds, so it goes one step deeper at a time.
    for depth in 2.. {
        let wanted = HasDiscoveries::AnyOf([property].into());
        let checker = model().checker().threads(1).finish_when(wanted).target_max_depth(depth).spawn_bfs().join();
        if let Some(path) = checker.discovery(property) {
            println!("{name}: {} states until a counterexample", checker.unique_state_count());
            return tell(name, property, &path);
        }
        assert!(checker.max_depth() >= depth, "{name}: no counterexample to \"{property}\"");
    }
}

fn tell<S: Debug + Clone + PartialEq, A: Debug + Clone + PartialEq>(
    name: &str,
    property: &str,
    path: &stateright::Path<S, A>,
) {
    println!("{name}: not \"{property}\":");
    for (step, action) in path.clone().into_actions().iter().enumerate() {
        println!("  {}. {action:?}", step + 1);
    }
    println!("  which leads to {:?}", path.last_state());
}

/// True when somebody wants a longer check than CI has time for: `cargo xtask model`.
#[expect(clippy::disallowed_methods, reason = "a test has no configuration")]
pub(crate) fn longer() -> bool {
    std::env::var("STREAM_PROCESSOR_MODEL").is_ok_and(|wish| wish == "long")
}
