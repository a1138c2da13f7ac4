//! How far raters agree beyond chance: Krippendorff's α for nominal answers (Krippendorff, "Content Analysis", chapter 11).
//!
//! It takes any number of raters for each unit and any answers that are missing. 1 is agreement in everything, 0 what answers
//! at random would have, below 0 they contradict each other more often than chance.

use std::collections::BTreeMap;

/// α of the answers to some units; `None` where no unit was answered twice or only one answer was ever given.
pub fn krippendorff_alpha<T: Ord>(units: impl IntoIterator<Item = Vec<T>>) -> Option<f64> {
    let mut totals: BTreeMap<T, f64> = BTreeMap::new();
    let (mut answers, mut disagreement) = (0.0, 0.0);
    for unit in units {
        let m = unit.len() as f64;
        if unit.len() < 2 {
            continue; // a single answer agrees with nobody
        }
        let mut counts: BTreeMap<T, f64> = BTreeMap::new();
        unit.into_iter().for_each(|answer| *counts.entry(answer).or_default() += 1.0);
        answers += m;
        // ordered pairs of different answers: all pairs but those within one answer
        disagreement += (m * m - counts.values().map(|c| c * c).sum::<f64>()) / (m - 1.0);
        counts.into_iter().for_each(|(answer, count)| *totals.entry(answer).or_default() += count);
    }
    let expected = (answers * answers - totals.values().map(|n| n * n).sum::<f64>()) / (answers - 1.0);
    (answers > 1.0 && expected > 0.0).then(|| 1.0 - disagreement / expected)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn the_textbooks_example_has_the_textbooks_alpha() {
        // four observers, twelve units, some answers missing: 0.743 for nominal data
        let units: [&[u8]; 12] = [
            &[1, 1, 1],
            &[2, 2, 3, 2],
            &[3, 3, 3, 3],
            &[3, 3, 3, 3],
            &[2, 2, 2, 2],
            &[1, 2, 3, 4],
            &[4, 4, 4, 4],
            &[1, 1, 2, 1],
            &[2, 2, 2, 2],
            &[5, 5, 5],
            &[1, 1],
            &[3],
        ];
        let alpha = krippendorff_alpha(units.map(<[u8]>::to_vec)).unwrap();
        assert!((alpha - 0.743).abs() < 5e-4, "{alpha}");
    }

    #[test]
    fn agreement_is_one_chance_is_zero_and_contradiction_is_below() {
        let alike = (0..50).map(|unit| vec![unit % 3; 5]);
        assert_eq!(krippendorff_alpha(alike), Some(1.0));
        let random = (0..2000).map(|unit| (0..5).map(|r| Rng::new(1).fold(unit).fold(r).below(3)).collect());
        let alpha = krippendorff_alpha(random).unwrap();
        assert!(alpha.abs() < 0.02, "{alpha}");
        assert!(krippendorff_alpha((0..50).map(|_| vec![0, 1])).unwrap() < -0.9);
    }

    #[test]
    fn without_a_second_answer_or_a_second_kind_there_is_no_alpha() {
        assert_eq!(krippendorff_alpha([vec![1], vec![2]]), None);
        assert_eq!(krippendorff_alpha([vec![1, 1], vec![1, 1]]), None);
        assert_eq!(krippendorff_alpha::<u8>([]), None);
    }
}
