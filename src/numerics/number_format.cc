#include "numerics/number_format.h"

#include "base/error.h"

namespace octet {

const IntFormat& NumberFormat::integer() const {
  if (is_float()) {
    Fail(ErrorCode::kInvalidArgument, "number format ", Name(), "; expected an integer format");
  }
  return *std::get_if<IntFormat>(&value_);
}

const FloatFormat& NumberFormat::floating() const {
  if (!is_float()) {
    Fail(ErrorCode::kInvalidArgument, "number format ", Name(), "; expected a float format");
  }
  return *std::get_if<FloatFormat>(&value_);
}

int NumberFormat::bits() const { return is_float() ? floating().bits() : integer().bits; }

bool NumberFormat::is_signed() const {
  return is_float() ? floating().is_signed : integer().is_signed;
}

std::string NumberFormat::Name() const { return is_float() ? floating().Name() : integer().Name(); }

NumberFormat NumberFormat::Parse(std::string_view name) {
  if (name.starts_with("int") || name.starts_with("uint")) return IntFormat::Parse(name);
  const std::string_view unsigned_rest = name.substr(name.starts_with("u") ? 1 : 0);
  if (unsigned_rest.starts_with("e") || name.starts_with("float")) return FloatFormat::Parse(name);
  Fail(ErrorCode::kInvalidArgument, "number format '", name,
       "'; expected an integer format such as int8, uint8 or int8-narrow, or a float format such "
       "as e4m3, e3m4:bias=int, e4m3fn or float8_e5m2");
}

}  // namespace octet
