// Linear layers whose weights alone have eight bits: int8 (W8A16 and the like) and FP8.
#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "evaluate/bench_ops/rows.h"

namespace octet {
namespace {

// Sampled outputs against sums in double precision; weight(index) is a weight as it counts, scale
// included. |error| <= x_error * sum |w| + relative * sum |x w|, to first order.
template <typename Weight>
void CheckOutputs(const OperatorData& d, const std::string& row, const std::vector<float>& y,
                  Weight weight, bool rounds_x, double relative) {
  const int64_t k = d.problem.conv.in_channels, n = d.problem.conv.out_channels;
  for (const OutputAt& at : SampledOutputs(d.problem)) {
    double sum = static_cast<double>(d.float_bias[static_cast<size_t>(at.channel)]);
    double magnitude = std::fabs(sum), weights = 0, largest = 0;
    for (int64_t i = 0; i < k; ++i) {
      const auto x = static_cast<double>(d.x[static_cast<size_t>(at.x * k + i)]);
      const double w = weight(at.channel, at.channel * k + i);
      sum += x * w;
      magnitude += std::fabs(x * w);
      weights += std::fabs(w);
      largest = std::max(largest, std::fabs(x));
    }
    // octet/kernels.h: the step is below 2 * max |x| / 8355711.
    const double x_error = rounds_x ? largest / 8355711 : 0;
    const auto got = static_cast<double>(y[static_cast<size_t>(at.x * n + at.channel)]);
    if (std::fabs(got - sum) <= x_error * weights + relative * magnitude) continue;
    Fail(ErrorCode::kCheckFailed, d.problem.text, ": ", row, " is wrong at row ", at.x,
         ", channel ", at.channel, ": got ", got, ", expected ", sum);
  }
}

// FP8 weights need not stand for the data's: any finite codes are weights.
std::vector<uint8_t> Fp8Codes(const OperatorData& d) {
  std::vector<uint8_t> codes;
  for (const int8_t w : d.weight) {
    const auto code = static_cast<uint8_t>(w);
    codes.push_back((code & 0x7f) == 0x7f ? 0 : code);  // all ones: NaN
  }
  return codes;
}

double E4m3(uint8_t code) {
  const int exponent = code >> 3 & 15, mantissa = code & 7;
  const double size =
      exponent == 0 ? std::ldexp(mantissa, -9) : std::ldexp(8 + mantissa, exponent - 10);
  return (code & 0x80) != 0 ? -size : size;
}

}  // namespace

std::vector<BenchRow> WeightOnlyRows(const DataPtr& d) {
  const int64_t m = d->problem.width, k = d->problem.conv.in_channels,
                n = d->problem.conv.out_channels;
  const auto y = std::make_shared<std::vector<float>>(static_cast<size_t>(m * n));
  std::vector<BenchRow> rows;
  const auto add = [&](const std::string& name, const auto& linear, auto check) {
    BenchRow row;
    row.name = name;
    row.data = "f32 > f32, 8-bit weights";
    TakeCandidates(linear->candidates(), row);
    row.peak = PeakKind::kNone;
    row.packed_bytes = linear->packed_bytes();
    row.run = [=] { linear->Run(m, d->x.data(), k, y->data(), n); };
    row.verify = check;
    rows.push_back(std::move(row));
  };
  {
    kernels::WeightOnlyProblem p;
    p.n = n;
    p.k = k;
    p.weight = d->weight.data();
    p.scale = d->weight_scale.data();
    p.bias = d->float_bias.data();
    add("int8 weights", std::make_shared<kernels::WeightOnlyLinear>(p), [d, y] {
      // The scale's product in double and the last rounding: 2^-23 covers both.
      CheckOutputs(
          *d, "int8 weights", *y,
          [&](int64_t, int64_t i) {
            return static_cast<double>(d->float_weight[static_cast<size_t>(i)]);
          },
          true, 0x1p-23);
    });
  }
  {
    const auto codes = std::make_shared<std::vector<uint8_t>>(Fp8Codes(*d));
    kernels::Fp8Problem p;
    p.n = n;
    p.k = k;
    p.weight = codes->data();
    p.scale = d->weight_scale.data();
    p.bias = d->float_bias.data();
    add("float8_e4m3fn weights", std::make_shared<kernels::Fp8Linear>(p), [d, y, codes] {
      // Fused multiply-adds in float32: at most one rounding for each product, block and result.
      const double relative = static_cast<double>(d->problem.depth() + 4) * 0x1p-24;
      CheckOutputs(
          *d, "float8_e4m3fn weights", *y,
          [&](int64_t channel, int64_t i) {
            return E4m3((*codes)[static_cast<size_t>(i)]) *
                   static_cast<double>(d->weight_scale[static_cast<size_t>(channel)]);
          },
          false, relative);
    });
  }
  return rows;
}

}  // namespace octet
