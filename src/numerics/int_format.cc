#include "numerics/int_format.h"

#include <charconv>

#include "base/error.h"

namespace octet {

std::string IntFormat::Name() const {
  return Cat(is_signed ? "int" : "uint", bits, narrow ? "-narrow" : "");
}

IntFormat IntFormat::Parse(std::string_view name) {
  constexpr std::string_view kNarrow = "-narrow";
  std::string_view rest = name;
  IntFormat format;
  if (rest.ends_with(kNarrow)) {
    format.narrow = true;
    rest.remove_suffix(kNarrow.size());
  }
  if (rest.starts_with("u")) {
    format.is_signed = false;
    rest.remove_prefix(1);
  }
  bool ok = rest.starts_with("int") && !(format.narrow && !format.is_signed);
  if (ok) {
    rest.remove_prefix(3);
    const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), format.bits);
    ok = error == std::errc() && end == rest.data() + rest.size() && rest.front() != '0' &&
         format.bits >= 2 && format.bits <= 16;
  }
  if (!ok) {
    Fail(ErrorCode::kInvalidArgument, "integer format '", name,
         "'; expected intN, intN-narrow or uintN with N from 2 to 16, such as int8");
  }
  return format;
}

}  // namespace octet
