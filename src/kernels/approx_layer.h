// What ApproxLinear and ApproxConv share: tables packed for a kernel, weights, and sums of blocks
// of lanes.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "kernels/approx_abi.h"
#include "kernels/dispatch.h"
#include "kernels/pack.h"
#include "octet/approx.h"

namespace octet::kernels {

// Parts of a layer's channels are best multiples of it.
constexpr int64_t kApproxChannels = 32;
// Channels whose sums and weights stay in L2 while the blocks of K go by, a multiple of
// kApproxChannels: (channels, lanes rounded up to 64) of them are at most kApproxSums.
[[nodiscard]] int64_t ApproxChannels(int64_t lanes);
constexpr int64_t kApproxSums = 2 * kApproxChannels * kApproxLanes;

// Lanes that blocks of at most kApproxLanes take of `lanes`, so that they are about equal.
[[nodiscard]] int64_t ApproxBlock(int64_t lanes);
// Where part `part` of `parts` begins.
[[nodiscard]] int64_t ApproxCut(int64_t channels, int64_t part, int64_t parts);

class ApproxLayer {
 public:
  // weight (n,k); `what` ("ApproxConv") opens the messages of errors.
  ApproxLayer(const ApproxMultiply& multiply, int64_t n, int64_t k, const uint8_t* weight,
              std::string_view what);

  // y[c - n0][lane] for channels [n0, n1), y_stride apart, from codes (k, kApproxLanes), aligned to
  // 64: lanes past `lanes` hold any codes. `negative`: some code has its highest bit set.
  void Run(const uint8_t* codes, int64_t lanes, bool negative, int64_t n0, int64_t n1, float* y,
           int64_t y_stride) const;

  [[nodiscard]] int64_t n() const { return n_; }
  [[nodiscard]] int64_t k() const { return k_; }
  [[nodiscard]] const std::vector<Candidate>& candidates() const { return candidates_; }
  [[nodiscard]] int64_t packed_bytes() const;

 private:
  struct Reach {  // of the entries that weights point to
    int64_t largest = 0;
    bool symmetric = true;  // codes with bit 7 mean the negative of those without
  };
  void TakeChannels(const ApproxMultiply& multiply, std::string_view what);
  [[nodiscard]] Reach FindReach(const ApproxMultiply& multiply, std::string_view what) const;
  void ChooseKernel(Op op);
  void ChooseDigits(const Reach& reach);
  void PackDigits(const ApproxMultiply& multiply);
  void PackIntegers(const ApproxMultiply& multiply, const Reach& reach);
  [[nodiscard]] bool Uses(size_t table, int code) const {
    return used_[table * 256 + static_cast<size_t>(code)] != 0;
  }

  void Finish(const void* sums, int64_t channel, int64_t lanes, float* y) const;
  [[nodiscard]] bool PackGrid(const ApproxMultiply& multiply);
  void RunRounded(const uint8_t* codes, int64_t lanes, bool negative, int64_t n0, int64_t n1,
                  float* y, int64_t y_stride) const;
  void RunEachAdd(const uint8_t* codes, int64_t lanes, int64_t channel, float* y) const;
  template <typename Sum>
  void Store(const Sum* sums, int64_t channel, int64_t lanes, float* y) const;

  int64_t n_, k_;
  std::vector<uint8_t> weight_;  // (n,k)
  std::vector<int32_t> table_of_;
  std::vector<float> unit_, bias_;
  SumRounding rounding_;
  std::vector<uint8_t> used_;  // [table * 256 + weight code]

  const KernelInfo* kernel_ = nullptr;
  std::vector<Candidate> candidates_;
  AlignedBytes rows_, columns_;
  int64_t row_bytes_ = 0;
  ApproxMode mode_ = kApprox256;
  int32_t planes_ = 1, half_ = 0;
  int32_t entry_bytes_ = 0;            // of integers
  bool small_ = false;                 // sums fit int32
  bool on_grid_ = false;               // each_add, of products that are on the grid
  bool tiny_ = false;                  // sums, and what they are joined from, are exact in float32
  std::vector<double> each_add_rows_;  // [table * 65536 + weight code * 256 + x code]
};

}  // namespace octet::kernels
