// Any text is a list of files and labels, or an octet::Error. No list leads out of its folder.
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string_view>

#include "files/dataset_source.h"
#include "octet/error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    static_cast<void>(octet::ParseLabels(text, "/nonexistent", "fuzz.csv"));
  } catch (const octet::Error& e) {
    if (e.code() == octet::ErrorCode::kInternal) __builtin_trap();
  }
  return 0;
}
