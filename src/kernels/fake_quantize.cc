// Fake quantization: checks, rows of one scale, threads, dispatch.
#include "kernels/fake_quantize.h"

#include <algorithm>
#include <vector>

#include "base/error.h"
#include "base/parallel.h"
#include "kernels/dispatch.h"

namespace octet::kernels {
namespace {

// Elements worth a second thread: some 10 us of one core.
constexpr int64_t kGrain = 64 << 10;

FakeQuantizeKind KindOf(const NumberFormat& format) {
  if (!format.is_float()) return kFakeInteger;
  const FloatFormat& f = format.floating();
  if (!f.is_signed) return kFakeFloatUnsigned;
  if (f.specials == FloatSpecials::kFnuz) return kFakeFloatFnuz;
  return f.has_nan() ? kFakeFloatNan : kFakeFloat;
}

// Bounds of x / scale of every slice; one for all where they are the same.
struct Bounds {
  std::vector<float> lo, hi;

  explicit Bounds(const QuantParams& params) {
    if (!params.format.is_float()) {
      const IntFormat& f = params.format.integer();
      for (const int32_t z : params.zero_point) {
        lo.push_back(static_cast<float>(f.qmin() - z));
        hi.push_back(static_cast<float>(f.qmax() - z));
      }
    } else {
      hi = params.limit;
      if (hi.empty()) hi = {params.format.floating().Max()};
      lo.assign(hi.size(), 0.0F);
    }
  }
};

}  // namespace

void FakeQuantize(const float* x, const Extents& extents, const QuantParams& params, float* y,
                  int64_t step) {
  CheckQuantParams("fake quantize", params, extents);
  if (step < 0 || step >= params.steps) {
    Fail(ErrorCode::kInvalidArgument, "fake quantize: step ", step, " of a table of ",
         params.steps);
  }
  const KernelInfo& kernel = Select(Op::FakeQuantize);
  const Bounds bounds(params);
  const int64_t stride = bounds.hi.size() == 1 ? 0 : 1;
  FakeQuantizeArgs base{};
  base.kind = KindOf(params.format);
  base.bounds_stride = stride;
  if (params.format.is_float()) {
    const FloatGrid grid(params.format.floating());
    base.min_normal = grid.min_normal;
    base.step_bits = static_cast<int32_t>(grid.step_bits);
  }
  // Rows [begin, end) of n elements from x[first] on, whose scales begin at `scale`.
  const auto run = [&](int64_t first, int64_t rows, int64_t n, int64_t scale, bool by_element) {
    FakeQuantizeArgs args = base;
    args.x = x + first;
    args.y = y + first;
    args.rows = rows;
    args.n = n;
    args.by_element = by_element;
    args.scale = params.scale.data() + scale;
    args.lo = bounds.lo.data() + scale * stride;
    args.hi = bounds.hi.data() + scale * stride;
    Call(kernel, args);
  };
  const int64_t slice = extents.channels * extents.inner;  // of one outer index
  const auto grain = [](int64_t n) {
    return std::max<int64_t>(1, kGrain / std::max<int64_t>(1, n));
  };
  switch (params.granularity) {
    case Granularity::kTensor:
    case Granularity::kStep: {
      const int64_t scale = params.granularity == Granularity::kStep ? step : 0;
      return ParallelFor(extents.elements(), kGrain, [&](int64_t begin, int64_t end) {
        run(begin, 1, end - begin, scale, false);
      });
    }
    case Granularity::kToken:
      return ParallelFor(extents.outer, grain(slice), [&](int64_t begin, int64_t end) {
        run(begin * slice, end - begin, slice, begin, false);
      });
    case Granularity::kChannel:
      if (extents.inner == 1) {
        return ParallelFor(extents.outer, grain(slice), [&](int64_t begin, int64_t end) {
          run(begin * slice, end - begin, slice, 0, true);
        });
      }
      return ParallelFor(extents.outer * extents.channels, grain(extents.inner),
                         [&](int64_t begin, int64_t end) {
                           while (begin < end) {
                             const int64_t c = begin % extents.channels;
                             const int64_t rows = std::min(end - begin, extents.channels - c);
                             run(begin * extents.inner, rows, extents.inner, c, false);
                             begin += rows;
                           }
                         });
    case Granularity::kGroup: {
      const int64_t whole = extents.channels / params.group;
      const int64_t left = extents.channels % params.group;
      const int64_t groups = whole + (left > 0 ? 1 : 0);
      return ParallelFor(extents.outer, grain(slice), [&](int64_t begin, int64_t end) {
        for (int64_t o = begin; o < end; ++o) {
          run(o * slice, whole, params.group * extents.inner, o * groups, false);
          if (left > 0) {
            run(o * slice + whole * params.group * extents.inner, 1, left * extents.inner,
                o * groups + whole, false);
          }
        }
      });
    }
  }
}

}  // namespace octet::kernels
