#include "graph/recurrent.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <string>

#include "graph/ops_context.h"

namespace octet {
namespace {

constexpr float kNone = std::numeric_limits<float>::quiet_NaN();

// What a function takes and what it is where the model does not say: as the operator of its name.
// ScaledTanh, which has no default, has to be told.
struct KnownFunction {
  std::string_view op;
  bool has_alpha = false, has_beta = false;
  float alpha = kNone, beta = kNone;
};
constexpr std::array kFunctions = {
    KnownFunction{"Sigmoid"},
    KnownFunction{"Tanh"},
    KnownFunction{"Relu"},
    KnownFunction{"HardSigmoid", true, true, 0.2F, 0.5F},
    KnownFunction{"LeakyRelu", true, false, 0.01F},
    KnownFunction{"ThresholdedRelu", true, false, 1.0F},
    KnownFunction{"ScaledTanh", true, true},
    KnownFunction{"Softsign"},
    KnownFunction{"Softplus"},
    KnownFunction{"Elu", true, false, 1.0F},
    KnownFunction{"Affine", true, true, 1.0F, 0.0F},
};

std::string Lower(std::string_view name) {
  std::string lower(name);
  std::ranges::transform(lower, lower.begin(),
                         [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return lower;
}

// Names count whatever their case, as in ONNX Runtime.
const KnownFunction& FunctionNamed(const Node& node, const std::string& name) {
  const std::string lower = Lower(name);
  std::string known;
  for (const KnownFunction& f : kFunctions) {
    if (Lower(f.op) == lower) return f;
    known += Cat(known.empty() ? "" : ", ", f.op);
  }
  FailNode(node, "activation '", name, "', expected one of ", known);
}

std::vector<std::string> DefaultFunctions(const Node& node) {
  if (node.op == "LSTM") return {"Sigmoid", "Tanh", "Tanh"};
  if (node.op == "GRU") return {"Sigmoid", "Tanh"};
  return {"Tanh"};
}

// The numbers of activation_alpha and activation_beta belong, in order, to those functions that
// take one, as ONNX Runtime reads them.
void ReadFunctions(const Node& node, RecurrentAttributes& a) {
  const std::vector<std::string> defaults = DefaultFunctions(node);
  std::vector<std::string> names;
  if (node.Has("activations")) {
    const auto* given = std::get_if<std::vector<std::string>>(&node.attributes.at("activations"));
    if (given == nullptr) FailNode(node, "attribute 'activations' is not a list of names");
    names = *given;
  }
  const size_t count = defaults.size() * static_cast<size_t>(a.directions);
  if (!names.empty() && names.size() != count)
    FailNode(node, names.size(), " activations, expected ", count);
  const std::vector<float> alphas = node.GetFloats("activation_alpha", {});
  const std::vector<float> betas = node.GetFloats("activation_beta", {});
  size_t next_alpha = 0, next_beta = 0;
  const auto take = [&](const KnownFunction& f, const std::vector<float>& given, size_t& next,
                        float otherwise, std::string_view attribute) {
    if (next < given.size()) return given[next++];
    if (std::isnan(otherwise))
      FailNode(node, "activation ", f.op, " has no number in '", attribute, "', expected one");
    return otherwise;
  };
  for (size_t i = 0; i < count; ++i) {
    if (i % defaults.size() == 0) a.functions.emplace_back();
    const KnownFunction& f =
        FunctionNamed(node, names.empty() ? defaults[i % defaults.size()] : names[i]);
    GateFunction made{f.op};
    if (f.has_alpha) made.alpha = take(f, alphas, next_alpha, f.alpha, "activation_alpha");
    if (f.has_beta) made.beta = take(f, betas, next_beta, f.beta, "activation_beta");
    a.functions.back().push_back(made);
  }
}

bool ReadFlag(const Node& node, std::string_view key) {
  const int64_t flag = node.GetInt(key, 0);
  if (flag != 0 && flag != 1) FailNode(node, key, " is ", flag, ", expected 0 or 1");
  return flag == 1;
}

}  // namespace

bool IsRecurrent(std::string_view op) { return op == "RNN" || op == "GRU" || op == "LSTM"; }

RecurrentAttributes ReadRecurrent(const Node& node) {
  RecurrentAttributes a;
  a.gates = node.op == "LSTM" ? 4 : node.op == "GRU" ? 3 : 1;
  const std::string direction = node.GetString("direction", "forward");
  if (direction != "forward" && direction != "reverse" && direction != "bidirectional") {
    FailNode(node, "direction is '", direction, "', expected forward, reverse or bidirectional");
  }
  a.directions = direction == "bidirectional" ? 2 : 1;
  a.reverse = direction == "reverse";
  a.batch_first = ReadFlag(node, "layout");
  if (node.op == "GRU") a.reset_after = node.GetInt("linear_before_reset", 0) != 0;
  if (node.op == "LSTM") a.input_forget = node.GetInt("input_forget", 0) != 0;
  a.clip = node.GetFloat("clip", a.clip);
  if (!(a.clip > 0)) FailNode(node, "clip is ", a.clip, ", expected a number above 0");
  if (node.Has("hidden_size")) {
    a.hidden = node.GetInt("hidden_size", 0);
    if (*a.hidden < 1 || *a.hidden > kMaxDim)
      FailNode(node, "hidden_size is ", *a.hidden, ", expected 1 to ", kMaxDim);
  }
  ReadFunctions(node, a);
  return a;
}

}  // namespace octet
