// Sums of products that are rounded to a float format's grid after each addition (arguments:
// kernels/approx_abi.h, rows of float32), written once for every instruction set.
//
// Sum and product have at most 8 significant bits each. float32 has 24, more than twice as many and
// one: rounding their sum to float32 first and then to the grid gives what rounding it once does.
// Lines as in approx_lines.h, but each step depends on the one before: several lanes go side by
// side, so that a core has others to add meanwhile. Where channels are too few for lines, products
// are gathered.
//
// Floor, a vector: a load, which the addition takes from memory, and 7 operations (addition,
// exponent, the power of two at whose step the sum rounds, added and taken off, two bounds), 6 on
// AVX-512, which has both bounds in one. 16 products on AVX-512: 3 cycles; 8 on AVX2: 2.3.
#pragma once

#include "kernels/approx_lines.h"

namespace octet::kernels {
namespace {

#if defined(__AVX512F__)
constexpr int kAddBytes = 64;
#else
constexpr int kAddBytes = kVectorBytes;
#endif
constexpr int kAddCount = kAddBytes / 4;
constexpr int kAddVectors = 8;  // in flight: sums in half of the registers

typedef float Floats __attribute__((vector_size(kAddBytes)));
typedef int32_t Bits __attribute__((vector_size(kAddBytes)));

// a, or `largest` with its sign.
OCTET_LINES_INLINE Floats Bounded(Floats a, Floats largest) {
#if defined(__AVX512F__)
  return _mm512_range_ps(a, largest, 2);  // the lesser magnitude, the first one's sign
#elif defined(__AVX2__)
  return _mm256_max_ps(_mm256_min_ps(a, largest), -largest);
#else
  const Floats bounded = a < largest ? a : largest;
  return bounded > -largest ? bounded : -largest;
#endif
}

// Kept in registers.
struct Grid {
  Floats largest;
  int32_t raise;  // of the exponent: from a sum to the power of two whose step is the sum's

  explicit Grid(const ApproxRowsArgs& a)
      : largest(a.largest - Floats{}), raise((23 - a.mantissa_bits) << 23) {}

  // To nearest even. Below 2^M every integer is on the grid, whatever is added and taken off.
  [[nodiscard]] __attribute__((always_inline)) Floats Round(Floats sum) const {
    const auto exponent = reinterpret_cast<Bits>(sum) & static_cast<int32_t>(0xff800000U);
    const auto power = reinterpret_cast<Floats>(exponent + raise);
    return Bounded((sum + power) - power, largest);
  }
};

// sums[lane] (+)= for each step the line of its code, rounded; `Lanes` side by side.
template <int Lanes>
OCTET_LINES_INLINE void AddRoundedLines(const Grid& grid, const float* tables, const uint8_t* codes,
                                        int64_t steps, float* sums) {
  constexpr int kLine = Wide<float>::kLine, kVectors = kLine / kAddCount;
  Floats sum[Lanes][kVectors];
  memcpy(&sum, sums, sizeof sum);
  for (int64_t s = 0; s < steps; ++s) {
#pragma GCC unroll 8
    for (int i = 0; i < Lanes; ++i) {
      const int64_t code = codes[s * kApproxLanes + i];
      const float* line = tables + s * Wide<float>::kTable + code * kLine;
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v)
        sum[i][v] = grid.Round(sum[i][v] + *reinterpret_cast<const Floats*>(line + v * kAddCount));
    }
  }
  memcpy(sums, &sum, sizeof sum);
}

void RoundLinesOfChannels(const ApproxRowsArgs& a, int64_t channel) {
  using W = Wide<float>;
  constexpr int kLanes = kAddVectors * kAddCount / W::kLine;
  auto* tables = reinterpret_cast<float*>(a.scratch);
  auto* sums = reinterpret_cast<float*>(a.scratch + W::kSteps * W::kTable * 4);
  const int64_t lanes = (a.lanes + W::kLine - 1) / W::kLine * W::kLine;
  memset(sums, 0, static_cast<size_t>(lanes * W::kLine) * sizeof(float));
  const Grid grid(a);
  for (int64_t k = 0; k < a.k; k += W::kSteps) {
    const int64_t steps = a.k - k < W::kSteps ? a.k - k : W::kSteps;
    for (int64_t s = 0; s < steps; ++s) MakeTable<float>(a, channel, k + s, tables + s * W::kTable);
    for (int64_t lane = 0; lane < a.lanes; lane += kLanes)
      AddRoundedLines<kLanes>(grid, tables, a.x + k * kApproxLanes + lane, steps,
                              sums + lane * W::kLine);
  }
  for (int64_t lane = 0; lane < a.lanes; lane += W::kLine) {
    const float* rows[W::kLine];
    for (int r = 0; r < W::kLine; ++r) rows[r] = sums + (lane + r) * W::kLine;
    Transpose<float>(rows, W::kLine, SumsOf<float>(a, channel) + lane, a.sums_stride / 4);
  }
}

OCTET_LINES_INLINE Floats Gather(const float* row, const uint8_t* codes) {
#if defined(__AVX512F__)
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(codes));
  return _mm512_i32gather_ps(_mm512_cvtepu8_epi32(bytes), row, 4);
#elif defined(__AVX2__)
  const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(codes));
  return _mm256_i32gather_ps(row, _mm256_cvtepu8_epi32(bytes), 4);
#else
  return Floats{row[codes[0]], row[codes[1]], row[codes[2]], row[codes[3]]};
#endif
}

// `Channels` channels of `Vectors` vectors of lanes, as many as go side by side. What is made
// behind the last lane is written as far as there is room, up to the next multiple of 64.
template <int Channels, int Vectors>
void RoundProducts(const ApproxRowsArgs& a, int64_t channel) {
  constexpr int64_t kLanes = Vectors * kAddCount;
  const Grid grid(a);
  const uint8_t *rows[Channels], *weight[Channels];
  for (int c = 0; c < Channels; ++c) {
    const int64_t o = channel + c < a.n ? channel + c : a.n - 1;
    rows[c] = a.rows + a.table_of[o] * a.table_bytes;
    weight[c] = a.weight + o * a.weight_stride;
  }
  for (int64_t lane = 0; lane < a.lanes; lane += kLanes) {
    Floats sum[Channels][Vectors] = {};
    const uint8_t* codes = a.x + lane;
    for (int64_t k = 0; k < a.k; ++k, codes += kApproxLanes)
#pragma GCC unroll 8
      for (int c = 0; c < Channels; ++c) {
        const auto* row = reinterpret_cast<const float*>(rows[c] + weight[c][k] * a.row_bytes);
#pragma GCC unroll 8
        for (int v = 0; v < Vectors; ++v)
          sum[c][v] = grid.Round(sum[c][v] + Gather(row, codes + v * kAddCount));
      }
    const int64_t room = (a.lanes + 63) / 64 * 64 - lane;
    const auto bytes = static_cast<size_t>(room < kLanes ? room : kLanes) * sizeof(float);
    for (int c = 0; c < Channels && channel + c < a.n; ++c)
      memcpy(SumsOf<float>(a, channel + c) + lane, &sum[c], bytes);
  }
}

// Channels [begin, end).
void RoundChannels(const ApproxRowsArgs& a, int64_t begin, int64_t end) {
  static_assert(kAddVectors == 8);
  if (a.lanes > 4 * kAddCount) {
    for (int64_t c = begin; c < end; ++c) RoundProducts<1, 8>(a, c);
  } else if (a.lanes > kAddCount) {
    for (int64_t c = begin; c < end; c += 2) RoundProducts<2, 4>(a, c);
  } else {
    for (int64_t c = begin; c < end; c += 8) RoundProducts<8, 1>(a, c);
  }
}

OCTET_LINES_INLINE void ApproxEachAddKernel(const ApproxRowsArgs& a) {
  constexpr int64_t kLine = Wide<float>::kLine;
  // Measured, cycles: 6 to make a line, 5 to add one, 1 for a product that is gathered.
  const int64_t lines = 6 * ApproxEntries(a.mode) + 5 * a.lanes;
  for (int64_t o = 0; o < a.n; o += kLine) {
    const int64_t end = a.n - o < kLine ? a.n : o + kLine;
    if (lines < a.lanes * (end - o)) {
      RoundLinesOfChannels(a, o);
    } else {
      RoundChannels(a, o, end);
    }
  }
}

}  // namespace
}  // namespace octet::kernels
