//! Runs contenders in turn, so that other work of the machine affects all alike.

use std::io;

/// Runs each of `contenders` once to warm up, then `rounds` times, every other round in the opposite order. Returns the
/// results of each, round by round.
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
        let mut turns: Vec<_> = contenders.iter().zip(&mut results).collect();
        if round % 2 == 1 {
            turns.reverse();
        }
        for (contender, results) in turns {
            results.push(surely(contender)?);
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
    fn all_take_turns_in_an_order_that_alternates() {
        let order = RefCell::new(String::new());
        let results = in_turn(3, &['a', 'b'], |name| {
            order.borrow_mut().push(*name);
            Ok(order.borrow().len())
        });
        assert_eq!(order.into_inner(), "ababbaab");
        assert_eq!(results.unwrap(), [[3, 6, 7], [4, 5, 8]]);
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
