// Elementwise functions of one tensor of 8-bit codes: what they are where the code is i. Lowering
// makes tables of them.
#pragma once

#include <array>
#include <optional>
#include <vector>

#include "graph/graph.h"
#include "passes/quantizers.h"
#include "passes/simplify.h"

namespace octet {

// Indexed by the byte of the code.
using RealByCode = std::array<float, 256>;

// What each code stands for.
[[nodiscard]] RealByCode RealOfCodes(const QuantizerInfo& q);

// Whether `y` makes of these the codes they are indexed by: where a product with a positive number
// has a quantizer of that many times the scale, say.
[[nodiscard]] bool GivesCodesBack(const RealByCode& real, const QuantizerInfo& y);

// Which input of Add, Sub, Mul or Div stands beside a constant of one number that leaves its shape
// as it is. Nothing for other operators, and where both are constants.
[[nodiscard]] std::optional<size_t> OperandBesideNumber(const Graph& graph, const Node& n);

// The input that `n` is an elementwise function of, all others being constants: the one of an
// elementwise operator, or the operand of Add, Sub, Mul or Div with a number.
[[nodiscard]] std::optional<size_t> ArgumentOf(const Graph& graph, const Node& n);

// The function `n` of that input at 256 arguments, or nothing where another input is computed.
[[nodiscard]] std::optional<RealByCode> Apply(const Graph& graph, const EvaluateFn& evaluate,
                                              const Node& n, size_t input, const RealByCode& at);

// A value as a function of the codes `base`.
struct FunctionOfCodes {
  ValueId base = kNoValue;
  RealByCode real{};
};

// Everything `v` is a function of: the codes it is dequantized from, those an octet.QLookup made
// them of (if `through_tables`), and the same of a function's argument.
[[nodiscard]] std::vector<FunctionOfCodes> FunctionsOfCodes(const Graph& graph,
                                                            const EvaluateFn& evaluate, ValueId v,
                                                            bool through_tables);

}  // namespace octet
