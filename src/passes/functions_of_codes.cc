#include "passes/functions_of_codes.h"

#include <algorithm>

#include "numerics/rounding.h"

namespace octet {
namespace {

bool IsElementwiseUnary(const Node& n) {
  static constexpr std::array kOps = {"Relu",      "LeakyRelu", "Clip",    "Sigmoid", "HardSigmoid",
                                      "HardSwish", "Tanh",      "Elu",     "Selu",    "Softplus",
                                      "Erf",       "Gelu",      "Exp",     "Sqrt",    "Abs",
                                      "Neg",       "Mish",      "Softsign"};
  return n.domain.empty() && std::find(kOps.begin(), kOps.end(), n.op) != kOps.end();
}

}  // namespace

RealByCode RealOfCodes(const QuantizerInfo& q) {
  RealByCode real{};
  for (int32_t code = q.qmin(); code <= q.qmax(); ++code) {
    real[static_cast<uint8_t>(code)] = DequantizeOne(code, q.scale[0], q.zero_point[0]);
  }
  return real;
}

bool GivesCodesBack(const RealByCode& real, const QuantizerInfo& y) {
  for (int32_t code = y.qmin(); code <= y.qmax(); ++code) {
    if (QuantizeOne(real[static_cast<uint8_t>(code)], y.scale[0], y.zero_point[0], y.qmin(),
                    y.qmax()) != code) {
      return false;
    }
  }
  return true;
}

std::optional<size_t> OperandBesideNumber(const Graph& graph, const Node& n) {
  static constexpr std::array kOps = {"Add", "Sub", "Mul", "Div"};
  if (!n.domain.empty() || std::find(kOps.begin(), kOps.end(), n.op) == kOps.end())
    return std::nullopt;
  for (const size_t side : {0U, 1U}) {
    const Tensor* number = graph.ConstantOf(n.inputs[1 - side]);
    const ValueType& type = graph.value(n.inputs[side]).type;
    if (number != nullptr && number->dtype() == DType::kFloat32 && number->elements() == 1 &&
        graph.ConstantOf(n.inputs[side]) == nullptr && type.has_rank &&
        number->shape().rank() <= static_cast<int>(type.dims.size())) {
      return side;
    }
  }
  return std::nullopt;
}

std::optional<size_t> ArgumentOf(const Graph& graph, const Node& n) {
  return IsElementwiseUnary(n) ? 0 : OperandBesideNumber(graph, n);
}

std::optional<RealByCode> Apply(const Graph& graph, const EvaluateFn& evaluate, const Node& n,
                                size_t input, const RealByCode& at) {
  std::vector<const Tensor*> inputs(n.inputs.size(), nullptr);
  for (size_t i = 0; i < n.inputs.size(); ++i) {
    if (i == input) continue;
    inputs[i] = graph.ConstantOf(n.inputs[i]);
    if (inputs[i] == nullptr && n.inputs[i] != kNoValue) return std::nullopt;
  }
  const Tensor argument = Tensor::Of<float>(Shape{256}, at);
  inputs[input] = &argument;
  const auto result = evaluate(graph, n, inputs);
  RealByCode real{};
  std::copy_n(result[0].data<float>().begin(), 256, real.begin());
  return real;
}

std::vector<FunctionOfCodes> FunctionsOfCodes(const Graph& graph, const EvaluateFn& evaluate,
                                              ValueId v, bool through_tables) {
  std::vector<FunctionOfCodes> found;
  if (const auto x = DequantizerOf(graph, v)) {
    if (!x->is_activation() || graph.ConstantOf(x->codes) != nullptr) return found;
    found.push_back({x->codes, RealOfCodes(*x)});
    const NodeId producer = graph.value(x->codes).producer;
    const bool table = producer != kNoNode && graph.node(producer).Is("QLookup", "octet");
    if (!table || !through_tables) return found;
    const Node& lookup = graph.node(producer);
    const auto entries = graph.ConstantOf(lookup.inputs[1])->data<uint8_t>();
    FunctionOfCodes inner{lookup.inputs[0], {}};
    for (size_t i = 0; i < 256; ++i) inner.real[i] = found[0].real[entries[i]];
    found.push_back(inner);
    return found;
  }
  const NodeId producer = graph.value(v).producer;
  if (producer == kNoNode) return found;
  const Node& function = graph.node(producer);
  const auto argument = ArgumentOf(graph, function);
  if (!argument) return found;
  for (FunctionOfCodes& f :
       FunctionsOfCodes(graph, evaluate, function.inputs[*argument], through_tables)) {
    if (const auto real = Apply(graph, evaluate, function, *argument, f.real))
      found.push_back({f.base, *real});
  }
  return found;
}

}  // namespace octet
