// The float row kernels (arguments: kernels/float_abi.h), written once for every instruction set:
// a kernel file includes this and names them. Same bits at every width: kernels/float_lanes.h.
#pragma once

#include "kernels/float_abi.h"
#include "kernels/float_functions.h"

namespace octet::kernels {
namespace {

// NaN gives the lowest code. A product with the reciprocal, checked for ties, is no faster than
// this division, which runs beside everything else (measured).
OCTET_LANES_INLINE Bytes ToCodes(F v, const CodeGrid& g) {
  const F clamped = Min(Max(v / Splat(g.scale), Splat(g.lo)), Splat(g.hi));
  return ToBytes(RoundSmallInt(clamped) + SplatInt(g.zero_point));
}

OCTET_LANES_INLINE F LoadUpTo(const float* p, int64_t count, float fill) {
  return count < kLanes ? LoadPart(p, count, fill) : Load(p);
}
OCTET_LANES_INLINE void StoreUpTo(float* p, F v, int64_t count) {
  if (count < kLanes) {
    StorePart(p, v, count);
  } else {
    Store(p, v);
  }
}

// Where a vector of results goes: as floats, as codes, or both.
OCTET_LANES_INLINE void Put(float* y, uint8_t* codes, const CodeGrid& grid, F v, int64_t count) {
  if (y != nullptr) StoreUpTo(y, v, count);
  if (codes != nullptr) {
    const Bytes bytes = ToCodes(v, grid);
    memcpy(codes, &bytes, static_cast<size_t>(count < kLanes ? count : kLanes));
  }
}

template <typename Function>
OCTET_LANES_INLINE void MapRange(const MapArgs& args, Function f) {
  const MapArgs a = args;
  constexpr int64_t kStep = kPack * kLanes;
  int64_t i = 0;
  for (; i + kStep <= a.n; i += kStep) {
    Pack<kPack> x;
    OCTET_LANES_UNROLL
    for (int j = 0; j < kPack; ++j) x.v[j] = Load(a.x + i + j * kLanes);
    const Pack<kPack> y = f(x);
    OCTET_LANES_UNROLL
    for (int j = 0; j < kPack; ++j) {
      const int64_t at = i + j * kLanes;
      Put(a.y == nullptr ? nullptr : a.y + at, a.codes == nullptr ? nullptr : a.codes + at, a.grid,
          y.v[j], kLanes);
    }
  }
  for (; i < a.n; i += kLanes) {
    const int64_t count = a.n - i;
    const Pack<1> y = f(Pack<1>{{LoadUpTo(a.x + i, count, 0.0F)}});
    Put(a.y == nullptr ? nullptr : a.y + i, a.codes == nullptr ? nullptr : a.codes + i, a.grid,
        y.v[0], count);
  }
}

OCTET_LANES_INLINE void MapKernel(const MapArgs& a) {
  switch (a.function) {
    case kMapErf:
      return MapRange(a, [](const auto& x) { return Erf(x); });
    case kMapTanh:
      return MapRange(a, [](const auto& x) { return Tanh(x); });
    case kMapSigmoid:
      return MapRange(a, [](const auto& x) { return Sigmoid(x); });
    case kMapSilu:
      return MapRange(a, [](const auto& x) { return Silu(x); });
    case kMapGelu:
      return MapRange(a, [](const auto& x) { return Gelu(x); });
    case kMapGeluTanh:
      return MapRange(a, [](const auto& x) { return GeluTanh(x); });
    case kMapHardSwish:
      return MapRange(a, [](const auto& x) { return HardSwish(x); });
  }
}

// e^(scale x - max) of the row, times the reciprocal of their sum. A NaN, an infinity, or minus
// infinity throughout make the whole row NaN.
OCTET_LANES_INLINE void SoftmaxKernel(const SoftmaxArgs& a) {
  const CodeGrid grid = a.grid;
  const int64_t n = a.n;
  const F scale = Splat(a.scale);
  constexpr float kNothing = -__builtin_inff();
  for (int64_t row = 0; row < a.rows; ++row) {
    const float* x = a.x + row * n;
    float* y = a.y + row * n;
    Block highest = SplatBlock(kNothing);
    ForVectors(n, [&](int64_t i, int64_t count, int j) {
      highest.v[j] = Max(highest.v[j], LoadUpTo(x + i, count, kNothing));
    });
    const F largest =
        Splat(Reduce(highest, [](auto p, auto q) { return p > q ? p : q; }) * a.scale);
    Block sums = SplatBlock(0.0F);
    int64_t done = 0;
    for (; done + kBlock <= n; done += kBlock) {
      OCTET_LANES_UNROLL
      for (int j = 0; j < kVectors; j += 2) {
        const int64_t at = done + j * kLanes;
        const Pack<2> e = ExpOfNegative(
            Pack<2>{{Load(x + at) * scale - largest, Load(x + at + kLanes) * scale - largest}});
        OCTET_LANES_UNROLL
        for (int k = 0; k < 2; ++k) {
          Store(y + at + k * kLanes, e.v[k]);
          sums.v[j + k] = sums.v[j + k] + e.v[k];
        }
      }
    }
    ForVectors(n - done, [&](int64_t i, int64_t count, int j) {
      const F v = LoadUpTo(x + done + i, count, kNothing) * scale - largest;
      const Pack<1> e = ExpOfNegative(Pack<1>{{v}});
      StoreUpTo(y + done + i, e.v[0], count);
      sums.v[j] = sums.v[j] + e.v[0];
    });
    const F inverse = Splat(1.0F / Sum(sums));
    ForEachVector(n, [&](int64_t i, int64_t count) {
      const F v = LoadUpTo(y + i, count, 0.0F) * inverse;
      Put(y + i, a.codes == nullptr ? nullptr : a.codes + row * n + i, grid, v, count);
    });
  }
}

// Elements [i, i + count) of an input, as floats; 0 behind them.
OCTET_LANES_INLINE F LoadRow(const RowInput& a, int64_t i, int64_t count) {
  if (a.source == kRowFloat) return LoadUpTo(static_cast<const float*>(a.data) + i, count, 0.0F);
  const auto bytes = static_cast<size_t>(count < kLanes ? count : kLanes);
  I v{};
  if (a.source == kRowInt32) {
    memcpy(&v, static_cast<const int32_t*>(a.data) + i, bytes * 4);
  } else {
    Bytes b = Bytes{} + static_cast<uint8_t>(a.zero_point ^ a.flip);
    memcpy(&b, static_cast<const uint8_t*>(a.data) + i, bytes);
    v = __builtin_convertvector(b ^ (Bytes{} + a.flip), I) - SplatInt(a.zero_point);
  }
  return __builtin_convertvector(v, F) * Splat(a.scale);
}

// The row to normalise, made where it is not there yet; its sum goes to `total`.
OCTET_LANES_INLINE const float* PrepareRow(const LayerNormArgs& a, int64_t at, float* total) {
  Block sums = SplatBlock(0.0F);
  if (a.x.source == kRowFloat && a.residual.data == nullptr && a.sum == nullptr) {
    const float* s = static_cast<const float*>(a.x.data) + at;
    if (a.centred) {
      ForVectors(a.n, [&](int64_t i, int64_t count, int j) {
        sums.v[j] = sums.v[j] + LoadUpTo(s + i, count, 0.0F);
      });
      *total = Sum(sums);
    }
    return s;
  }
  float* s = a.sum != nullptr ? a.sum + at : a.scratch;
  ForVectors(a.n, [&](int64_t i, int64_t count, int j) {
    F v = LoadRow(a.x, at + i, count);
    if (a.residual.data != nullptr) v = v + LoadRow(a.residual, at + i, count);
    StoreUpTo(s + i, v, count);
    sums.v[j] = sums.v[j] + v;
  });
  *total = Sum(sums);
  return s;
}

struct RowMoments {
  float mean, shift, variance;  // the mean is mean + shift
};

// Deviations from the rounded mean and their squares: what it is off shows as the mean of the
// deviations, and is taken out of the variance.
OCTET_LANES_INLINE RowMoments MomentsAbout(const float* s, int64_t n, float mean, float count_all) {
  const F m = Splat(mean);
  Block deviations = SplatBlock(0.0F), squares = SplatBlock(0.0F);
  ForVectors(n, [&](int64_t i, int64_t count, int j) {
    const F d = LoadUpTo(s + i, count, mean) - m;  // lanes behind the row deviate by 0
    deviations.v[j] = deviations.v[j] + d;
    squares.v[j] = squares.v[j] + d * d;
  });
  const float shift = Sum(deviations) / count_all;
  const float variance = Sum(squares) / count_all - shift * shift;
  return {mean, shift, variance < 0.0F ? 0.0F : variance};
}

OCTET_LANES_INLINE float MeanSquare(const float* s, int64_t n, float count_all) {
  Block squares = SplatBlock(0.0F);
  ForVectors(n, [&](int64_t i, int64_t count, int j) {
    const F v = LoadUpTo(s + i, count, 0.0F);
    squares.v[j] = squares.v[j] + v * v;
  });
  return Sum(squares) / count_all;
}

OCTET_LANES_INLINE void LayerNormRow(const LayerNormArgs& a, int64_t row) {
  const int64_t at = row * a.n;
  const auto count_all = static_cast<float>(a.n);
  float total = 0.0F;
  const float* s = PrepareRow(a, at, &total);
  const RowMoments moments = a.centred ? MomentsAbout(s, a.n, total / count_all, count_all)
                                       : RowMoments{0, 0, MeanSquare(s, a.n, count_all)};
  const float inverse = 1.0F / __builtin_sqrtf(moments.variance + a.epsilon);
  const F mean = Splat(moments.mean), shift = Splat(moments.shift), scale = Splat(inverse);
  const bool centred = a.centred;
  float* y = a.y == nullptr ? nullptr : a.y + at;
  uint8_t* codes = a.codes == nullptr ? nullptr : a.codes + at;
  ForEachVector(a.n, [&](int64_t i, int64_t count) {
    F v = LoadUpTo(s + i, count, 0.0F);
    if (centred) v = (v - mean) - shift;
    v = v * scale * LoadUpTo(a.gamma + i, count, 0.0F);
    if (a.beta != nullptr) v = v + LoadUpTo(a.beta + i, count, 0.0F);
    Put(y == nullptr ? nullptr : y + i, codes == nullptr ? nullptr : codes + i, a.grid, v, count);
  });
  if (a.mean != nullptr) a.mean[row] = moments.mean + moments.shift;
  if (a.inverse != nullptr) a.inverse[row] = inverse;
}

OCTET_LANES_INLINE void LayerNormKernel(const LayerNormArgs& args) {
  const LayerNormArgs a = args;
  for (int64_t row = 0; row < a.rows; ++row) LayerNormRow(a, row);
}

}  // namespace
}  // namespace octet::kernels
