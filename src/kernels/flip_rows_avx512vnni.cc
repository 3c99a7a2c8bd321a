#include "kernels/epilogue_avx512vnni.h"

extern "C" void octet_flip_rows_avx512vnni(const octet::kernels::FlipRowsArgs* args) {
  using namespace octet::kernels;
  const FlipRowsArgs p = *args;
  const __m512i flip = _mm512_set1_epi8(static_cast<char>(p.flip));
  const int64_t whole = p.n / 64 * 64;
  const __mmask64 some = Mask64(p.n - whole);
  for (int64_t i = 0; i < p.rows; ++i) {
    const uint8_t* from = p.from + i * p.from_stride;
    uint8_t* to = p.to + i * p.to_stride;
    for (int64_t j = 0; j < whole; j += 64)
      _mm512_storeu_si512(to + j, _mm512_xor_si512(_mm512_loadu_si512(from + j), flip));
    if (whole < p.n) {
      const __m512i rest = _mm512_xor_si512(_mm512_maskz_loadu_epi8(some, from + whole), flip);
      _mm512_mask_storeu_epi8(to + whole, some, rest);
    }
  }
}
