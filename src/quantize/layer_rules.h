// Which rule of a recipe applies to a node.
#pragma once

#include <fnmatch.h>

#include <string>

#include "octet/recipe.h"

namespace octet {

// The last rule whose glob matches and which sets `member`, or nullptr.
template <typename T>
[[nodiscard]] const T* RuleFor(const Recipe& recipe, const std::string& node,
                               std::optional<T> LayerRule::*member) {
  const T* found = nullptr;
  for (const LayerRule& rule : recipe.layers) {
    if (rule.*member && fnmatch(rule.match.c_str(), node.c_str(), 0) == 0) found = &*(rule.*member);
  }
  return found;
}

}  // namespace octet
