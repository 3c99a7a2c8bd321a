// From a run-time element type to a C++ type.
#pragma once

#include "runtime/step.h"

namespace octet::ops {

// Calls body(T{}) for the number type of `dtype`; bool is handled as its byte. Throws kUnsupported
// for 16- and 8-bit floats.
template <typename Body>
auto WithNumber(const StepRequest& r, DType dtype, Body body) {
  switch (dtype) {
    case DType::kFloat32:
      return body(float{});
    case DType::kFloat64:
      return body(double{});
    case DType::kInt8:
      return body(int8_t{});
    case DType::kUint8:
      return body(uint8_t{});
    case DType::kInt16:
      return body(int16_t{});
    case DType::kUint16:
      return body(uint16_t{});
    case DType::kInt32:
      return body(int32_t{});
    case DType::kUint32:
      return body(uint32_t{});
    case DType::kInt64:
      return body(int64_t{});
    case DType::kUint64:
      return body(uint64_t{});
    case DType::kBool:
      return body(uint8_t{});
    default:
      FailStep(r, Cat("element type ", NameOf(dtype), " is not supported"));
  }
}

// Calls body(T{}) for an unsigned integer of the element's size: for operators that only move
// bytes.
template <typename Body>
auto WithElementSize(const StepRequest& r, DType dtype, Body body) {
  switch (SizeOf(dtype)) {
    case 1:
      return body(uint8_t{});
    case 2:
      return body(uint16_t{});
    case 4:
      return body(uint32_t{});
    case 8:
      return body(uint64_t{});
    default:
      FailStep(r, Cat("element type ", NameOf(dtype), " is not supported"));
  }
}

// Elements per piece of a parallel elementwise loop: some 10 us of work, well above the cost of a
// fork.
inline constexpr int64_t kElementGrain = 1 << 15;

}  // namespace octet::ops
