// Element types of tensors in memory and in files.
#pragma once

#include <cstdint>
#include <string_view>
#include <type_traits>

namespace octet {

// g++ takes enumerators of a scoped enumeration to hide constants of numerics/int_format.h.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wshadow"
enum class DType : uint8_t {
  kUndefined,
  kFloat32,
  kFloat64,
  kFloat16,
  kBFloat16,
  kInt8,
  kUint8,
  kInt16,
  kUint16,
  kInt32,
  kUint32,
  kInt64,
  kUint64,
  kBool,
  kFloat8E4M3Fn,
  kFloat8E4M3FnUz,
  kFloat8E5M2,
  kFloat8E5M2FnUz,
};
#pragma GCC diagnostic pop

[[nodiscard]] int64_t SizeOf(DType dtype);              // bytes per element; 0 for kUndefined
[[nodiscard]] std::string_view NameOf(DType dtype);     // "float32", "int8", ...
[[nodiscard]] DType ParseDType(std::string_view name);  // throws kInvalidArgument
[[nodiscard]] bool IsInteger(DType dtype);              // int8 ... uint64, not bool
[[nodiscard]] constexpr bool IsFloat8(DType dtype) {
  return dtype >= DType::kFloat8E4M3Fn && dtype <= DType::kFloat8E5M2FnUz;
}

// The DType of a C++ type. 16- and 8-bit floats are handled as their raw bits and have none.
template <typename T>
[[nodiscard]] constexpr DType DTypeOf() {
  if constexpr (std::is_same_v<T, float>)
    return DType::kFloat32;
  else if constexpr (std::is_same_v<T, double>)
    return DType::kFloat64;
  else if constexpr (std::is_same_v<T, int8_t>)
    return DType::kInt8;
  else if constexpr (std::is_same_v<T, uint8_t>)
    return DType::kUint8;
  else if constexpr (std::is_same_v<T, int16_t>)
    return DType::kInt16;
  else if constexpr (std::is_same_v<T, uint16_t>)
    return DType::kUint16;
  else if constexpr (std::is_same_v<T, int32_t>)
    return DType::kInt32;
  else if constexpr (std::is_same_v<T, uint32_t>)
    return DType::kUint32;
  else if constexpr (std::is_same_v<T, int64_t>)
    return DType::kInt64;
  else if constexpr (std::is_same_v<T, uint64_t>)
    return DType::kUint64;
  else if constexpr (std::is_same_v<T, bool>)
    return DType::kBool;
  else
    return DType::kUndefined;
}

}  // namespace octet
