// The operators Octet can run: one row each, one explicit list. To add one, write its factory in
// runtime/ops/<family>.cc and name it in runtime/ops.cc.
#pragma once

#include <span>
#include <string_view>

#include "runtime/step.h"

namespace octet {

struct OpRow {
  std::string_view op;
  std::string_view domain;
  Step (*make)(const StepRequest&);
};

[[nodiscard]] const OpRow* FindImplementation(std::string_view op, std::string_view domain);
[[nodiscard]] std::span<const OpRow> AllImplementations();

}  // namespace octet
