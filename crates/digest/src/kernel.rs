//! Which instructions are used: the best that this processor has, unless a test wants others.

use std::sync::OnceLock;

/// A set of instructions that kernels are written for. A later one includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kernel {
    /// What every processor has.
    Portable,
    /// AVX2; where the processor has them, the SHA instructions too.
    Avx2,
    /// AVX-512 with F, BW, DQ, VL and VBMI; where the processor has them, the SHA instructions too.
    Avx512,
}

impl Kernel {
    /// The best that this processor has; `BLOCKPRINT_KERNEL=portable`, `avx2` or `avx512` asks for a lesser one.
    pub fn best() -> Self {
        static BEST: OnceLock<Kernel> = OnceLock::new();
        *BEST.get_or_init(|| {
            let found = Self::of_processor();
            let wanted = std::env::var("BLOCKPRINT_KERNEL").ok();
            let wanted = wanted
                .and_then(|name| Self::all().into_iter().find(|kernel| kernel.name() == name));
            wanted.unwrap_or(found).min(found)
        })
    }

    /// Those that this processor has, from the least to the best.
    pub fn available() -> Vec<Self> {
        let best = Self::of_processor();
        Self::all().into_iter().filter(|kernel| *kernel <= best).collect()
    }

    /// Panics if this processor does not have it. What follows may use its instructions.
    pub(crate) fn require(self) {
        let best = Self::of_processor();
        assert!(
            self <= best,
            "kernel {} was asked for, but this processor has no better one than {}",
            self.name(),
            best.name()
        );
    }

    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Kernel::Portable => "portable",
            Kernel::Avx2 => "avx2",
            Kernel::Avx512 => "avx512",
        }
    }

    fn all() -> [Self; 3] {
        [Kernel::Portable, Kernel::Avx2, Kernel::Avx512]
    }

    #[cfg(target_arch = "x86_64")]
    fn of_processor() -> Self {
        if !is_x86_feature_detected!("avx2") {
            Kernel::Portable
        } else if is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512vbmi")
        {
            Kernel::Avx512
        } else {
            Kernel::Avx2
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn of_processor() -> Self {
        Kernel::Portable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_is_one_of_those_that_are_available() {
        let available = Kernel::available();
        assert_eq!(available[0], Kernel::Portable);
        assert!(available.contains(&Kernel::best()));
    }
}
