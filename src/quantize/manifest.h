// What made a quantized model: hashes of what went in, versions, the whole effective recipe, and
// the parameters chosen. It travels in the model's metadata.
#pragma once

#include <string>

#include "octet/recipe.h"
#include "octet/results.h"

namespace octet {

struct ManifestOrigin {
  std::string version;          // of Octet
  std::string isa;              // in force while calibrating
  std::string model_sha256;     // of the float model's file; empty where it came from none
  std::string data_sha256;      // Dataset::ContentHash(); empty where statistics were given alone
  std::string preprocess_json;  // Preprocess::ToJson()
};

// JSON on one line, keys in a fixed order, no time stamps: the same run gives the same bytes.
// Throws kInternal where preprocess_json is no JSON.
[[nodiscard]] std::string ManifestJson(const ManifestOrigin& origin, const Recipe& recipe,
                                       const QuantizeResult& result);

}  // namespace octet
