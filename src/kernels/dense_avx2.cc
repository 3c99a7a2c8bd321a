// octet_dense_u8s8_6x16_avx2: implicit GEMM on vpmaddwd, exact for every argument. Layout
// kPairsS16.
//
// vpmaddubsw would do twice the work, but two products of u8 and s8 may leave int16. Splitting one
// factor so that they cannot takes five instructions per 32 products, vpmaddwd and vpaddd on int16
// four. So weights are int16 in memory, and rows of A are widened, six at a time, into a buffer in
// L1 that serves all 64 channels of a panel; accumulators wait on the stack where K is longer than
// the buffer. A tile is 6 rows by 16 channels, 12 accumulators of 16 registers.
#include "kernels/dense_rows.h"
#include "kernels/epilogue_avx2.h"

namespace octet::kernels {
namespace {

constexpr int64_t kRows = 6, kPanel = 64, kGroup = 16;
constexpr int64_t kBuffered = 1024;             // of K, even
constexpr int64_t kRowStride = kBuffered + 32;  // room for what a whole vector writes past the end

struct Work {
  alignas(64) int32_t acc[kRows][kPanel];
  alignas(64) int16_t a[kRows * kRowStride];
};

// n codes -> int16, and a zero after an odd number of them. May write 16 past the end.
OCTET_INLINE void Widen(const uint8_t* from, const uint8_t* end, int64_t n, int16_t* to) {
  for (int64_t i = 0; i < n; i += 16) {
    const __m128i x = end - (from + i) >= 16 ? Load128(from + i) : LoadSome128(from + i, n - i);
    Store256(to + i, _mm256_cvtepu8_epi16(x));
  }
  if (n % 2 != 0) to[n] = 0;
}

OCTET_INLINE int LoadPair(const int16_t* p) {
  int v;
  memcpy(&v, p, 4);
  return v;
}

template <int MR>
OCTET_INLINE void Step(const int16_t* a, const int16_t* w, __m256i (&s)[MR][2]) {
  const __m256i b0 = Load256(w), b1 = Load256(w + 16);
  OCTET_UNROLL
  for (int i = 0; i < MR; ++i) {
    const __m256i x = _mm256_set1_epi32(LoadPair(a + i * kRowStride));
    s[i][0] = _mm256_add_epi32(s[i][0], _mm256_madd_epi16(x, b0));
    s[i][1] = _mm256_add_epi32(s[i][1], _mm256_madd_epi16(x, b1));
  }
}

// acc of 16 channels += `pairs` pairs of K.
template <int MR>
void Multiply(const int16_t* a, const int16_t* w, int64_t pairs, int32_t* acc) {
  __m256i s[MR][2];
  OCTET_UNROLL
  for (int i = 0; i < MR; ++i) {
    s[i][0] = Load256(acc + i * kPanel);
    s[i][1] = Load256(acc + i * kPanel + 8);
  }
  for (; pairs >= 2; pairs -= 2, a += 4, w += 64) {
    Step<MR>(a, w, s);
    Step<MR>(a + 2, w + 32, s);
  }
  if (pairs > 0) Step<MR>(a, w, s);
  OCTET_UNROLL
  for (int i = 0; i < MR; ++i) {
    Store256(acc + i * kPanel, s[i][0]);
    Store256(acc + i * kPanel + 8, s[i][1]);
  }
}

// MR rows from `row` on of the panel at channel c, n of whose channels are real. weight: of channel
// c; group_pairs: pairs of K of 16 channels' weights.
template <int MR>
void Rows(const DenseArgs& d, const uint8_t* const* pixels, int64_t row, int64_t c, int64_t n,
          const int16_t* weight, int64_t group_pairs, Work* work) {
  const int64_t groups = (n + kGroup - 1) / kGroup;
  for (int64_t i = 0; i < MR; ++i)
    memcpy(work->acc[i], d.epilogue.bias + c, static_cast<size_t>(groups * kGroup) * 4);
  int64_t filled = 0;
  const auto flush = [&] {
    for (int64_t g = 0; g < groups; ++g)
      Multiply<MR>(work->a, weight + g * group_pairs * 32, filled / 2, work->acc[0] + g * kGroup);
    weight += filled / 2 * 32;
    filled = 0;
  };
  for (int64_t t = 0; t < d.taps; ++t)
    for (int64_t k = 0; k < d.kc;) {
      const int64_t take = d.kc - k < kBuffered - filled ? d.kc - k : kBuffered - filled;
      for (int64_t i = 0; i < MR; ++i)
        Widen(pixels[i] + d.tap_offset[t] + k, d.end, take, work->a + i * kRowStride + filled);
      k += take;
      filled += (take + 1) / 2 * 2;
      if (filled == kBuffered) flush();
    }
  if (filled > 0) flush();
  for (int64_t g = 0; g < groups; ++g) {
    const int32_t* acc = work->acc[0] + g * kGroup;
    StoreGroup<MR>(
        d.epilogue, [&](int i, int half) { return Load256(acc + i * kPanel + half * 8); },
        c + g * kGroup, n - g * kGroup, RowsOut(d, row));
  }
}

typedef void (*RowsFunction)(const DenseArgs&, const uint8_t* const*, int64_t, int64_t, int64_t,
                             const int16_t*, int64_t, Work*);

}  // namespace
}  // namespace octet::kernels

extern "C" void octet_dense_u8s8_6x16_avx2(const octet::kernels::DenseArgs* args) {
  using namespace octet::kernels;
  static constexpr RowsFunction kRowsOf[] = {Rows<1>, Rows<2>, Rows<3>, Rows<4>, Rows<5>, Rows<6>};
  const DenseArgs& d = *args;
  const int64_t group_pairs = d.taps * ((d.kc + 1) / 2);
  const int64_t tiles = (d.m + kRows - 1) / kRows;
  Work work;
  for (int64_t c = d.n_begin; c < d.n_end; c += kPanel) {
    const int16_t* weight = static_cast<const int16_t*>(d.weight) + c * group_pairs * 2;
    const int64_t n = d.n_end - c < kPanel ? d.n_end - c : kPanel;
    RowCursor cursor(d);
    for (int64_t i = 0, row = 0; i < tiles; ++i) {
      const int64_t end = d.m * (i + 1) / tiles, rows = end - row;
      const uint8_t* pixels[kRows];
      for (int64_t j = 0; j < rows; ++j) pixels[j] = cursor.Take();
      kRowsOf[rows - 1](d, pixels, row, c, n, weight, group_pairs, &work);
      row = end;
    }
  }
}
