//! Which held-out things are new combinations of known parts: a profession or gesture that was seen, of a gender that it
//! was not seen with.
//!
//! Things go by their names, as in Unicode's list of emoji: `woman firefighter` is held out, `man firefighter` or
//! `firefighter` is not. Nothing is known about pictures here, and only the first word of a name counts.

use std::collections::HashSet;

/// First words that say a gender, or leave it open.
const GENDERS: [&str; 6] = ["man", "woman", "person", "men", "women", "people"];

/// What remains of a name without its gender.
fn role(name: &str) -> &str {
    match name.split_once(' ') {
        Some((first, rest)) if GENDERS.contains(&first) => rest,
        _ => name,
    }
}

/// Names of `held_out` that are not in `seen`, but whose role is, with another gender or none.
pub(super) fn unseen_combinations<'a>(held_out: &[&'a str], seen: &[&str]) -> HashSet<&'a str> {
    let roles: HashSet<&str> = seen.iter().map(|name| role(name)).collect();
    let names: HashSet<&str> = seen.iter().copied().collect();
    held_out.iter().copied().filter(|name| !names.contains(name) && roles.contains(role(name))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_role_with_an_unseen_gender_is_a_new_combination_and_nothing_else_is() {
        let seen = ["man firefighter", "woman pilot", "person bowing", "man", "ghost", "women wrestling", "superhero"];
        let held_out = [
            "woman firefighter", // the other gender was seen
            "pilot",             // a gender was seen
            "man superhero",     // no gender was seen
            "men wrestling",
            "woman",      // no role
            "lizard",     // unknown
            "ghost",      // seen itself
            "man zombie", // unknown role
            "manpilot",   // no word of its own
        ];
        let mut found: Vec<&str> = unseen_combinations(&held_out, &seen).into_iter().collect();
        found.sort_unstable();
        assert_eq!(found, ["man superhero", "men wrestling", "pilot", "woman firefighter"]);
    }
}
