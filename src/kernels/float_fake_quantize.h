// Fake quantization: the one source for every instruction set. The bits of numerics/rounding.h and
// of FloatGrid in numerics/float_format.h: division, minimum, maximum, addition, multiplication and
// bit operations, each exact or rounded once.
#pragma once

#include "kernels/fake_quantize_abi.h"
#include "kernels/float_lanes.h"

namespace octet::kernels {
namespace {

struct FakeGrid {
  F scale, lo, hi, min_normal;
  I step_bits;
};

template <FakeQuantizeKind kKind>
OCTET_LANES_INLINE F OnGrid(F x, const FakeGrid& g) {
  const F v = x / g.scale;
  if constexpr (kKind == kFakeInteger) {
    // Max takes its second operand for NaN. |v| <= 2^16 then, so a shift rounds; -0 becomes 0.
    return RoundSmall(Min(Max(v, g.lo), g.hi)) * g.scale;
  }
  // Min takes its second operand for NaN: it stays one until the end, whatever is done to it.
  const F a = Min(g.hi, kKind == kFakeFloatUnsigned ? Max(v, Splat(0.0F)) : Abs(v));
  const F magic = FromBits((Bits(Max(a, g.min_normal)) & SplatInt(0x7f800000)) + g.step_bits);
  const F rounded = (a + magic) - magic;
  if constexpr (kKind == kFakeFloatUnsigned) return rounded * g.scale;
  I sign = Bits(v) & SplatInt(INT32_MIN);
  if constexpr (kKind == kFakeFloatFnuz) sign &= rounded != Splat(0.0F);
  I bits = Bits(rounded) | sign;
  if constexpr (kKind == kFakeFloat) bits &= v == v;
  return FromBits(bits) * g.scale;
}

template <FakeQuantizeKind kKind>
OCTET_LANES_INLINE void FakeRow(const float* x, float* y, int64_t n, const FakeGrid& g) {
  int64_t i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
    OCTET_LANES_UNROLL
    for (int j = 0; j < 4; ++j)
      Store(y + i + j * kLanes, OnGrid<kKind>(Load(x + i + j * kLanes), g));
  }
  for (; i + kLanes <= n; i += kLanes) Store(y + i, OnGrid<kKind>(Load(x + i), g));
  if (i < n) StorePart(y + i, OnGrid<kKind>(LoadPart(x + i, n - i, 0.0F), g), n - i);
}

template <FakeQuantizeKind kKind>
OCTET_LANES_INLINE void FakeRows(const FakeQuantizeArgs& a) {
  FakeGrid g;
  g.min_normal = Splat(a.min_normal);
  g.step_bits = SplatInt(a.step_bits);
  g.lo = Splat(a.lo[0]);
  g.hi = Splat(a.hi[0]);
  for (int64_t r = 0; r < a.rows; ++r) {
    const float* x = a.x + r * a.n;
    float* y = a.y + r * a.n;
    if (!a.by_element) {
      g.scale = Splat(a.scale[r]);
      g.lo = Splat(a.lo[r * a.bounds_stride]);
      g.hi = Splat(a.hi[r * a.bounds_stride]);
      FakeRow<kKind>(x, y, a.n, g);
      continue;
    }
    ForEachVector(
        a.n, [&](int64_t i, int64_t count) __attribute__((always_inline)) {
          const bool whole = count == kLanes;
          g.scale = whole ? Load(a.scale + i) : LoadPart(a.scale + i, count, 1.0F);
          if (a.bounds_stride != 0) {
            g.lo = whole ? Load(a.lo + i) : LoadPart(a.lo + i, count, 0.0F);
            g.hi = whole ? Load(a.hi + i) : LoadPart(a.hi + i, count, 0.0F);
          }
          if (whole) {
            Store(y + i, OnGrid<kKind>(Load(x + i), g));
          } else {
            StorePart(y + i, OnGrid<kKind>(LoadPart(x + i, count, 0.0F), g), count);
          }
        });
  }
}

OCTET_LANES_INLINE void FakeQuantizeKernel(const FakeQuantizeArgs& a) {
  switch (a.kind) {
    case kFakeInteger:
      return FakeRows<kFakeInteger>(a);
    case kFakeFloat:
      return FakeRows<kFakeFloat>(a);
    case kFakeFloatNan:
      return FakeRows<kFakeFloatNan>(a);
    case kFakeFloatFnuz:
      return FakeRows<kFakeFloatFnuz>(a);
    case kFakeFloatUnsigned:
      return FakeRows<kFakeFloatUnsigned>(a);
  }
}

}  // namespace
}  // namespace octet::kernels
