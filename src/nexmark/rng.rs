//! Random numbers of one event, from nothing but the seed and the event number.
//!
//! Owns: splitmix64 (Steele, Lea, Flood 2014) keyed by two numbers, and draws of bounded integers,
//! choices and prices from it.
//! Invariant: only integer operations and IEEE additions and multiplications are used, which give
//! the same bits on every machine and compiler. `f64::powf` does not promise that, so the power of
//! ten is computed here.

/// 2^64 / golden ratio, splitmix64's step.
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

/// splitmix64's output function: a bijection in which every input bit moves every output bit.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The random numbers of one event. Draws happen in a fixed order: it is part of the stream's
/// definition, guarded by the golden hash.
#[derive(Clone, Debug)]
pub(super) struct EventRng {
    state: u64,
}

impl EventRng {
    /// The numbers that belong to `key` (an event number, a channel) under `seed`.
    /// They are mixed, so neighbouring keys do not walk through the same states.
    pub(super) fn new(seed: u64, key: u64) -> Self {
        Self {
            state: mix(seed ^ key.wrapping_mul(STEP)),
        }
    }

    pub(super) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(STEP);
        mix(self.state)
    }

    /// A number in 0..`bound`. The bias of multiply-and-shift is bound / 2^64.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// True `of - 1` times of `of`: what is hot, with Nexmark's ratio `of`.
    pub(super) fn is_hot(&mut self, of: u64) -> bool {
        self.below(of) > 0
    }

    /// An index into something of `count` elements.
    pub(super) fn index(&mut self, count: usize) -> usize {
        usize::try_from(self.below(count as u64)).expect("it is below a usize")
    }

    /// One of `choices`, all equally likely.
    pub(super) fn choose<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.index(choices.len())]
    }

    /// Uniform in [0, 1), with 53 random bits.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A price in cents: round(10^(6 u) * 100), u uniform in [0, 1); 100 ..= 100 000 000.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "at most 10^8, positive, and cutting off is half of the rounding"
    )]
    pub(super) fn price(&mut self) -> u64 {
        (power_of_ten(6.0 * self.unit()) * 100.0 + 0.5) as u64
    }
}

/// 10^x for x in [0, 6], relative error below 4e-15.
///
/// 10^x = 2^k e^f with k = round(x log2(10)) and |f| <= ln(2) / 2, where the series of e^f may stop
/// after f^13 / 13!: the next term is below 1e-17. Even and odd terms are summed apart, two chains
/// that the processor works on at once.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the exponent is 0..=20, and cutting off is half of the rounding"
)]
fn power_of_ten(x: f64) -> f64 {
    debug_assert!((0.0..=6.0).contains(&x));
    let exponent = x * std::f64::consts::LOG2_10;
    let whole = (exponent + 0.5) as u32;
    let f = (exponent - f64::from(whole)) * std::f64::consts::LN_2;
    let square = f * f;
    let (mut even, mut odd) = (0.0, 0.0);
    for power in (0..14).step_by(2).rev() {
        even = even * square + INVERSE_FACTORIALS[power];
        odd = odd * square + INVERSE_FACTORIALS[power + 1];
    }
    (even + f * odd) * f64::from(1_u32 << whole)
}

/// 1/0!, 1/1! .. 1/13!.
const INVERSE_FACTORIALS: [f64; 14] = {
    let mut inverses = [1.0; 14];
    let mut factorial = 1_u64;
    let mut i = 1;
    while i < 14 {
        factorial *= i as u64;
        inverses[i] = 1.0 / factorial as f64;
        i += 1;
    }
    inverses
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn power_of_ten_is_what_the_library_says() {
        for i in 0..=60_000 {
            let x = f64::from(i) / 10_000.0;
            let (ours, theirs) = (power_of_ten(x), 10_f64.powf(x));
            assert!(
                (ours / theirs - 1.0).abs() < 4e-15,
                "10^{x}: {ours} and {theirs}"
            );
        }
    }

    #[test]
    fn neighbouring_keys_share_no_numbers() {
        let mut seen = std::collections::HashSet::new();
        for key in 0..1000 {
            let mut rng = EventRng::new(7, key);
            for _ in 0..20 {
                assert!(seen.insert(rng.next()), "key {key} repeats a number");
            }
        }
    }

    #[test]
    fn below_reaches_every_value_about_equally() {
        let mut counts = [0_u32; 13];
        let mut rng = EventRng::new(1, 1);
        for _ in 0..13_000 {
            counts[rng.index(13)] += 1;
        }
        assert!(
            counts.iter().all(|&count| (850..1150).contains(&count)),
            "{counts:?}"
        );
    }
}
