#include "numerics/fixed_sum.h"

#include <bit>
#include <cmath>
#include <limits>

namespace octet {
namespace {

constexpr int kFraction = 112;         // bits below the binary point
constexpr int kLargestExponent = 100;  // terms below 2^100
constexpr FixedSum::Words kSaturated = {0, 0, 0, uint64_t{1} << 63};

FixedSum::Words Negated(const FixedSum::Words& words) {
  FixedSum::Words result;
  bool carry = true;
  for (size_t i = 0; i < 4; ++i) {
    result[i] = ~words[i] + (carry ? 1 : 0);
    carry = carry && result[i] == 0;
  }
  return result;
}

}  // namespace

FixedSum FixedSum::FromWords(const Words& words) {
  FixedSum sum;
  sum.words_ = words;
  return sum;
}

bool FixedSum::saturated() const { return words_ == kSaturated; }

void FixedSum::Saturate() { words_ = kSaturated; }

void FixedSum::AddWords(const Words& words) {
  bool carry = false;
  for (size_t i = 0; i < 4; ++i) {
    const uint64_t partial = words_[i] + words[i];
    const uint64_t total = partial + (carry ? 1 : 0);
    carry = partial < words[i] || total < partial;
    words_[i] = total;
  }
}

void FixedSum::Add(double term) {
  if (saturated()) return;
  // Also false for NaN.
  if (!(std::fabs(term) < 0x1p100)) return Saturate();
  static_assert(kLargestExponent == 100);
  int exponent = 0;
  const double fraction = std::frexp(std::fabs(term), &exponent);  // [0.5, 1) x 2^exponent
  int shift = exponent - 53 + kFraction;  // |term| = mantissa x 2^(shift - kFraction)
  auto mantissa = static_cast<uint64_t>(std::ldexp(fraction, 53));
  if (shift < 0) {
    if (shift < -54) return;  // below half of the last place
    const auto drop = static_cast<unsigned>(-shift);
    const uint64_t half = uint64_t{1} << (drop - 1);
    const uint64_t rest = mantissa & ((half << 1) - 1);
    mantissa >>= drop;
    if (rest > half || (rest == half && (mantissa & 1) != 0)) ++mantissa;
    shift = 0;
  }
  Words words{};
  const auto word = static_cast<size_t>(shift / 64);
  const auto bit = static_cast<unsigned>(shift % 64);
  words[word] = mantissa << bit;
  if (bit != 0 && word + 1 < 4) words[word + 1] = mantissa >> (64 - bit);
  AddWords(std::signbit(term) ? Negated(words) : words);
}

void FixedSum::Merge(const FixedSum& other) {
  if (saturated()) return;
  if (other.saturated()) return Saturate();
  AddWords(other.words_);
}

double FixedSum::Value() const {
  if (saturated()) return std::numeric_limits<double>::quiet_NaN();
  const bool negative = (words_[3] >> 63) != 0;
  const Words words = negative ? Negated(words_) : words_;
  size_t top = 3;
  while (top > 0 && words[top] == 0) --top;
  // The 64 leading bits, the last of them or-ed with everything below: converting rounds correctly
  // then.
  uint64_t leading = words[top];
  int exponent = static_cast<int>(top) * 64 - kFraction;
  if (top > 0) {
    const auto zeros = static_cast<unsigned>(std::countl_zero(leading));
    uint64_t below = words[top - 1];
    if (zeros != 0) {
      leading = (leading << zeros) | (below >> (64 - zeros));
      below <<= zeros;
      exponent -= static_cast<int>(zeros);
    }
    bool sticky = below != 0;
    for (size_t i = 0; i + 1 < top; ++i) sticky = sticky || words[i] != 0;
    if (sticky) leading |= 1;
  }
  const double magnitude = std::ldexp(static_cast<double>(leading), exponent);
  return negative ? -magnitude : magnitude;
}

}  // namespace octet
