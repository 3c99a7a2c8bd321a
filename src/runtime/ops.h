// The operators Octet can run: one row each, one explicit list. To add one, write its factory in
// runtime/ops/<family>.cc and name it in runtime/ops.cc.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "runtime/step.h"

namespace octet {

struct OpRow {
  std::string_view op;
  std::string_view domain;
  Step (*make)(const StepRequest&);
  // Bit i: input i, if present, must be known when the step is made. Where it is computed, the node
  // waits until the part of the graph before it has run.
  uint32_t known_inputs = 0;
};

[[nodiscard]] const OpRow* FindImplementation(std::string_view op, std::string_view domain);
[[nodiscard]] std::span<const OpRow> AllImplementations();

}  // namespace octet
