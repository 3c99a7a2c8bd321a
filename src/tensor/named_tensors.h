// Tensors by name with a few words about them: what a .safetensors file holds, and what statistics
// files are.
#pragma once

#include <map>
#include <string>

#include "tensor/tensor.h"

namespace octet {

struct NamedTensors {
  std::map<std::string, Tensor> tensors;
  std::map<std::string, std::string> metadata;
};

}  // namespace octet
