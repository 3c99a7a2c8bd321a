// octet_approx_rows_avx2: a table is looked up sixteen entries at a time. A byte shuffle answers 0
// where bit 7 of its index is set: index code - 16 t finds an entry of sixteen number t for all
// codes from 16 t on, up to 127 where the difference saturates. So sixteens hold differences
// (kApproxDifferences), and what all of them answer adds up to the entry. Floor for two planes of
// 128 entries: 39 operations on 32 lanes, 13 cycles.
#include <immintrin.h>

#include "kernels/approx_abi.h"

namespace octet::kernels {
namespace {

constexpr int kVectors = 2;  // of 32 lanes

struct Pass {
  const uint8_t* x;
  const uint8_t* weight;
  int64_t k;
  const uint8_t* rows;  // the channel's table, first plane of this pass
  int64_t row_bytes;
  int32_t half, group;
  int32_t* sums;  // of the first lane and plane
};

constexpr int EntriesOf(ApproxMode mode) {
  return mode == kApprox64 ? 64 : mode == kApprox256 ? 256 : 128;
}

inline __m256i Load(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
inline void Store(void* p, __m256i v) { _mm256_storeu_si256(static_cast<__m256i*>(p), v); }

// bytes[p][v] += digits of one step.
template <ApproxMode Mode, int Planes>
inline void Step(const Pass& a, int64_t i, __m256i (&bytes)[Planes][kVectors]) {
  constexpr int kEntries = EntriesOf(Mode), kTables = kEntries / 16;
  const uint8_t* row = a.rows + a.weight[i] * a.row_bytes;
  __m256i codes[kVectors], magnitudes[kVectors], digits[Planes][kVectors];
  for (int v = 0; v < kVectors; ++v) {
    codes[v] = Load(a.x + i * kApproxLanes + v * 32);
    magnitudes[v] =
        Mode == kApproxSigned ? _mm256_and_si256(codes[v], _mm256_set1_epi8(0x7f)) : codes[v];
  }
#pragma GCC unroll 16
  for (int t = 0; t < kTables; ++t) {
    __m256i table[Planes];
#pragma GCC unroll 2
    for (int p = 0; p < Planes; ++p)
      table[p] = _mm256_broadcastsi128_si256(
          _mm_load_si128(reinterpret_cast<const __m128i*>(row + p * kEntries + 16 * t)));
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      if (t == 8) magnitudes[v] = _mm256_xor_si256(codes[v], _mm256_set1_epi8(-128));
      const __m256i index =
          t % 8 == 0
              ? magnitudes[v]
              : _mm256_subs_epi8(magnitudes[v], _mm256_set1_epi8(static_cast<char>(t % 8 * 16)));
#pragma GCC unroll 2
      for (int p = 0; p < Planes; ++p) {
        const __m256i found = _mm256_shuffle_epi8(table[p], index);
        __m256i& sum = Mode == kApproxSigned ? digits[p][v] : bytes[p][v];
        sum = Mode == kApproxSigned && t == 0 ? found : _mm256_add_epi8(sum, found);
        __asm__("" : "+x"(sum));  // or g++ adds in a tree and runs out of registers
      }
    }
  }
  if constexpr (Mode == kApproxSigned) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v)
#pragma GCC unroll 2
      for (int p = 0; p < Planes; ++p)
        bytes[p][v] = _mm256_add_epi8(
            bytes[p][v],
            _mm256_sign_epi8(digits[p][v], _mm256_or_si256(codes[v], _mm256_set1_epi8(1))));
  }
}

inline void AddTo(int32_t* sums, __m128i words, __m256i offset) {
  const __m256i sum = _mm256_sub_epi32(_mm256_cvtepu16_epi32(words), offset);
  Store(sums, _mm256_add_epi32(Load(sums), sum));
}

template <ApproxMode Mode, int Planes>
void Run(const Pass& a) {
  // 16-bit sums of even and of odd lanes, of digits + half. In memory: registers are few.
  alignas(32) uint16_t sums16[2 * Planes * kVectors * 16];
  for (int i = 0; i < 2 * Planes * kVectors; ++i) Store(sums16 + 16 * i, _mm256_setzero_si256());
  const __m256i bias = _mm256_set1_epi8(static_cast<char>(a.half * a.group));
  int32_t offset = 0;
  for (int64_t i = 0; i < a.k; i += a.group) {
    __m256i bytes[Planes][kVectors];
#pragma GCC unroll 2
    for (int p = 0; p < Planes; ++p)
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) bytes[p][v] = bias;
    const int64_t end = a.k - i < a.group ? a.k : i + a.group;
    for (int64_t j = i; j < end; ++j) Step<Mode>(a, j, bytes);
    offset += a.half * a.group;
    uint16_t* to = sums16;
    __asm__("" : "+r"(to) : : "memory");  // or they would be kept in registers that are not there
#pragma GCC unroll 2
    for (int p = 0; p < Planes; ++p)
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) {
        uint16_t* even = to + (p * kVectors + v) * 32;
        const __m256i low = _mm256_and_si256(bytes[p][v], _mm256_set1_epi16(255));
        Store(even, _mm256_add_epi16(Load(even), low));
        Store(even + 16, _mm256_add_epi16(Load(even + 16), _mm256_srli_epi16(bytes[p][v], 8)));
      }
  }
  const __m256i offsets = _mm256_set1_epi32(offset);
  for (int p = 0; p < Planes; ++p)
    for (int v = 0; v < kVectors; ++v) {
      const __m256i even = Load(sums16 + (p * kVectors + v) * 32);
      const __m256i odd = Load(sums16 + (p * kVectors + v) * 32 + 16);
      // Lanes 0...7, 16...23 and 8...15, 24...31.
      const __m256i first = _mm256_unpacklo_epi16(even, odd);
      const __m256i second = _mm256_unpackhi_epi16(even, odd);
      int32_t* sums = a.sums + p * kApproxLanes + v * 32;
      AddTo(sums, _mm256_castsi256_si128(first), offsets);
      AddTo(sums + 8, _mm256_castsi256_si128(second), offsets);
      AddTo(sums + 16, _mm256_extracti128_si256(first, 1), offsets);
      AddTo(sums + 24, _mm256_extracti128_si256(second, 1), offsets);
    }
}

template <ApproxMode Mode>
void RunChannels(const ApproxRowsArgs& a) {
  const int32_t group = 128 / (a.half + 1);
  for (int64_t o = 0; o < a.n; ++o) {
    const uint8_t* rows = a.rows + a.table_of[o] * a.table_bytes;
    auto* sums = reinterpret_cast<int32_t*>(static_cast<uint8_t*>(a.sums) + o * a.sums_stride);
    for (int32_t p = 0; p < a.planes; p += 2)
      for (int64_t lane = 0; lane < a.lanes; lane += 32 * kVectors) {
        const Pass pass{a.x + lane,  a.weight + o * a.weight_stride,
                        a.k,         rows + p * EntriesOf(Mode),
                        a.row_bytes, a.half,
                        group,       sums + p * kApproxLanes + lane};
        if (a.planes - p > 1) {
          Run<Mode, 2>(pass);
        } else {
          Run<Mode, 1>(pass);
        }
      }
  }
}

}  // namespace
}  // namespace octet::kernels

extern "C" void octet_approx_rows_avx2(const octet::kernels::ApproxRowsArgs* args) {
  using namespace octet::kernels;
  switch (args->mode) {
    case kApprox64:
      return RunChannels<kApprox64>(*args);
    case kApprox128:
      return RunChannels<kApprox128>(*args);
    case kApproxSigned:
      return RunChannels<kApproxSigned>(*args);
    case kApprox256:
      return RunChannels<kApprox256>(*args);
  }
}
