// Recurrent layers: RNN, GRU, LSTM. x (T,B,I), W (D,GH,I), R (D,GH,H), bias (D,2GH), lengths (B),
// initial states (D,B,H); with layout 1 the batch comes first in x, in the states and in the
// results. D is the number of directions, G of gates.
#include "graph/ops_context.h"
#include "graph/recurrent.h"

namespace octet {
namespace {

void InferRecurrent(InferContext& c) {
  const Node& node = c.node();
  const DType dtype = Input(c, 0).dtype;
  const RecurrentAttributes a = ReadRecurrent(node);
  const Dim directions = a.directions;
  const auto x = InputDims(c, 0, 3);
  const auto w = InputDims(c, 1, 3);
  const auto r = InputDims(c, 2, 3);
  Dim hidden = a.hidden ? Dim(*a.hidden) : Dim();
  if (r) hidden = Equal(c, hidden, (*r)[2], "hidden_size and the recurrence weights");
  if (hidden.value == 0)
    FailNode(node, "the recurrence weights are of hidden size 0, expected 1 or more");
  const Dim rows = hidden.known() ? Dim(a.gates * hidden.value) : Dim();
  for (const auto& weights : {w, r}) {
    if (!weights) continue;
    (void)Equal(c, directions, (*weights)[0], "directions");
    (void)Equal(c, rows, (*weights)[1], "rows of weights and hidden_size times the gates");
  }
  if (x && w) (void)Equal(c, (*x)[2], (*w)[2], "input size");
  if (const auto b = c.has(3) ? InputDims(c, 3, 2) : std::nullopt) {
    (void)Equal(c, directions, (*b)[0], "directions");
    if (rows.known()) (void)Equal(c, Dim(2 * rows.value), (*b)[1], "biases");
  }
  const Dim time = x ? (*x)[a.batch_first ? 1 : 0] : Dim();
  Dim batch = x ? (*x)[a.batch_first ? 0 : 1] : Dim();
  if (const auto lengths = c.has(4) ? InputDims(c, 4, 1) : std::nullopt)
    batch = Equal(c, batch, (*lengths)[0], "batch of the lengths");
  const Dims state =
      a.batch_first ? Dims{batch, directions, hidden} : Dims{directions, batch, hidden};
  for (size_t i = 5; i <= (node.op == "LSTM" ? size_t{6} : size_t{5}); ++i) {
    const auto initial = c.has(i) ? InputDims(c, i, 3) : std::nullopt;
    if (!initial) continue;
    for (size_t d = 0; d < 3; ++d) (void)Equal(c, state[d], (*initial)[d], "initial state");
  }
  if (const auto p = node.op == "LSTM" && c.has(7) ? InputDims(c, 7, 2) : std::nullopt) {
    (void)Equal(c, directions, (*p)[0], "directions");
    if (hidden.known()) (void)Equal(c, Dim(3 * hidden.value), (*p)[1], "peepholes");
  }
  c.SetOutput(0, MakeType(dtype, a.batch_first ? Dims{batch, time, directions, hidden}
                                               : Dims{time, directions, batch, hidden}));
  c.SetOutput(1, MakeType(dtype, state));
  if (node.op == "LSTM") c.SetOutput(2, MakeType(dtype, state));
}

constexpr OpInfo kRows[] = {
    {"RNN", "", 3, 6, InferRecurrent},
    {"GRU", "", 3, 6, InferRecurrent},
    {"LSTM", "", 3, 8, InferRecurrent},
};

}  // namespace

std::span<const OpInfo> RecurrentOps() { return kRows; }

}  // namespace octet
