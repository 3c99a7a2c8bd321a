// LayerNorm as its neighbours want it: float32, codes for the next linear layer (torch-int's
// LayerNormQ), and the whole seam between two of them (its dq_add_layernorm_q).
#include <algorithm>
#include <cmath>
#include <random>

#include "base/error.h"
#include "evaluate/bench_ops/rows.h"
#include "kernels/dispatch.h"

namespace octet {
namespace {

using kernels::LayerNormProblem;

constexpr float kCodeScale = 1.0F / 32;
constexpr float kSumScale = 1.0F / 65536;
constexpr int64_t kCheckedRows = 32;

// What every row reads and writes. x, gamma and beta are the data's x, float_weight and float_bias.
struct NormState {
  std::vector<int32_t> sums;
  std::vector<float> residual, added, y;
  std::vector<int8_t> codes;
};

// Rows spread over all of them, in double precision. The bound is for float32 sums over a row of n
// in any order: (n + 16) * 2^-24 of the largest |y| of the row. Codes may lie half a step further.
void CheckNorm(const OperatorData& d, const std::string& row, const LayerNormProblem& p,
               const NormState& s) {
  std::vector<double> v(static_cast<size_t>(p.n));
  for (int64_t i = 0; i < std::min(kCheckedRows, p.rows); ++i) {
    const int64_t r = p.rows <= kCheckedRows ? i : i * (p.rows - 1) / (kCheckedRows - 1);
    const auto first = static_cast<size_t>(r * p.n);
    double mean = 0, squares = 0, largest = 0;
    for (size_t k = 0; k < v.size(); ++k) {
      v[k] = p.input == LayerNormProblem::Input::kInt32
                 ? static_cast<double>(s.sums[first + k]) * static_cast<double>(p.x_scale) +
                       static_cast<double>(s.residual[first + k])
                 : static_cast<double>(d.x[first + k]);
      mean += v[k] / static_cast<double>(p.n);
    }
    if (p.rms) mean = 0;
    for (double e : v) squares += (e - mean) * (e - mean) / static_cast<double>(p.n);
    const double inverse = 1 / std::sqrt(squares + static_cast<double>(p.epsilon));
    for (size_t k = 0; k < v.size(); ++k) {
      v[k] = (v[k] - mean) * inverse * static_cast<double>(p.gamma[k]) +
             (p.beta != nullptr ? static_cast<double>(p.beta[k]) : 0);
      largest = std::max(largest, std::fabs(v[k]));
    }
    const double bound = largest * static_cast<double>(p.n + 16) * 0x1p-24;
    for (size_t k = 0; k < v.size(); ++k) {
      double got = 0, expected = v[k], allowed = bound;
      if (p.codes.codes != nullptr) {
        const auto scale = static_cast<double>(p.codes.scale);
        got = s.codes[first + k] * scale;
        expected = std::clamp(expected, -128 * scale, 127 * scale);
        allowed += scale / 2;
      } else {
        got = static_cast<double>(s.y[first + k]);
      }
      if (std::fabs(got - expected) <= allowed) continue;
      Fail(ErrorCode::kCheckFailed, d.problem.text, ": ", row, " is wrong in row ", r, ", column ",
           k, ": got ", got, ", expected ", expected);
    }
  }
}

}  // namespace

std::vector<BenchRow> LayerNormRows(const DataPtr& d) {
  const int64_t rows = d->problem.height, n = d->problem.width;
  const auto elements = static_cast<size_t>(rows * n);
  const auto s = std::make_shared<NormState>();
  s->added.resize(elements);
  s->y.resize(elements);
  s->codes.resize(elements);
  std::mt19937 random(7);
  for (size_t i = 0; i < elements; ++i) {
    s->sums.push_back(static_cast<int32_t>(random() % 200001) - 100000);
    s->residual.push_back(static_cast<float>(static_cast<int>(random() % 2001) - 1000) / 512);
  }

  LayerNormProblem plain;
  plain.rows = rows;
  plain.n = n;
  plain.x = d->x.data();
  plain.gamma = d->float_weight.data();
  plain.beta = d->float_bias.data();
  LayerNormProblem to_codes = plain;
  plain.y = s->y.data();
  to_codes.codes = {s->codes.data(), kernels::CodeType::kInt8, kCodeScale, 0};
  LayerNormProblem seam = to_codes;
  seam.input = LayerNormProblem::Input::kInt32;
  seam.x = s->sums.data();
  seam.x_scale = kSumScale;
  seam.residual = s->residual.data();
  seam.sum = s->added.data();
  LayerNormProblem rms = to_codes;
  rms.rms = true;
  rms.beta = nullptr;

  std::vector<BenchRow> made;
  const auto add = [&](const std::string& name, const std::string& data, int bytes,
                       const LayerNormProblem& p) {
    BenchRow row;
    row.name = name;
    row.data = data;
    row.peak = PeakKind::kNone;
    row.bytes = static_cast<double>(elements) * bytes;
    row.kernel = kernels::Select(kernels::Op::LayerNorm).name;
    row.run = [d, s, p] { kernels::LayerNorm(p); };
    row.verify = [d, s, p, name] { CheckNorm(*d, name, p, *s); };
    made.push_back(std::move(row));
  };
  add("layernorm", "f32 > f32", 8, plain);
  add("layernorm, quantize", "f32 > s8", 5, to_codes);
  add("dequantize, add, layernorm, quantize", "s32 + f32 > f32 + s8", 13, seam);
  add("rmsnorm, quantize", "f32 > s8, rms", 5, rms);
  made.push_back(CopyRow(static_cast<int64_t>(elements) * 4));
  return made;
}

}  // namespace octet
