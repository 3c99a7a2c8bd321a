#include "evaluate/bench_ops/data.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <random>

#include "base/error.h"
#include "base/parallel.h"
#include "numerics/rounding.h"

namespace octet {
namespace {

using Op = OperatorProblem::Op;

constexpr uint32_t kSeed = 20240229;
constexpr int kSampledOutputs = 512;

// Runs body(code index (NHWC), float index) for all inputs of `p`.
template <typename Body>
void ForEachInput(const OperatorProblem& p, Body body) {
  const int64_t space = p.height * p.width, channels = p.conv.in_channels;
  for (int64_t n = 0; n < p.batch; ++n)
    for (int64_t c = 0; c < channels; ++c)
      for (int64_t s = 0; s < space; ++s) {
        const int64_t nhwc = (n * space + s) * channels + c;
        body(nhwc, p.op == Op::kLinear ? nhwc : (n * channels + c) * space + s);
      }
}

// body(input's code index, input's float index, weight index) for all taps inside the image.
template <typename Body>
void ForEachProduct(const OperatorProblem& p, const OutputAt& at, Body body) {
  const kernels::ConvProblem& c = p.conv;
  const int64_t group_in = c.in_channels / c.groups, group_out = c.out_channels / c.groups;
  const int64_t first = at.channel / group_out * group_in;
  for (int64_t ky = 0; ky < c.kernel_h; ++ky)
    for (int64_t kx = 0; kx < c.kernel_w; ++kx) {
      const int64_t iy = at.y * c.stride_h + ky * c.dilation_h - c.pad_top;
      const int64_t ix = at.x * c.stride_w + kx * c.dilation_w - c.pad_left;
      if (iy < 0 || iy >= p.height || ix < 0 || ix >= p.width) continue;
      for (int64_t i = 0; i < group_in; ++i) {
        const int64_t nhwc =
            ((at.image * p.height + iy) * p.width + ix) * c.in_channels + first + i;
        const int64_t nchw =
            ((at.image * c.in_channels + first + i) * p.height + iy) * p.width + ix;
        body(
            static_cast<size_t>(nhwc), static_cast<size_t>(p.op == Op::kLinear ? nhwc : nchw),
            static_cast<size_t>(((at.channel * group_in + i) * c.kernel_h + ky) * c.kernel_w + kx));
      }
    }
}

[[noreturn]] void Wrong(const OperatorData& d, const std::string& row, const OutputAt& at,
                        const std::string& got, const std::string& expected) {
  Fail(ErrorCode::kCheckFailed, d.problem.text, ": ", row, " is wrong at image ", at.image,
       ", row ", at.y, ", column ", at.x, ", channel ", at.channel, ": got ", got, ", expected ",
       expected);
}

void CheckAll(const OperatorData& d, const std::string& row, const uint8_t* y, int apart) {
  for (int64_t i = 0; i < d.expected.size(); ++i) {
    const int got = y[i], expected = d.expected.data()[i];
    if (std::abs(got - expected) <= apart) continue;
    Fail(ErrorCode::kCheckFailed, d.problem.text, ": ", row, " is wrong at output ", i, ": got ",
         got, ", the portable kernel has ", expected);
  }
}

// a: x and codes (int8 in them), b: weight and float_weight.
void MakeBmmData(std::mt19937& random, OperatorData& d) {
  OperatorProblem& p = d.problem;
  const auto signed_code = [&] {
    return static_cast<int8_t>(static_cast<int>(random() % 256) - 128);
  };
  for (int64_t i = 0; i < p.inputs(); ++i) {
    const int8_t code = signed_code();
    d.codes.data()[i] = static_cast<uint8_t>(code);
    d.x[static_cast<size_t>(i)] = static_cast<float>(code) * OperatorData::kXScale;
  }
  d.weight.resize(static_cast<size_t>(p.batch * p.conv.out_channels * p.depth()));
  d.weight_scale = {OperatorData::kXScale};
  for (int8_t& w : d.weight) {
    w = signed_code();
    d.float_weight.push_back(static_cast<float>(w) * d.weight_scale[0]);
  }
  // Sums have a standard deviation of about 73 * 73 * sqrt(K).
  p.conv.epilogue.multiplier = {0.01F / std::sqrt(static_cast<float>(p.depth()))};
  p.conv.epilogue.output = kernels::OutputType::kInt8;
}

// y is (M,N) or NCHW.
int64_t FloatIndex(const OperatorProblem& p, const OutputAt& at) {
  return p.op == Op::kLinear ? IndexNhwc(p, at) : IndexNchw(p, at);
}

}  // namespace

std::vector<float> OperatorData::FloatMultiplier() const {
  std::vector<float> m;
  for (float s : weight_scale) m.push_back(kXScale * s);
  return m;
}

std::shared_ptr<const OperatorData> MakeOperatorData(const OperatorProblem& problem) {
  auto d = std::make_shared<OperatorData>();
  d->problem = problem;
  OperatorProblem& p = d->problem;
  std::mt19937 random(kSeed);
  d->x.resize(static_cast<size_t>(p.inputs()));
  d->codes = kernels::AlignedBytes(p.inputs());
  ForEachInput(p, [&](int64_t code_index, int64_t float_index) {
    const auto r = static_cast<uint32_t>(random());
    const auto code = static_cast<uint8_t>(r);
    const float off = static_cast<float>((r >> 8) % 15) / 16 - 7.0F / 16;
    d->codes.data()[code_index] = code;
    d->x[static_cast<size_t>(float_index)] =
        (static_cast<float>(code) - static_cast<float>(p.conv.x_zero_point) + off) *
        OperatorData::kXScale;
  });
  if (p.op == Op::kQuantize) return d;
  if (p.op == Op::kLayerNorm) {
    for (int64_t i = 0; i < p.width; ++i) {
      d->float_weight.push_back(0.5F + static_cast<float>(random() % 1024) / 1024);
      d->float_bias.push_back(static_cast<float>(random() % 1024) / 1024 - 0.5F);
    }
    return d;
  }

  if (p.op == Op::kBmm) {
    MakeBmmData(random, *d);
    return d;
  }

  const auto n = static_cast<size_t>(p.conv.out_channels);
  const auto k = static_cast<size_t>(p.depth());
  d->weight.resize(n * k);
  for (int8_t& w : d->weight) w = static_cast<int8_t>(static_cast<int>(random() % 255) - 127);
  p.conv.weight = d->weight.data();
  // Sums have a standard deviation of about 73 * 147 * sqrt(K): outputs fill the codes, half of
  // them below the Relu that a zero point of 0 is.
  kernels::Epilogue& e = p.conv.epilogue;
  const float multiplier = 0.01F / std::sqrt(static_cast<float>(k));
  for (size_t i = 0; i < n; ++i) {
    d->weight_scale.push_back(multiplier * (0.75F + 0.0625F * static_cast<float>(i % 8)) *
                              (OperatorData::kYScale / OperatorData::kXScale));
    e.multiplier.push_back(OperatorData::kXScale * d->weight_scale[i] / OperatorData::kYScale);
    e.bias.push_back(static_cast<int32_t>(random() % 4000));
    d->float_bias.push_back(static_cast<float>(e.bias[i]) * OperatorData::kXScale *
                            d->weight_scale[i]);
  }
  d->float_weight.resize(n * k);
  for (size_t i = 0; i < n * k; ++i)
    d->float_weight[i] = static_cast<float>(d->weight[i]) * d->weight_scale[i / k];

  const ThreadScope all(0);
  const kernels::ForcedChoice portable(Isa::kPortable);
  d->expected = kernels::AlignedBytes(p.outputs());
  kernels::Conv(p.conv).Run(p.batch, p.height, p.width, d->codes.data(), d->expected.data());
  CheckCodes(*d, "the portable kernel", d->expected.data());
  return d;
}

std::vector<OutputAt> SampledOutputs(const OperatorProblem& p) {
  const int64_t h = p.out_height(), w = p.out_width(), n = p.conv.out_channels;
  std::vector<OutputAt> all;
  for (int64_t image : {int64_t{0}, p.batch - 1})
    for (int64_t y : {int64_t{0}, h - 1})
      for (int64_t x : {int64_t{0}, w - 1})
        for (int64_t channel : {int64_t{0}, n - 1}) all.push_back({image, y, x, channel});
  std::mt19937_64 random(kSeed);
  const auto below = [&](int64_t limit) {
    return static_cast<int64_t>(random() % static_cast<uint64_t>(limit));
  };
  for (int i = 0; i < kSampledOutputs; ++i) {
    const int64_t image = below(p.batch), y = below(h), x = below(w);
    all.push_back({image, y, x, below(n)});
  }
  return all;
}

int64_t IndexNhwc(const OperatorProblem& p, const OutputAt& at) {
  return ((at.image * p.out_height() + at.y) * p.out_width() + at.x) * p.conv.out_channels +
         at.channel;
}

int64_t IndexNchw(const OperatorProblem& p, const OutputAt& at) {
  return ((at.image * p.conv.out_channels + at.channel) * p.out_height() + at.y) * p.out_width() +
         at.x;
}

int64_t ExactSum(const OperatorData& d, const OutputAt& at) {
  int64_t sum = d.problem.conv.epilogue.bias[static_cast<size_t>(at.channel)];
  ForEachProduct(d.problem, at, [&](size_t code, size_t, size_t weight) {
    sum += (int64_t{d.codes.data()[code]} - d.problem.conv.x_zero_point) * d.weight[weight];
  });
  return sum;
}

int32_t ExactCode(const OperatorData& d, const OutputAt& at) {
  const float sum = static_cast<float>(ExactSum(d, at));
  return RoundClamped(sum * d.problem.conv.epilogue.multiplier[static_cast<size_t>(at.channel)], 0,
                      255);
}

FloatSum ExactFloat(const OperatorData& d, const OutputAt& at) {
  FloatSum s;
  s.value = static_cast<double>(d.float_bias[static_cast<size_t>(at.channel)]);
  s.magnitude = std::fabs(s.value);
  ForEachProduct(d.problem, at, [&](size_t, size_t x, size_t weight) {
    const double product =
        static_cast<double>(d.x[x]) * static_cast<double>(d.float_weight[weight]);
    s.value += product;
    s.magnitude += std::fabs(product);
  });
  return s;
}

void CheckCodes(const OperatorData& d, const std::string& row, const uint8_t* y) {
  for (const OutputAt& at : SampledOutputs(d.problem)) {
    const int32_t got = y[IndexNhwc(d.problem, at)], expected = ExactCode(d, at);
    if (got != expected) Wrong(d, row, at, Cat(got), Cat(expected));
  }
  CheckAll(d, row, y, 0);
}

void CheckPeerCodes(const OperatorData& d, const std::string& row, const uint8_t* y) {
  CheckAll(d, row, y, 1);
}

void CheckDequantized(const OperatorData& d, const std::string& row, const float* y,
                      float relative) {
  const std::vector<float> multiplier = d.FloatMultiplier();
  for (const OutputAt& at : SampledOutputs(d.problem)) {
    const float got = y[FloatIndex(d.problem, at)];
    const float expected =
        static_cast<float>(ExactSum(d, at)) * multiplier[static_cast<size_t>(at.channel)];
    // Written so that NaN fails.
    if (!(std::fabs(got - expected) <= relative * std::fabs(expected)))
      Wrong(d, row, at, Cat(got), Cat(expected));
  }
}

float ExactDynamic(const OperatorData& d, const OutputAt& at) {
  const int64_t k = d.problem.conv.in_channels;
  const auto channel = static_cast<size_t>(at.channel);
  const float* x = d.x.data() + at.x * k;
  float largest = 1e-8F;
  for (int64_t i = 0; i < k; ++i) largest = std::max(largest, std::fabs(x[i]));
  const float scale = largest / 127;
  int64_t sum = 0;
  for (int64_t i = 0; i < k; ++i)
    sum += int64_t{RoundClamped(x[i] / scale, -128, 127)} *
           d.weight[channel * static_cast<size_t>(k) + static_cast<size_t>(i)];
  return static_cast<float>(sum) * d.weight_scale[channel] * scale + d.float_bias[channel];
}

void CheckDynamic(const OperatorData& d, const std::string& row, const float* y) {
  for (const OutputAt& at : SampledOutputs(d.problem)) {
    const float got = y[FloatIndex(d.problem, at)], expected = ExactDynamic(d, at);
    if (got != expected) Wrong(d, row, at, Cat(got), Cat(expected));
  }
}

void CheckFloatCodes(const OperatorData& d, const std::string& row, const float* y, int apart) {
  for (const OutputAt& at : SampledOutputs(d.problem)) {
    const float got = y[FloatIndex(d.problem, at)];
    const float expected = static_cast<float>(ExactCode(d, at)) * OperatorData::kYScale;
    if (!(std::fabs(got - expected) <= static_cast<float>(apart) * OperatorData::kYScale))
      Wrong(d, row, at, Cat(got), Cat(expected));
  }
}

void CheckFloats(const OperatorData& d, const std::string& row, const float* y,
                 double input_roundoff) {
  const double bound = 3 * input_roundoff + static_cast<double>(d.problem.depth() + 2) * 0x1p-24;
  for (const OutputAt& at : SampledOutputs(d.problem)) {
    const double got = static_cast<double>(y[FloatIndex(d.problem, at)]);
    const FloatSum expected = ExactFloat(d, at);
    if (!(std::fabs(got - expected.value) <= bound * expected.magnitude))
      Wrong(d, row, at, Cat(got), Cat(expected.value));
  }
}

void CheckInputCodes(const OperatorData& d, const std::string& row, const uint8_t* codes) {
  for (int64_t i = 0; i < d.codes.size(); ++i) {
    if (codes[i] == d.codes.data()[i]) continue;
    Fail(ErrorCode::kCheckFailed, d.problem.text, ": ", row, " is wrong at code ", i, ": got ",
         int{codes[i]}, ", expected ", int{d.codes.data()[i]});
  }
}

void CheckInputFloats(const OperatorData& d, const std::string& row, const float* x) {
  ForEachInput(d.problem, [&](int64_t code_index, int64_t float_index) {
    const float expected = DequantizeOne(d.codes.data()[code_index], OperatorData::kXScale,
                                         d.problem.conv.x_zero_point);
    if (x[float_index] == expected) return;
    Fail(ErrorCode::kCheckFailed, d.problem.text, ": ", row, " is wrong at element ", float_index,
         ": got ", x[float_index], ", expected ", expected);
  });
}

}  // namespace octet
