// Quantize, dequantize, add, and the two layout changes, 16 lanes at a time. Products and sums stay
// separate instructions (-ffp-contract=off covers what the compiler could fuse), so the bits are
// those of the scalar rule.
#include "kernels/epilogue_avx512vnni.h"

using namespace octet::kernels;

namespace octet::kernels {
namespace {

// A product with 1 / scale is off from the division by less than 3 units in the last place, of
// numbers below 256: 256 * 3 * 2^-24 < 5e-5. Only one that near to half a code could round
// otherwise; a group that holds one is divided.
constexpr float kNearTie = 0.5F - 6e-5F;

struct Quantizer {
  __m512 scale, inverse, lo, hi;
  __m512i zero_point;
  bool multiplies;  // no number on the way leaves the range of normal floats

  // rne(clamp(x / scale)) + zero point; NaN gives lo.
  [[nodiscard]] __m512i Divided(__m512 x) const {
    return _mm512_add_epi32(_mm512_cvtps_epi32(ClampPs(_mm512_div_ps(x, scale), lo, hi)),
                            zero_point);
  }
  // The same where no bit of `risky` becomes set.
  [[nodiscard]] __m512i Multiplied(__m512 x, __mmask16* risky) const {
    const __m512 v = ClampPs(_mm512_mul_ps(x, inverse), lo, hi);
    const __m512i code = _mm512_cvtps_epi32(v);
    const __m512 rest = _mm512_abs_ps(_mm512_sub_ps(v, _mm512_cvtepi32_ps(code)));
    *risky = static_cast<__mmask16>(
        *risky | _mm512_cmp_ps_mask(rest, _mm512_set1_ps(kNearTie), _CMP_NLT_UQ));
    return _mm512_add_epi32(code, zero_point);
  }
};

Quantizer MakeQuantizer(float scale, float lo, float hi, int32_t zero_point) {
  return {
      _mm512_set1_ps(scale), _mm512_set1_ps(1.0F / scale),  _mm512_set1_ps(lo),
      _mm512_set1_ps(hi),    _mm512_set1_epi32(zero_point), scale > 0x1p-100F && scale < 0x1p100F};
}

OCTET_INLINE __m512 ToFloat(__m128i codes, __m128i flip, __m512i zero_point, __m512 scale) {
  const __m512i q = _mm512_cvtepu8_epi32(_mm_xor_si128(codes, flip));
  return _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_sub_epi32(q, zero_point)), scale);
}

constexpr int64_t kPositions = 256;  // of one pass over all channels: 64 KiB of f32 per 64 channels

int64_t Min(int64_t a, int64_t b) { return a < b ? a : b; }

// Four channels of 16 positions: a dword per position, channel i in byte i. Channels from `count`
// on give 0. Multiplied where `risky` is given, see Quantizer.
OCTET_INLINE __m512i FourChannels(const Quantizer& q, const float* x, int64_t space, int64_t count,
                                  __mmask16 some, __mmask16* risky) {
  const __m512i low_byte = _mm512_set1_epi32(0xff);
  __m512i out = _mm512_setzero_si512();
  OCTET_UNROLL
  for (int i = 0; i < 4; ++i) {
    if (i < count) {
      const __m512 v = _mm512_maskz_loadu_ps(some, x + i * space);
      const __m512i code = risky != nullptr ? q.Multiplied(v, risky) : q.Divided(v);
      const __m512i codes = _mm512_and_si512(code, low_byte);
      out = _mm512_or_si512(out, _mm512_slli_epi32(codes, static_cast<unsigned>(8 * i)));
    }
  }
  return out;
}

// Channels [c, c + n), n <= 4, which are all there are: positions are packed tight.
void QuantizeFewChannels(const QuantizeToNhwcArgs& a, const Quantizer& q) {
  const int64_t n = a.channels;
  alignas(16) uint8_t order[16];
  for (int64_t i = 0; i < 16; ++i)
    order[i] = static_cast<uint8_t>(i < 4 * n ? i / n * 4 + i % n : 0x80);
  const __m512i tight =
      _mm512_broadcast_i32x4(_mm_load_si128(reinterpret_cast<const __m128i*>(order)));
  for (int64_t i = a.begin; i < a.end; i += 16) {
    const int64_t left = Min(16, a.end - i);
    __mmask16 risky = 0;
    __m512i dwords = FourChannels(q, a.x + i, a.space, n, Mask16(left), &risky);
    if (risky != 0 || !q.multiplies)
      dwords = FourChannels(q, a.x + i, a.space, n, Mask16(left), nullptr);
    const __m512i packed = _mm512_shuffle_epi8(dwords, tight);
    uint8_t* y = a.y + i * n;
    alignas(64) uint8_t lanes[64];
    _mm512_store_si512(lanes, packed);
    for (int64_t lane = 0; lane * 4 < left; ++lane) {
      const __mmask16 some = Mask16(Min(4, left - lane * 4) * n);
      _mm_mask_storeu_epi8(y + lane * 4 * n, some,
                           _mm_load_si128(reinterpret_cast<const __m128i*>(lanes + lane * 16)));
    }
  }
}

// 16 channels of 16 positions: after a 4x4 dword transpose in each lane, lane l of vector i is
// position 4l + i.
void QuantizeBlock(const QuantizeToNhwcArgs& a, const Quantizer& q, int64_t c, int64_t i,
                   int64_t left) {
  const int64_t n = Min(16, a.channels - c);
  const __mmask16 some = Mask16(left), store = Mask16(n);
  const float* x = a.x + c * a.space + i;
  __m512i d[4];
  __mmask16 risky = 0;
  OCTET_UNROLL
  for (int j = 0; j < 4; ++j)
    d[j] = FourChannels(q, x + 4 * j * a.space, a.space, n - 4 * j, some, &risky);
  if (risky != 0 || !q.multiplies) {
    OCTET_UNROLL
    for (int j = 0; j < 4; ++j)
      d[j] = FourChannels(q, x + 4 * j * a.space, a.space, n - 4 * j, some, nullptr);
  }
  const __m512i low01 = _mm512_unpacklo_epi32(d[0], d[1]),
                high01 = _mm512_unpackhi_epi32(d[0], d[1]);
  const __m512i low23 = _mm512_unpacklo_epi32(d[2], d[3]),
                high23 = _mm512_unpackhi_epi32(d[2], d[3]);
  alignas(64) uint8_t rows[4][64];
  _mm512_store_si512(rows[0], _mm512_unpacklo_epi64(low01, low23));
  _mm512_store_si512(rows[1], _mm512_unpackhi_epi64(low01, low23));
  _mm512_store_si512(rows[2], _mm512_unpacklo_epi64(high01, high23));
  _mm512_store_si512(rows[3], _mm512_unpackhi_epi64(high01, high23));
  for (int64_t p = 0; p < left; ++p) {
    const auto* row = reinterpret_cast<const __m128i*>(rows[p % 4] + p / 4 * 16);
    _mm_mask_storeu_epi8(a.y + (i + p) * a.channels + c, store, _mm_load_si128(row));
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
void octet_extrema_avx512vnni(const ExtremaArgs* args) {
  __m512 lo[4], hi[4];
  OCTET_UNROLL
  for (int v = 0; v < 4; ++v) lo[v] = hi[v] = _mm512_setzero_ps();
  int64_t i = 0;
  for (; i + 64 <= args->n; i += 64) {
    OCTET_UNROLL
    for (int v = 0; v < 4; ++v) {
      const __m512 x = _mm512_loadu_ps(args->x + i + v * 16);
      lo[v] = _mm512_min_ps(x, lo[v]);
      hi[v] = _mm512_max_ps(x, hi[v]);
    }
  }
  for (; i < args->n; i += 16) {
    const __m512 x = _mm512_maskz_loadu_ps(Mask16(args->n - i), args->x + i);
    lo[0] = _mm512_min_ps(x, lo[0]);
    hi[0] = _mm512_max_ps(x, hi[0]);
  }
  args->extrema[0] =
      _mm512_reduce_min_ps(_mm512_min_ps(_mm512_min_ps(lo[0], lo[1]), _mm512_min_ps(lo[2], lo[3])));
  args->extrema[1] =
      _mm512_reduce_max_ps(_mm512_max_ps(_mm512_max_ps(hi[0], hi[1]), _mm512_max_ps(hi[2], hi[3])));
}

void octet_quantize_avx512vnni(const QuantizeArgs* args) {
  const QuantizeArgs& a = *args;
  const Quantizer q = MakeQuantizer(a.scale, a.lo, a.hi, a.zero_point);
  int64_t i = 0;
  for (; i + 64 <= a.n; i += 64) {
    __m512i codes[4];
    __mmask16 risky = 0;
    OCTET_UNROLL
    for (int j = 0; j < 4; ++j) codes[j] = q.Multiplied(_mm512_loadu_ps(a.x + i + 16 * j), &risky);
    if (risky != 0 || !q.multiplies) {
      OCTET_UNROLL
      for (int j = 0; j < 4; ++j) codes[j] = q.Divided(_mm512_loadu_ps(a.x + i + 16 * j));
    }
    OCTET_UNROLL
    for (int j = 0; j < 4; ++j)
      _mm_storeu_si128(reinterpret_cast<__m128i*>(a.y + i + 16 * j),
                       _mm512_cvtepi32_epi8(codes[j]));
  }
  for (; i < a.n; i += 16) {
    const __mmask16 some = Mask16(a.n - i);
    _mm512_mask_cvtepi32_storeu_epi8(a.y + i, some,
                                     q.Divided(_mm512_maskz_loadu_ps(some, a.x + i)));
  }
}

void octet_dequantize_avx512vnni(const DequantizeArgs* args) {
  const DequantizeArgs& a = *args;
  const __m128i flip = _mm_set1_epi8(static_cast<char>(a.x_flip));
  const __m512i zero_point = _mm512_set1_epi32(a.zero_point);
  const __m512 scale = _mm512_set1_ps(a.scale);
  for (int64_t i = 0; i < a.n; i += 16) {
    const __mmask16 some = Mask16(a.n - i);
    _mm512_mask_storeu_ps(a.y + i, some,
                          ToFloat(_mm_maskz_loadu_epi8(some, a.x + i), flip, zero_point, scale));
  }
}

void octet_quantize_to_nhwc_avx512vnni(const QuantizeToNhwcArgs* args) {
  const QuantizeToNhwcArgs& a = *args;
  const Quantizer q = MakeQuantizer(a.scale, a.lo, a.hi, a.zero_point);
  if (a.channels <= 4) {
    QuantizeFewChannels(a, q);
    return;
  }
  for (int64_t begin = a.begin; begin < a.end; begin += kPositions) {
    const int64_t end = Min(a.end, begin + kPositions);
    for (int64_t c = 0; c < a.channels; c += 16)
      for (int64_t i = begin; i < end; i += 16) QuantizeBlock(a, q, c, i, Min(16, end - i));
  }
}

void octet_dequantize_to_nchw_avx512vnni(const DequantizeToNchwArgs* args) {
  const DequantizeToNchwArgs& a = *args;
  const __m128i flip = _mm_set1_epi8(static_cast<char>(a.x_flip));
  const __m512i zero_point = _mm512_set1_epi32(a.zero_point);
  const __m512 scale = _mm512_set1_ps(a.scale);
  for (int64_t begin = a.begin; begin < a.end; begin += kPositions) {
    const int64_t end = Min(a.end, begin + kPositions);
    for (int64_t c = 0; c < a.channels; c += 16) {
      const int64_t n = Min(16, a.channels - c);
      for (int64_t i = begin; i < end; i += 16) {
        const int64_t left = Min(16, end - i);
        __m128i rows[16];
        for (int64_t p = 0; p < 16; ++p) {
          rows[p] = p < left ? _mm_maskz_loadu_epi8(Mask16(n), a.x + (i + p) * a.channels + c)
                             : _mm_setzero_si128();
        }
        Transpose16(rows);
        for (int64_t j = 0; j < n; ++j) {
          _mm512_mask_storeu_ps(a.y + (c + j) * a.space + i, Mask16(left),
                                ToFloat(rows[j], flip, zero_point, scale));
        }
      }
    }
  }
}

void octet_add_avx512vnni(const AddArgs* args) {
  const AddArgs& a = *args;
  const __m128i flip = _mm_set1_epi8(static_cast<char>(a.flip));
  const __m512i a_zero = _mm512_set1_epi32(a.a_zero_point),
                b_zero = _mm512_set1_epi32(a.b_zero_point);
  const __m512i y_zero = _mm512_set1_epi32(a.y_zero_point);
  const __m512 a_ratio = _mm512_set1_ps(a.a_ratio), b_ratio = _mm512_set1_ps(a.b_ratio);
  const __m512 lo = _mm512_set1_ps(a.lo), hi = _mm512_set1_ps(a.hi);
  for (int64_t i = 0; i < a.n; i += 16) {
    const __mmask16 some = Mask16(a.n - i);
    const __m512 fa = ToFloat(_mm_maskz_loadu_epi8(some, a.a + i), flip, a_zero, a_ratio);
    const __m512 fb = ToFloat(_mm_maskz_loadu_epi8(some, a.b + i), flip, b_zero, b_ratio);
    const __m512i q =
        _mm512_add_epi32(_mm512_cvtps_epi32(ClampPs(_mm512_add_ps(fa, fb), lo, hi)), y_zero);
    _mm_mask_storeu_epi8(a.y + i, some, _mm_xor_si128(_mm512_cvtepi32_epi8(q), flip));
  }
}

}  // extern "C"
