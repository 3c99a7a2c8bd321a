// Quantization parameters: how they are kept, how they are chosen from a range, and what quantizing
// an array with them means. The rounding itself is numerics/rounding.h.
//
// Symmetric: spec/smoothquant.md 7.1 (absmax/127, or 127.5 with code -128 for the "vllm" profile).
// Asymmetric: range widened to hold 0, so that padding, Relu and dead inputs are exact.
// Float formats have scales alone: every zero point is 0 (numerics/float_format.h).
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "numerics/extents.h"
#include "numerics/number_format.h"

namespace octet {

// What shares one scale. Orthogonal to the number format.
enum class Granularity : uint8_t {
  kTensor,   // everything
  kChannel,  // one slice of an axis
  kToken,    // one row: all channels of one outer index (usually found at run time)
  kGroup,    // `group` consecutive channels of one outer index
  kStep,     // everything, but one scale per step of a diffusion schedule
};
[[nodiscard]] std::string_view GranularityName(Granularity granularity);
[[nodiscard]] Granularity ParseGranularity(std::string_view name);  // throws kInvalidArgument

struct QuantParams {
  std::vector<float> scale;         // one per slice, see ScaleIndex; finite, >= kMinScale
  std::vector<int32_t> zero_point;  // as many; within the format
  int axis = -1;                    // of kChannel, kToken and kGroup; -1: per tensor
  NumberFormat format;
  Granularity granularity = Granularity::kTensor;
  int64_t group = 0;  // channels per group of kGroup
  int64_t steps = 1;  // rows of the table of kStep
  // One per scale, or none: magnitudes, in units of the scale, that values are clamped to before
  // they are rounded. Of float formats with bias=int-round only, whose values may lie beyond their
  // codes (FloatLimitFor): such parameters quantize to values (FakeQuantizeArray), not to codes.
  std::vector<float> limit;
};

// Which scale the element (o, c, any inner) uses.
[[nodiscard]] int64_t ScaleIndex(const QuantParams& params, const Extents& extents, int64_t o,
                                 int64_t c, int64_t step);
// How many scales an array of these extents needs.
[[nodiscard]] int64_t ScaleCount(const QuantParams& params, const Extents& extents);

// Throws kBadData, naming subject and slice, where a scale is not finite and >= kMinScale or a zero
// point is outside the format (of a float format: not 0); kInvalidArgument where the counts do not
// fit.
void CheckQuantParams(std::string_view subject, const QuantParams& params, const Extents& extents);

// The smallest scale: the smallest normal float, whose reciprocal is finite and which loses no bits
// when multiplied by a code.
inline constexpr float kMinScale = 1.17549435e-38F;  // 2^-126

struct ScaleZero {
  float scale = 1;
  int32_t zero_point = 0;
};

// The grid over [lo, hi], widened to hold 0. scale = (hi - lo) / (qmax - qmin) in double, rounded
// to float, raised to kMinScale; zero point = rne(qmin - lo / scale). [0, 0] gives scale 1 and zero
// point 0. Throws kBadData on NaN or infinity, kInvalidArgument where lo > hi; both name subject.
[[nodiscard]] ScaleZero ChooseAsymmetric(float lo, float hi, IntFormat format,
                                         std::string_view subject = "quantization range");

struct SymmetricOptions {
  // scale = absmax / (2^bits - 1) * 2: 127.5 for 8 bits, code -128 in use. For compressed-tensors
  // files.
  bool half_step = false;
  // An absmax below it counts as this: what keeps scales from vanishing (smoothquant: 1e-5).
  float floor = 0;
};

// scale = max(absmax, floor) / qmax (127 for int8, narrow or not), raised to kMinScale; zero point
// 0. An absmax of 0 with no floor gives scale 1. Signed formats only. Throws kBadData on NaN,
// infinity or < 0.
[[nodiscard]] float ChooseSymmetric(float absmax, IntFormat format, SymmetricOptions options = {},
                                    std::string_view subject = "quantization range");

// The scale of a symmetric range in any format: ChooseSymmetric, or FloatScaleFor of max(absmax,
// floor); half_step is of integers only (throws kInvalidArgument).
[[nodiscard]] float ChooseScale(float absmax, const NumberFormat& format,
                                SymmetricOptions options = {},
                                std::string_view subject = "quantization range");

// max |x| of every channel. Throws kBadData, naming subject and channel, on NaN or infinity.
[[nodiscard]] std::vector<float> ChannelAbsMax(std::span<const float> x, const Extents& extents,
                                               std::string_view subject);

// A channel whose absmax is below this share of the tensor's is dead: it gets the scale of a
// channel at the floor. Its own values then err by at most floor / 254 of the tensor's absmax, four
// orders below the step that a live channel of the same output already has.
inline constexpr float kDeadChannelFloor = 1e-5F;

struct WeightScaleChoice {
  QuantParams params;         // kChannel on `axis`, or kTensor where axis is -1; zero points 0
  std::vector<int64_t> dead;  // channels below the floor: noted in reports, no error
};

// Scales of a weight around `axis` (extents = ExtentsOf(dims, axis)).
[[nodiscard]] WeightScaleChoice ChooseWeightScales(std::span<const float> weights,
                                                   const Extents& extents, int axis,
                                                   const NumberFormat& format,
                                                   std::string_view subject,
                                                   SymmetricOptions options = {});

struct ScaleRaise {
  int64_t channel;
  float from;
  float to;
};

// Raises weight scales until the int32 bias bias[c] / (input_scale * weight_scale[c]) is below 2^30
// in magnitude (leaving half of int32 to the products) and the product of the two scales is a
// normal float. One scale for all channels is raised for the worst of them. Returns what was
// raised: reported, no error.
std::vector<ScaleRaise> RaiseScalesForBias(std::span<float> weight_scale, float input_scale,
                                           std::span<const float> bias, std::string_view subject);

// rne(bias / (input_scale * weight_scale)), the product taken in float32 as the file stores it, the
// quotient in double. Throws kBadData where it is outside (-2^31, 2^31): RaiseScalesForBias was not
// asked.
[[nodiscard]] int32_t QuantizeBias(float bias, float input_scale, float weight_scale,
                                   std::string_view subject);

// Codes of x. T is int8_t, uint8_t, int16_t, uint16_t or int32_t and holds the format (throws
// kInvalidArgument otherwise): uint8_t of every float format; formats below 8 bits are kept one
// code per element. Float formats: Encode(x / scale), the quotient in float32 and saturating, as
// ONNX QuantizeLinear does; back: Decode(code) * scale.
template <typename T>
void QuantizeArray(std::span<const float> x, const Extents& extents, const QuantParams& params,
                   std::span<T> codes, int64_t step = 0);
template <typename T>
void DequantizeArray(std::span<const T> codes, const Extents& extents, const QuantParams& params,
                     std::span<float> x, int64_t step = 0);
// x = dequantized codes of x, in place. NaN becomes the lowest code's value; in float formats it
// stays NaN where they have one and becomes 0 where not.
void FakeQuantizeArray(std::span<float> x, const Extents& extents, const QuantParams& params,
                       int64_t step = 0);

}  // namespace octet
