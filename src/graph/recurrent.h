// What the attributes of RNN, GRU and LSTM say, checked, before any size is known. One definition
// for shape inference and for the runtime.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string_view>
#include <vector>

#include "graph/graph.h"

namespace octet {

// RNN, GRU and LSTM.
[[nodiscard]] bool IsRecurrent(std::string_view op);

// One of ONNX's functions of a gate. Of these, Affine is alpha x + beta and ScaledTanh
// alpha tanh(beta x); the others are the operators of their name.
struct GateFunction {
  std::string_view op;              // as ONNX writes it, of static storage
  float alpha = 0.0F, beta = 0.0F;  // where the function has them
};

struct RecurrentAttributes {
  int64_t gates = 1;       // rows of W and R per hidden unit: 4 of LSTM, 3 of GRU, 1 of RNN
  int64_t directions = 1;  // 2 where bidirectional
  bool reverse = false;    // of the only direction
  bool batch_first = false;
  bool reset_after = false;                             // GRU: the reset follows the product
  bool input_forget = false;                            // LSTM: the forget gate is 1 - input gate
  float clip = std::numeric_limits<float>::infinity();  // > 0; of what enters the functions
  std::optional<int64_t> hidden;                        // > 0
  std::vector<std::vector<GateFunction>> functions;     // by direction, in ONNX's order (f, g, h)
};

// Throws kBadFile, naming the node, what was got and what was expected.
[[nodiscard]] RecurrentAttributes ReadRecurrent(const Node& node);

}  // namespace octet
