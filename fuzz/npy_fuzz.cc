// Any bytes are a .npy or .npz array, or an octet::Error: nothing else.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "files/npy.h"
#include "octet/error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::span<const std::byte> bytes(reinterpret_cast<const std::byte*>(data), size);
  const auto touch = [](const octet::Tensor& tensor) {
    const auto* at = static_cast<const volatile unsigned char*>(tensor.raw());
    for (int64_t i = 0; i < tensor.bytes(); ++i) static_cast<void>(at[i]);
  };
  try {
    touch(octet::ParseNpy(bytes, "fuzz.npy"));
  } catch (const octet::Error& e) {
    if (e.code() == octet::ErrorCode::kInternal) __builtin_trap();
  }
  try {
    for (const auto& array : octet::ParseNpz(bytes, "fuzz.npz")) touch(array.tensor);
  } catch (const octet::Error& e) {
    if (e.code() == octet::ErrorCode::kInternal) __builtin_trap();
  }
  return 0;
}
