// Table lookup: two permutations of 128 bytes each, and a choice by the top bit, for 64 bytes.
#include "kernels/epilogue_avx512vnni.h"

extern "C" void octet_lookup_avx512vbmi(const octet::kernels::LookupArgs* args) {
  using namespace octet::kernels;
  const LookupArgs& a = *args;
  const __m512i t0 = _mm512_loadu_si512(a.table), t1 = _mm512_loadu_si512(a.table + 64);
  const __m512i t2 = _mm512_loadu_si512(a.table + 128), t3 = _mm512_loadu_si512(a.table + 192);
  const auto look = [&](__m512i x) {
    const __m512i low = _mm512_permutex2var_epi8(t0, x, t1);
    const __m512i high = _mm512_permutex2var_epi8(t2, x, t3);
    return _mm512_mask_mov_epi8(low, _mm512_movepi8_mask(x), high);
  };
  int64_t i = 0;
  for (; i + 64 <= a.n; i += 64) _mm512_storeu_si512(a.y + i, look(_mm512_loadu_si512(a.x + i)));
  if (i < a.n) {
    const __mmask64 some = Mask64(a.n - i);
    _mm512_mask_storeu_epi8(a.y + i, some, look(_mm512_maskz_loadu_epi8(some, a.x + i)));
  }
}
