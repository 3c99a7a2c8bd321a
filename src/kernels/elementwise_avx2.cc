// Quantize, dequantize, add, and the two layout changes, 8 lanes at a time. Products and sums stay
// separate instructions (-ffp-contract=off covers what the compiler could fuse), so the bits are
// those of the scalar rule.
#include "kernels/epilogue_avx2.h"

using namespace octet::kernels;

namespace octet::kernels {
namespace {

constexpr int64_t kPositions = 256;  // of one pass over all channels: 64 KiB of f32 per 64 channels

int64_t Min(int64_t a, int64_t b) { return a < b ? a : b; }

OCTET_INLINE __m256 LoadSome(const float* x, int64_t n) {
  return n >= 8 ? _mm256_loadu_ps(x) : _mm256_maskload_ps(x, Mask8(n));
}
OCTET_INLINE void StoreSome(float* y, int64_t n, __m256 v) {
  if (n >= 8) {
    _mm256_storeu_ps(y, v);
  } else {
    _mm256_maskstore_ps(y, Mask8(n), v);
  }
}

struct Quantizer {
  __m256 scale, lo, hi;
  __m256i zero_point;

  // rne(clamp(x / scale)) + zero point; NaN gives lo.
  [[nodiscard]] __m256i operator()(__m256 x) const {
    return _mm256_add_epi32(_mm256_cvtps_epi32(ClampPs(_mm256_div_ps(x, scale), lo, hi)),
                            zero_point);
  }
};

Quantizer MakeQuantizer(float scale, float lo, float hi, int32_t zero_point) {
  return {_mm256_set1_ps(scale), _mm256_set1_ps(lo), _mm256_set1_ps(hi),
          _mm256_set1_epi32(zero_point)};
}

// The low 8 codes.
OCTET_INLINE __m256 ToFloat(__m128i codes, __m256i zero_point, __m256 scale) {
  const __m256i q = _mm256_cvtepu8_epi32(codes);
  return _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_sub_epi32(q, zero_point)), scale);
}
OCTET_INLINE __m128i High(__m128i v) { return _mm_unpackhi_epi64(v, v); }

// The low bytes of four vectors, in order.
OCTET_INLINE __m256i LowBytes(const __m256i (&q)[4]) {
  const __m256i low = _mm256_set1_epi32(0xff);
  const __m256i a = _mm256_packs_epi32(_mm256_and_si256(q[0], low), _mm256_and_si256(q[1], low));
  const __m256i b = _mm256_packs_epi32(_mm256_and_si256(q[2], low), _mm256_and_si256(q[3], low));
  return _mm256_permutevar8x32_epi32(_mm256_packus_epi16(a, b),
                                     _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

// Four channels of 8 positions: a dword per position, channel i in byte i. Channels from `count` on
// give 0.
OCTET_INLINE __m256i FourChannels(const Quantizer& q, const float* x, int64_t space, int64_t count,
                                  int64_t positions) {
  const __m256i low_byte = _mm256_set1_epi32(0xff);
  __m256i out = _mm256_setzero_si256();
  OCTET_UNROLL
  for (int i = 0; i < 4; ++i) {
    if (i < count) {
      const __m256i codes = _mm256_and_si256(q(LoadSome(x + i * space, positions)), low_byte);
      out = _mm256_or_si256(out, _mm256_slli_epi32(codes, 8 * i));
    }
  }
  return out;
}

// n <= 4 channels, which are all there are: positions are packed tight.
void QuantizeFewChannels(const QuantizeToNhwcArgs& a, const Quantizer& q) {
  const int64_t n = a.channels;
  alignas(16) uint8_t order[16];
  for (int64_t i = 0; i < 16; ++i)
    order[i] = static_cast<uint8_t>(i < 4 * n ? i / n * 4 + i % n : 0x80);
  const __m256i tight = _mm256_broadcastsi128_si256(Load128(order));
  for (int64_t i = a.begin; i < a.end; i += 8) {
    const int64_t left = Min(8, a.end - i);
    const __m256i packed = _mm256_shuffle_epi8(FourChannels(q, a.x + i, a.space, n, left), tight);
    const __m128i low = _mm256_castsi256_si128(packed), high = _mm256_extracti128_si256(packed, 1);
    uint8_t* y = a.y + i * n;
    if (left == 8 && n == 3) {
      // 12 bytes and 12: the second store covers what the first wrote past its own.
      Store128(y, low);
      _mm_storel_epi64(reinterpret_cast<__m128i*>(y + 12), high);
      const int last = _mm_extract_epi32(high, 2);
      memcpy(y + 20, &last, 4);
    } else {
      StoreSome128(y, Min(4, left) * n, low);
      StoreSome128(y + 4 * n, (left - 4) * n, high);
    }
  }
}

// 16 channels of 8 positions: after a 4x4 dword transpose in each lane, lane l of vector i is
// position 4l + i.
void QuantizeBlock(const QuantizeToNhwcArgs& a, const Quantizer& q, int64_t c, int64_t i,
                   int64_t left) {
  const int64_t n = Min(16, a.channels - c);
  const float* x = a.x + c * a.space + i;
  __m256i d[4];
  OCTET_UNROLL
  for (int j = 0; j < 4; ++j) d[j] = FourChannels(q, x + 4 * j * a.space, a.space, n - 4 * j, left);
  const __m256i low01 = _mm256_unpacklo_epi32(d[0], d[1]),
                high01 = _mm256_unpackhi_epi32(d[0], d[1]);
  const __m256i low23 = _mm256_unpacklo_epi32(d[2], d[3]),
                high23 = _mm256_unpackhi_epi32(d[2], d[3]);
  const __m256i rows[4] = {_mm256_unpacklo_epi64(low01, low23), _mm256_unpackhi_epi64(low01, low23),
                           _mm256_unpacklo_epi64(high01, high23),
                           _mm256_unpackhi_epi64(high01, high23)};
  uint8_t* y = a.y + i * a.channels + c;
  OCTET_UNROLL
  for (int j = 0; j < 4; ++j) {
    if (j < left) StoreSome128(y + j * a.channels, n, _mm256_castsi256_si128(rows[j]));
    if (j + 4 < left)
      StoreSome128(y + (j + 4) * a.channels, n, _mm256_extracti128_si256(rows[j], 1));
  }
}

// 16 pixels' bytes of channels [c, c + 16) -> 16 channels' bytes of 16 positions: four perfect
// shuffles.
OCTET_INLINE void Transpose16(__m128i (&r)[16]) {
  OCTET_UNROLL
  for (int round = 0; round < 4; ++round) {
    __m128i t[16];
    OCTET_UNROLL
    for (int i = 0; i < 8; ++i) {
      t[2 * i] = _mm_unpacklo_epi8(r[i], r[i + 8]);
      t[2 * i + 1] = _mm_unpackhi_epi8(r[i], r[i + 8]);
    }
    OCTET_UNROLL
    for (int i = 0; i < 16; ++i) r[i] = t[i];
  }
}

}  // namespace
}  // namespace octet::kernels

extern "C" {

// min and max keep their second operand where the first is NaN.
void octet_extrema_avx2(const ExtremaArgs* args) {
  __m256 lo[4], hi[4];
  OCTET_UNROLL
  for (int v = 0; v < 4; ++v) lo[v] = hi[v] = _mm256_setzero_ps();
  int64_t i = 0;
  for (; i + 32 <= args->n; i += 32) {
    OCTET_UNROLL
    for (int v = 0; v < 4; ++v) {
      const __m256 x = _mm256_loadu_ps(args->x + i + v * 8);
      lo[v] = _mm256_min_ps(x, lo[v]);
      hi[v] = _mm256_max_ps(x, hi[v]);
    }
  }
  for (; i < args->n; i += 8) {
    const __m256 x = LoadSome(args->x + i, args->n - i);
    lo[0] = _mm256_min_ps(x, lo[0]);
    hi[0] = _mm256_max_ps(x, hi[0]);
  }
  alignas(32) float lows[8], highs[8];
  _mm256_store_ps(lows, _mm256_min_ps(_mm256_min_ps(lo[0], lo[1]), _mm256_min_ps(lo[2], lo[3])));
  _mm256_store_ps(highs, _mm256_max_ps(_mm256_max_ps(hi[0], hi[1]), _mm256_max_ps(hi[2], hi[3])));
  args->extrema[0] = lows[0];
  args->extrema[1] = highs[0];
  for (int v = 1; v < 8; ++v) {
    if (lows[v] < args->extrema[0]) args->extrema[0] = lows[v];
    if (highs[v] > args->extrema[1]) args->extrema[1] = highs[v];
  }
}

void octet_quantize_avx2(const QuantizeArgs* args) {
  const QuantizeArgs& a = *args;
  const Quantizer q = MakeQuantizer(a.scale, a.lo, a.hi, a.zero_point);
  int64_t i = 0;
  for (; i + 32 <= a.n; i += 32) {
    __m256i codes[4];
    OCTET_UNROLL
    for (int j = 0; j < 4; ++j) codes[j] = q(_mm256_loadu_ps(a.x + i + j * 8));
    Store256(a.y + i, LowBytes(codes));
  }
  if (i < a.n) {
    __m256i codes[4];
    OCTET_UNROLL
    for (int j = 0; j < 4; ++j) codes[j] = q(LoadSome(a.x + i + j * 8, a.n - i - j * 8));
    const __m256i bytes = LowBytes(codes);
    StoreSome128(a.y + i, a.n - i, _mm256_castsi256_si128(bytes));
    StoreSome128(a.y + i + 16, a.n - i - 16, _mm256_extracti128_si256(bytes, 1));
  }
}

void octet_dequantize_avx2(const DequantizeArgs* args) {
  const DequantizeArgs& a = *args;
  const __m128i flip = _mm_set1_epi8(static_cast<char>(a.x_flip));
  const __m256i zero_point = _mm256_set1_epi32(a.zero_point);
  const __m256 scale = _mm256_set1_ps(a.scale);
  for (int64_t i = 0; i < a.n; i += 16) {
    const int64_t left = a.n - i;
    const __m128i codes = _mm_xor_si128(LoadSome128(a.x + i, left), flip);
    StoreSome(a.y + i, left, ToFloat(codes, zero_point, scale));
    StoreSome(a.y + i + 8, left - 8, ToFloat(High(codes), zero_point, scale));
  }
}

void octet_quantize_to_nhwc_avx2(const QuantizeToNhwcArgs* args) {
  const QuantizeToNhwcArgs& a = *args;
  const Quantizer q = MakeQuantizer(a.scale, a.lo, a.hi, a.zero_point);
  if (a.channels <= 4) {
    QuantizeFewChannels(a, q);
    return;
  }
  for (int64_t begin = a.begin; begin < a.end; begin += kPositions) {
    const int64_t end = Min(a.end, begin + kPositions);
    for (int64_t c = 0; c < a.channels; c += 16)
      for (int64_t i = begin; i < end; i += 8) QuantizeBlock(a, q, c, i, Min(8, end - i));
  }
}

void octet_dequantize_to_nchw_avx2(const DequantizeToNchwArgs* args) {
  const DequantizeToNchwArgs& a = *args;
  const __m128i flip = _mm_set1_epi8(static_cast<char>(a.x_flip));
  const __m256i zero_point = _mm256_set1_epi32(a.zero_point);
  const __m256 scale = _mm256_set1_ps(a.scale);
  for (int64_t begin = a.begin; begin < a.end; begin += kPositions) {
    const int64_t end = Min(a.end, begin + kPositions);
    for (int64_t c = 0; c < a.channels; c += 16) {
      const int64_t n = Min(16, a.channels - c);
      for (int64_t i = begin; i < end; i += 16) {
        const int64_t left = Min(16, end - i);
        __m128i rows[16];
        for (int64_t p = 0; p < 16; ++p) {
          rows[p] = p < left ? LoadSome128(a.x + (i + p) * a.channels + c, n) : _mm_setzero_si128();
        }
        Transpose16(rows);
        for (int64_t j = 0; j < n; ++j) {
          const __m128i codes = _mm_xor_si128(rows[j], flip);
          float* y = a.y + (c + j) * a.space + i;
          StoreSome(y, left, ToFloat(codes, zero_point, scale));
          StoreSome(y + 8, left - 8, ToFloat(High(codes), zero_point, scale));
        }
      }
    }
  }
}

void octet_add_avx2(const AddArgs* args) {
  const AddArgs& a = *args;
  const __m128i flip = _mm_set1_epi8(static_cast<char>(a.flip));
  const __m256i a_zero = _mm256_set1_epi32(a.a_zero_point),
                b_zero = _mm256_set1_epi32(a.b_zero_point),
                y_zero = _mm256_set1_epi16(static_cast<short>(a.y_zero_point));
  const __m256 a_ratio = _mm256_set1_ps(a.a_ratio), b_ratio = _mm256_set1_ps(a.b_ratio);
  const __m256 lo = _mm256_set1_ps(a.lo), hi = _mm256_set1_ps(a.hi);
  const auto sum = [&](__m128i x, __m128i y) {
    const __m256 v = _mm256_add_ps(ToFloat(x, a_zero, a_ratio), ToFloat(y, b_zero, b_ratio));
    return _mm256_cvtps_epi32(ClampPs(v, lo, hi));
  };
  for (int64_t i = 0; i < a.n; i += 16) {
    const int64_t left = a.n - i;
    const __m128i xa = _mm_xor_si128(LoadSome128(a.a + i, left), flip);
    const __m128i xb = _mm_xor_si128(LoadSome128(a.b + i, left), flip);
    const __m256i codes = PackGroup(sum(xa, xb), sum(High(xa), High(xb)), y_zero);
    StoreSome128(a.y + i, left,
                 _mm_xor_si128(_mm256_castsi256_si128(PackGroups(codes, codes)), flip));
  }
}

}  // extern "C"
