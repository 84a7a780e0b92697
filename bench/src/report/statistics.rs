//! What many samples come to: median and spread, and whether two sets differ by more than noise. The tables, the plots
//! and the list of what start_server is not best at are made of it.

/// What is better in at least so large a part of all pairs of samples is better, and not only luckier.
const SURE: f64 = 0.75;
/// Medians that differ by less than this part of ours say nothing.
const NOISE: f64 = 0.10;

/// Median, spread and quartiles of a set of samples that has at least one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// How many samples.
    pub count: usize,
    /// The smallest.
    pub min: f64,
    /// The one in the middle; of an even number, the mean of the two.
    pub median: f64,
    /// The largest.
    pub max: f64,
}

impl Summary {
    /// None if there are no samples.
    pub fn of(samples: &[f64]) -> Option<Self> {
        let sorted = sorted(samples);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let upper = *sorted.get(sorted.len() / 2)?;
        let lower = *sorted.get((sorted.len() - 1) / 2)?;
        Some(Self { count: sorted.len(), min, median: f64::midpoint(lower, upper), max })
    }
}

/// How many times `other` is of `base`; none where that has no meaning, as with nothing or less than nothing.
pub fn ratio(other: f64, base: f64) -> Option<f64> {
    (base > 0.0 && other >= 0.0).then(|| other / base)
}

/// Whether the samples of `theirs` are lower than `ours` by more than noise: the medians differ by more than a tenth of
/// ours and more than `resolution`, and in three of four pairs, a sample of each, theirs is the lower.
pub fn clearly_lower(theirs: &[f64], ours: &[f64], resolution: f64) -> bool {
    let (Some(their), Some(our)) = (Summary::of(theirs), Summary::of(ours)) else { return false };
    let difference = our.median - their.median;
    difference > resolution && difference > NOISE * our.median.abs() && part_lower(theirs, ours) >= SURE
}

/// The part of all pairs in which the sample of `theirs` is lower than that of `ours`; equal ones count half.
fn part_lower(theirs: &[f64], ours: &[f64]) -> f64 {
    let ours = sorted(ours);
    let wins: f64 = theirs
        .iter()
        .map(|sample| {
            let below = ours.partition_point(|our| our < sample);
            let not_above = ours.partition_point(|our| our <= sample);
            (ours.len() - not_above) as f64 + (not_above - below) as f64 / 2.0
        })
        .sum();
    wins / (ours.len() * theirs.len()) as f64
}

fn sorted(samples: &[f64]) -> Vec<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        type Case = (&'static [f64], Option<(f64, f64, f64)>);
        let cases: [Case; 5] = [
            (&[], None),
            (&[7.0], Some((7.0, 7.0, 7.0))),
            (&[3.0, 1.0], Some((1.0, 2.0, 3.0))),
            (&[5.0, -1.0, 100.0], Some((-1.0, 5.0, 100.0))),
            (&[4.0, 1.0, 3.0, 2.0], Some((1.0, 2.5, 4.0))),
        ];
        for (samples, expected) in cases {
            let found = Summary::of(samples).map(|summary| (summary.min, summary.median, summary.max));
            assert_eq!(found, expected, "{samples:?}");
        }
    }

    #[test]
    fn a_ratio_needs_something_to_compare_with() {
        let cases =
            [(2.0, 1.0, Some(2.0)), (0.0, 2.0, Some(0.0)), (1.0, 0.0, None), (0.0, 0.0, None), (-1.0, 2.0, None)];
        for (other, base, expected) in cases {
            assert_eq!(ratio(other, base), expected, "{other} of {base}");
        }
    }

    #[test]
    fn noise_is_no_difference() {
        type Case = (&'static str, &'static [f64], &'static [f64], f64, bool);
        let cases: [Case; 9] = [
            ("half as much", &[1.0, 1.1, 0.9], &[2.0, 2.1, 1.9], 0.0, true),
            ("twice as much", &[2.0, 2.1, 1.9], &[1.0, 1.1, 0.9], 0.0, false),
            ("the same", &[1.0, 1.0], &[1.0, 1.0], 0.0, false),
            ("a twentieth less", &[0.95, 0.95], &[1.0, 1.0], 0.0, false),
            ("less, but among ours", &[1.0, 9.0, 5.0, 0.5], &[1.1, 9.0, 6.0, 5.6], 0.0, false),
            ("below what can be measured", &[0.01], &[0.02], 0.05, false),
            ("nothing instead of something", &[0.0, 0.0, 0.0], &[1.0, 2.0, 0.0], 0.0, true),
            ("one outlier of ours", &[1.0, 1.0, 1.0, 1.0], &[0.1, 2.0, 2.0, 2.0], 0.0, true),
            ("no samples", &[], &[1.0], 0.0, false),
        ];
        for (what, theirs, ours, resolution, expected) in cases {
            assert_eq!(clearly_lower(theirs, ours, resolution), expected, "{what}");
        }
    }
}
