// The kernels of kApproxIntegers (arguments: kernels/approx_abi.h), written once for every
// instruction set.
//
// A product with a given weight is a function of x's code. For one step of k and as many channels
// as have products in 64 bytes, all products of all codes make a table: line `code` holds that
// code's, channel beside channel. A lane then adds one line per step: no lookup, only additions
// with operands in memory, as many products at a time as a vector holds. Tables of a few steps are
// made at a time, so that they stay near, and lanes share their cost. With few lanes and many
// channels it is the other way round: lines lie lane beside lane, one for each code of a weight.
// With few of both, sums are taken one product at a time.
#pragma once

#include <stdint.h>
#include <string.h>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "kernels/approx_abi.h"

#define OCTET_LINES_INLINE [[maybe_unused]] static inline __attribute__((always_inline))

namespace octet::kernels {
namespace {

#if defined(__AVX2__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif
constexpr int kLineBytes = 64;

template <typename T>
struct Wide {  // vectors of T
  static constexpr int kPart = 16 / sizeof(T), kCount = kVectorBytes / sizeof(T),
                       kLine = kLineBytes / sizeof(T);
  // Steps whose tables are made together: so many products fit T (ApproxLayer sees to it).
  static constexpr int kSteps = sizeof(T) == 2 ? kApproxShortSteps : kApproxSteps;
  static constexpr int kTable = 256 * kLine;  // entries; constant, for the sake of addresses
  typedef T Vector __attribute__((vector_size(kVectorBytes)));
  typedef T Half __attribute__((vector_size(kVectorBytes / 2)));
};
template <typename T>
using Vector = typename Wide<T>::Vector;

template <int... I>
struct Indices {};
template <int N, int... I>
struct UpTo : UpTo<N - 1, N - 1, I...> {};
template <int... I>
struct UpTo<0, I...> {
  using Type = Indices<I...>;
};

// Of each 16 bytes of a and b: a0 b0 a1 b1 ... of their first (Half = 0) or second halves.
template <typename T, int Half, int... I>
OCTET_LINES_INLINE Vector<T> Interleave(Vector<T> a, Vector<T> b, Indices<I...> /*lanes*/) {
  using W = Wide<T>;
  return __builtin_shufflevector(
      a, b,
      (I / W::kPart * W::kPart + Half * W::kPart / 2 + I % W::kPart / 2 + I % 2 * W::kCount)...);
}

// 16 bytes of rows[0] and, in wider vectors, 16 of the row that is as many rows on.
template <typename T>
OCTET_LINES_INLINE Vector<T> LoadParts(const T* const* rows, int64_t at) {
#if defined(__AVX2__)
  const auto load = [at](const T* row) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(row + at));
  };
  return reinterpret_cast<Vector<T>>(_mm256_inserti128_si256(_mm256_castsi128_si256(load(rows[0])),
                                                             load(rows[Wide<T>::kPart]), 1));
#else
  Vector<T> v;
  memcpy(&v, rows[0] + at, sizeof v);
  return v;
#endif
}

// to[i * stride + r] = rows[r][i] for i in [0, count), a multiple of 16 bytes.
template <typename T>
OCTET_LINES_INLINE void Transpose(const T* const (&rows)[Wide<T>::kLine], int64_t count, T* to,
                                  int64_t stride) {
  constexpr int n = Wide<T>::kPart;
  using Lanes = typename UpTo<Wide<T>::kCount>::Type;
  for (int r = 0; r < Wide<T>::kLine; r += Wide<T>::kCount)
    for (int64_t i = 0; i < count; i += n) {
      Vector<T> block[n], next[n];
#pragma GCC unroll 8
      for (int j = 0; j < n; ++j) block[j] = LoadParts<T>(rows + r + j, i);
        // Every stage moves one bit of the row's number into the lane's.
#pragma GCC unroll 3
      for (int stage = 1; stage < n; stage *= 2) {
#pragma GCC unroll 4
        for (int j = 0; j < n / 2; ++j) {
          next[2 * j] = Interleave<T, 0>(block[j], block[j + n / 2], Lanes{});
          next[2 * j + 1] = Interleave<T, 1>(block[j], block[j + n / 2], Lanes{});
        }
#pragma GCC unroll 8
        for (int j = 0; j < n; ++j) block[j] = next[j];
      }
#pragma GCC unroll 8
      for (int j = 0; j < n; ++j) memcpy(to + (i + j) * stride + r, &block[j], sizeof block[j]);
    }
}

template <typename Sum>
Sum* SumsOf(const ApproxRowsArgs& a, int64_t channel) {
  return reinterpret_cast<Sum*>(static_cast<uint8_t*>(a.sums) + channel * a.sums_stride);
}

// Lines of every code that a.mode allows, for step `step` of channels from `channel` on. What is
// behind the last channel repeats it.
template <typename T>
void MakeTable(const ApproxRowsArgs& a, int64_t channel, int64_t step, T* table) {
  const T* rows[Wide<T>::kLine];
  for (int c = 0; c < Wide<T>::kLine; ++c) {
    const int64_t o = channel + c < a.n ? channel + c : a.n - 1;
    rows[c] = reinterpret_cast<const T*>(a.rows + a.table_of[o] * a.table_bytes +
                                         a.weight[o * a.weight_stride + step] * a.row_bytes);
  }
  const int64_t codes = ApproxEntries(a.mode), size = codes * Wide<T>::kLine;
  Transpose<T>(rows, codes, table, Wide<T>::kLine);
  if (a.mode != kApproxSigned) return;
  for (int64_t i = 0; i < size; i += Wide<T>::kCount) {
    Vector<T> line;
    memcpy(&line, table + i, sizeof line);
    line = -line;
    memcpy(table + size + i, &line, sizeof line);
  }
}

template <typename T, typename Sum>
OCTET_LINES_INLINE void AddTo(Sum* sums, Vector<T> products) {
  Vector<Sum> sum;
  if constexpr (sizeof(Sum) == sizeof(T)) {
    memcpy(&sum, sums, sizeof sum);
    sum += products;
    memcpy(sums, &sum, sizeof sum);
  } else {
    static_assert(sizeof(Sum) == 2 * sizeof(T));
    for (size_t half = 0; half < 2; ++half) {
      typename Wide<T>::Half part;
      memcpy(&part, reinterpret_cast<const char*>(&products) + half * sizeof part, sizeof part);
      memcpy(&sum, sums + half * Wide<Sum>::kCount, sizeof sum);
      sum += __builtin_convertvector(part, Vector<Sum>);
      memcpy(sums + half * Wide<Sum>::kCount, &sum, sizeof sum);
    }
  }
}

// sums[item] += for each step the line of its code, codes[item * stride + step * step_stride].
template <typename T, typename Sum, int Steps>
OCTET_LINES_INLINE void AddLines(const T* tables, const uint8_t* codes, int64_t stride,
                                 int64_t step_stride, int64_t items, Sum* sums) {
  constexpr int kVectors = kLineBytes / kVectorBytes;
  for (int64_t i = 0; i < items; ++i) {
    Vector<T> products[kVectors];
#pragma GCC unroll 8
    for (int s = 0; s < Steps; ++s) {
      const int64_t code = codes[i * stride + s * step_stride];  // 64 bits: part of an address
      const T* line = tables + s * Wide<T>::kTable + code * Wide<T>::kLine;
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        const auto part = *reinterpret_cast<const Vector<T>*>(line + v * Wide<T>::kCount);
        products[v] = s == 0 ? part : products[v] + part;
      }
    }
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v)
      AddTo<T, Sum>(sums + i * Wide<T>::kLine + v * Wide<T>::kCount, products[v]);
  }
}

// Sums of `items` over all steps, kLine beside each other, from tables that make(step, table)
// makes. Where they are: in a.scratch.
template <typename T, typename Sum, typename Make>
OCTET_LINES_INLINE Sum* SumLines(const ApproxRowsArgs& a, const uint8_t* codes, int64_t stride,
                                 int64_t step_stride, int64_t items, Make make) {
  using W = Wide<T>;
  static_assert(W::kSteps * W::kTable * sizeof(T) + kApproxLanes * W::kLine * sizeof(Sum) <=
                kApproxScratch);
  auto* tables = reinterpret_cast<T*>(a.scratch);
  auto* sums = reinterpret_cast<Sum*>(a.scratch + W::kSteps * W::kTable * sizeof(T));
  memset(sums, 0, static_cast<size_t>(items * W::kLine) * sizeof(Sum));
  for (int64_t i = 0; i < a.k; i += W::kSteps) {
    const int64_t steps = a.k - i < W::kSteps ? a.k - i : W::kSteps;
    for (int64_t s = 0; s < steps; ++s) make(i + s, tables + s * W::kTable);
    const uint8_t* from = codes + i * step_stride;
    if (steps == W::kSteps) {
      AddLines<T, Sum, W::kSteps>(tables, from, stride, step_stride, items, sums);
    } else {
      for (int64_t s = 0; s < steps; ++s)
        AddLines<T, Sum, 1>(tables + s * W::kTable, from + s * step_stride, stride, step_stride,
                            items, sums);
    }
  }
  return sums;
}

// Channels from `channel` on, as many as a line has; codes are x's.
template <typename T, typename Sum>
void RunLinesOfChannels(const ApproxRowsArgs& a, int64_t channel) {
  const Sum* sums = SumLines<T, Sum>(a, a.x, 1, kApproxLanes, a.lanes, [&](int64_t step, T* table) {
    MakeTable<T>(a, channel, step, table);
  });
  Sum* to = SumsOf<Sum>(a, channel);
  for (int64_t lane = 0; lane < a.lanes; lane += Wide<Sum>::kLine) {
    const Sum* rows[Wide<Sum>::kLine];
    for (int r = 0; r < Wide<Sum>::kLine; ++r) rows[r] = sums + (lane + r) * Wide<T>::kLine;
    Transpose<Sum>(rows, Wide<T>::kLine, to + lane,
                   a.sums_stride / static_cast<int64_t>(sizeof(Sum)));
  }
}

// Lanes from `lane` on, as many as a line has, of all channels: codes are weights', and what is
// behind the last lane is any lane's.
template <typename T, typename Sum>
void RunLinesOfLanes(const ApproxRowsArgs& a, int64_t lane) {
  const Sum* sums =
      SumLines<T, Sum>(a, a.weight, a.weight_stride, 1, a.n, [&](int64_t step, T* table) {
        const T* columns[Wide<T>::kLine];
        for (int r = 0; r < Wide<T>::kLine; ++r)
          columns[r] = reinterpret_cast<const T*>(a.columns + a.x[step * kApproxLanes + lane + r] *
                                                                  a.row_bytes);
        Transpose<T>(columns, 256, table, Wide<T>::kLine);
      });
  for (int64_t c = 0; c < a.n; ++c)
    memcpy(SumsOf<Sum>(a, c) + lane, sums + c * Wide<T>::kLine, Wide<T>::kLine * sizeof(Sum));
}

// Sums of one channel over steps [i, end), one product at a time, four steps together. Not inlined,
// or registers run out.
template <typename T, typename Sum>
__attribute__((noinline)) void AddProducts(const ApproxRowsArgs& a, int64_t channel, int64_t i,
                                           int64_t end) {
  const uint8_t* rows = a.rows + a.table_of[channel] * a.table_bytes;
  const uint8_t* w = a.weight + channel * a.weight_stride;
  Sum* sums = SumsOf<Sum>(a, channel);
  const auto row = [&](int64_t at) {
    return reinterpret_cast<const T*>(rows + w[at] * a.row_bytes);
  };
  for (; i + 4 <= end; i += 4) {
    const T *r0 = row(i), *r1 = row(i + 1), *r2 = row(i + 2), *r3 = row(i + 3);
    const uint8_t* x0 = a.x + i * kApproxLanes;
    const uint8_t *x1 = x0 + kApproxLanes, *x2 = x1 + kApproxLanes, *x3 = x2 + kApproxLanes;
    for (int64_t lane = 0; lane < a.lanes; ++lane)
      sums[lane] += Sum{r0[x0[lane]]} + r1[x1[lane]] + (Sum{r2[x2[lane]]} + r3[x3[lane]]);
  }
  for (; i < end; ++i) {
    const T* r = row(i);
    const uint8_t* x = a.x + i * kApproxLanes;
    for (int64_t lane = 0; lane < a.lanes; ++lane) sums[lane] += r[x[lane]];
  }
}

// Channels [begin, end).
template <typename T, typename Sum>
void RunProducts(const ApproxRowsArgs& a, int64_t begin, int64_t end) {
  for (int64_t c = begin; c < end; ++c)
    memset(SumsOf<Sum>(a, c), 0, static_cast<size_t>(a.lanes) * sizeof(Sum));
  for (int64_t i = 0; i < a.k; i += kApproxDepth)
    for (int64_t c = begin; c < end; ++c)
      AddProducts<T, Sum>(a, c, i, a.k - i < kApproxDepth ? a.k : i + kApproxDepth);
}

// Measured, cycles: 6 to make a line, 2 to add one, 1 for a product alone.
constexpr int64_t CostOfLines(int64_t lines, int64_t added) { return 6 * lines + 2 * added; }

template <typename T, typename Sum>
void RunAll(const ApproxRowsArgs& a) {
  constexpr int64_t kLine = Wide<T>::kLine;
  const int64_t of_channels = CostOfLines(ApproxEntries(a.mode), a.lanes);
  const int64_t channels_cost =
      a.n / kLine * (of_channels < a.lanes * kLine ? of_channels : a.lanes * kLine);
  const int64_t lanes_cost = (a.lanes + kLine - 1) / kLine * CostOfLines(256, a.n);
  if (a.columns != nullptr && lanes_cost < channels_cost) {
    for (int64_t lane = 0; lane < a.lanes; lane += kLine) RunLinesOfLanes<T, Sum>(a, lane);
    return;
  }
  for (int64_t o = 0; o < a.n; o += kLine) {
    const int64_t end = a.n - o < kLine ? a.n : o + kLine;
    if (of_channels < a.lanes * (end - o)) {
      RunLinesOfChannels<T, Sum>(a, o);
    } else {
      RunProducts<T, Sum>(a, o, end);
    }
  }
}

OCTET_LINES_INLINE void ApproxRowsKernel(const ApproxRowsArgs& a) {
  if (a.entry_bytes == 2) return RunAll<int16_t, int32_t>(a);
  if (a.entry_bytes == 8) return RunAll<int64_t, int64_t>(a);
  if (a.sum_bytes == 4) return RunAll<int32_t, int32_t>(a);
  RunAll<int32_t, int64_t>(a);
}

}  // namespace
}  // namespace octet::kernels
