//! Ranks as threads: what they hear, how they fail, what they sum.

use super::*;
use crate::error::ErrorKind;

/// What each of `size` ranks comes to, in their order.
fn on_each<T: Send>(size: usize, work: impl Fn(&Group) -> T + Sync) -> Vec<T> {
    std::thread::scope(|scope| {
        let work = &work;
        let begin = |ranks: ThreadRank| scope.spawn(move || work(&Group::new(&ranks)));
        let threads: Vec<_> = in_threads(size).into_iter().map(begin).collect();
        threads.into_iter().map(|thread| thread.join().expect("no rank panics")).collect()
    })
}

#[test]
fn every_rank_hears_all_in_their_order() {
    for size in [1, 2, 3, 5, 8] {
        let expected: Vec<Vec<u8>> = (0..size).map(|rank| vec![7; rank]).collect();
        let heard = on_each(size, |group| group.hear(Ok(vec![7; group.rank()])).unwrap());
        assert!(heard.iter().all(|heard| *heard == expected), "{size} ranks");
    }
}

#[test]
fn what_fails_on_one_fails_on_all_with_its_name_and_kind() {
    let failed = on_each(4, |group| {
        let own = if group.rank() == 2 { Err(Error::data("no caption")) } else { Ok(group.rank()) };
        let error = group.run(|group| group.agree(own)).unwrap_err();
        (error.kind(), format!("{error:#}"))
    });
    assert!(failed.iter().all(|failed| *failed == (ErrorKind::Data, "rank 2: no caption".to_owned())), "{failed:?}");
    // what is wrong for all is no rank's own fault
    let failed = on_each(3, |group| format!("{:#}", group.agree::<()>(Err(Error::usage("no folder"))).unwrap_err()));
    assert!(failed.iter().all(|failed| failed == "no folder"), "{failed:?}");
}

#[test]
fn a_rank_that_is_gone_is_an_error_for_all_who_wait_for_it() {
    let errors = on_each(3, |group| {
        if group.rank() == 1 {
            return None;
        }
        Some(group.hear(Ok(Vec::new())).unwrap_err().to_string())
    });
    assert_eq!(errors[1], None);
    for rank in [0, 2] {
        // the one that waits for the gone rank goes too, and the other then waits for it
        let error = errors[rank].as_ref().unwrap();
        assert!(error.contains("is gone"), "{error}");
    }
}

#[test]
fn ranks_that_differ_are_refused_by_what_differs() {
    let failed = on_each(3, |group| {
        let pictures = if group.rank() == 2 { "b" } else { "a" };
        let own = vec![("recipe".to_owned(), "1".to_owned()), ("set of pictures".to_owned(), pictures.to_owned())];
        format!("{:#}", group.run(|group| group.same(Ok(own))).unwrap_err())
    });
    let expected = "rank 2 has another set of pictures (b) than rank 0 (a)";
    assert!(failed.iter().all(|failed| failed.starts_with(expected)), "{failed:?}");
    let same = on_each(3, |group| group.same(Ok(vec![("recipe".to_owned(), "1".to_owned())])).is_ok());
    assert_eq!(same, [true; 3]);
}

/// The definition: the left half, of the largest power of two below the length, and the rest.
fn by_halves(values: &[f32]) -> f32 {
    match values {
        [value] => *value,
        _ => {
            let left = values.len().next_power_of_two() / 2;
            by_halves(&values[..left]) + by_halves(&values[left..])
        }
    }
}

#[test]
fn a_sum_is_that_of_the_halves_and_the_same_bits_with_any_number_of_ranks() {
    let mut serial = 0;
    for places in [1, 2, 3, 5, 8, 13, 16, 31] {
        let value = |place: usize, i: usize| (place * 7919 + i * 104_729) as f32 % 10_007.0 / 10_007.0 - 0.3;
        let length = 37;
        let column = |i: usize| (0..places).map(|place| value(place, i)).collect::<Vec<f32>>();
        let expected: Vec<u32> = (0..length).map(|i| by_halves(&column(i)).to_bits()).collect();
        serial += (0..length).filter(|i| column(*i).iter().sum::<f32>().to_bits() != expected[*i]).count();
        for size in (1..=places.min(9)).chain([places]) {
            let totals = on_each(size, |group| {
                let mut tree = TreeSum::default();
                for first in share_of(places, group.rank(), size) {
                    let sum = (0..length).map(|i| value(first, i)).collect();
                    tree.push(Node { first, len: 1, sum }, |left: Vec<f32>, right: Vec<f32>| {
                        left.iter().zip(&right).map(|(left, right)| left + right).collect()
                    });
                }
                summed(group, tree.into_nodes(), places).unwrap()
            });
            for total in totals {
                let bits: Vec<u32> = total.iter().map(|x| x.to_bits()).collect();
                assert_eq!(bits, expected, "{places} places on {size} ranks");
            }
        }
    }
    assert!(serial > 20, "a sum from left to right is another one, or this test could not fail");
}

#[test]
fn values_longer_than_a_block_and_shorter_than_the_ranks_are_summed_too() {
    for (size, length) in [(2, (1 << 20) + 3), (5, 2)] {
        let totals = on_each(size, |group| {
            let rank = group.rank();
            let sum = (0..length).map(|i| (i % 1000 * (rank + 1)) as f32).collect();
            summed(group, vec![Node { first: rank, len: 1, sum }], size).unwrap()
        });
        let factor = size * (size + 1) / 2;
        for total in totals {
            assert!(total.iter().enumerate().all(|(i, x)| *x == (i % 1000 * factor) as f32), "{size} ranks");
        }
    }
}
