//! Runs contenders in turn, so that other work of the machine affects all alike.

use std::io;

/// Returns the order of `count` contenders in a round.
///
/// A run is slower after a neighbour whose machine the kernel is still taking down. In `count`
/// rounds (twice as many, if `count` is odd) each contender runs equally often at each place and
/// after each other one: a Williams design.
pub fn order(round: usize, count: usize) -> impl Iterator<Item = usize> {
    // First, last, second, last but one ...; each round starts one further.
    let zigzag = (0..count)
        .zip((0..count).rev())
        .flat_map(|(low, high)| [low, high]);
    let mut turns: Vec<usize> = zigzag.take(count).collect();
    for turn in &mut turns {
        *turn = (0..count)
            .cycle()
            .nth(turn.saturating_add(round))
            .unwrap_or(0);
    }
    if round.checked_div(count).is_some_and(|times| times % 2 == 1) {
        turns.reverse();
    }
    turns.into_iter()
}

/// Runs each of `contenders` once to warm up, then `rounds` times in a balanced [`order`]. Returns
/// the results of each, round by round.
///
/// # Errors
///
/// The error of a run that failed [`TRIES`] times in a row.
pub fn in_turn<C, T>(
    rounds: usize,
    contenders: &[C],
    mut run: impl FnMut(&C) -> io::Result<T>,
) -> io::Result<Vec<Vec<T>>> {
    let mut surely = |contender: &C| {
        let tries = (1..TRIES).find_map(|_| run(contender).ok());
        tries.map_or_else(|| run(contender), Ok)
    };
    for contender in contenders {
        surely(contender)?;
    }
    let mut results: Vec<Vec<T>> = contenders.iter().map(|_| Vec::new()).collect();
    for round in 0..rounds {
        for index in order(round, contenders.len()) {
            if let (Some(contender), Some(results)) =
                (contenders.get(index), results.get_mut(index))
            {
                results.push(surely(contender)?);
            }
        }
    }
    Ok(results)
}

/// The number of tries of one run, so that one hiccup of the machine does not cost a whole report.
pub const TRIES: usize = 3;

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn each_contender_follows_each_other_one_equally_often() {
        for count in [2_usize, 3, 4, 5, 8, 15] {
            let mut places = vec![vec![0; count]; count];
            let mut followers = vec![vec![0; count]; count];
            for round in 0..2 * count {
                let order: Vec<usize> = order(round, count).collect();
                for (place, &who) in order.iter().enumerate() {
                    places[who][place] += 1;
                }
                for pair in order.windows(2) {
                    followers[pair[0]][pair[1]] += 1;
                }
            }
            assert!(places.iter().flatten().all(|&times| times == 2), "{count}");
            for (who, row) in followers.iter().enumerate() {
                for (next, &times) in row.iter().enumerate() {
                    assert_eq!(times, if who == next { 0 } else { 2 }, "{count}");
                }
            }
        }
        assert_eq!(order(7, 0).count(), 0);
    }

    #[test]
    fn all_take_turns_in_an_order_that_alternates() {
        let order = RefCell::new(String::new());
        let results = in_turn(3, &['a', 'b'], |name| {
            order.borrow_mut().push(*name);
            Ok(order.borrow().len())
        });
        assert_eq!(order.into_inner(), "ababbaba");
        assert_eq!(results.unwrap(), [[3, 6, 8], [4, 5, 7]]);
    }

    #[test]
    fn a_run_that_fails_is_tried_again_and_not_for_ever() {
        let mut calls = 0;
        let results = in_turn(1, &[()], |()| {
            calls += 1;
            if calls == 3 {
                Ok(calls)
            } else {
                Err(io::ErrorKind::Other.into())
            }
        });
        assert!(results.is_err());
        assert_eq!(calls, 3 + 3, "three for the warm-up, three for the round");
    }
}
