// Linear layers and convolutions whose multiplier is a table: approximate multipliers, products
// rounded one by one, or anything else that maps two 8-bit codes to a number.
//
//   sum = sum over k of table[x code][weight code], an exact integer
//   y   = float(sum) * unit[channel] + bias[channel]
// float(sum) is the nearest float32, ties to even; each operation rounds once. Results are the same
// bits on every instruction set and with any number of threads. Zero is not special: padding is a
// code like any other, and goes through the table.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "octet/kernels.h"

namespace octet::kernels {

// Sums, too, may be rounded to a float format's grid, in units of the grid's finest step (`largest`
// as well): to mantissa_bits + 1 significant bits, nearest even, magnitudes clamped to `largest`
// first.
struct SumRounding {
  bool enabled = false;
  // After each addition in order of k, beginning with 0; else once, after the last. Slow.
  bool each_add = false;
  int mantissa_bits = 3;
  double largest = 0;
};

// What products and sums are made of, read at construction only.
struct ApproxMultiply {
  // Each [256 * 256], [x code * 256 + weight code].
  std::vector<const int64_t*> tables;
  std::vector<int32_t> table_of_channel;  // [N], indices into `tables`; empty: all the first
  std::vector<float> unit;                // [N] or [1]
  const float* bias = nullptr;            // [N], or null
  // Codes of x are below 2^x_bits (6 to 8): shorter tables are faster. Lower ones may be written 6.
  int x_bits = 8;
  SumRounding rounding;
};

struct ApproxLinearProblem {
  int64_t n = 0, k = 0;
  const uint8_t* weight = nullptr;  // (N,K) codes; read at construction only
  ApproxMultiply multiply;
};

// May be run from several threads at once.
class ApproxLinear {
 public:
  // Throws kUnsupported where a sum could leave 62 bits.
  explicit ApproxLinear(const ApproxLinearProblem& problem);
  ~ApproxLinear();
  ApproxLinear(ApproxLinear&&) noexcept;
  ApproxLinear& operator=(ApproxLinear&&) noexcept;

  // x (M,K) codes, y (M,N) float32; strides between rows in elements.
  void Run(int64_t m, const uint8_t* x, int64_t x_stride, float* y, int64_t y_stride) const;
  [[nodiscard]] const std::vector<Candidate>& candidates() const;
  [[nodiscard]] int64_t packed_bytes() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

struct ApproxConvProblem {
  int64_t groups = 1;
  int64_t in_channels = 0, out_channels = 0;
  int64_t kernel_h = 1, kernel_w = 1;
  int64_t stride_h = 1, stride_w = 1;
  int64_t dilation_h = 1, dilation_w = 1;
  int64_t pad_top = 0, pad_left = 0, pad_bottom = 0, pad_right = 0;
  uint8_t pad_code = 0;
  const uint8_t* weight = nullptr;  // OIHW codes: (OC, C/G, KH, KW); read at construction only
  ApproxMultiply multiply;
};

// Any groups, depthwise included; sums run over (c, kh, kw) in this order. May be run from several
// threads at once.
class ApproxConv {
 public:
  explicit ApproxConv(const ApproxConvProblem& problem);
  ~ApproxConv();
  ApproxConv(ApproxConv&&) noexcept;
  ApproxConv& operator=(ApproxConv&&) noexcept;

  // x (N,C,H,W) codes, y (N,OC,OH,OW) float32: both channels first.
  void Run(int64_t batch, int64_t height, int64_t width, const uint8_t* x, float* y) const;
  // What every output pixel multiplies: (N * OH * OW, C * KH * KW) codes, those in the padding
  // included. For looking at operands; slow.
  [[nodiscard]] std::vector<uint8_t> Columns(int64_t batch, int64_t height, int64_t width,
                                             const uint8_t* x) const;
  // OH, OW for an input; throws where the padded input is smaller than the filter.
  [[nodiscard]] int64_t OutHeight(int64_t height) const;
  [[nodiscard]] int64_t OutWidth(int64_t width) const;
  [[nodiscard]] const std::vector<Candidate>& candidates() const;
  [[nodiscard]] int64_t packed_bytes() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace octet::kernels
