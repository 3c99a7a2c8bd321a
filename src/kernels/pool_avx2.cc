// Maximum and average over pixels, 32 and 16 channels at a time. Where the last block is not whole,
// it starts earlier and repeats channels of the block before.
#include "kernels/epilogue_avx2.h"

using namespace octet::kernels;

namespace octet::kernels {
namespace {

void MaxOfFew(const MaxPixelsArgs& a, const uint8_t* const* pixels, int64_t c, int64_t n,
              uint8_t* y) {
  const __m128i flip = _mm_set1_epi8(static_cast<char>(a.flip));
  __m128i best = _mm_setzero_si128();  // the lowest unsigned code
  for (int64_t j = 0; j < a.count; ++j)
    best = _mm_max_epu8(best, _mm_xor_si128(LoadSome128(pixels[j] + c, n), flip));
  StoreSome128(y + c, n, _mm_xor_si128(best, flip));
}

}  // namespace
}  // namespace octet::kernels

extern "C" {

void octet_max_pixels_avx2(const MaxPixelsArgs* args) {
  const MaxPixelsArgs& a = *args;
  const __m256i flip = _mm256_set1_epi8(static_cast<char>(a.flip));
  for (int64_t i = 0; i < a.outputs; ++i) {
    const uint8_t* const* pixels = a.pixels + i * a.count;
    uint8_t* y = a.y + i * a.channels;
    if (a.channels < 32) {
      for (int64_t c = 0; c < a.channels; c += 16) MaxOfFew(a, pixels, c, a.channels - c, y);
      continue;
    }
    for (int64_t next = 0; next < a.channels; next += 32) {
      const int64_t c = next + 32 <= a.channels ? next : a.channels - 32;
      __m256i best = _mm256_setzero_si256();
      for (int64_t j = 0; j < a.count; ++j)
        best = _mm256_max_epu8(best, _mm256_xor_si256(Load256(pixels[j] + c), flip));
      Store256(y + c, _mm256_xor_si256(best, flip));
    }
  }
}

void octet_average_pixels_avx2(const AveragePixelsArgs* args) {
  const AveragePixelsArgs& a = *args;
  const __m128i flip = _mm_set1_epi8(static_cast<char>(a.flip));
  const __m256 multiplier = _mm256_set1_ps(a.multiplier);
  const __m256i zero = _mm256_set1_epi16(static_cast<short>(a.y_zero_point));
  for (int64_t next = 0; next < a.channels; next += 16) {
    const int64_t c = next + 16 <= a.channels || a.channels < 16 ? next : a.channels - 16;
    const int64_t n = a.channels - c;
    __m256i low = _mm256_set1_epi32(a.bias), high = low;
    for (int64_t j = 0; j < a.count; ++j) {
      const uint8_t* x = (a.pixels != nullptr ? a.pixels[j] : a.first + j * a.stride) + c;
      const __m128i codes = _mm_xor_si128(LoadSome128(x, n), flip);
      low = _mm256_add_epi32(low, _mm256_cvtepu8_epi32(codes));
      high = _mm256_add_epi32(high, _mm256_cvtepu8_epi32(_mm_unpackhi_epi64(codes, codes)));
    }
    const auto requantized = [&](__m256i sum) {
      return RoundToCode(_mm256_mul_ps(_mm256_cvtepi32_ps(sum), multiplier));
    };
    const __m256i codes = PackGroup(requantized(low), requantized(high), zero);
    const __m128i bytes = _mm256_castsi256_si128(PackGroups(codes, codes));
    StoreSome128(a.y + c, n, _mm_xor_si128(bytes, flip));
  }
}

}  // extern "C"
