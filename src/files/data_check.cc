// DataCheck of dataset.h: is this what a network sees in use, or constants, noise, raw pixels by
// mistake?
#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/file.h"
#include "files/dataset.h"

namespace octet {
namespace {

// Lag-1 correlation along rows: photographs and feature maps have 0.5 … 0.99. Of n independent
// pixels it is 0 ± 1/√n; images of at least 16 x 16 make n >= 256, so 0.1 is beyond 1.6 deviations
// for the smallest (and every sample must stay below it) and beyond 20 for 224 x 224.
constexpr int64_t kMinNoiseSide = 16;
constexpr double kNoiseCorrelation = 0.1;
constexpr double kLargeValue = 1000.0;
constexpr double kBrightPixel = 64.0;  // raw photographs reach it, normalized ones do not

struct Facts {
  double min = 0.0;
  double max = 0.0;
  bool all_integers = true;
};

template <typename T>
Facts FactsOf(std::span<const T> values) {
  Facts f;
  if (values.empty()) return f;
  f.min = f.max = static_cast<double>(values[0]);
  for (const T v : values) {
    const auto x = static_cast<double>(v);
    f.min = std::min(f.min, x);
    f.max = std::max(f.max, x);
    f.all_integers = f.all_integers && x == std::floor(x);
  }
  return f;
}

// Facts of a tensor as the network takes it; nullopt for the 8- and 16-bit floats.
std::optional<Facts> FactsOf(const TensorView& view) {
  switch (view.dtype) {
    case DType::kFloat32:
      return FactsOf(view.data<float>());
    case DType::kFloat64:
      return FactsOf(view.data<double>());
    case DType::kInt8:
      return FactsOf(view.data<int8_t>());
    case DType::kUint8:
      return FactsOf(view.data<uint8_t>());
    case DType::kInt16:
      return FactsOf(view.data<int16_t>());
    case DType::kUint16:
      return FactsOf(view.data<uint16_t>());
    case DType::kInt32:
      return FactsOf(view.data<int32_t>());
    case DType::kUint32:
      return FactsOf(view.data<uint32_t>());
    case DType::kInt64:
      return FactsOf(view.data<int64_t>());
    case DType::kUint64:
      return FactsOf(view.data<uint64_t>());
    case DType::kBool:
      return FactsOf(view.data<bool>());
    default:
      return std::nullopt;
  }
}

bool IsChannelsLast(const Shape& s) { return s[3] <= 4 && s[1] > 4; }

// Correlation of horizontal neighbours in a float32 (1,C,H,W) or (1,H,W,C), each channel about its
// own mean; nullopt where the image is too small to tell, or constant.
std::optional<double> NeighbourCorrelation(const TensorView& view) {
  if (view.dtype != DType::kFloat32 || view.shape.rank() != 4) return std::nullopt;
  const bool last = IsChannelsLast(view.shape);
  const int64_t channels = view.shape[last ? 3 : 1];
  const int64_t height = view.shape[last ? 1 : 2];
  const int64_t width = view.shape[last ? 2 : 3];
  if (height < kMinNoiseSide || width < kMinNoiseSide) return std::nullopt;
  const auto values = view.data<float>();
  const int64_t step = last ? channels : 1;
  const int64_t pixels = height * width;
  double product = 0.0, square = 0.0;
  for (int64_t c = 0; c < channels; ++c) {
    const float* plane = values.data() + (last ? c : c * pixels);
    double mean = 0.0;
    for (int64_t i = 0; i < pixels; ++i) mean += static_cast<double>(plane[i * step]);
    mean /= static_cast<double>(pixels);
    for (int64_t i = 0; i < pixels; ++i) {
      const double x = static_cast<double>(plane[i * step]) - mean;
      square += x * x;
      if ((i + 1) % width != 0) product += x * (static_cast<double>(plane[(i + 1) * step]) - mean);
    }
  }
  if (square <= 0.0) return std::nullopt;
  // There are width − 1 neighbours for width squares in a row.
  return product / square * static_cast<double>(width) / static_cast<double>(width - 1);
}

}  // namespace

DataCheck::DataCheck(std::vector<InputSpec> inputs, bool allow_noise)
    : inputs_(std::move(inputs)), allow_noise_(allow_noise), seen_(inputs_.size()) {}

void DataCheck::Observe(const Sample& sample) {
  OCTET_INVARIANT(sample.inputs.size() == inputs_.size());
  for (size_t k = 0; k < inputs_.size(); ++k) {
    const TensorView view = sample.inputs[k].view();
    const std::span bytes(static_cast<const std::byte*>(view.raw),
                          static_cast<size_t>(view.bytes()));
    const std::string hash = Sha256Hex(bytes);
    const auto facts = FactsOf(view);
    const auto correlation = NeighbourCorrelation(view);
    const std::scoped_lock lock(mutex_);
    Seen& seen = seen_[k];
    if (seen.samples == 0) seen.first_hash = hash;
    seen.all_equal = seen.all_equal && hash == seen.first_hash;
    ++seen.samples;
    if (correlation) {
      ++seen.image_like;
      if (std::fabs(*correlation) < kNoiseCorrelation) ++seen.uncorrelated;
    }
    if (!facts) {
      seen.all_integers = false;
      continue;
    }
    if (view.elements() > 1 && facts->min == facts->max) ++seen.constant;
    const bool first = seen.samples == 1;
    seen.min = first ? facts->min : std::min(seen.min, facts->min);
    seen.max = first ? facts->max : std::max(seen.max, facts->max);
    seen.all_integers = seen.all_integers && facts->all_integers;
  }
}

std::vector<std::string> DataCheck::Finish() const {
  const std::scoped_lock lock(mutex_);
  if (seen_.empty() || seen_[0].samples == 0)
    Fail(ErrorCode::kBadData, "calibration data: no samples");
  const auto is_constant = [](const Seen& seen) { return seen.constant == seen.samples; };
  if (std::all_of(seen_.begin(), seen_.end(), is_constant)) {
    const bool zero = std::all_of(seen_.begin(), seen_.end(),
                                  [](const Seen& s) { return s.min == 0.0 && s.max == 0.0; });
    Fail(ErrorCode::kBadData, "calibration data: every sample is ", zero ? "zero" : "constant",
         ": expected images or activations");
  }
  std::vector<std::string> warnings;
  for (size_t k = 0; k < seen_.size(); ++k) {
    const Seen& seen = seen_[k];
    const auto& input = inputs_[k];
    const auto warn = [&](const auto&... what) {
      warnings.push_back(Cat("input '", input.name, "': ", what...));
    };
    if (!allow_noise_ && seen.image_like > 0 && seen.uncorrelated == seen.image_like) {
      Fail(ErrorCode::kBadData, "calibration data: input '", input.name, "': all ", seen.image_like,
           " images are noise (neighbouring pixels are uncorrelated): ranges taken from noise do "
           "not fit real data");
    }
    if (is_constant(seen)) warn("every sample is constant");
    if (seen.all_equal && seen.samples > 1) warn("all ", seen.samples, " samples are the same");
    const bool is_image = input.dims.size() == 4;
    const bool is_float = input.dtype == DType::kFloat32 || input.dtype == DType::kFloat64;
    if (is_image && is_float && seen.all_integers && seen.min >= 0.0 && seen.max > kBrightPixel &&
        seen.max <= 255.0) {
      warn("whole numbers from ", seen.min, " to ", seen.max,
           ", as raw pixels are; most networks take normalized ones (--preset, or --mean and "
           "--std)");
    } else if (is_float && std::max(std::fabs(seen.min), std::fabs(seen.max)) > kLargeValue) {
      warn("values from ", seen.min, " to ", seen.max, ": are they normalized as in training?");
    }
  }
  return warnings;
}

}  // namespace octet
