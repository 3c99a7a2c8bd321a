// Overflow-checked arithmetic for sizes that come out of files.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

namespace octet {

[[nodiscard]] inline std::optional<int64_t> CheckedMul(int64_t a, int64_t b) {
  int64_t r = 0;
  if (__builtin_mul_overflow(a, b, &r)) return std::nullopt;
  return r;
}

[[nodiscard]] inline std::optional<int64_t> CheckedAdd(int64_t a, int64_t b) {
  int64_t r = 0;
  if (__builtin_add_overflow(a, b, &r)) return std::nullopt;
  return r;
}

// Product of dimensions; nullopt for a negative dimension or an overflow. The empty product is 1.
[[nodiscard]] inline std::optional<int64_t> CheckedProduct(std::span<const int64_t> dims) {
  int64_t r = 1;
  bool zero = false;
  for (int64_t d : dims) {
    if (d < 0) return std::nullopt;
    if (d == 0) {
      zero = true;
      continue;
    }
    auto next = CheckedMul(r, d);
    if (!next) return std::nullopt;
    r = *next;
  }
  return zero ? 0 : r;
}

}  // namespace octet
