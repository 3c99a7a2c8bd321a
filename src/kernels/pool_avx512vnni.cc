// Maximum and average over pixels, 64 channels at a time.
#include "kernels/epilogue_avx512vnni.h"

using namespace octet::kernels;

extern "C" {

void octet_max_pixels_avx512vnni(const MaxPixelsArgs* args) {
  const MaxPixelsArgs& a = *args;
  const __m512i flip = _mm512_set1_epi8(static_cast<char>(a.flip));
  for (int64_t i = 0; i < a.outputs; ++i) {
    const uint8_t* const* pixels = a.pixels + i * a.count;
    for (int64_t c = 0; c < a.channels; c += 64) {
      const __mmask64 some = Mask64(a.channels - c);
      __m512i best = _mm512_setzero_si512();  // the lowest unsigned code
      for (int64_t j = 0; j < a.count; ++j) {
        const __m512i x = _mm512_maskz_loadu_epi8(some, pixels[j] + c);
        best = _mm512_max_epu8(best, _mm512_xor_si512(x, flip));
      }
      _mm512_mask_storeu_epi8(a.y + i * a.channels + c, some, _mm512_xor_si512(best, flip));
    }
  }
}

void octet_average_pixels_avx512vnni(const AveragePixelsArgs* args) {
  const AveragePixelsArgs& a = *args;
  const __m128i flip = _mm_set1_epi8(static_cast<char>(a.flip));
  const __m512 multiplier = _mm512_set1_ps(a.multiplier);
  const __m512i zero = _mm512_set1_epi16(static_cast<short>(a.y_zero_point));
  for (int64_t c = 0; c < a.channels; c += 64) {
    __m512i sum[4];
    __mmask16 some[4];
    OCTET_UNROLL
    for (int v = 0; v < 4; ++v) {
      const int64_t left = a.channels - c - v * 16;
      some[v] = left > 0 ? Mask16(left) : __mmask16{0};
      sum[v] = _mm512_set1_epi32(a.bias);
    }
    for (int64_t j = 0; j < a.count; ++j) {
      const uint8_t* x = (a.pixels != nullptr ? a.pixels[j] : a.first + j * a.stride) + c;
      OCTET_UNROLL
      for (int v = 0; v < 4; ++v) {
        const __m128i codes = _mm_xor_si128(_mm_maskz_loadu_epi8(some[v], x + v * 16), flip);
        sum[v] = _mm512_add_epi32(sum[v], _mm512_cvtepu8_epi32(codes));
      }
    }
    __m512i codes[4];
    OCTET_UNROLL
    for (int v = 0; v < 4; ++v) codes[v] = Requantize(AsAcc(sum[v]), multiplier);
    const __m512i packed = _mm512_permutexvar_epi32(
        PackOrder(), PackCodes(codes[0], codes[1], codes[2], codes[3], zero));
    _mm512_mask_storeu_epi8(a.y + c, Mask64(a.channels - c),
                            _mm512_xor_si512(packed, _mm512_set1_epi8(static_cast<char>(a.flip))));
  }
}

}  // extern "C"
