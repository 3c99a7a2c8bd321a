// One element of a quantized layer's result, computed exactly (in double, on exact codes), with a
// bound on what float32 arithmetic may make of it: how `octet verify` tells a rounding tie from a
// fault.
//
// The bound, u = 2^-24. Two float32 computations of the same element are compared, the fake run and
// the INT8 run.
//   Sums of K products (fake run): every product carries at most four roundings (scale times code
//     on both sides, the product, an addition of the bias), the additions K more. In any order of
//     summation the error is below (K + 4) u S with S the sum of the products' magnitudes (Higham,
//     Accuracy and Stability, §4.2), and below 6 sqrt(K + 4) u S but for one case in 10^7 (Higham &
//     Mary 2019, rounding errors of mean zero). The smaller one is taken.
//   The INT8 run sums exactly; conversion of the accumulator, the multiplier (a product and a
//     quotient) and the product with it round four times: 4 u |value|. The fake run divides by the
//     scale: u |value|.
//   A float bias is rounded to the accumulator's grid by the INT8 run: that difference is added as
//     it is.
#pragma once

#include <map>
#include <span>
#include <vector>

#include "graph/graph.h"
#include "tensor/tensor.h"

namespace octet {

// A value and how far off float32 may put it.
struct BoundedReal {
  double value = 0;
  double error = 0;
};

// What a QuantizeLinear may make of one element.
struct CodeCandidates {
  std::vector<BoundedReal>
      codes;  // real-valued, in codes, zero point added, not saturated; one for each way the
              // quantizers before may have gone at their own ties
  std::vector<int32_t> possible;  // all codes within the bound, saturated, ascending
};

class ExactElement {
 public:
  // Shapes of all values have to be static. `inputs`: the graph's inputs; they outlive this object.
  ExactElement(const Graph& graph, std::span<const TensorView> inputs);

  // Of the output of a QuantizeLinear with one constant scale. Throws kUnsupported for operators
  // not known here.
  [[nodiscard]] CodeCandidates Quantized(ValueId codes, int64_t element) const;

 private:
  using Alternatives = std::vector<BoundedReal>;
  [[nodiscard]] Alternatives Eval(ValueId v, int64_t element) const;
  [[nodiscard]] BoundedReal EvalOne(
      ValueId v, int64_t element) const;  // alternatives joined into one interval
  [[nodiscard]] Alternatives EvalNode(const Node& node, ValueId v, int64_t element) const;
  [[nodiscard]] Alternatives Conv(const Node& node, int64_t element) const;
  [[nodiscard]] Alternatives MatrixProduct(const Node& node, int64_t element) const;
  [[nodiscard]] Alternatives Pool(const Node& node, int64_t element) const;
  [[nodiscard]] Alternatives Moved(const Node& node, ValueId v, int64_t element) const;
  [[nodiscard]] Alternatives Elementwise(const Node& node, ValueId v, int64_t element) const;
  [[nodiscard]] double BiasRounding(const Node& node, double bias, int64_t channel) const;
  [[nodiscard]] const Shape& ShapeOf(ValueId v) const { return shapes_[static_cast<size_t>(v)]; }
  [[nodiscard]] int64_t Broadcast(ValueId in, ValueId out, int64_t element) const;

  const Graph& graph_;
  std::map<ValueId, TensorView> inputs_;
  std::vector<Shape> shapes_;
};

}  // namespace octet
