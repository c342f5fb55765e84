//! Numbers out of runs.

/// The middle of some measurements, and how far they spread.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "three numbers")]
pub struct Summary {
    /// The least.
    pub min: f64,
    /// The one in the middle.
    pub median: f64,
    /// The one above three quarters.
    pub upper_quartile: f64,
}

impl Summary {
    /// Summarises `values`; `None` when there are none.
    #[must_use]
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let at = |part: usize| {
            let index = values.len().saturating_sub(1).saturating_mul(part) / 4;
            values.get(index).copied()
        };
        Some(Self {
            min: at(0)?,
            median: at(2)?,
            upper_quartile: at(3)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_is_order_s_statistics() {
        assert_eq!(Summary::of([]), None);
        let summary = Summary::of([5.0, 1.0, 4.0, 2.0, 3.0]).unwrap();
        assert_eq!(
            summary,
            Summary {
                min: 1.0,
                median: 3.0,
                upper_quartile: 4.0
            }
        );
    }
}
