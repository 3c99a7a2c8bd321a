// Random data for one operator, and what its results must be: exact sums, written out.
//
// Floats lie within 7/16 of a step around their codes, so whoever rounds them gets the same codes,
// by division or by a reciprocal. Scales are powers of two: no product of them rounds.
#pragma once

#include <memory>
#include <vector>

#include "evaluate/bench_ops/problem.h"
#include "kernels/pack.h"

namespace octet {

struct OperatorData {
  static constexpr float kXScale = 1.0F / 256, kYScale = 1.0F / 64;

  OperatorProblem problem;  // with weights, biases and multipliers; uint8 output, zero point 0
  std::vector<float> x;     // (M,K), or (N,C,H,W)
  // What x quantizes to, (M,K) or (N,H,W,C); 64 bytes aligned. bmm: int8, (B,M,K).
  kernels::AlignedBytes codes;
  std::vector<int8_t> weight;                   // (N,K), (OC,C/G,KH,KW) or (B,N,K)
  std::vector<float> float_weight, float_bias;  // of layernorm: gamma, beta
  std::vector<float> weight_scale;              // per output channel
  kernels::AlignedBytes expected;  // output codes of the portable kernel; linear and conv2d only

  // What float32 output of an integer accumulator is multiplied by.
  [[nodiscard]] std::vector<float> FloatMultiplier() const;
};
[[nodiscard]] std::shared_ptr<const OperatorData> MakeOperatorData(const OperatorProblem& problem);

// One output, as the definition has it.
struct OutputAt {
  int64_t image, y, x, channel;
};
// Corners, and others at random, always the same for a problem.
[[nodiscard]] std::vector<OutputAt> SampledOutputs(const OperatorProblem& problem);
[[nodiscard]] int64_t IndexNhwc(const OperatorProblem& problem, const OutputAt& at);
[[nodiscard]] int64_t IndexNchw(const OperatorProblem& problem, const OutputAt& at);

// Bias and zero point included.
[[nodiscard]] int64_t ExactSum(const OperatorData& data, const OutputAt& at);
[[nodiscard]] int32_t ExactCode(const OperatorData& data, const OutputAt& at);
// The float operator, in double precision; `magnitude` is the sum of the absolute products.
struct FloatSum {
  double value = 0, magnitude = 0;
};
[[nodiscard]] FloatSum ExactFloat(const OperatorData& data, const OutputAt& at);
// A linear layer whose rows are quantized as they come: kernels::DynamicGemm per token.
[[nodiscard]] float ExactDynamic(const OperatorData& data, const OutputAt& at);

// Throw kCheckFailed, naming `row` and the first output that is wrong. Sampled outputs against the
// definition, then, where `y` holds codes, all of them against the portable kernel's.
void CheckCodes(const OperatorData& data, const std::string& row, const uint8_t* y);
// Codes that may be one apart: peers round multipliers their own way.
void CheckPeerCodes(const OperatorData& data, const std::string& row, const uint8_t* y);
// Floats of sampled outputs against float(exact sum) * multiplier, bit by bit where
// `relative` is 0.
void CheckDequantized(const OperatorData& data, const std::string& row, const float* y,
                      float relative = 0);
// Floats (M,N) of a DynamicGemm per token, bit by bit.
void CheckDynamic(const OperatorData& data, const std::string& row, const float* y);
// Floats in NCHW that are codes times kYScale; `apart` codes may lie between.
void CheckFloatCodes(const OperatorData& data, const std::string& row, const float* y, int apart);
// Floats (M,N) or NCHW of a float kernel whose products and outputs are rounded to a format of unit
// roundoff `input_roundoff` and whose sums to float32: |error| <= (3 * input_roundoff + (K + 2) *
// 2^-24) * sum |x w|, to first order.
void CheckFloats(const OperatorData& data, const std::string& row, const float* y,
                 double input_roundoff);
// bmm: int8 codes of sampled outputs, `apart` or less off; floats by the bound of float32 sums.
void CheckBmmCodes(const OperatorData& data, const std::string& row, const int8_t* y, int apart);
void CheckBmmFloats(const OperatorData& data, const std::string& row, const float* y);
// The other way about: all codes of the input as MakeOperatorData() has them, and what they
// dequantize to, in the order of `x`.
void CheckInputCodes(const OperatorData& data, const std::string& row, const uint8_t* codes);
void CheckInputFloats(const OperatorData& data, const std::string& row, const float* x);

}  // namespace octet
