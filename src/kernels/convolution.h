// What Gemm and Conv share: a checked problem, its kernel, and its weights packed for that kernel.
//
// Three roads, by kernel operator:
//   Dense      implicit GEMM. A pixel's row of A is `taps` pieces of NHWC memory, found through a
//              table of pointers that is made block by block; taps outside the image point at a
//              pixel of zero points, so the zero-point correction is one constant per channel.
//              1x1 stride-1 needs no table.
//   Depthwise  one input channel per output channel
//   Reference  where a sum could leave int32
// int8 activations and images of few channels are first staged: copied once with the sign bit
// flipped, or into rows padded left and right, so that a filter row is one contiguous piece of
// kernel_w * C bytes.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "kernels/dispatch.h"
#include "kernels/pack.h"
#include "kernels/reference.h"
#include "octet/kernels.h"

namespace octet::kernels {

class Convolution {
 public:
  // `what` ("Gemm", "Conv") opens the messages of errors.
  Convolution(const ConvProblem& problem, std::string_view what);

  void Run(const Images& images) const;

  [[nodiscard]] int64_t OutHeight(int64_t height) const;
  [[nodiscard]] int64_t OutWidth(int64_t width) const;
  [[nodiscard]] const ConvProblem& problem() const { return problem_; }
  [[nodiscard]] const std::vector<Candidate>& candidates() const { return candidates_; }
  [[nodiscard]] int64_t packed_bytes() const { return weights_.size() + epilogue_->bytes(); }

 private:
  struct Walk;  // how a dense run walks its (staged) input

  [[nodiscard]] std::string Refusal(const KernelInfo& kernel, std::string_view overflow) const;
  void Choose(std::string_view overflow);
  void Pack();
  [[nodiscard]] Walk Stage(const Images& images) const;
  void FillTable(const Walk& walk, int64_t begin, int64_t end, int64_t ld,
                 const uint8_t** table) const;
  void RunDense(const Images& images) const;
  void RunDensePiece(const Walk& walk, const Images& images, int64_t m0, int64_t m1, int64_t n0,
                     int64_t n1) const;
  void RunDepthwise(const Images& images) const;
  [[nodiscard]] int64_t OutSize(std::string_view axis, int64_t size, int64_t pad, int64_t kernel,
                                int64_t stride, int64_t dilation) const;

  std::string what_;
  ConvProblem problem_;
  std::vector<int8_t> plain_;  // OIHW, kept for the reference kernel only
  std::vector<Candidate> candidates_;
  const KernelInfo* kernel_ = nullptr;
  bool merged_ = false;        // Dense: a tap is a filter row
  int64_t taps_ = 0, kc_ = 0;  // Dense: pieces of a row of A and their bytes
  int64_t group_bytes_ = 0;    // Dense: packed bytes from one group's weights to the next
  AlignedBytes weights_;
  AlignedBytes zero_pixel_;  // one pixel (Dense: of flipped codes) that reads as real 0
  std::unique_ptr<PackedEpilogue> epilogue_;
};

}  // namespace octet::kernels
