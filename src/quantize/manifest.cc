#include "quantize/manifest.h"

#include <nlohmann/json.hpp>

#include "base/error.h"

namespace octet {

using nlohmann::ordered_json;

std::string ManifestJson(const ManifestOrigin& origin, const Recipe& recipe,
                         const QuantizeResult& result) {
  ordered_json preprocess = ordered_json::parse(origin.preprocess_json, nullptr, false);
  if (preprocess.is_discarded()) {
    Fail(ErrorCode::kInternal, "manifest: the preprocessing is no JSON: ", origin.preprocess_json);
  }
  ordered_json m;
  m["octet"] = origin.version;
  m["isa"] = origin.isa;
  m["model_sha256"] = origin.model_sha256;
  if (!origin.data_sha256.empty()) m["data_sha256"] = origin.data_sha256;
  m["preprocess"] = std::move(preprocess);
  m["samples"] = result.samples;
  m["recipe"] = recipe.ToYaml();
  auto& activations = m["activations"] = ordered_json::object();
  for (const auto& a : result.activations) {
    activations[a.value] = {{"format", a.format}, {"scale", a.scale}, {"zero_point", a.zero_point},
                            {"lo", a.lo},         {"hi", a.hi},       {"method", a.method}};
  }
  auto& weights = m["weights"] = ordered_json::object();
  for (const auto& l : result.layers)
    weights[l.node] = {{"format", l.format}, {"multiplier", l.multiplier}};
  auto& smoothed = m["smoothed"] = ordered_json::object();
  for (const auto& row : result.smoothing) {
    if (row.applied) smoothed[row.group].push_back(row.chosen);
  }
  auto& kept = m["kept_float"] = ordered_json::object();
  for (const auto& k : result.kept_float) kept[k.node] = k.text;
  // A value's name need not be UTF-8; what is not is replaced rather than refused.
  return m.dump(-1, ' ', false, ordered_json::error_handler_t::replace);
}

}  // namespace octet
