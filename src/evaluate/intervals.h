// 95 % confidence intervals for the figures of `octet eval`. No resampling: closed forms, so that
// the same data give the same interval on every machine.
#pragma once

#include <cstdint>
#include <limits>
#include <span>

#include "octet/results.h"

namespace octet {

// The 97.5 % quantile of Student's t distribution. degrees >= 1.
[[nodiscard]] double StudentT975(int64_t degrees);

// What every single figure lies within, and so their mean does; rounding may take it an ulp beyond.
struct Bounds {
  double least = -std::numeric_limits<double>::infinity();
  double most = std::numeric_limits<double>::infinity();
};

// Mean of independent figures, Student's t, cut to the bounds. With fewer than two of them nothing
// is known of the spread: the interval is all that the bounds allow. Throws kBadData where there
// are none.
[[nodiscard]] Interval MeanInterval(std::span<const double> values, const Bounds& bounds = {});

// A share of n: Wilson's score interval (Wilson 1927), which stays inside [0, 1] and is sound at 0
// and n.
[[nodiscard]] Interval WilsonInterval(int64_t successes, int64_t n);

// Two shares of the same n things, second minus first, from the four counts of pairs. Newcombe's
// method 10 ("Improved confidence intervals for the difference between binomial proportions based
// on paired data", Statistics in Medicine 17, 1998): Wilson's limits of the two shares, combined
// with their correlation. Sound for few and for no discordant pairs, where the normal approximation
// gives an interval of length zero.
struct PairCounts {
  int64_t both = 0, first_only = 0, second_only = 0, neither = 0;
};
[[nodiscard]] Interval PairedDifference(const PairCounts& counts);

}  // namespace octet
