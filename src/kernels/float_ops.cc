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
const float* At(const float* p, int64_t i) { return p == nullptr ? nullptr : p + i; }

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

void Softmax(const float* x, int64_t rows, int64_t n, float* y, const CodesOut& codes) {
  CheckRows("Softmax", rows, n);
  const CodeGrid grid = GridOf("Softmax", codes);
  const KernelInfo& kernel = Select(Op::Softmax);
  ParallelFor(rows, RowGrain(n), [&](int64_t begin, int64_t end) {
    Call(kernel,
         SoftmaxArgs{x + begin * n, y + begin * n, At(codes, begin * n), end - begin, n, grid});
  });
}

void LayerNorm(const LayerNormProblem& p) {
  using Input = LayerNormProblem::Input;
  CheckRows("LayerNorm", p.rows, p.n);
  if (p.x == nullptr || p.gamma == nullptr)
    Fail(ErrorCode::kInvalidArgument, "LayerNorm: x or gamma is null");
  if (!(p.epsilon >= 0.0F) || !std::isfinite(p.x_scale)) {
    Fail(ErrorCode::kInvalidArgument, "LayerNorm: epsilon is ", p.epsilon, ", x_scale ", p.x_scale,
         "; expected epsilon >= 0 and a finite scale");
  }
  const CodeGrid grid = GridOf("LayerNorm", p.codes);
  LayerNormArgs args{};
  args.source = p.input == Input::kFloat32 ? kRowFloat
                : p.input == Input::kInt32 ? kRowInt32
                                           : kRowCodes;
  args.x_scale = p.x_scale;
  const bool is_signed = p.x_type == CodeType::kInt8;
  args.x_flip = is_signed ? 0x80 : 0;
  args.x_zero_point = p.x_zero_point + (is_signed ? 128 : 0);
  args.gamma = p.gamma;
  args.beta = p.beta;
  args.epsilon = p.epsilon;
  args.centred = !p.rms;
  args.n = p.n;
  args.grid = grid;
  const int64_t element = p.input == Input::kCodes ? 1 : 4;
  const bool scratch = p.sum == nullptr && (p.input != Input::kFloat32 || p.residual != nullptr);
  const KernelInfo& kernel = Select(Op::LayerNorm);
  ParallelFor(p.rows, RowGrain(p.n), [&](int64_t begin, int64_t end) {
    std::vector<float> row(scratch ? static_cast<size_t>(p.n) : 0);
    LayerNormArgs a = args;
    a.x = static_cast<const char*>(p.x) + begin * p.n * element;
    a.residual = At(p.residual, begin * p.n);
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
