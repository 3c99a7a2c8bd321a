// Where quantizers go, decided per target by the rules of peers.md §D.2, in two steps:
// PlanQuantizers says which values and weights (so that calibration knows what to watch),
// InsertQuantizers puts QuantizeLinear / DequantizeLinear pairs there once the parameters are
// known.
#pragma once

#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "graph/graph.h"
#include "numerics/qparams.h"

namespace octet {

enum class Target : uint8_t { kOctet, kOnnxRuntime, kTensorRt };
[[nodiscard]] Target ParseTarget(std::string_view name);  // "octet", "onnxruntime", "tensorrt"
[[nodiscard]] std::string_view TargetName(Target target);

struct PlacementOptions {
  Target target = Target::kOnnxRuntime;
  bool quantize_outputs = false;   // also what only leads to graph outputs
  std::set<std::string> excluded;  // node names that stay float
  // MatMul of two computed operands, too: attention's products.
  bool computed_products = false;
  // Node names that read float32, whatever their weights are.
  std::set<std::string> float_inputs = {};
  // Only inputs of Conv, Gemm and MatMul, for these readers alone: float8 for ONNX Runtime, which
  // makes QLinearAdd, QLinearGlobalAveragePool ... of what lies between any other quantizers, and
  // then finds that they take no float8.
  bool compute_only = false;
};

struct QuantizerPlan {
  struct Activation {
    ValueId value;
    int grid;          // values of one grid share scale and zero point (Concat, MaxPool, Reshape)
    int channel_axis;  // for statistics; -1 where the value has no channels
    std::vector<NodeId> readers;  // who reads the dequantized value; empty: everyone
    bool second_operand = false;  // of a MatMul of computed operands: int8 about 0 for our kernels
  };
  struct Weighted {
    NodeId node;
    int axis;  // output channel axis of the weight
  };
  // MatMul -> Add of a constant of one number per column: a linear layer's bias, which the operator
  // itself has no place for.
  struct AddedBias {
    NodeId product;
    NodeId add;
    size_t input;  // of the Add
    enum class Form : uint8_t {
      kCodes,   // int32 codes of the grid s_x * s_w behind a DequantizeLinear
      kSpread,  // [1,...,1,N] of the product's rank
    } form;
  };
  struct Skipped {
    std::string node;
    std::string op;
    std::string reason;
  };
  std::vector<Activation> activations;  // in topological order of their producers
  std::vector<Weighted> weighted;       // operators whose constant weight is quantized
  std::vector<NodeId> products;         // MatMul of two computed operands that are quantized
  std::vector<AddedBias> added_biases;  // those to be written in another form
  // Conv, Gemm, MatMul, and operators without an INT8 form (below), that stay float, and why.
  std::vector<Skipped> skipped;
};

// Operators with weights that no target runs on codes: ConvTranspose and the recurrent ones.
[[nodiscard]] bool HasNoInt8Form(std::string_view op);

[[nodiscard]] QuantizerPlan PlanQuantizers(const Graph& graph, const PlacementOptions& options);

// How biases are written. INT8 kernels add them to the accumulator, on the grid s_x * s_w.
enum class BiasForm : uint8_t {
  kInt32,      // codes of that grid behind a DequantizeLinear
  kGridFloat,  // float32 values of that grid: for TensorRT, which takes no int32 bias
  kFloat,      // as they are: simulation of one layer
};

struct QuantizerParams {
  std::map<ValueId, ScaleZero> activations;
  std::map<NodeId, std::vector<float>> weight_scales;  // one, or one per output channel
  NumberFormat activation_format = kUint8;
  NumberFormat weight_format = kInt8Narrow;
  // Where a value's or a node's weight's format is another.
  std::map<ValueId, NumberFormat> activation_formats;
  std::map<NodeId, NumberFormat> weight_formats;
  // QuantParams::limit, of formats with bias=int-round.
  std::map<ValueId, float> activation_limits;
  std::map<NodeId, std::vector<float>> weight_limits;
  BiasForm bias = BiasForm::kInt32;  // of layers whose input and weight are 8-bit integers

  [[nodiscard]] const NumberFormat& ActivationFormat(ValueId value) const;
  [[nodiscard]] const NumberFormat& WeightFormat(NodeId node) const;
  // Parameters of a node's weight whose output channels are `axis`.
  [[nodiscard]] QuantParams WeightParams(const QuantizerPlan::Weighted& weighted) const;
};

// 8-bit integers and the float8 types of ONNX have standard quantizers: QuantizeLinear and
// DequantizeLinear (float8: from operator set 19 on). Other formats get operators of the domain
// octet, which other runtimes do not know.
[[nodiscard]] bool HasStandardQuantizer(const NumberFormat& format);

// Output channel axis of the weight of Conv (0), Gemm (0 if transB, else 1), MatMul (last).
[[nodiscard]] int WeightChannelAxis(const Graph& graph, const Node& node);

// Inserts what was planned: QuantizeLinear and DequantizeLinear, or octet.FakeQuantize (of a
// weight: octet.Dequantize of its codes). Names: VALUE_quantized, VALUE_dequantized, VALUE_scale,
// VALUE_zero_point. The first closes the holes afterwards (ids change); the second leaves every id
// valid.
void InsertQuantizers(Graph& graph, const QuantizerPlan& plan, const QuantizerParams& params);
void InsertQuantizersInPlace(Graph& graph, const QuantizerPlan& plan,
                             const QuantizerParams& params);

}  // namespace octet
