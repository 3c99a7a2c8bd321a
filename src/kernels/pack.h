// Packing weights and epilogues once, at construction. Disk knows none of this.
//
// Plain weights are (N, taps, kc) int8.
//   kRowsS16            int16 (N, taps, kc)
//   kPairsS16           int16, per 16 channels: (taps, ceil(kc/2), 16 channels, 2), zeros past kc
//   kTilesK64           int8 panels of 64 channels (the last of 16, 32, 48 or 64), each
//                       (taps, ceil(kc/64), width/16, 16, 16 channels, 4): tiles of 64 of K by 16
//                       channels, zeros past kc
//   kDepthwiseS16       int16 (taps, C)
//   kDepthwiseTaps4     int8, per DepthwiseBlock of B channels: (ceil(taps/4), 4 vectors, B/4,
//                       4 taps)
//   kDepthwiseColumns   int8, per block: (kernel_w, ceil(kernel_h/4), 4 vectors, B/4, 4 rows),
//                       zeros past kernel_h, but for a last row that would be alone:
//                       (ceil(kernel_w/4), 4 vectors, B/4, 4 columns); plain weights are (C,
//                       kernel_h, kernel_w)
//   kDepthwise3x3       int8, per block: (2, kx, 4 vectors, B/4, 4 rows); half 0 holds the rows
//                       (w0 w1 w2 0), half 1 (0 w0 w1 w2): two output rows share four input rows
//   kDepthwise3x3Tiled  kDepthwise3x3 of one block of 64 whose channel i is i % C; C divides 64
//   kDepthwise3x3Twos   int8 (6, 16, 4) for stride 2. C = 8, 16: dword i of vectors 0 to 2 is a
//                       kernel row (k0 k1 k2 0) of channel i % C. C = 32: lane l, dword i of two
//                       vectors each is channels 8l + i, and 8l + 4 + i: (row 0: k0 k1, row 1:
//                       k0 k1), (row 2: k0 k1 k2 0), (row 0: k2 0, row 1: k2 0)
// kApproxDigits and kApproxIntegers are of tables, not weights: kernels/approx_abi.h. In a block,
// vector j, lane l, dword i is channel 16l + 4j + i: what two rounds of byte and word unpacks make
// of four pixels, and what two rounds of packs put back in order.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>
#include <vector>

#include "kernels/abi.h"
#include "kernels/dispatch.h"
#include "octet/kernels.h"

namespace octet::kernels {

// Bytes aligned to 64, zero at first.
class AlignedBytes {
 public:
  AlignedBytes() = default;
  explicit AlignedBytes(int64_t size);
  [[nodiscard]] uint8_t* data() const { return data_.get(); }
  [[nodiscard]] int64_t size() const { return size_; }

 private:
  struct Free {
    void operator()(uint8_t* p) const { std::free(p); }
  };
  std::unique_ptr<uint8_t, Free> data_;
  int64_t size_ = 0;
};

struct PlainWeights {
  std::span<const int8_t> codes;
  int64_t n, taps, kc;
};
[[nodiscard]] AlignedBytes PackWeights(const PlainWeights& weights, Layout layout);
// Bytes of one group's dense weights in `layout`; groups follow each other.
[[nodiscard]] int64_t PackedBytes(int64_t n, int64_t taps, int64_t kc, Layout layout);

// The tables EpilogueArgs points to. `weight_sums`[n] is sum(w), `x_zero_point` of unsigned codes.
class PackedEpilogue {
 public:
  PackedEpilogue(const Epilogue& epilogue, std::span<const int64_t> weight_sums,
                 int32_t x_zero_point);
  [[nodiscard]] const EpilogueArgs& args() const { return args_; }
  [[nodiscard]] int64_t bytes() const { return tables_.size(); }

 private:
  AlignedBytes tables_;
  EpilogueArgs args_{};
};

}  // namespace octet::kernels
