#include "kernels/approx_layer.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "base/checked_math.h"
#include "base/error.h"
#include "kernels/dense_choice.h"

namespace octet::kernels {
namespace {

constexpr int64_t kMostDepth = int64_t{1} << 24;  // sums of digits fit int32

constexpr int64_t kLeastColumns = 64;  // channels; lines of lanes pay from about 100 on

constexpr int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

// SumRounding of integers, without branches, so that loops of it are vectors.
class Rounder {
 public:
  explicit Rounder(const SumRounding& r)
      : drop_(52 - r.mantissa_bits),
        half_((uint64_t{1} << (drop_ - 1)) - 1 + (r.mantissa_bits == 0 ? 1 : 0)),
        odd_(r.mantissa_bits == 0 ? 0 : 1),  // without a mantissa, what is kept is the hidden 1
        largest_(RoundLargest(r)) {}

  // Bits of the double that are dropped are rounded, and carry into the exponent as they should;
  // small integers have none. Rounding keeps order, so the largest may be rounded first and taken
  // for a bound after.
  [[nodiscard]] double operator()(double value) const {
    auto bits = std::bit_cast<uint64_t>(value);
    bits += half_ + ((bits >> drop_) & odd_);
    const auto rounded = std::bit_cast<double>(bits >> drop_ << drop_);
    const double bounded = rounded < largest_ ? rounded : largest_;
    return bounded > -largest_ ? bounded : -largest_;
  }
  [[nodiscard]] double largest() const { return largest_; }

 private:
  static double RoundLargest(const SumRounding& r) {
    const double step = std::exp2(std::max(std::ilogb(r.largest) - r.mantissa_bits, 0));
    return std::nearbyint(r.largest / step) * step;
  }
  int drop_;
  uint64_t half_, odd_;
  double largest_;
};

// A value's digits in [-Half, Half], base 2 Half + 1, `stride` apart.
template <int Half>
void CutDigits(int64_t value, int32_t planes, int64_t stride, uint8_t* digits) {
  constexpr int64_t kRadix = 2 * Half + 1;
  for (int32_t p = 0; p < planes; ++p) {
    int64_t rest = value / kRadix, digit = value - rest * kRadix;
    if (digit > Half) digit -= kRadix, ++rest;
    if (digit < -Half) digit += kRadix, --rest;
    digits[p * stride] = static_cast<uint8_t>(digit);
    value = rest;
  }
  OCTET_INVARIANT(value == 0);
}

// `count` products, `stride` apart.
template <typename T>
void CopyRow(const int64_t* products, int stride, int count, uint8_t* row) {
  for (int i = 0; i < count; ++i) {
    const auto product = static_cast<T>(products[i * stride]);
    std::memcpy(row + static_cast<size_t>(i) * sizeof(T), &product, sizeof(T));
  }
}

}  // namespace

int64_t ApproxBlock(int64_t lanes) {
  const int64_t blocks = CeilDiv(lanes, kApproxLanes);
  return CeilDiv(CeilDiv(lanes, blocks), 64) * 64;
}

int64_t ApproxChannels(int64_t lanes) {
  const int64_t most = std::min(kApproxSums / (CeilDiv(lanes, 64) * 64), kApproxLanes);
  return most / kApproxChannels * kApproxChannels;
}

int64_t ApproxCut(int64_t channels, int64_t part, int64_t parts) {
  const int64_t blocks = CeilDiv(channels, kApproxChannels);
  return std::min(channels, blocks * part / parts * kApproxChannels);
}

ApproxLayer::ApproxLayer(const ApproxMultiply& multiply, int64_t n, int64_t k,
                         const uint8_t* weight, std::string_view what)
    : n_(n), k_(k), rounding_(multiply.rounding) {
  const int64_t dims[] = {n, k};
  const auto weights = CheckedProduct(dims);
  if (n < 1 || k < 1 || k > kMostDepth || !weights || *weights > int64_t{1} << 40) {
    Fail(ErrorCode::kInvalidArgument, what, ": ", n, " output channels of ", k,
         " products; expected 1 or more, at most 2^24 products and 2^40 weights");
  }
  if (weight == nullptr) Fail(ErrorCode::kInvalidArgument, what, ": weight is null");
  weight_.assign(weight, weight + *weights);
  TakeChannels(multiply, what);
  const Reach reach = FindReach(multiply, what);
  mode_ = multiply.x_bits == 6   ? kApprox64
          : multiply.x_bits == 7 ? kApprox128
          : reach.symmetric      ? kApproxSigned
                                 : kApprox256;
  const bool each_add = rounding_.enabled && rounding_.each_add;
  ChooseKernel(each_add ? Op::ApproxEachAdd : Op::ApproxRows);
  if (each_add) {
    on_grid_ = PackGrid(multiply);
    if (on_grid_) return;
    for (const int64_t* table : multiply.tables)
      for (int w = 0; w < 256; ++w)
        for (int x = 0; x < 256; ++x)
          each_add_rows_.push_back(static_cast<double>(table[x * 256 + w]));
    return;
  }
  small_ = reach.largest * k_ < int64_t{1} << 31;
  tiny_ = reach.largest * k_ + 127 * k_ < int64_t{1} << 24;
  if (kernel_->layout == Layout::kApproxDigits) {
    ChooseDigits(reach);
    PackDigits(multiply);
  } else {
    PackIntegers(multiply, reach);
  }
}

void ApproxLayer::TakeChannels(const ApproxMultiply& m, std::string_view what) {
  const auto n = static_cast<size_t>(n_);
  if (m.tables.empty() || std::count(m.tables.begin(), m.tables.end(), nullptr) != 0)
    Fail(ErrorCode::kInvalidArgument, what, ": no table of products, or a null one");
  if ((!m.table_of_channel.empty() && m.table_of_channel.size() != n) ||
      (m.unit.size() != n && m.unit.size() != 1)) {
    Fail(ErrorCode::kInvalidArgument, what, ": table_of_channel and unit have ",
         m.table_of_channel.size(), " and ", m.unit.size(), " entries; expected ", n_,
         " (or none, and 1)");
  }
  if (m.x_bits < 6 || m.x_bits > 8)
    Fail(ErrorCode::kInvalidArgument, what, ": x_bits is ", m.x_bits, "; expected 6, 7 or 8");
  const SumRounding& r = m.rounding;
  if (r.enabled &&
      (r.mantissa_bits < 0 || r.mantissa_bits > 7 || !(r.largest >= 1) || !(r.largest < 0x1p52))) {
    Fail(ErrorCode::kInvalidArgument, what, ": sums are rounded to ", r.mantissa_bits,
         " mantissa bits and at most ", r.largest, " units; expected 0 to 7 bits, 1 to 2^52 units");
  }
  table_of_ = m.table_of_channel;
  table_of_.resize(n);
  unit_.assign(n, m.unit[0]);
  if (m.unit.size() == n) unit_ = m.unit;
  bias_.resize(n);
  if (m.bias != nullptr) std::copy_n(m.bias, n, bias_.begin());
  used_.resize(m.tables.size() * 256);
  for (size_t c = 0; c < n; ++c) {
    if (table_of_[c] < 0 || static_cast<size_t>(table_of_[c]) >= m.tables.size())
      Fail(ErrorCode::kInvalidArgument, what, ": channel ", c, " has table ", table_of_[c],
           "; expected one of ", m.tables.size());
    if (!std::isfinite(unit_[c]))
      Fail(ErrorCode::kInvalidArgument, what, ": unit of channel ", c, " is ", unit_[c],
           "; expected finite");
    uint8_t* used = used_.data() + static_cast<size_t>(table_of_[c]) * 256;
    for (int64_t i = 0; i < k_; ++i)
      used[weight_[c * static_cast<size_t>(k_) + static_cast<size_t>(i)]] = 1;
  }
}

ApproxLayer::Reach ApproxLayer::FindReach(const ApproxMultiply& m, std::string_view what) const {
  Reach reach;
  const int x_codes = 1 << m.x_bits;
  constexpr int64_t kMost = int64_t{1} << 62;
  for (size_t t = 0; t < m.tables.size(); ++t) {
    int64_t all[256];  // ones of the codes in use
    for (int w = 0; w < 256; ++w) all[w] = Uses(t, w) ? -1 : 0;
    int64_t most = 0, least = 0;
    for (int x = 0; x < x_codes; ++x) {
      const int64_t* row = m.tables[t] + x * 256;
      for (int w = 0; w < 256; ++w) {
        most = std::max(most, row[w] & all[w]);
        least = std::min(least, row[w] & all[w]);
      }
      if (x < 128) continue;
      const int64_t* opposite = row - 128 * 256;
      int64_t differing = 0;
      for (int w = 0; w < 256; ++w)
        differing |=
            (row[w] ^ static_cast<int64_t>(0U - static_cast<uint64_t>(opposite[w]))) & all[w];
      reach.symmetric = reach.symmetric && differing == 0;
    }
    if (most > kMost || least < -kMost)
      Fail(ErrorCode::kUnsupported, what, ": a product is ", most > kMost ? most : least,
           "; expected below 2^62");
    reach.largest = std::max({reach.largest, most, -least});
  }
  const auto sum = CheckedMul(reach.largest, k_);
  if (!sum || *sum > kMost)
    Fail(ErrorCode::kUnsupported, what, ": a sum of ", k_, " products up to ", reach.largest,
         " leaves 62 bits");
  return reach;
}

void ApproxLayer::ChooseKernel(Op op) {
  for (const KernelInfo& candidate : Registry()) {
    if (candidate.op != op) continue;
    std::string why = kernel_ != nullptr ? Cat("later in the list than ", kernel_->name)
                                         : RefusalByChoice(candidate);
    if (why.empty()) kernel_ = &candidate;
    candidates_.push_back({std::string(candidate.name), std::move(why)});
  }
  OCTET_INVARIANT(kernel_ != nullptr);
}

// Digits of fewer bits need more planes but are added up in bytes for longer.
void ApproxLayer::ChooseDigits(const Reach& reach) {
  double least = HUGE_VAL;
  for (const int32_t half : {127, 63, 31, 15}) {
    int32_t planes = 1;
    for (double most = half; most < static_cast<double>(reach.largest); ++planes)
      most = most * (2 * half + 1) + half;
    // Vector operations per step and plane: permutations, an addition, and per group of steps two
    // to split bytes into words, two to add them.
    const int group = 128 / (half + 1);
    const double cost = planes * (static_cast<double>(ApproxEntries(mode_)) / 64 + 1 + 4.0 / group);
    if (cost >= least) continue;
    least = cost;
    half_ = half;
    planes_ = planes;
  }
}

void ApproxLayer::PackDigits(const ApproxMultiply& m) {
  const int64_t entries = ApproxEntries(mode_);
  row_bytes_ = planes_ * entries;
  rows_ = AlignedBytes(static_cast<int64_t>(m.tables.size()) * 256 * row_bytes_);
  const auto cut = half_ == 127  ? CutDigits<127>
                   : half_ == 63 ? CutDigits<63>
                   : half_ == 31 ? CutDigits<31>
                                 : CutDigits<15>;
  for (size_t t = 0; t < m.tables.size(); ++t)
    for (int64_t x = 0; x < entries; ++x)
      for (int w = 0; w < 256; ++w) {
        if (!Uses(t, w)) continue;
        uint8_t* row = rows_.data() + (static_cast<int64_t>(t) * 256 + w) * row_bytes_;
        cut(m.tables[t][x * 256 + w], planes_, entries, row + x);
      }
}

void ApproxLayer::PackIntegers(const ApproxMultiply& m, const Reach& reach) {
  entry_bytes_ = reach.largest * kApproxShortSteps <= INT16_MAX && small_ ? 2
                 : reach.largest * kApproxSteps <= INT32_MAX              ? 4
                                                                          : 8;
  if (entry_bytes_ == 8) small_ = false;
  const auto copy = entry_bytes_ == 2   ? CopyRow<int16_t>
                    : entry_bytes_ == 4 ? CopyRow<int32_t>
                                        : CopyRow<int64_t>;
  const int x_codes = 1 << m.x_bits;
  row_bytes_ = 256 * entry_bytes_;
  rows_ = AlignedBytes(static_cast<int64_t>(m.tables.size()) * 256 * row_bytes_);
  for (size_t t = 0; t < m.tables.size(); ++t)
    for (int w = 0; w < 256; ++w) {
      if (!Uses(t, w)) continue;
      uint8_t* row = rows_.data() + (static_cast<int64_t>(t) * 256 + w) * row_bytes_;
      copy(m.tables[t] + w, 256, x_codes, row);
    }
  if (m.tables.size() > 1 || n_ < kLeastColumns) return;
  columns_ = AlignedBytes(256 * row_bytes_);
  for (int x = 0; x < x_codes; ++x)
    copy(m.tables[0] + x * 256, 1, 256, columns_.data() + x * row_bytes_);
}

// False where a product is not on the grid that sums are rounded to.
bool ApproxLayer::PackGrid(const ApproxMultiply& m) {
  const Rounder round(rounding_);
  entry_bytes_ = sizeof(float);
  row_bytes_ = 256 * entry_bytes_;
  AlignedBytes rows(static_cast<int64_t>(m.tables.size()) * 256 * row_bytes_);
  for (size_t t = 0; t < m.tables.size(); ++t)
    for (int x = 0; x < 1 << m.x_bits; ++x)
      for (int w = 0; w < 256; ++w) {
        if (!Uses(t, w)) continue;
        const auto product = static_cast<double>(m.tables[t][x * 256 + w]);
        if (round(product) != product) return false;
        const auto entry = static_cast<float>(product);
        std::memcpy(
            rows.data() + (static_cast<int64_t>(t) * 256 + w) * row_bytes_ + x * entry_bytes_,
            &entry, sizeof entry);
      }
  rows_ = std::move(rows);
  return true;
}

template <typename Sum>
void ApproxLayer::Store(const Sum* sums, int64_t channel, int64_t lanes, float* y) const {
  const float unit = unit_[static_cast<size_t>(channel)],
              bias = bias_[static_cast<size_t>(channel)];
  if (!rounding_.enabled) {
    for (int64_t i = 0; i < lanes; ++i) y[i] = static_cast<float>(sums[i]) * unit + bias;
    return;
  }
  const Rounder round(rounding_);
  for (int64_t i = 0; i < lanes; ++i)
    y[i] = static_cast<float>(round(static_cast<double>(sums[i]))) * unit + bias;
}

void ApproxLayer::Finish(const void* sums, int64_t channel, int64_t lanes, float* y) const {
  if (kernel_->layout == Layout::kApproxIntegers) {
    if (small_) return Store(static_cast<const int32_t*>(sums), channel, lanes, y);
    return Store(static_cast<const int64_t*>(sums), channel, lanes, y);
  }
  const auto* digits = static_cast<const int32_t*>(sums);
  const int32_t radix = 2 * half_ + 1;
  if (planes_ == 1) return Store(digits, channel, lanes, y);
  if (planes_ == 2 && tiny_) {
    float joined[kApproxLanes];
    const auto r = static_cast<float>(radix);
    for (int64_t i = 0; i < lanes; ++i)
      joined[i] = static_cast<float>(digits[i]) + static_cast<float>(digits[kApproxLanes + i]) * r;
    return Store(joined, channel, lanes, y);
  }
  if (small_) {
    int32_t joined[kApproxLanes];
    // Modulo 2^32, where the sum is itself.
    const auto* d = static_cast<const uint32_t*>(sums);
    const auto r = static_cast<uint32_t>(radix);
    for (int64_t i = 0; i < lanes; ++i)
      joined[i] = static_cast<int32_t>(d[(planes_ - 1) * kApproxLanes + i]);
    for (int32_t p = planes_ - 2; p >= 0; --p)
      for (int64_t i = 0; i < lanes; ++i)
        joined[i] =
            static_cast<int32_t>(static_cast<uint32_t>(joined[i]) * r + d[p * kApproxLanes + i]);
    return Store(joined, channel, lanes, y);
  }
  int64_t joined[kApproxLanes];
  for (int64_t i = 0; i < lanes; ++i) {
    joined[i] = digits[(planes_ - 1) * kApproxLanes + i];
    for (int32_t p = planes_ - 2; p >= 0; --p)
      joined[i] = joined[i] * radix + digits[p * kApproxLanes + i];
  }
  Store(joined, channel, lanes, y);
}

void ApproxLayer::RunEachAdd(const uint8_t* codes, int64_t lanes, int64_t channel, float* y) const {
  const auto at = static_cast<size_t>(channel);
  const uint8_t* w = weight_.data() + channel * k_;
  const Rounder round(rounding_);
  double sums[kApproxLanes] = {};
  for (int64_t i = 0; i < k_; ++i) {
    const double* row =
        each_add_rows_.data() + (static_cast<int64_t>(table_of_[at]) * 256 + w[i]) * 256;
    const uint8_t* x = codes + i * kApproxLanes;
    double products[kApproxLanes];
    for (int64_t lane = 0; lane < lanes; ++lane) products[lane] = row[x[lane]];
    for (int64_t lane = 0; lane < lanes; ++lane) sums[lane] = round(sums[lane] + products[lane]);
  }
  for (int64_t lane = 0; lane < lanes; ++lane)
    y[lane] = static_cast<float>(sums[lane]) * unit_[at] + bias_[at];
}

void ApproxLayer::RunRounded(const uint8_t* codes, int64_t lanes, bool negative, int64_t n0,
                             int64_t n1, float* y, int64_t y_stride) const {
  ApproxRowsArgs args{};
  args.x = codes;
  args.lanes = lanes;
  args.weight_stride = args.k = k_;
  args.rows = rows_.data();
  args.row_bytes = row_bytes_;
  args.table_bytes = 256 * row_bytes_;
  args.mode = !negative && (mode_ == kApproxSigned || mode_ == kApprox256) ? kApprox128 : mode_;
  args.mantissa_bits = rounding_.mantissa_bits;
  args.largest = static_cast<float>(Rounder(rounding_).largest());
  args.scratch = BufferOfThread(kBufferWeights, kApproxScratch);
  const int64_t channels = ApproxChannels(lanes);
  args.sums_stride = int64_t{sizeof(float)} * CeilDiv(lanes, 64) * 64;
  args.sums = BufferOfThread(kBufferSums, channels * args.sums_stride);
  for (int64_t c = n0; c < n1; c += channels) {
    args.n = std::min(channels, n1 - c);
    args.table_of = table_of_.data() + c;
    args.weight = weight_.data() + c * k_;
    Call(*kernel_, args);
    for (int64_t i = 0; i < args.n; ++i) {
      const auto* sums = reinterpret_cast<const float*>(static_cast<const uint8_t*>(args.sums) +
                                                        i * args.sums_stride);
      const auto at = static_cast<size_t>(c + i);
      float* out = y + (c + i - n0) * y_stride;
      for (int64_t lane = 0; lane < lanes; ++lane) out[lane] = sums[lane] * unit_[at] + bias_[at];
    }
  }
}

void ApproxLayer::Run(const uint8_t* codes, int64_t lanes, bool negative, int64_t n0, int64_t n1,
                      float* y, int64_t y_stride) const {
  if (on_grid_) return RunRounded(codes, lanes, negative, n0, n1, y, y_stride);
  if (!each_add_rows_.empty()) {
    for (int64_t c = n0; c < n1; ++c) RunEachAdd(codes, lanes, c, y + (c - n0) * y_stride);
    return;
  }
  const bool integers = kernel_->layout == Layout::kApproxIntegers;
  const int64_t depth = integers ? k_ : kApproxDepth;
  ApproxRowsArgs args{};
  args.lanes = lanes;
  args.weight_stride = k_;
  args.rows = rows_.data();
  args.row_bytes = row_bytes_;
  args.table_bytes = 256 * row_bytes_;
  args.mode = mode_;
  if (!negative && (mode_ == kApproxSigned || (mode_ == kApprox256 && integers)))
    args.mode = kApprox128;
  args.planes = planes_;
  args.half = half_;
  args.entry_bytes = entry_bytes_;
  args.sum_bytes = small_ ? 4 : 8;
  // Digits lie in kApproxLanes, whatever lanes there are.
  const int64_t channels = integers ? ApproxChannels(lanes) : kApproxChannels;
  args.sums_stride =
      integers ? args.sum_bytes * CeilDiv(lanes, 64) * 64 : planes_ * 4 * kApproxLanes;
  args.sums = BufferOfThread(kBufferSums, channels * args.sums_stride);
  if (integers) args.scratch = BufferOfThread(kBufferWeights, kApproxScratch);
  if (columns_.size() != 0) args.columns = columns_.data();
  for (int64_t c = n0; c < n1; c += channels) {
    args.n = std::min(channels, n1 - c);
    if (!integers) std::memset(args.sums, 0, static_cast<size_t>(args.n * args.sums_stride));
    args.table_of = table_of_.data() + c;
    for (int64_t k = 0; k < k_; k += depth) {
      args.x = codes + k * kApproxLanes;
      args.weight = weight_.data() + c * k_ + k;
      args.k = std::min(depth, k_ - k);
      Call(*kernel_, args);
    }
    for (int64_t i = 0; i < args.n; ++i)
      Finish(static_cast<const uint8_t*>(args.sums) + i * args.sums_stride, c + i, lanes,
             y + (c + i - n0) * y_stride);
  }
}

int64_t ApproxLayer::packed_bytes() const {
  return rows_.size() + columns_.size() +
         static_cast<int64_t>(weight_.size() + each_add_rows_.size() * 8 +
                              (unit_.size() + bias_.size() + table_of_.size()) * 4);
}

}  // namespace octet::kernels
