// A sum of doubles that does not depend on the order of its terms: 256-bit fixed point.
//
// Each term is rounded once, to nearest even, to a multiple of 2^-112; after that addition is
// exact, hence associative and commutative, and partial sums merge to the same bits. Terms of
// magnitude below 2^100 are taken (an activation of 1e15, squared); up to 2^43 of them cannot
// overflow. A larger or non-finite term makes the sum saturated, for good and for whatever it is
// merged into: again independent of order.
#pragma once

#include <array>
#include <cstdint>

namespace octet {

class FixedSum {
 public:
  using Words = std::array<uint64_t, 4>;  // two's complement, least significant word first

  FixedSum() = default;
  [[nodiscard]] static FixedSum FromWords(const Words& words);

  void Add(double term);
  void Merge(const FixedSum& other);

  [[nodiscard]] bool saturated() const;
  [[nodiscard]] double Value() const;  // rounded to nearest even; NaN if saturated
  [[nodiscard]] const Words& words() const { return words_; }

  friend bool operator==(const FixedSum&, const FixedSum&) = default;

 private:
  void AddWords(const Words& words);
  void Saturate();

  Words words_{};  // saturated: the lowest value, 2^255 below zero, which no allowed sum reaches
};

}  // namespace octet
