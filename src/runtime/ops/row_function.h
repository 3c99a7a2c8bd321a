// Which operators are one of the vectorised float functions.
#pragma once

#include <octet/kernels.h>

#include <optional>

#include "graph/graph.h"

namespace octet::ops {

[[nodiscard]] std::optional<kernels::Function> RowFunction(const Node& node);

}  // namespace octet::ops
