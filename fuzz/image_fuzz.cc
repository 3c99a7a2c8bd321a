// Any bytes are a JPEG or PNG image, or an octet::Error: nothing else.
#include <cstddef>
#include <cstdint>
#include <span>

#include "files/image.h"
#include "octet/error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::span<const std::byte> bytes(reinterpret_cast<const std::byte*>(data), size);
  try {
    const octet::Image image = octet::DecodeImage(bytes, "fuzz");
    if (static_cast<int64_t>(image.rgb.size()) !=
        image.width * image.height * octet::kImageChannels)
      __builtin_trap();
  } catch (const octet::Error& e) {
    if (e.code() == octet::ErrorCode::kInternal) __builtin_trap();
  }
  return 0;
}
