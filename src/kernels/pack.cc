#include "kernels/pack.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/error.h"

namespace octet::kernels {
namespace {

constexpr int64_t RoundUp(int64_t v, int64_t to) { return (v + to - 1) / to * to; }

void PackRowsS16(const PlainWeights& w, int16_t* out) {
  for (size_t i = 0; i < w.codes.size(); ++i) out[i] = w.codes[i];
}

void PackPairsS16(const PlainWeights& w, int16_t* out) {
  const int64_t tap_pairs = (w.kc + 1) / 2, group = w.taps * tap_pairs * 32;
  for (int64_t n = 0; n < w.n; ++n)
    for (int64_t t = 0; t < w.taps; ++t)
      for (int64_t k = 0; k < w.kc; ++k) {
        out[n / 16 * group + (t * tap_pairs + k / 2) * 32 + n % 16 * 2 + k % 2] =
            w.codes[static_cast<size_t>((n * w.taps + t) * w.kc + k)];
      }
}

// A panel's taps follow each other, each as the kernels of PackTiles make one.
void PackTilesK64(const PlainWeights& w, int8_t* out) {
  const KernelInfo& kernel = Select(Op::PackTiles);
  const int64_t tap_row = RoundUp(w.kc, 64);
  for (int64_t n0 = 0; n0 < w.n; n0 += 64) {
    const int64_t here = std::min<int64_t>(64, w.n - n0), width = RoundUp(here, 16);
    for (int64_t t = 0; t < w.taps; ++t) {
      Call(kernel, PackTilesArgs{w.codes.data() + (n0 * w.taps + t) * w.kc, w.taps * w.kc, here,
                                 w.kc, out + n0 * w.taps * tap_row + t * tap_row * width, nullptr});
    }
  }
}

void PackDepthwiseS16(const PlainWeights& w, int16_t* out) {
  for (int64_t c = 0; c < w.n; ++c)
    for (int64_t t = 0; t < w.taps; ++t)
      out[t * w.n + c] = w.codes[static_cast<size_t>(c * w.taps + t)];
}

// Where channel c of a block of B channels lies in its four vectors of B bytes: byte offset of its
// dword.
int64_t InterleavedOffset(int64_t c, int64_t block) {
  const int64_t lane = c / 16, vector = c % 16 / 4, dword = c % 4;
  return vector * block + lane * 16 + dword * 4;
}

void PackDepthwiseTaps4(const PlainWeights& w, int8_t* out) {
  const int64_t groups = (w.taps + 3) / 4;
  for (int64_t c0 = 0; c0 < w.n;) {
    const int64_t block = DepthwiseBlock(w.n - c0);
    for (int64_t c = 0; c < std::min(block, w.n - c0); ++c)
      for (int64_t t = 0; t < w.taps; ++t)
        out[t / 4 * 4 * block + InterleavedOffset(c, block) + t % 4] =
            w.codes[static_cast<size_t>((c0 + c) * w.taps + t)];
    out += groups * 4 * block;
    c0 += block;
  }
}

void PackDepthwiseColumns(const PlainWeights& w, int8_t* out) {
  const DepthwiseColumns columns(w.taps);
  for (int64_t c0 = 0; c0 < w.n;) {
    const int64_t block = DepthwiseBlock(w.n - c0);
    for (int64_t c = 0; c < std::min(block, w.n - c0); ++c)
      for (int64_t ky = 0; ky < w.taps; ++ky)
        for (int64_t kx = 0; kx < w.kc; ++kx) {
          const bool alone = ky / 4 == columns.fours;
          const int64_t dword = alone ? columns.fours * w.kc + kx / 4 : kx * columns.fours + ky / 4;
          out[dword * 4 * block + InterleavedOffset(c, block) + (alone ? kx % 4 : ky % 4)] =
              w.codes[static_cast<size_t>(((c0 + c) * w.taps + ky) * w.kc + kx)];
        }
    out += columns.of_filter(w.kc) * 4 * block;
    c0 += block;
  }
}

void PackDepthwise3x3(const PlainWeights& w, int8_t* out) {
  for (int64_t c0 = 0; c0 < w.n;) {
    const int64_t block = DepthwiseBlock(w.n - c0);
    for (int64_t half = 0; half < 2; ++half)
      for (int64_t kx = 0; kx < 3; ++kx)
        for (int64_t c = 0; c < std::min(block, w.n - c0); ++c)
          for (int64_t ky = 0; ky < 3; ++ky)
            out[(half * 3 + kx) * 4 * block + InterleavedOffset(c, block) + ky + half] =
                w.codes[static_cast<size_t>((c0 + c) * 9 + ky * 3 + kx)];
    out += 24 * block;
    c0 += block;
  }
}

void PackDepthwise3x3Tiled(const PlainWeights& w, int8_t* out) {
  std::vector<int8_t> tiled;
  while (tiled.size() < 64 * 9) tiled.insert(tiled.end(), w.codes.begin(), w.codes.end());
  PackDepthwise3x3({tiled, 64, 9, 1}, out);
}

void PackDepthwise3x3Twos(const PlainWeights& w, int8_t* out) {
  for (int64_t dword = 0; dword < 16; ++dword) {
    const auto put = [&](int64_t vector, int64_t channel, int64_t byte, int64_t ky, int64_t kx) {
      out[vector * 64 + dword * 4 + byte] = w.codes[static_cast<size_t>(channel * 9 + ky * 3 + kx)];
    };
    for (int64_t kx = 0; w.n < 32 && kx < 3; ++kx)
      for (int64_t ky = 0; ky < 3; ++ky) put(ky, dword % w.n, kx, ky, kx);
    for (int64_t half = 0; w.n == 32 && half < 2; ++half) {
      const int64_t channel = dword / 4 * 8 + half * 4 + dword % 4;
      for (int64_t ky = 0; ky < 2; ++ky) {
        put(half, channel, ky * 2, ky, 0);
        put(half, channel, ky * 2 + 1, ky, 1);
        put(4 + half, channel, ky * 2, ky, 2);
      }
      for (int64_t kx = 0; kx < 3; ++kx) put(2 + half, channel, kx, 2, kx);
    }
  }
}

// Channels that the blocks of a depthwise layer cover.
int64_t BlockedChannels(int64_t channels) {
  int64_t covered = 0;
  while (covered < channels) covered += DepthwiseBlock(channels - covered);
  return covered;
}

}  // namespace

AlignedBytes::AlignedBytes(int64_t size) : size_(size) {
  const auto bytes = static_cast<size_t>(RoundUp(std::max<int64_t>(size, 1), 64));
  data_.reset(static_cast<uint8_t*>(std::aligned_alloc(64, bytes)));
  if (data_ == nullptr) throw std::bad_alloc();
  std::memset(data_.get(), 0, bytes);
}

int64_t PackedBytes(int64_t n, int64_t taps, int64_t kc, Layout layout) {
  switch (layout) {
    case Layout::kRowsS16:
    case Layout::kDepthwiseS16:
      return n * taps * kc * 2;
    case Layout::kPairsS16:
      return RoundUp(n, 16) * taps * RoundUp(kc, 2) * 2;
    case Layout::kTilesK64:
      return RoundUp(n, 16) * taps * RoundUp(kc, 64);
    case Layout::kDepthwiseTaps4:
      return BlockedChannels(n) * RoundUp(taps, 4);
    case Layout::kDepthwiseColumns:
      return BlockedChannels(n) * DepthwiseColumns(taps).of_filter(kc) * 4;
    case Layout::kDepthwise3x3:
      return BlockedChannels(n) * 24;
    case Layout::kDepthwise3x3Tiled:
      return 64 * 24;
    case Layout::kDepthwise3x3Twos:
      return 64 * 6;
    case Layout::kApproxDigits:
    case Layout::kApproxIntegers:
    case Layout::kNone:
    case Layout::kPlain:
      break;
  }
  Fail(ErrorCode::kInternal, "layout ", static_cast<int>(layout), " is not a packed one");
}

AlignedBytes PackWeights(const PlainWeights& w, Layout layout) {
  AlignedBytes out(PackedBytes(w.n, w.taps, w.kc, layout));
  switch (layout) {
    case Layout::kRowsS16:
      PackRowsS16(w, reinterpret_cast<int16_t*>(out.data()));
      break;
    case Layout::kPairsS16:
      PackPairsS16(w, reinterpret_cast<int16_t*>(out.data()));
      break;
    case Layout::kTilesK64:
      PackTilesK64(w, reinterpret_cast<int8_t*>(out.data()));
      break;
    case Layout::kDepthwiseS16:
      PackDepthwiseS16(w, reinterpret_cast<int16_t*>(out.data()));
      break;
    case Layout::kDepthwiseTaps4:
      PackDepthwiseTaps4(w, reinterpret_cast<int8_t*>(out.data()));
      break;
    case Layout::kDepthwiseColumns:
      PackDepthwiseColumns(w, reinterpret_cast<int8_t*>(out.data()));
      break;
    case Layout::kDepthwise3x3:
      PackDepthwise3x3(w, reinterpret_cast<int8_t*>(out.data()));
      break;
    case Layout::kDepthwise3x3Tiled:
      PackDepthwise3x3Tiled(w, reinterpret_cast<int8_t*>(out.data()));
      break;
    case Layout::kDepthwise3x3Twos:
      PackDepthwise3x3Twos(w, reinterpret_cast<int8_t*>(out.data()));
      break;
    case Layout::kApproxDigits:
    case Layout::kApproxIntegers:
    case Layout::kNone:
    case Layout::kPlain:
      break;
  }
  return out;
}

PackedEpilogue::PackedEpilogue(const Epilogue& e, std::span<const int64_t> weight_sums,
                               int32_t x_zero_point) {
  const auto n = static_cast<int64_t>(weight_sums.size());
  const int64_t padded = RoundUp(n, 16) + 64;
  tables_ = AlignedBytes(padded * (4 + 4 + 4 + 1 + 1));
  auto* bias = reinterpret_cast<int32_t*>(tables_.data());
  auto* multiplier = reinterpret_cast<float*>(bias + padded);
  float* float_bias = multiplier + padded;
  auto* lo = reinterpret_cast<uint8_t*>(float_bias + padded);
  uint8_t* hi = lo + padded;

  const bool int8 = e.output == OutputType::kInt8;
  const int32_t shift = int8 ? 128 : 0;
  const auto at = [](const auto& values, int64_t i, auto none) {
    using T = decltype(none);
    return values.empty() ? none
                          : static_cast<T>(values[values.size() == 1 ? 0 : static_cast<size_t>(i)]);
  };
  bool bounded = false;
  for (int64_t i = 0; i < n; ++i) {
    const int64_t sum = weight_sums[static_cast<size_t>(i)];
    bias[i] =
        static_cast<int32_t>(static_cast<uint32_t>(at(e.bias, i, int64_t{0}) - x_zero_point * sum));
    multiplier[i] = at(e.multiplier, i, 1.0F);
    float_bias[i] = at(e.float_bias, i, 0.0F);
    lo[i] = static_cast<uint8_t>(at(e.lo, i, -shift) + shift);
    hi[i] = static_cast<uint8_t>(at(e.hi, i, 255 - shift) + shift);
    bounded = bounded || lo[i] != 0 || hi[i] != 255;
  }

  args_.bias = bias;
  args_.multiplier = multiplier;
  args_.float_bias = float_bias;
  args_.lo = lo;
  args_.hi = hi;
  args_.output = e.output == OutputType::kInt32     ? kStoreInt32
                 : e.output == OutputType::kFloat32 ? kStoreFloat
                                                    : kStoreCodes;
  args_.y_zero_point = e.y_zero_point + shift;
  args_.y_flip = int8 ? 0x80 : 0;
  args_.float_lo = e.float_lo;
  args_.float_hi = e.float_hi;
  const Residual& r = e.residual;
  args_.residual = !r.present ? kNoResidual : r.mid_codes ? kResidualOnMidCodes : kResidualOnFloat;
  const bool r_int8 = r.type == CodeType::kInt8;
  args_.r_flip = r_int8 ? 0x80 : 0;
  args_.r_zero_point = r.zero_point + (r_int8 ? 128 : 0);
  args_.r_ratio = r.ratio;
  args_.mid_lo = static_cast<float>(r.mid_lo - r.mid_zero_point);
  args_.mid_hi = static_cast<float>(r.mid_hi - r.mid_zero_point);
  args_.mid_ratio = r.mid_ratio;
  // |acc| <= 2^31, codes less their zero point are below 2^8, and every limit leaves a bit spare.
  float largest = 0.0F;
  for (int64_t i = 0; i < n; ++i) largest = std::max(largest, std::abs(multiplier[i]));
  const float added = r.present ? 256.0F * std::abs(r.ratio) : 0.0F;
  args_.small = args_.residual == kResidualOnMidCodes
                    ? added + 256.0F * std::abs(r.mid_ratio) < 0x1p30F
                    : largest <= 0.25F && added < 0x1p30F;
  args_.plain =
      args_.output == kStoreCodes && args_.small && !r.present && !bounded && e.y_zero_point == 0;
}

}  // namespace octet::kernels
