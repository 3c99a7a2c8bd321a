// Table lookup: 16 rows of 16 bytes, each asked by one shuffle, which answers 0 where an index has
// its top bit set. An index is of row h where x ^ (h << 4) is below 16; adding 0x70 with saturation
// sets the top bit of all others.
#include "kernels/epilogue_avx2.h"

extern "C" void octet_lookup_avx2(const octet::kernels::LookupArgs* args) {
  using namespace octet::kernels;
  const LookupArgs& a = *args;
  __m256i rows[16];
  for (int h = 0; h < 16; ++h)
    rows[h] = _mm256_broadcastsi128_si256(
        _mm_loadu_si128(reinterpret_cast<const __m128i*>(a.table + 16 * h)));
  const __m256i limit = _mm256_set1_epi8(0x70);
  int64_t i = 0;
  for (; i + 32 <= a.n; i += 32) {
    const __m256i x = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(a.x + i));
    __m256i y = _mm256_setzero_si256();
    OCTET_UNROLL
    for (int h = 0; h < 16; ++h) {
      const __m256i index = _mm256_xor_si256(x, _mm256_set1_epi8(static_cast<char>(h << 4)));
      y = _mm256_or_si256(y, _mm256_shuffle_epi8(rows[h], _mm256_adds_epu8(index, limit)));
    }
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(a.y + i), y);
  }
  for (; i < a.n; ++i) a.y[i] = a.table[a.x[i]];
}
