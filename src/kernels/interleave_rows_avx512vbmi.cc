// As many pairs of pixels as a vector holds are one permutation of two; wider pixels are copied.
#include "kernels/epilogue_avx512vnni.h"

namespace octet::kernels {
namespace {

void InterleaveNarrow(const InterleaveRowsArgs& p) {
  const int64_t c = p.channels, at_once = 32 / c;
  alignas(64) uint8_t order[64] = {};
  for (int64_t i = 0; i < at_once; ++i) {
    for (int64_t k = 0; k < c; ++k) {
      order[i * 2 * c + k] = static_cast<uint8_t>(i * c + k);
      order[i * 2 * c + c + k] = static_cast<uint8_t>(64 + i * c + k);
    }
  }
  const __m512i index = _mm512_load_si512(order);
  const __m512i flip = _mm512_set1_epi8(static_cast<char>(p.flip));
  for (int64_t i = 0; i < p.pixels; i += at_once) {
    const int64_t n = (p.pixels - i < at_once ? p.pixels - i : at_once) * c;
    const __m512i upper = _mm512_maskz_loadu_epi8(Mask64(n), p.upper + i * c);
    const __m512i lower = _mm512_maskz_loadu_epi8(Mask64(n), p.lower + i * c);
    const __m512i both = _mm512_permutex2var_epi8(upper, index, lower);
    _mm512_mask_storeu_epi8(p.to + i * 2 * c, Mask64(2 * n), _mm512_xor_si512(both, flip));
  }
}

}  // namespace
}  // namespace octet::kernels

extern "C" void octet_interleave_rows_avx512vbmi(const octet::kernels::InterleaveRowsArgs* args) {
  using namespace octet::kernels;
  const InterleaveRowsArgs& p = *args;
  if (p.channels <= 32) {
    InterleaveNarrow(p);
    return;
  }
  for (int64_t i = 0; i < p.pixels * p.channels; i += p.channels) {
    for (int64_t k = 0; k < p.channels; ++k) {
      p.to[2 * i + k] = static_cast<uint8_t>(p.upper[i + k] ^ p.flip);
      p.to[2 * i + p.channels + k] = static_cast<uint8_t>(p.lower[i + k] ^ p.flip);
    }
  }
}
