#include "numerics/qparams.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <type_traits>

#include "base/error.h"
#include "numerics/rounding.h"

namespace octet {
namespace {

constexpr std::string_view kGranularityNames[] = {"tensor", "channel", "token", "group", "step"};

// Half of int32's range: the other half is left to the sum of products.
constexpr double kBiasLimit = 1073741824.0;  // 2^30

// The smallest float >= v, for positive v in range.
float CeilToFloat(double v) {
  const auto f = static_cast<float>(v);
  return static_cast<double>(f) < v ? std::nextafter(f, std::numeric_limits<float>::infinity()) : f;
}

void CheckLengths(size_t x, size_t codes, const Extents& extents) {
  if (x != codes || static_cast<int64_t>(x) != extents.elements()) {
    Fail(ErrorCode::kInvalidArgument, "quantize: ", x, " values and ", codes,
         " codes; the shape has ", extents.elements());
  }
}

template <typename T>
void CheckHolds(const NumberFormat& number) {
  if (number.is_float()) {
    if (std::is_same_v<T, uint8_t>) return;
    Fail(ErrorCode::kInvalidArgument, "quantize: codes of ", number.Name(), " are uint8, not ",
         std::numeric_limits<T>::is_signed ? "int" : "uint", 8 * sizeof(T));
  }
  const IntFormat& format = number.integer();
  if (format.qmin() < std::numeric_limits<T>::min() ||
      format.qmax() > std::numeric_limits<T>::max()) {
    Fail(ErrorCode::kInvalidArgument, "quantize: codes of ", format.Name(), " do not fit ",
         std::numeric_limits<T>::is_signed ? "int" : "uint", 8 * sizeof(T));
  }
}

// Codes exist where values are not clamped beyond them.
void CheckHasCodes(const QuantParams& params) {
  if (params.limit.empty()) return;
  Fail(ErrorCode::kUnsupported, "quantize: ", params.format.Name(),
       " rounds to values that have no codes of ", params.format.bits(),
       " bits; expected bias=int, or fake quantization");
}

// Calls row(first element, index of its scale) for every (outer, channel): `inner` elements share a
// scale.
template <typename Row>
void ForEachRow(const Extents& extents, const QuantParams& params, int64_t step, Row row) {
  CheckQuantParams("quantize", params, extents);
  if (step < 0 || step >= params.steps) {
    Fail(ErrorCode::kInvalidArgument, "quantize: step ", step, " of a table of ", params.steps);
  }
  int64_t first = 0;
  for (int64_t o = 0; o < extents.outer; ++o) {
    for (int64_t c = 0; c < extents.channels; ++c, first += extents.inner) {
      const auto i = static_cast<size_t>(ScaleIndex(params, extents, o, c, step));
      row(static_cast<size_t>(first), i);
    }
  }
}

}  // namespace

std::string_view GranularityName(Granularity granularity) {
  return kGranularityNames[static_cast<size_t>(granularity)];
}

Granularity ParseGranularity(std::string_view name) {
  for (size_t i = 0; i < std::size(kGranularityNames); ++i) {
    if (kGranularityNames[i] == name) return static_cast<Granularity>(i);
  }
  Fail(ErrorCode::kInvalidArgument, "granularity '", name,
       "'; expected tensor, channel, token, group or step");
}

int64_t ScaleIndex(const QuantParams& params, const Extents& extents, int64_t o, int64_t c,
                   int64_t step) {
  switch (params.granularity) {
    case Granularity::kTensor:
      return 0;
    case Granularity::kChannel:
      return c;
    case Granularity::kToken:
      return o;
    case Granularity::kGroup:
      return o * ((extents.channels + params.group - 1) / params.group) + c / params.group;
    case Granularity::kStep:
      return step;
  }
  Fail(ErrorCode::kInternal, "quantize: unknown granularity");
}

int64_t ScaleCount(const QuantParams& params, const Extents& extents) {
  switch (params.granularity) {
    case Granularity::kTensor:
      return 1;
    case Granularity::kChannel:
      return extents.channels;
    case Granularity::kToken:
      return extents.outer;
    case Granularity::kGroup:
      return extents.outer * ((extents.channels + params.group - 1) / params.group);
    case Granularity::kStep:
      return params.steps;
  }
  Fail(ErrorCode::kInternal, "quantize: unknown granularity");
}

void CheckQuantParams(std::string_view subject, const QuantParams& params, const Extents& extents) {
  if (params.granularity == Granularity::kGroup && params.group < 1) {
    Fail(ErrorCode::kInvalidArgument, subject, ": groups of ", params.group,
         "; expected at least 1");
  }
  if (params.steps < 1) {
    Fail(ErrorCode::kInvalidArgument, subject, ": a table of ", params.steps, " steps");
  }
  const int64_t expected = ScaleCount(params, extents);
  if (static_cast<int64_t>(params.scale.size()) != expected ||
      params.zero_point.size() != params.scale.size()) {
    Fail(ErrorCode::kInvalidArgument, subject, ": ", params.scale.size(), " scales and ",
         params.zero_point.size(), " zero points per ", GranularityName(params.granularity),
         "; expected ", expected);
  }
  if (!params.limit.empty() &&
      (params.limit.size() != params.scale.size() || !params.format.is_float())) {
    Fail(ErrorCode::kInvalidArgument, subject, ": ", params.limit.size(), " limits for ",
         params.scale.size(), " scales of ", params.format.Name());
  }
  for (size_t i = 0; i < params.limit.size(); ++i) {
    if (!(params.limit[i] > 0) || !std::isfinite(params.limit[i])) {
      Fail(ErrorCode::kBadData, subject, ": limit ", i, " of ", params.limit.size(), " is ",
           params.limit[i], "; expected a finite one above 0");
    }
  }
  for (size_t i = 0; i < params.scale.size(); ++i) {
    if (!std::isfinite(params.scale[i]) || params.scale[i] < kMinScale) {
      Fail(ErrorCode::kBadData, subject, ": scale ", i, " of ", params.scale.size(), " is ",
           params.scale[i], "; expected a finite one of at least 2^-126");
    }
    const int32_t z = params.zero_point[i];
    if (params.format.is_float()
            ? z != 0
            : z < params.format.integer().qmin() || z > params.format.integer().qmax()) {
      Fail(ErrorCode::kBadData, subject, ": zero point ", i, " of ", params.scale.size(), " is ", z,
           "; outside of ", params.format.Name());
    }
  }
}

ScaleZero ChooseAsymmetric(float lo, float hi, IntFormat format, std::string_view subject) {
  if (!std::isfinite(lo) || !std::isfinite(hi)) {
    Fail(ErrorCode::kBadData, subject, ": range [", lo, ", ", hi, "]; expected finite ends");
  }
  if (lo > hi)
    Fail(ErrorCode::kInvalidArgument, subject, ": range [", lo, ", ", hi, "] is reversed");
  const double low = std::min(static_cast<double>(lo), 0.0);
  const double high = std::max(static_cast<double>(hi), 0.0);
  const double qmin = format.qmin();
  const double qmax = format.qmax();
  ScaleZero grid;
  if (high > low) {
    // The widest range, 2 FLT_MAX, over the fewest steps, 2, still is FLT_MAX.
    grid.scale = std::max(static_cast<float>((high - low) / (qmax - qmin)), kMinScale);
  }
  const double zero = std::nearbyint(qmin - low / static_cast<double>(grid.scale));
  grid.zero_point = static_cast<int32_t>(std::clamp(zero, qmin, qmax));
  // An empty range says nothing about where 0 should lie: code 0, which every format has.
  if (high == low) grid.zero_point = 0;
  return grid;
}

float ChooseSymmetric(float absmax, IntFormat format, SymmetricOptions options,
                      std::string_view subject) {
  if (!format.is_signed) {
    Fail(ErrorCode::kInvalidArgument, subject, ": symmetric quantization to ", format.Name(),
         "; expected a signed format");
  }
  if (options.half_step && format.narrow) {
    Fail(ErrorCode::kInvalidArgument, subject, ": half-step scales use the lowest code, which ",
         format.Name(), " leaves out");
  }
  if (!std::isfinite(absmax) || absmax < 0 || !std::isfinite(options.floor) || options.floor < 0) {
    Fail(ErrorCode::kBadData, subject, ": largest magnitude ", absmax, " with floor ",
         options.floor, "; expected finite and not negative");
  }
  const double extent = std::max(absmax, options.floor);
  if (extent == 0) return 1;
  const double steps = options.half_step ? format.qmax() + 0.5 : format.qmax();
  return std::max(static_cast<float>(extent / steps), kMinScale);
}

float ChooseScale(float absmax, const NumberFormat& format, SymmetricOptions options,
                  std::string_view subject) {
  if (!format.is_float()) return ChooseSymmetric(absmax, format.integer(), options, subject);
  if (options.half_step) {
    Fail(ErrorCode::kInvalidArgument, subject, ": half-step scales are of integers, not of ",
         format.Name());
  }
  // Not std::max, which would take a NaN for the floor.
  return FloatScaleFor(format.floating(), absmax < options.floor ? options.floor : absmax, subject);
}

std::vector<float> ChannelAbsMax(std::span<const float> x, const Extents& extents,
                                 std::string_view subject) {
  if (static_cast<int64_t>(x.size()) != extents.elements()) {
    Fail(ErrorCode::kInvalidArgument, subject, ": ", x.size(), " values; the shape has ",
         extents.elements());
  }
  std::vector<float> absmax(static_cast<size_t>(extents.channels), 0.0F);
  const auto inner = static_cast<size_t>(extents.inner);
  const float* row = x.data();
  for (int64_t o = 0; o < extents.outer; ++o) {
    for (size_t c = 0; c < absmax.size(); ++c, row += inner) {
      float most = absmax[c];
      for (size_t i = 0; i < inner; ++i) {
        const float magnitude = std::fabs(row[i]);
        if (!(magnitude <= std::numeric_limits<float>::max())) {
          Fail(ErrorCode::kBadData, subject, ": ", row[i], " in channel ", c, " of ",
               extents.channels, "; expected finite values");
        }
        most = std::max(most, magnitude);
      }
      absmax[c] = most;
    }
  }
  return absmax;
}

WeightScaleChoice ChooseWeightScales(std::span<const float> weights, const Extents& extents,
                                     int axis, const NumberFormat& format, std::string_view subject,
                                     SymmetricOptions options) {
  const std::vector<float> absmax = ChannelAbsMax(weights, extents, subject);
  const float most = absmax.empty() ? 0.0F : *std::max_element(absmax.begin(), absmax.end());
  WeightScaleChoice choice;
  choice.params.format = format;
  choice.params.axis = axis;
  const auto add = [&](float magnitude) {
    const float scale = ChooseScale(magnitude, format, options, subject);
    choice.params.scale.push_back(scale);
    choice.params.zero_point.push_back(0);
    if (format.is_float() && format.floating().bias_rule == BiasRule::kIntegerRound) {
      choice.params.limit.push_back(
          FloatLimitFor(format.floating(), std::max(magnitude, options.floor), scale));
    }
  };
  if (axis == -1) {
    add(most);
    return choice;
  }
  choice.params.granularity = Granularity::kChannel;
  const float floor = most * kDeadChannelFloor;
  options.floor = std::max(options.floor, floor);
  for (size_t c = 0; c < absmax.size(); ++c) {
    if (absmax[c] < floor || absmax[c] == 0) choice.dead.push_back(static_cast<int64_t>(c));
    add(absmax[c]);
  }
  return choice;
}

std::vector<ScaleRaise> RaiseScalesForBias(std::span<float> weight_scale, float input_scale,
                                           std::span<const float> bias, std::string_view subject) {
  if (!std::isfinite(input_scale) || input_scale < kMinScale) {
    Fail(ErrorCode::kBadData, subject, ": input scale ", input_scale,
         "; expected a finite one of at least 2^-126");
  }
  if (weight_scale.size() != 1 && weight_scale.size() != bias.size()) {
    Fail(ErrorCode::kInvalidArgument, subject, ": ", weight_scale.size(), " weight scales for ",
         bias.size(), " biases");
  }
  std::vector<ScaleRaise> raised;
  for (size_t c = 0; c < bias.size(); ++c) {
    if (!std::isfinite(bias[c])) {
      Fail(ErrorCode::kBadData, subject, ": bias ", bias[c], " in channel ", c, " of ", bias.size(),
           "; expected finite values");
    }
    float& scale = weight_scale.size() == 1 ? weight_scale[0] : weight_scale[c];
    const double input = input_scale;
    // One part in 2^20 above the limits, so that rounding the product to float32 cannot fall below
    // them.
    const double least = std::max(std::fabs(static_cast<double>(bias[c])) / (input * kBiasLimit),
                                  static_cast<double>(kMinScale) / input) *
                         (1 + 0x1p-20);
    if (least > static_cast<double>(scale)) {
      const float to = CeilToFloat(least);
      raised.push_back({static_cast<int64_t>(c), scale, to});
      scale = to;
    }
    if (!std::isfinite(scale) || !std::isfinite(scale * input_scale)) {
      Fail(ErrorCode::kBadData, subject, ": channel ", c, " of ", bias.size(), ": input scale ",
           input_scale, " times weight scale ", scale, " is not finite");
    }
  }
  return raised;
}

int32_t QuantizeBias(float bias, float input_scale, float weight_scale, std::string_view subject) {
  const float scale = input_scale * weight_scale;
  const double code = std::nearbyint(static_cast<double>(bias) / static_cast<double>(scale));
  if (!(std::fabs(code) < 2147483648.0)) {
    Fail(ErrorCode::kBadData, subject, ": bias ", bias, " on scale ", scale,
         " does not fit an int32 code");
  }
  return static_cast<int32_t>(code);
}

template <typename T>
void QuantizeArray(std::span<const float> x, const Extents& extents, const QuantParams& params,
                   std::span<T> codes, int64_t step) {
  CheckHolds<T>(params.format);
  CheckHasCodes(params);
  CheckLengths(x.size(), codes.size(), extents);
  const auto inner = static_cast<size_t>(extents.inner);
  if (params.format.is_float()) {
    const FloatGrid grid(params.format.floating());
    ForEachRow(extents, params, step, [&](size_t first, size_t s) {
      for (size_t i = first; i < first + inner; ++i) {
        codes[i] = static_cast<T>(grid.Encode(x[i] / params.scale[s]));
      }
    });
    return;
  }
  const int32_t qmin = params.format.integer().qmin();
  const int32_t qmax = params.format.integer().qmax();
  ForEachRow(extents, params, step, [&](size_t first, size_t s) {
    for (size_t i = first; i < first + inner; ++i) {
      codes[i] =
          static_cast<T>(QuantizeOne(x[i], params.scale[s], params.zero_point[s], qmin, qmax));
    }
  });
}

template <typename T>
void DequantizeArray(std::span<const T> codes, const Extents& extents, const QuantParams& params,
                     std::span<float> x, int64_t step) {
  CheckHolds<T>(params.format);
  CheckHasCodes(params);
  CheckLengths(x.size(), codes.size(), extents);
  const auto inner = static_cast<size_t>(extents.inner);
  if (params.format.is_float()) {
    std::array<float, 256> value{};
    for (size_t code = 0; code < value.size(); ++code) {
      value[code] = params.format.floating().Decode(static_cast<uint8_t>(code));
    }
    ForEachRow(extents, params, step, [&](size_t first, size_t s) {
      for (size_t i = first; i < first + inner; ++i) {
        x[i] = value[static_cast<uint8_t>(codes[i])] * params.scale[s];
      }
    });
    return;
  }
  ForEachRow(extents, params, step, [&](size_t first, size_t s) {
    for (size_t i = first; i < first + inner; ++i) {
      x[i] = DequantizeOne(static_cast<int32_t>(codes[i]), params.scale[s], params.zero_point[s]);
    }
  });
}

void FakeQuantizeArray(std::span<float> x, const Extents& extents, const QuantParams& params,
                       int64_t step) {
  CheckLengths(x.size(), x.size(), extents);
  const auto inner = static_cast<size_t>(extents.inner);
  if (params.format.is_float()) {
    FloatGrid grid(params.format.floating());
    ForEachRow(extents, params, step, [&](size_t first, size_t s) {
      if (!params.limit.empty()) grid.max = params.limit[s];
      for (size_t i = first; i < first + inner; ++i) {
        x[i] = grid.Round(x[i] / params.scale[s]) * params.scale[s];
      }
    });
    return;
  }
  const int32_t qmin = params.format.integer().qmin();
  const int32_t qmax = params.format.integer().qmax();
  ForEachRow(extents, params, step, [&](size_t first, size_t s) {
    const float scale = params.scale[s];
    const int32_t zero = params.zero_point[s];
    for (size_t i = first; i < first + inner; ++i) {
      x[i] = DequantizeOne(QuantizeOne(x[i], scale, zero, qmin, qmax), scale, zero);
    }
  });
}

#define OCTET_INSTANTIATE(T)                                                                 \
  template void QuantizeArray<T>(std::span<const float>, const Extents&, const QuantParams&, \
                                 std::span<T>, int64_t);                                     \
  template void DequantizeArray<T>(std::span<const T>, const Extents&, const QuantParams&,   \
                                   std::span<float>, int64_t);
OCTET_INSTANTIATE(int8_t)
OCTET_INSTANTIATE(uint8_t)
OCTET_INSTANTIATE(int16_t)
OCTET_INSTANTIATE(uint16_t)
OCTET_INSTANTIATE(int32_t)
#undef OCTET_INSTANTIATE

}  // namespace octet
