// Any bytes are a safetensors file, or an octet::Error: nothing else. What was read lies within the
// bytes.
#include <cstddef>
#include <cstdint>
#include <span>

#include "files/safetensors.h"
#include "octet/error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::span<const std::byte> bytes(reinterpret_cast<const std::byte*>(data), size);
  try {
    for (const auto& [name, tensor] : octet::ParseSafetensors(bytes, "fuzz", nullptr).tensors) {
      const auto* at = static_cast<const volatile unsigned char*>(tensor.raw());
      for (int64_t i = 0; i < tensor.bytes(); ++i) static_cast<void>(at[i]);
    }
  } catch (const octet::Error& e) {
    if (e.code() == octet::ErrorCode::kInternal) __builtin_trap();
  }
  return 0;
}
