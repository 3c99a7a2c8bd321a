// Any text is a recipe, which comes back from its own text, or an octet::Error: nothing else.
#include <cstddef>
#include <cstdint>
#include <string>

#include "octet/error.h"
#include "octet/recipe.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  octet::Recipe recipe;
  try {
    recipe = octet::Recipe::Parse(text, "fuzz.yaml");
  } catch (const octet::Error& e) {
    if (e.code() == octet::ErrorCode::kInternal) __builtin_trap();
    return 0;
  }
  // What ToYaml writes must parse: an Error from here on is a fault, and so is another recipe.
  const std::string written = recipe.ToYaml();
  if (octet::Recipe::Parse(written, "written.yaml").ToYaml() != written) __builtin_trap();
  return 0;
}
