// octet_approx_rows_avx512vbmi: 64 products are a byte permutation per 64 table entries and plane
// of digits. Floor for two planes of 128 entries: 4 permutations and a comparison on port 5, 5
// cycles; the additions of digits hide behind them.
#if !defined(__clang__)
// g++ 12 warns of its own headers' _mm512_undefined_*() (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

#include <immintrin.h>

#include "kernels/approx_abi.h"

namespace octet::kernels {
namespace {

struct Pass {
  const uint8_t* x;
  const uint8_t* weight;
  int64_t k;
  const uint8_t* rows;  // the channel's table, first plane of this pass
  int64_t row_bytes;
  int32_t half;
  int32_t* sums;  // of the first lane and plane
};

template <ApproxMode Mode>
inline __m512i Digits(__m512i codes, const uint8_t* table, __mmask64 upper, __mmask64 negative) {
  const __m512i first = _mm512_load_si512(table);
  if constexpr (Mode == kApprox64) return _mm512_permutexvar_epi8(codes, first);
  if constexpr (Mode == kApprox256) {
    const __m512i low = _mm512_permutex2var_epi8(first, codes, _mm512_load_si512(table + 64));
    const __m512i high = _mm512_permutex2var_epi8(_mm512_load_si512(table + 128), codes,
                                                  _mm512_load_si512(table + 192));
    return _mm512_mask_mov_epi8(low, negative, high);
  }
  __m512i digits = _mm512_permutexvar_epi8(codes, first);
  digits = _mm512_mask_permutexvar_epi8(digits, upper, codes, _mm512_load_si512(table + 64));
  if constexpr (Mode == kApproxSigned)
    digits = _mm512_mask_sub_epi8(digits, negative, _mm512_setzero_si512(), digits);
  return digits;
}

// bytes[p][v] += digits of one step.
template <ApproxMode Mode, int Planes, int V>
inline void Step(const Pass& a, int64_t i, __m512i (&bytes)[Planes][V]) {
  const uint8_t* row = a.rows + a.weight[i] * a.row_bytes;
#pragma GCC unroll 2
  for (int v = 0; v < V; ++v) {
    const __m512i codes = _mm512_load_si512(a.x + i * kApproxLanes + v * 64);
    __mmask64 upper = 0, negative = 0;
    if constexpr (Mode == kApprox128 || Mode == kApproxSigned)
      upper = _mm512_test_epi8_mask(codes, _mm512_set1_epi8(0x40));
    if constexpr (Mode == kApprox256 || Mode == kApproxSigned)
      negative = _mm512_movepi8_mask(codes);
#pragma GCC unroll 2
    for (int p = 0; p < Planes; ++p)
      bytes[p][v] = _mm512_add_epi8(
          bytes[p][v], Digits<Mode>(codes, row + p * ApproxEntries(Mode), upper, negative));
  }
}

inline void AddTo(int32_t* sums, __m256i words, __m512i offset) {
  const __m512i sum = _mm512_sub_epi32(_mm512_cvtepu16_epi32(words), offset);
  _mm512_storeu_si512(sums, _mm512_add_epi32(_mm512_loadu_si512(sums), sum));
}

template <ApproxMode Mode, int Planes, int V, int Group>
void Run(const Pass& a) {
  // 16-bit sums of even and of odd lanes, of digits + half.
  __m512i even[Planes][V], odd[Planes][V], bytes[Planes][V];
#pragma GCC unroll 2
  for (int p = 0; p < Planes; ++p)
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) even[p][v] = odd[p][v] = _mm512_setzero_si512();
  const __m512i low = _mm512_set1_epi16(255);
  const __m512i bias = _mm512_set1_epi8(static_cast<char>(a.half * Group));
  int32_t offset = 0;
  for (int64_t i = 0; i < a.k; i += Group) {
#pragma GCC unroll 2
    for (int p = 0; p < Planes; ++p)
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) bytes[p][v] = bias;
    if (a.k - i >= Group) {
#pragma GCC unroll 8
      for (int j = 0; j < Group; ++j) Step<Mode>(a, i + j, bytes);
    } else {
      for (int64_t j = i; j < a.k; ++j) Step<Mode>(a, j, bytes);
    }
    offset += a.half * Group;
#pragma GCC unroll 2
    for (int p = 0; p < Planes; ++p)
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) {
        even[p][v] = _mm512_add_epi16(even[p][v], _mm512_and_si512(bytes[p][v], low));
        odd[p][v] = _mm512_add_epi16(odd[p][v], _mm512_srli_epi16(bytes[p][v], 8));
      }
  }
  // Word j of `first` and `second` is lane j and 32 + j.
  alignas(64) static const uint16_t kFirst[32] = {0,  32, 1,  33, 2,  34, 3,  35, 4,  36, 5,
                                                  37, 6,  38, 7,  39, 8,  40, 9,  41, 10, 42,
                                                  11, 43, 12, 44, 13, 45, 14, 46, 15, 47};
  const __m512i first = _mm512_load_si512(kFirst);
  const __m512i second = _mm512_add_epi16(first, _mm512_set1_epi16(16));
  const __m512i offsets = _mm512_set1_epi32(offset);
#pragma GCC unroll 2
  for (int p = 0; p < Planes; ++p)
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) {
      const __m512i a0 = _mm512_permutex2var_epi16(even[p][v], first, odd[p][v]);
      const __m512i a1 = _mm512_permutex2var_epi16(even[p][v], second, odd[p][v]);
      int32_t* sums = a.sums + p * kApproxLanes + v * 64;
      AddTo(sums, _mm512_castsi512_si256(a0), offsets);
      AddTo(sums + 16, _mm512_extracti64x4_epi64(a0, 1), offsets);
      AddTo(sums + 32, _mm512_castsi512_si256(a1), offsets);
      AddTo(sums + 48, _mm512_extracti64x4_epi64(a1, 1), offsets);
    }
}

template <ApproxMode Mode, int Planes, int V>
void RunGroups(const Pass& a) {
  if (a.half == 15) return Run<Mode, Planes, V, 8>(a);
  if (a.half == 31) return Run<Mode, Planes, V, 4>(a);
  if (a.half == 63) return Run<Mode, Planes, V, 2>(a);
  Run<Mode, Planes, V, 1>(a);
}

// At most 256 lanes from `first` on.
template <ApproxMode Mode>
void RunChannels(const ApproxRowsArgs& a, int64_t first) {
  const int64_t end = a.lanes - first < 256 ? a.lanes : first + 256;
  for (int64_t o = 0; o < a.n; ++o) {
    const uint8_t* rows = a.rows + a.table_of[o] * a.table_bytes;
    auto* sums = reinterpret_cast<int32_t*>(static_cast<uint8_t*>(a.sums) + o * a.sums_stride);
    for (int32_t p = 0; p < a.planes; p += 2)
      for (int64_t lane = first; lane < end; lane += 128) {
        const Pass pass{a.x + lane,
                        a.weight + o * a.weight_stride,
                        a.k,
                        rows + p * ApproxEntries(Mode),
                        a.row_bytes,
                        a.half,
                        sums + p * kApproxLanes + lane};
        const bool two_planes = a.planes - p > 1, two_vectors = end - lane > 64;
        if (two_planes && two_vectors) {
          RunGroups<Mode, 2, 2>(pass);
        } else if (two_planes) {
          RunGroups<Mode, 2, 1>(pass);
        } else if (two_vectors) {
          RunGroups<Mode, 1, 2>(pass);
        } else {
          RunGroups<Mode, 1, 1>(pass);
        }
      }
  }
}

void RunLanes(const ApproxRowsArgs& a, int64_t first) {
  switch (a.mode) {
    case kApprox64:
      return RunChannels<kApprox64>(a, first);
    case kApprox128:
      return RunChannels<kApprox128>(a, first);
    case kApproxSigned:
      return RunChannels<kApproxSigned>(a, first);
    case kApprox256:
      return RunChannels<kApprox256>(a, first);
  }
}

}  // namespace
}  // namespace octet::kernels

extern "C" void octet_approx_rows_avx512vbmi(const octet::kernels::ApproxRowsArgs* args) {
  for (int64_t lane = 0; lane < args->lanes; lane += 256) octet::kernels::RunLanes(*args, lane);
}
