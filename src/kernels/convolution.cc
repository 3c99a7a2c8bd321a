// Checking, choosing and packing. Running is in convolution_run.cc.
#include "kernels/convolution.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include "base/checked_math.h"
#include "base/error.h"

namespace octet::kernels {
namespace {

constexpr auto kInvalid = ErrorCode::kInvalidArgument;

void CheckPositive(std::string_view what, std::string_view name, int64_t value) {
  if (value < 1 || value > std::numeric_limits<int32_t>::max()) {
    Fail(kInvalid, what, ": ", name, " is ", value, "; expected 1 to 2^31 - 1");
  }
}

void CheckZeroPoint(std::string_view what, std::string_view name, int32_t value, CodeType type) {
  const int32_t lo = type == CodeType::kUint8 ? 0 : -128;
  if (value < lo || value > lo + 255) {
    Fail(kInvalid, what, ": ", name, " is ", value, "; expected ", lo, " to ", lo + 255);
  }
}

void CheckFinite(std::string_view what, std::string_view name, float value) {
  if (!std::isfinite(value))
    Fail(kInvalid, what, ": ", name, " is ", value, "; expected a finite number");
}

template <typename T>
void CheckCount(std::string_view what, std::string_view name, const std::vector<T>& values,
                int64_t n, bool one_allowed) {
  const auto size = static_cast<int64_t>(values.size());
  if (size == 0 || size == n || (one_allowed && size == 1)) return;
  Fail(kInvalid, what, ": ", name, " has ", size, " values; expected ", n, one_allowed ? ", 1" : "",
       " or none");
}

bool StoresCodes(const Epilogue& e) {
  return e.output == OutputType::kUint8 || e.output == OutputType::kInt8;
}

void CheckCodesEpilogue(std::string_view what, const Epilogue& e) {
  const CodeType type = e.output == OutputType::kInt8 ? CodeType::kInt8 : CodeType::kUint8;
  const int32_t lowest = type == CodeType::kUint8 ? 0 : -128;
  CheckZeroPoint(what, "y_zero_point", e.y_zero_point, type);
  for (size_t i = 0; i < std::max(e.lo.size(), e.hi.size()); ++i) {
    const int32_t lo = e.lo.empty() ? lowest : e.lo[std::min(i, e.lo.size() - 1)];
    const int32_t hi = e.hi.empty() ? lowest + 255 : e.hi[std::min(i, e.hi.size() - 1)];
    if (lo < lowest || hi > lowest + 255 || lo > hi) {
      Fail(kInvalid, what, ": bounds of channel ", i, " are [", lo, ", ", hi,
           "]; expected lo <= hi in [", lowest, ", ", lowest + 255, "]");
    }
  }
  if (!e.residual.present) return;
  const Residual& r = e.residual;
  CheckZeroPoint(what, "residual.zero_point", r.zero_point, r.type);
  CheckFinite(what, "residual.ratio", r.ratio);
  if (!r.mid_codes) return;
  CheckFinite(what, "residual.mid_ratio", r.mid_ratio);
  if (r.mid_lo < -128 || r.mid_hi > 255 || r.mid_lo > r.mid_hi || r.mid_zero_point < -128 ||
      r.mid_zero_point > 255) {
    Fail(kInvalid, what, ": residual.mid_lo, mid_hi, mid_zero_point are ", r.mid_lo, ", ", r.mid_hi,
         ", ", r.mid_zero_point, "; expected codes of 8 bits, mid_lo <= mid_hi");
  }
}

void CheckEpilogue(std::string_view what, const Epilogue& e, int64_t n) {
  CheckCount(what, "bias", e.bias, n, false);
  CheckCount(what, "multiplier", e.multiplier, n, true);
  CheckCount(what, "float_bias", e.float_bias, n, false);
  CheckCount(what, "lo", e.lo, n, true);
  CheckCount(what, "hi", e.hi, n, true);
  if (e.output != OutputType::kInt32 && e.multiplier.empty()) {
    Fail(kInvalid, what, ": multiplier is empty; expected 1 or ", n, " values");
  }
  for (size_t i = 0; i < e.multiplier.size(); ++i) {
    CheckFinite(what, Cat("multiplier[", i, "]"), e.multiplier[i]);
  }
  if (StoresCodes(e)) {
    CheckCodesEpilogue(what, e);
  } else if (e.residual.present) {
    Fail(kInvalid, what, ": a residual needs uint8 or int8 output");
  }
}

void CheckProblem(std::string_view what, const ConvProblem& p) {
  CheckPositive(what, "groups", p.groups);
  CheckPositive(what, "in_channels", p.in_channels);
  CheckPositive(what, "out_channels", p.out_channels);
  CheckPositive(what, "kernel_h", p.kernel_h);
  CheckPositive(what, "kernel_w", p.kernel_w);
  CheckPositive(what, "stride_h", p.stride_h);
  CheckPositive(what, "stride_w", p.stride_w);
  CheckPositive(what, "dilation_h", p.dilation_h);
  CheckPositive(what, "dilation_w", p.dilation_w);
  for (const int64_t pad : {p.pad_top, p.pad_left, p.pad_bottom, p.pad_right}) {
    if (pad < 0 || pad > std::numeric_limits<int32_t>::max()) {
      Fail(kInvalid, what, ": a pad is ", pad, "; expected 0 to 2^31 - 1");
    }
  }
  if (p.in_channels % p.groups != 0 || p.out_channels % p.groups != 0) {
    Fail(kInvalid, what, ": ", p.in_channels, " input and ", p.out_channels,
         " output channels; expected multiples of groups = ", p.groups);
  }
  if (p.weight == nullptr) Fail(kInvalid, what, ": weight is null");
  if (p.grid_at_run) {
    if (p.x_type != CodeType::kUint8 || p.epilogue.output != OutputType::kFloat32 ||
        p.x_zero_point != 0) {
      Fail(kInvalid, what, ": grid_at_run takes uint8 to float32, and x_zero_point 0; got ",
           p.x_zero_point);
    }
  }
  CheckZeroPoint(what, "x_zero_point", p.x_zero_point, p.x_type);
  CheckEpilogue(what, p.epilogue, p.out_channels);
}

// Sums of weights per channel, and, where some input could drive an accumulator out of int32, a
// sentence.
std::optional<std::string> SumWeights(const ConvProblem& p, int64_t per_channel,
                                      std::vector<int64_t>* sums) {
  std::optional<std::string> overflow;
  // x - zero point is in [x_lo, x_hi], x_lo <= 0 <= x_hi; padding adds 0.
  const int64_t x_lo =
      p.grid_at_run ? -255 : (p.x_type == CodeType::kUint8 ? 0 : -128) - p.x_zero_point;
  const int64_t x_hi = p.grid_at_run ? 255 : x_lo + 255;
  for (int64_t n = 0; n < p.out_channels; ++n) {
    int64_t positive = 0, negative = 0;
    const int8_t* row = p.weight + n * per_channel;
    for (int64_t i = 0; i < per_channel;) {  // pieces that int32 holds, for vectors
      const int64_t end = std::min(per_channel, i + (1 << 16));
      int32_t above = 0, all = 0;
      for (; i < end; ++i) {
        above += std::max<int32_t>(row[i], 0);
        all += row[i];
      }
      positive += above;
      negative += all - above;
    }
    (*sums)[static_cast<size_t>(n)] = positive + negative;
    const int64_t bias = p.epilogue.bias.empty() ? 0 : p.epilogue.bias[static_cast<size_t>(n)];
    const int64_t highest = bias + positive * x_hi + negative * x_lo;
    const int64_t lowest = bias + negative * x_hi + positive * x_lo;
    if (!overflow && (highest > std::numeric_limits<int32_t>::max() ||
                      lowest < std::numeric_limits<int32_t>::min())) {
      overflow = Cat("the accumulator of channel ", n, " can reach ", highest, " or ", lowest,
                     ": outside int32");
    }
  }
  return overflow;
}

// Where lanes that are pixels beat lanes that are channels, and tiles: the more of K and of
// channels, the fuller those are.
constexpr int64_t kNarrowChannels = 24, kNarrowDwords = 12, kNarrowApart = 8;

constexpr int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }
constexpr int64_t RoundUp4(int64_t v) { return CeilDiv(v, 4) * 4; }

}  // namespace

Convolution::Convolution(const ConvProblem& problem, std::string_view what)
    : what_(what), problem_(problem) {
  CheckProblem(what, problem);
  const int64_t dims[] = {problem.in_channels / problem.groups, problem.kernel_h, problem.kernel_w};
  const auto per_channel = CheckedProduct(dims);
  const auto total = per_channel ? CheckedMul(*per_channel, problem.out_channels) : std::nullopt;
  if (!total || *total > (int64_t{1} << 40))
    Fail(kInvalid, what, ": the weight has more than 2^40 elements");

  std::vector<int64_t> sums(static_cast<size_t>(problem.out_channels));
  const auto overflow = SumWeights(problem, *per_channel, &sums);
  if (problem.grid_at_run) {
    if (overflow) Fail(ErrorCode::kUnsupported, what, ": ", *overflow);
    weight_sums_.assign(sums.begin(), sums.end());
  }
  plain_.assign(problem.weight, problem.weight + *total);
  problem_.weight = plain_.data();
  epilogue_ = std::make_unique<PackedEpilogue>(
      problem.epilogue, sums, problem.x_zero_point + (problem.x_type == CodeType::kInt8 ? 128 : 0));
  const std::string reason = overflow ? *overflow : std::string();
  CutRows(true);
  Choose(reason);
  if (folded_ && kernel_->isa != Isa::kAmxInt8) {
    CutRows(false);
    Choose(reason);
  }
  Pack();
}

std::string Convolution::Refusal(const KernelInfo& kernel, std::string_view overflow) const {
  if (std::string why = RefusalByChoice(kernel); !why.empty()) return why;
  if (kernel.op == Op::Reference) return {};
  if (!overflow.empty()) return std::string(overflow);
  if (kernel.isa == Isa::kAmxInt8 && !KernelForced() &&
      taps_ * CeilDiv(kc_, 64) * 3 >= taps_ * CeilDiv(kc_, 4)) {
    // A tile's 64 of K cost what two vectors' 4 do: 2, and the detour of its sums through memory.
    return Cat("pieces of ", kc_, " bytes leave tiles of 64 too empty");
  }
  if (kernel.op == Op::DenseNarrow) return RefusalOfNarrow();
  return kernel.op == Op::Depthwise ? RefusalOfDepthwise(kernel.layout) : std::string();
}

// One input channel per output channel.
std::string Convolution::RefusalOfDepthwise(Layout layout) const {
  const ConvProblem& p = problem_;
  if (p.groups == 1 || p.groups != p.in_channels || p.groups != p.out_channels) {
    return Cat("depthwise only: groups ", p.groups, ", channels ", p.in_channels, " to ",
               p.out_channels);
  }
  const bool twos = layout == Layout::kDepthwise3x3Twos;
  const bool tiled = layout == Layout::kDepthwise3x3Tiled || twos;
  if (tiled && p.groups != 8 && p.groups != 16 && p.groups != 32) {
    return Cat("8, 16 or 32 channels only: ", p.groups);
  }
  if (tiled && p.epilogue.residual.present) return "no residual";
  if (twos && !StoresCodes(p.epilogue)) return "codes only";
  if (twos && p.stride_h != 2) return Cat("stride 2 only: ", p.stride_h);
  if ((tiled || layout == Layout::kDepthwise3x3) &&
      (p.kernel_h != 3 || p.kernel_w != 3 || p.dilation_h != 1 || p.dilation_w != 1 ||
       p.stride_h > 2 || p.stride_h != p.stride_w)) {
    return Cat("3x3, stride 1 or 2, dilation 1 only: ", p.kernel_h, "x", p.kernel_w, ", stride ",
               p.stride_h, "x", p.stride_w, ", dilation ", p.dilation_h, "x", p.dilation_w);
  }
  if (layout == Layout::kDepthwiseColumns) {
    const int64_t width = (p.kernel_w - 1) * p.dilation_w + 1 + 3 * p.stride_w;
    const int64_t most = kColumnsKept / DepthwiseColumns(p.kernel_h).of_column();
    if (p.kernel_h > kMostRowsOfColumns || width > most) {
      return Cat("at most ", kMostRowsOfColumns, " rows, and ", most,
                 " input columns under four pixels: ", p.kernel_h, " rows, ", width, " columns");
    }
    return {};
  }
  if (p.kernel_h * p.kernel_w > 256) return Cat("at most 256 taps: ", p.kernel_h * p.kernel_w);
  return {};
}

// Of kernels whose lanes are pixels.
std::string Convolution::RefusalOfNarrow() const {
  const ConvProblem& p = problem_;
  const Epilogue& e = p.epilogue;
  if (!StoresCodes(e) || e.residual.present) return "codes without residual only";
  if (KernelForced()) return {};
  const int64_t channels = p.out_channels / p.groups, dwords = taps_ * CeilDiv(kc_, 4);
  const int64_t apart = p.stride_w * p.in_channels;
  if (channels > kNarrowChannels || dwords > kNarrowDwords || apart > kNarrowApart) {
    return Cat("at most ", kNarrowChannels, " channels of ", 4 * kNarrowDwords,
               " bytes of K each, pixels at most ", kNarrowApart, " bytes apart: ", channels,
               " channels of ", 4 * dwords, ", pixels ", apart, " apart");
  }
  return {};
}

// How a row of A is cut into pieces.
void Convolution::CutRows(bool fold) {
  const ConvProblem& p = problem_;
  const int64_t group_in = p.in_channels / p.groups;
  merged_ = p.groups == 1 && p.kernel_w > 1 && p.dilation_w == 1;
  folded_ = fold && merged_ && p.kernel_h > 1 && p.stride_h == 2 && p.dilation_h == 1 &&
            2 * p.kernel_w * group_in <= 64;
  const int64_t rows = folded_ ? 2 : 1;
  taps_ = merged_ ? CeilDiv(p.kernel_h, rows) : p.kernel_h * p.kernel_w;
  kc_ = merged_ ? RoundUp4(rows * p.kernel_w * group_in) : group_in;
  staged_ = folded_ || p.x_type == CodeType::kInt8 ||
            p.pad_top + p.pad_left + p.pad_bottom + p.pad_right > 0 ||
            (merged_ && kc_ != p.kernel_w * group_in);
}

void Convolution::Choose(std::string_view overflow) {
  kernel_ = nullptr;
  candidates_.clear();
  for (const KernelInfo& kernel : Registry()) {
    if (kernel.op != Op::Dense && kernel.op != Op::DenseNarrow && kernel.op != Op::Depthwise &&
        kernel.op != Op::Reference)
      continue;
    std::string why = kernel_ != nullptr ? Cat("later in the list than ", kernel_->name)
                                         : Refusal(kernel, overflow);
    if (why.empty()) kernel_ = &kernel;
    candidates_.push_back({std::string(kernel.name), std::move(why)});
  }
  few_rows_kernel_ = kernel_;
  if (kernel_ != nullptr && kernel_->isa == Isa::kAmxInt8) {
    for (const KernelInfo& kernel : Registry()) {
      if (kernel.op == Op::Dense && kernel.layout == kernel_->layout && kernel.isa < kernel_->isa &&
          RefusalByChoice(kernel).empty()) {
        few_rows_kernel_ = &kernel;
        break;
      }
    }
  }
  if (kernel_ != nullptr) return;
  std::string all;
  for (const Candidate& c : candidates_) all += Cat("\n  ", c.kernel, ": ", c.refused_because);
  Fail(kInvalid, what_, ": no kernel fits:", all);
}

void Convolution::Pack() {
  const ConvProblem& p = problem_;
  if (kernel_->op == Op::Reference) return;
  const int64_t group_in = p.in_channels / p.groups, group_out = p.out_channels / p.groups;
  if (kernel_->op == Op::Depthwise) {
    const bool columns = kernel_->layout == Layout::kDepthwiseColumns;
    weights_ = PackWeights({plain_, p.out_channels, columns ? p.kernel_h : p.kernel_h * p.kernel_w,
                            columns ? p.kernel_w : 1},
                           kernel_->layout);
    zero_pixel_ = AlignedBytes(p.in_channels);
    std::fill_n(zero_pixel_.data(), p.in_channels, static_cast<uint8_t>(p.x_zero_point & 0xff));
  } else {
    group_bytes_ = (PackedBytes(group_out, taps_, kc_, kernel_->layout) + 63) / 64 * 64;
    weights_ = AlignedBytes(group_bytes_ * p.groups);
    const int64_t window = p.kernel_h * p.kernel_w;
    std::vector<int8_t> tap_major;
    if (window > 1) tap_major.resize(static_cast<size_t>(group_out * taps_ * kc_));
    for (int64_t g = 0; g < p.groups; ++g) {
      const int8_t* plain = plain_.data() + g * group_out * group_in * window;
      for (int64_t n = 0; window > 1 && n < group_out; ++n)
        for (int64_t ky = 0; ky < p.kernel_h; ++ky)
          for (int64_t kx = 0; kx < p.kernel_w; ++kx) {
            int64_t within = (ky * p.kernel_w + kx) * group_in;
            if (merged_) within = ky * kc_ + kx * group_in;
            if (folded_) within = ky / 2 * kc_ + (kx * 2 + ky % 2) * group_in;
            int8_t* to = tap_major.data() + n * taps_ * kc_ + within;
            const int8_t* from = plain + n * group_in * window + ky * p.kernel_w + kx;
            for (int64_t c = 0; c < group_in; ++c) to[c] = from[c * window];
          }
      const std::span<const int8_t> rows =
          window > 1 ? std::span<const int8_t>(tap_major)
                     : std::span<const int8_t>(plain, static_cast<size_t>(group_out * group_in));
      const AlignedBytes packed = PackWeights({rows, group_out, taps_, kc_}, kernel_->layout);
      std::copy_n(packed.data(), packed.size(), weights_.data() + g * group_bytes_);
    }
  }
  plain_ = {};
  problem_.weight = nullptr;
}

int64_t Convolution::OutSize(std::string_view axis, int64_t size, int64_t pad, int64_t kernel,
                             int64_t stride, int64_t dilation) const {
  const int64_t extent = dilation * (kernel - 1) + 1;
  const int64_t span = size + pad - extent;
  if (size < 1 || span < 0) {
    Fail(kInvalid, what_, ": input ", axis, " ", size, " with padding ", pad,
         "; expected at least the filter's ", extent);
  }
  return span / stride + 1;
}

int64_t Convolution::OutHeight(int64_t height) const {
  const ConvProblem& p = problem_;
  return OutSize("height", height, p.pad_top + p.pad_bottom, p.kernel_h, p.stride_h, p.dilation_h);
}

int64_t Convolution::OutWidth(int64_t width) const {
  const ConvProblem& p = problem_;
  return OutSize("width", width, p.pad_left + p.pad_right, p.kernel_w, p.stride_w, p.dilation_w);
}

}  // namespace octet::kernels
