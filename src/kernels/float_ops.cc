// Map, Softmax and LayerNorm: checks, threads, dispatch.
#include <algorithm>
#include <cmath>
#include <vector>

#include "base/error.h"
#include "base/parallel.h"
#include "kernels/dispatch.h"
#include "octet/kernels.h"

namespace octet::kernels {
namespace {

// Elements worth a second thread: some 10 us of one core.
constexpr int64_t kGrain = 32 << 10;

int64_t RowGrain(int64_t row) { return std::max<int64_t>(1, kGrain / std::max<int64_t>(1, row)); }

CodeGrid GridOf(const char* what, const CodesOut& c) {
  if (c.codes == nullptr) return {1.0F, 0.0F, 0.0F, 0};
  const int32_t lo = c.type == CodeType::kUint8 ? 0 : -128;
  const int32_t hi = lo + 255;
  if (!(c.scale > 0.0F) || !std::isfinite(c.scale) || c.zero_point < lo || c.zero_point > hi) {
    Fail(ErrorCode::kInvalidArgument, what, ": codes of scale ", c.scale, ", zero point ",
         c.zero_point, "; expected a finite scale above 0 and a zero point of ", lo, " to ", hi);
  }
  return {c.scale, static_cast<float>(lo - c.zero_point), static_cast<float>(hi - c.zero_point),
          c.zero_point};
}

void CheckRows(const char* what, int64_t rows, int64_t n) {
  if (rows < 0 || n < 1) {
    Fail(ErrorCode::kInvalidArgument, what, ": ", rows, " rows of ", n,
         " elements; expected none negative and rows that are not empty");
  }
}

uint8_t* At(const CodesOut& c, int64_t i) {
  return c.codes == nullptr ? nullptr : static_cast<uint8_t*>(c.codes) + i;
}
float* At(float* p, int64_t i) { return p == nullptr ? nullptr : p + i; }

RowInput CodesIn(const char* name, const void* codes, CodeType type, float scale,
                 int32_t zero_point) {
  const int32_t lo = type == CodeType::kInt8 ? -128 : 0;
  if (!std::isfinite(scale) || zero_point < lo || zero_point > lo + 255) {
    Fail(ErrorCode::kInvalidArgument, "LayerNorm: ", name, " has scale ", scale, ", zero point ",
         zero_point, "; expected a finite scale and a zero point of ", lo, " to ", lo + 255);
  }
  return {codes, kRowCodes, scale, zero_point - lo,
          static_cast<uint8_t>(type == CodeType::kInt8 ? 0x80 : 0)};
}

RowInput InputOf(const LayerNormProblem& p) {
  using Input = LayerNormProblem::Input;
  if (p.input == Input::kCodes) return CodesIn("x", p.x, p.x_type, p.x_scale, p.x_zero_point);
  if (!std::isfinite(p.x_scale))
    Fail(ErrorCode::kInvalidArgument, "LayerNorm: x_scale is ", p.x_scale, "; expected finite");
  return {p.x, p.input == Input::kInt32 ? kRowInt32 : kRowFloat, p.x_scale, 0, 0};
}

RowInput ResidualOf(const LayerNormProblem& p) {
  if (p.residual_codes == nullptr) return {p.residual, kRowFloat, 1.0F, 0, 0};
  if (p.residual != nullptr)
    Fail(ErrorCode::kInvalidArgument, "LayerNorm: both residual and residual_codes are given");
  return CodesIn("the residual", p.residual_codes, p.residual_type, p.residual_scale,
                 p.residual_zero_point);
}

// The input from element i on.
RowInput From(RowInput a, int64_t i) {
  if (a.data != nullptr)
    a.data = static_cast<const char*>(a.data) + i * (a.source == kRowCodes ? 1 : 4);
  return a;
}

MapFunction FunctionOf(Function f) {
  switch (f) {
    case Function::kErf:
      return kMapErf;
    case Function::kTanh:
      return kMapTanh;
    case Function::kSigmoid:
      return kMapSigmoid;
    case Function::kSilu:
      return kMapSilu;
    case Function::kGelu:
      return kMapGelu;
    case Function::kGeluTanh:
      return kMapGeluTanh;
    case Function::kHardSwish:
      return kMapHardSwish;
  }
  Fail(ErrorCode::kInvalidArgument, "Map: function ", static_cast<int>(f), " is not one");
}

}  // namespace

void Map(Function function, const float* x, int64_t n, float* y, const CodesOut& codes) {
  const CodeGrid grid = GridOf("Map", codes);
  const MapFunction f = FunctionOf(function);
  const KernelInfo& kernel = Select(Op::Map);
  ParallelFor(n, kGrain, [&](int64_t begin, int64_t end) {
    Call(kernel, MapArgs{x + begin, At(y, begin), At(codes, begin), end - begin, f, grid});
  });
}

void Softmax(const float* x, int64_t rows, int64_t n, float* y, const CodesOut& codes,
             float scale) {
  CheckRows("Softmax", rows, n);
  if (!(scale > 0.0F) || !std::isfinite(scale)) {
    Fail(ErrorCode::kInvalidArgument, "Softmax: scale is ", scale,
         "; expected a finite one above 0");
  }
  const CodeGrid grid = GridOf("Softmax", codes);
  const KernelInfo& kernel = Select(Op::Softmax);
  ParallelFor(rows, RowGrain(n), [&](int64_t begin, int64_t end) {
    Call(kernel, SoftmaxArgs{x + begin * n, y + begin * n, At(codes, begin * n), end - begin, n,
                             scale, grid});
  });
}

void LayerNorm(const LayerNormProblem& p) {
  CheckRows("LayerNorm", p.rows, p.n);
  if (p.x == nullptr || p.gamma == nullptr)
    Fail(ErrorCode::kInvalidArgument, "LayerNorm: x or gamma is null");
  if (!(p.epsilon >= 0.0F)) {
    Fail(ErrorCode::kInvalidArgument, "LayerNorm: epsilon is ", p.epsilon, "; expected >= 0");
  }
  LayerNormArgs args{};
  args.x = InputOf(p);
  args.residual = ResidualOf(p);
  args.gamma = p.gamma;
  args.beta = p.beta;
  args.epsilon = p.epsilon;
  args.centred = !p.rms;
  args.n = p.n;
  args.grid = GridOf("LayerNorm", p.codes);
  const bool needs_row =
      p.sum == nullptr && (args.x.source != kRowFloat || args.residual.data != nullptr);
  const KernelInfo& kernel = Select(Op::LayerNorm);
  ParallelFor(p.rows, RowGrain(p.n), [&](int64_t begin, int64_t end) {
    std::vector<float> row(needs_row ? static_cast<size_t>(p.n) : 0);
    LayerNormArgs a = args;
    a.x = From(args.x, begin * p.n);
    a.residual = From(args.residual, begin * p.n);
    a.sum = At(p.sum, begin * p.n);
    a.y = At(p.y, begin * p.n);
    a.mean = At(p.mean, begin);
    a.inverse = At(p.inverse, begin);
    a.codes = At(p.codes, begin * p.n);
    a.scratch = row.data();
    a.rows = end - begin;
    Call(kernel, a);
  });
}

}  // namespace octet::kernels
