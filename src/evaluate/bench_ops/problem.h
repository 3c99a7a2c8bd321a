// What `octet bench` is asked to time: one operator at one shape, as text.
//
//   linear MxKxN                     y (M,N) = x (M,K) w (N,K)^T
//   conv2d NxCxHxW OC KHxKW          and stride=, pad=, dilation= (2, or 2x1 for H x W), groups=
//   bmm BxMxKxN                     y (B,M,N) = a (B,M,K) b (B,N,K)^T, both int8
//   quantize NxCxHxW | MxK | N       float32 to uint8 codes and back; NCHW to NHWC where there are
//                                    four dimensions
//   layernorm MxN                    over rows of N
//
// linear and conv2d take zero-point=Z, of the uint8 input (0), and multiplier=M+M+..., approximate
// multipliers (octet/multipliers.h) to time beside them.
#pragma once

#include <string>
#include <vector>

#include "octet/kernels.h"

namespace octet {

struct OperatorProblem {
  enum class Op : uint8_t { kLinear, kConv2d, kBmm, kQuantize, kLayerNorm };
  Op op = Op::kLinear;
  std::string text;  // canonical: parses to this problem again
  // A linear layer is a 1x1 convolution over an image of M x 1 pixels: the same bytes in NHWC; bmm
  // is one for each image, with filters of its own.
  // quantize: batch, channels and image of the data; channels 1 where it has less than four
  // dimensions. layernorm: an image of M x N and one channel.
  int64_t batch = 1, height = 1, width = 1;
  kernels::ConvProblem conv;  // without weights and epilogue
  std::string multipliers;    // "hw:e3m4,d=3+v9:e3m4,d=3", or empty

  [[nodiscard]] int64_t out_height() const;
  [[nodiscard]] int64_t out_width() const;
  [[nodiscard]] int64_t macs() const;     // taps in the padding counted, as oneDNN and others do
  [[nodiscard]] int64_t depth() const;    // products per output
  [[nodiscard]] int64_t inputs() const;   // elements
  [[nodiscard]] int64_t outputs() const;  // elements
};

// Throws kInvalidArgument, naming the word that is wrong and what was expected.
[[nodiscard]] OperatorProblem ParseProblem(const std::string& text);

// Named lists of problems: suites.cc.
[[nodiscard]] std::vector<std::string> SuiteNames();
[[nodiscard]] std::vector<std::string> SuiteProblems(const std::string& name);

}  // namespace octet
