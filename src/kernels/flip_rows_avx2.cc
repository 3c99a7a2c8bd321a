// 32 bytes at a time; where the last are not whole, they start earlier and repeat some.
#include "kernels/epilogue_avx2.h"

extern "C" void octet_flip_rows_avx2(const octet::kernels::FlipRowsArgs* args) {
  using namespace octet::kernels;
  const FlipRowsArgs p = *args;
  const __m256i flip = _mm256_set1_epi8(static_cast<char>(p.flip));
  for (int64_t i = 0; i < p.rows; ++i) {
    const uint8_t* from = p.from + i * p.from_stride;
    uint8_t* to = p.to + i * p.to_stride;
    if (p.n < 32) {
      for (int64_t j = 0; j < p.n; ++j) to[j] = static_cast<uint8_t>(from[j] ^ p.flip);
      continue;
    }
    for (int64_t next = 0; next < p.n; next += 32) {
      const int64_t j = next + 32 <= p.n ? next : p.n - 32;
      Store256(to + j, _mm256_xor_si256(Load256(from + j), flip));
    }
  }
}
