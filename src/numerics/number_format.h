// A number format: integer or float. One name for either, so that a recipe, a table or a quantizer
// need not know which it has.
#pragma once

#include <string>
#include <string_view>
#include <variant>

#include "numerics/float_format.h"
#include "numerics/int_format.h"

namespace octet {

class NumberFormat {
 public:
  NumberFormat() = default;                                  // int8
  NumberFormat(const IntFormat& format) : value_(format) {}  // NOLINT(google-explicit-constructor)
  NumberFormat(const FloatFormat& format)                    // NOLINT(google-explicit-constructor)
      : value_(format) {}

  [[nodiscard]] bool is_float() const { return std::holds_alternative<FloatFormat>(value_); }
  // Each throws kInvalidArgument where the format is the other kind.
  [[nodiscard]] const IntFormat& integer() const;
  [[nodiscard]] const FloatFormat& floating() const;

  [[nodiscard]] int bits() const;
  [[nodiscard]] bool is_signed() const;
  [[nodiscard]] std::string Name() const;  // what Parse reads
  // "int8", "uint4", "int8-narrow": IntFormat::Parse; anything else FloatFormat::Parse. Throws
  // kInvalidArgument, naming the text and what is expected.
  [[nodiscard]] static NumberFormat Parse(std::string_view name);

  friend bool operator==(const NumberFormat&, const NumberFormat&) = default;

 private:
  std::variant<IntFormat, FloatFormat> value_;
};

}  // namespace octet
