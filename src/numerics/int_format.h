// An integer number format as a value: how many bits, signed or not, and whether the lowest code is
// left out. "int8", "uint8", "int4", "int8-narrow" (-127...127), 2 to 16 bits.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace octet {

struct IntFormat {
  int bits = 8;  // 2...16
  bool is_signed = true;
  bool narrow = false;  // signed only: codes -(2^(bits-1) - 1)..., symmetric about 0

  [[nodiscard]] int32_t qmin() const {
    return is_signed ? -(int32_t{1} << (bits - 1)) + (narrow ? 1 : 0) : 0;
  }
  [[nodiscard]] int32_t qmax() const {
    return is_signed ? (int32_t{1} << (bits - 1)) - 1 : (int32_t{1} << bits) - 1;
  }
  [[nodiscard]] int32_t levels() const { return qmax() - qmin() + 1; }

  [[nodiscard]] std::string Name() const;  // what Parse reads
  // Throws kInvalidArgument, naming the text and what is expected.
  [[nodiscard]] static IntFormat Parse(std::string_view name);

  friend bool operator==(const IntFormat&, const IntFormat&) = default;
};

inline constexpr IntFormat kInt8{8, true, false};
inline constexpr IntFormat kInt8Narrow{8, true, true};
inline constexpr IntFormat kUint8{8, false, false};

}  // namespace octet
