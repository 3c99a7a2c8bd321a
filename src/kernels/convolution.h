// What Gemm and Conv share: a checked problem, its kernel, and its weights packed for that kernel.
//
// Three roads, by kernel operator:
//   Dense      implicit GEMM, block by block of output rows. A block's input is read in place
//              where the image needs no padding, else from a copy of its rows with the padding
//              written out (and the sign bit of int8 flipped), ordered so that output pixels are
//              a constant stride apart. Of wide images tiles and narrow kernels copy the edges
//              only. A filter row is one piece of kernel_w * C bytes. Of few channels and stride 2,
//              two input rows are copied as one of pixels twice as wide, so that two filter rows
//              are one piece: tiles of 64 bytes of K are fuller.
//   Depthwise  one input channel per output channel
//   Reference  where a sum could leave int32
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

  // x, y and their strides of `images`; x_zero_point is set here from the problem.
  void Run(const Images& images) const;
  // Of a problem with grid_at_run.
  void RunOnGrid(const Images& images, Grid grid) const;

  [[nodiscard]] int64_t OutHeight(int64_t height) const;
  [[nodiscard]] int64_t OutWidth(int64_t width) const;
  [[nodiscard]] const ConvProblem& problem() const { return problem_; }
  [[nodiscard]] const std::vector<Candidate>& candidates() const { return candidates_; }
  // True where a sum could leave int32.
  [[nodiscard]] bool takes_reference() const { return kernel_->op == Op::Reference; }
  [[nodiscard]] int64_t packed_bytes() const { return weights_.size() + epilogue_->bytes(); }

 private:
  struct Space;  // the input and output a dense run walks
  struct Block;
  struct StagedRow;

  void CutRows(bool fold);
  [[nodiscard]] std::string Refusal(const KernelInfo& kernel, std::string_view overflow) const;
  [[nodiscard]] std::string RefusalOfNarrow() const;
  [[nodiscard]] std::string RefusalOfDepthwise(Layout layout) const;
  void Choose(std::string_view overflow);
  void Pack();
  void Address(const Space& space, const Block& block, DenseArgs* args) const;
  [[nodiscard]] StagedRow RowToStage(const Images& im, const Block& block) const;
  void Stage(const Space& space, const Block& block, DenseArgs* args) const;
  void StageFolded(const Space& space, const Block& block, DenseArgs* args) const;
  void QuantizeRows(const Space& space, const Block& block, DenseArgs* args) const;
  void Dispatch(const Images& images) const;
  void RunDense(const Images& images) const;
  void RunBlock(const Space& space, const Block& block, int64_t n0, int64_t n1) const;
  [[nodiscard]] bool MayReadInside(const Space& space) const;
  void RunInside(const Space& space, const Block& rows, int64_t n0, int64_t n1) const;
  void RunDensePiece(const Space& space, int64_t begin, int64_t end, int64_t n0, int64_t n1) const;
  void RunDepthwise(const Images& images) const;
  [[nodiscard]] int64_t OutSize(std::string_view axis, int64_t size, int64_t pad, int64_t kernel,
                                int64_t stride, int64_t dilation) const;

  std::string what_;
  ConvProblem problem_;
  std::vector<int8_t> plain_;         // OIHW, kept for the reference kernel only
  std::vector<int32_t> weight_sums_;  // per output channel, where grid_at_run
  std::vector<Candidate> candidates_;
  const KernelInfo* kernel_ = nullptr;
  const KernelInfo* few_rows_kernel_ =
      nullptr;                 // Dense: of the same layout; kernel_ where no other
  bool merged_ = false;        // Dense: a tap is a filter row
  bool folded_ = false;        // Dense: a tap is two filter rows
  bool staged_ = false;        // Dense: A is a copy of the input
  int64_t taps_ = 0, kc_ = 0;  // Dense: pieces of a row of A and their bytes
  int64_t group_bytes_ = 0;    // Dense: packed bytes from one group's weights to the next
  AlignedBytes weights_;
  AlignedBytes zero_pixel_;  // Depthwise: one pixel that reads as real 0
  std::unique_ptr<PackedEpilogue> epilogue_;
};

}  // namespace octet::kernels
