//! Statistics of runs.

/// Quantiles of some measurements.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "five numbers")]
pub struct Summary {
    /// The smallest.
    pub min: f64,
    /// The lowest tenth.
    pub lowest_tenth: f64,
    /// The median.
    pub median: f64,
    /// The upper quartile.
    pub upper_quartile: f64,
    /// The highest tenth.
    pub highest_tenth: f64,
}

impl Summary {
    /// Summarises `values`; `None` if there are none.
    #[must_use]
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let at = |parts: usize| {
            let index = values.len().saturating_sub(1).saturating_mul(parts) / 20;
            values.get(index).copied()
        };
        Some(Self {
            min: at(0)?,
            lowest_tenth: at(2)?,
            median: at(10)?,
            upper_quartile: at(15)?,
            highest_tenth: at(18)?,
        })
    }

    /// Summarises the ratios of `values` to their partners, which were measured in the same rounds.
    #[must_use]
    pub fn of_ratios(values: &[f64], partners: &[f64]) -> Option<Self> {
        Self::of(values.iter().zip(partners).map(|(value, by)| value / by))
    }

    /// Summarises the differences between `values` and their partners, which were measured in the
    /// same rounds.
    #[must_use]
    pub fn of_differences(values: &[f64], partners: &[f64]) -> Option<Self> {
        Self::of(
            values
                .iter()
                .zip(partners)
                .map(|(value, than)| value - than),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_is_order_s_statistics() {
        assert_eq!(Summary::of([]), None);
        let summary = Summary::of((0..=20).rev().map(f64::from)).unwrap();
        let Summary {
            min,
            lowest_tenth,
            median,
            upper_quartile,
            highest_tenth,
        } = summary;
        let found = [min, lowest_tenth, median, upper_quartile, highest_tenth];
        assert_eq!(found, [0.0, 2.0, 10.0, 15.0, 18.0]);
        assert_eq!(Summary::of([7.0]).unwrap().highest_tenth, 7.0);
    }

    #[test]
    fn partners_are_compared_round_by_round() {
        // A slow round is slow for both, so each ratio is still 2.
        let (ours, theirs) = ([2.0, 40.0, 6.0], [1.0, 20.0, 3.0]);
        assert_eq!(Summary::of_ratios(&ours, &theirs).unwrap().median, 2.0);
        let differences = Summary::of_differences(&ours, &theirs).unwrap();
        assert_eq!((differences.min, differences.median), (1.0, 3.0));
    }
}
