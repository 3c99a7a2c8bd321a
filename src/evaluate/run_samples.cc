#include "evaluate/run_samples.h"

#include <algorithm>

#include "base/error.h"

namespace octet {

std::vector<size_t> MatchInputs(const Graph& graph, const Dataset& data, std::string_view what) {
  const std::vector<InputSpec>& specs = data.inputs();
  if (specs.size() != graph.inputs.size()) {
    Fail(ErrorCode::kInvalidArgument, what, " has ", graph.inputs.size(),
         " inputs, but the data were opened for ", specs.size());
  }
  std::vector<size_t> by_name, by_place;
  for (ValueId id : graph.inputs) {
    by_place.push_back(by_place.size());
    const auto it = std::find_if(specs.begin(), specs.end(), [&](const InputSpec& s) {
      return s.name == graph.value(id).name;
    });
    if (it != specs.end()) by_name.push_back(static_cast<size_t>(it - specs.begin()));
  }
  return by_name.size() == by_place.size() ? by_name : by_place;
}

std::vector<TensorView> InputViews(const Sample& sample, const std::vector<size_t>& order) {
  std::vector<TensorView> views;
  views.reserve(order.size());
  for (size_t i : order) views.push_back(sample.inputs.at(i).view());
  return views;
}

void RequireSamples(const Dataset& data, std::string_view operation) {
  if (data.size() <= 0) {
    Fail(ErrorCode::kBadData, operation, ": '", data.path().string(),
         "' holds no samples, expected at least one");
  }
}

}  // namespace octet
