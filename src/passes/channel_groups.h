// Which channels may be rescaled without changing what the network computes.
//
// A group is a set of values that must carry the same per-channel scaling, found by dataflow
// (design.md §3.5), never by names: from a value backwards and forwards through operators that
// commute with a positive per-channel factor (Relu, LeakyRelu, pooling, Add or Sub of two such
// values or of one and a constant, Flatten, ...), until on the one side every producer has
// per-channel weights to divide, and on the other every reader contracts the channel with weights
// to multiply. Of a product of two computed values one factor carries the scaling. Producers are
// Conv, Gemm, MatMul, normalization, and Mul or Div by a constant per channel or of one number,
// such as the last Mul of a normalization that is written out.
#pragma once

#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "graph/graph.h"

namespace octet {

// Where the channels of a value lie: on `axis`; each channel is `repeat` consecutive positions
// there (1, but H*W after Flatten of [N,C,H,W]).
struct ChannelLayout {
  int axis = 1;
  int64_t repeat = 1;
  friend bool operator==(const ChannelLayout&, const ChannelLayout&) = default;
};

struct ChannelGroup {
  std::string name;  // of the value it was found from
  int64_t channels = 0;
  std::map<ValueId, ChannelLayout> values;  // all that carry the scaling
  std::vector<NodeId> producers;            // their weights and biases are divided by s
  std::vector<NodeId> consumers;            // their weights are multiplied by s
  std::vector<NodeId> constants;  // Add, Sub, Min or Max with a per-channel constant on the way
  std::vector<NodeId> clips;      // Clip nodes: need per-channel bounds
};

struct GroupSearch {
  std::vector<ChannelGroup> groups;
  struct Skipped {
    std::string value;   // input of a weighted operator that is in no group
    std::string reason;  // "'conv_12_out' is a graph output"
  };
  std::vector<Skipped> skipped;
};

// allow_clips: groups through Clip with bounds are given too (they need per-channel bounds, which
// only the octet target has in its epilogue); otherwise they are skipped, with that reason.
[[nodiscard]] GroupSearch FindChannelGroups(const Graph& graph, bool allow_clips);

// Divides channel c of every value of the group by factors[c] > 0 (float32): producers' weights and
// biases are divided, consumers' weights multiplied, in double, stored float32. The function
// computed is unchanged but for rounding. Clip nodes become Max/Min with per-channel constants.
void ScaleChannels(Graph& graph, const ChannelGroup& group, std::span<const float> factors);

// Multiplies `value` by 1/factors in front of the given readers of it and their weights by factors:
// what is left where no producer can take the scaling. Adds one Mul; returns the scaled value.
ValueId ScaleWithMul(Graph& graph, ValueId value, const ChannelLayout& layout,
                     std::span<const NodeId> consumers, std::span<const float> factors);

// Largest |weight| per channel of the group over all its consumers: w_j of SmoothQuant, taken on
// the contracted axis of each operator (spec smoothquant.md §2.3, §5.0).
[[nodiscard]] std::vector<float> ConsumerWeightAbsMax(const Graph& graph,
                                                      const ChannelGroup& group);
// The same over the producers' output channels: r1 of cross-layer equalization.
[[nodiscard]] std::vector<float> ProducerWeightAbsMax(const Graph& graph,
                                                      const ChannelGroup& group);

// Mul by a float constant, Div by one: which input that is. Its other input is computed.
[[nodiscard]] std::optional<size_t> FactorInput(const Graph& graph, const Node& node);

// The contracted channel count of the weighted operator `node` for data input 0 (Conv: C; Gemm,
// MatMul: K), or nullopt where it is not one with constant float32 weights.
[[nodiscard]] std::optional<int64_t> ContractedChannels(const Graph& graph, const Node& node);

}  // namespace octet
