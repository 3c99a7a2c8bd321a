// WeightOnlyLinear of octet/kernels.h on the dense INT8 kernels: every row of x becomes three rows
// of digits (kernels/linear_abi.h), whose integer products with the weights are joined in double
// precision. Each row of weights is read once for all digits, so one row of x runs at memory speed,
// and many run at a third of the INT8 rate, which is above float32's.
#include <algorithm>
#include <cmath>

#include "base/checked_math.h"
#include "base/error.h"
#include "base/parallel.h"
#include "kernels/dense_choice.h"

namespace octet::kernels {
namespace {

constexpr int64_t kGrainMacs = 1'500'000;  // as for convolutions; three of them per product
constexpr int64_t kPanel = 64;
// Of a 2 MiB L2: digits of a block of rows, weights and sums.
constexpr int64_t kRowBlockBytes = 512 << 10;
constexpr int64_t kWeightBlockBytes = 768 << 10;
constexpr int64_t kSumsBlockBytes = 256 << 10;
constexpr int64_t kGroupedRows = 32, kGroupedSumsBytes = 40 << 10;
// Sums of as many products of a digit and a weight fit int32: 2^14 * 2^16 < 2^31.
constexpr int64_t kDeepest = 1 << 16;

constexpr int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }
constexpr int64_t RoundUp(int64_t a, int64_t b) { return CeilDiv(a, b) * b; }

void Check(const WeightOnlyProblem& p) {
  const int64_t dims[] = {p.n, p.k};
  const auto weights = CheckedProduct(dims);
  if (p.n < 1 || p.k < 1 || !weights || *weights > int64_t{1} << 40) {
    Fail(ErrorCode::kInvalidArgument, "WeightOnlyLinear: N is ", p.n, ", K is ", p.k,
         "; expected 1 or more, and at most 2^40 weights");
  }
  if (p.group < 0)
    Fail(ErrorCode::kInvalidArgument, "WeightOnlyLinear: group is ", p.group, "; expected >= 0");
  if (p.weight == nullptr || p.scale == nullptr)
    Fail(ErrorCode::kInvalidArgument, "WeightOnlyLinear: weight or scale is null");
}

}  // namespace

// A stretch of K under one scale.
struct WeightOnlyPiece {
  int64_t begin, size;
  int64_t weights;  // bytes into the packed weights
  int64_t table;    // index of channel 0 in bias and scale
};

struct WeightOnlyLinear::Impl {
  int64_t n, k;
  DenseChoice choice;
  std::vector<Candidate> candidates;
  std::vector<WeightOnlyPiece> pieces;
  AlignedBytes weights;
  std::vector<int32_t> corrections;  // -128 * sum of weights: a digit's zero point is 128
  std::vector<float> scale, bias;

  struct Rows {
    const uint8_t* digits;
    int64_t lda, bytes;
    const float* step;
    int64_t m;
    float* y;
    int64_t y_stride;
  };

  explicit Impl(const WeightOnlyProblem& p);
  void Run(const Rows& rows, int64_t m0, int64_t m1, int64_t n0, int64_t n1) const;
};

WeightOnlyLinear::Impl::Impl(const WeightOnlyProblem& p) : n(p.n), k(p.k) {
  const int64_t group = p.group == 0 ? p.k : std::min(p.group, p.k);
  choice = ChooseDense(std::min(group, kDeepest));
  candidates = DenseCandidates(std::min(group, kDeepest));
  const Layout layout = choice.kernel->layout;
  const int64_t groups = CeilDiv(p.k, group), padded = RoundUp(p.n, 16) + 64;
  int64_t bytes = 0;
  for (int64_t g = 0; g < groups; ++g) {
    const int64_t end = std::min(p.k, (g + 1) * group);
    for (int64_t at = g * group; at < end; at += kDeepest) {
      const int64_t size = std::min(kDeepest, end - at);
      pieces.push_back({at, size, bytes, static_cast<int64_t>(pieces.size()) * padded});
      bytes += RoundUp(PackedBytes(p.n, 1, size, layout), 64);
    }
  }
  weights = AlignedBytes(bytes);
  corrections.resize(pieces.size() * static_cast<size_t>(padded));
  scale.resize(corrections.size());
  for (const WeightOnlyPiece& piece : pieces) {
    int32_t* sums = corrections.data() + piece.table;
    PackDense(p.weight + piece.begin, p.k, p.n, piece.size, layout, weights.data() + piece.weights,
              sums);
    for (int64_t i = 0; i < p.n; ++i) {
      sums[i] *= -128;
      const float s = p.scale[i * groups + piece.begin / group];
      if (!std::isfinite(s))
        Fail(ErrorCode::kInvalidArgument, "WeightOnlyLinear: a scale of channel ", i, " is ", s,
             "; expected finite");
      scale[static_cast<size_t>(piece.table + i)] = s;
    }
  }
  bias.resize(static_cast<size_t>(p.n));
  if (p.bias != nullptr) std::copy_n(p.bias, p.n, bias.begin());
}

// Rows [m0, m1), channels [n0, n1), n0 a multiple of 64.
void WeightOnlyLinear::Impl::Run(const Rows& rows, int64_t m0, int64_t m1, int64_t n0,
                                 int64_t n1) const {
  // Where sums of many groups are joined, they had better stay in L1.
  const bool one_piece = pieces.size() == 1;
  const int64_t most =
      one_piece ? std::clamp<int64_t>(kRowBlockBytes / (3 * rows.lda), 16, 64) : kGroupedRows;
  const int64_t height = std::min(most, m1 - m0);
  const int64_t sums_block =
      (one_piece ? kSumsBlockBytes : kGroupedSumsBytes) / ((one_piece ? 12 : 20) * height);
  // Weights that only one block of rows reads need not stay anywhere.
  const int64_t weight_block = height == m1 - m0 ? n : kWeightBlockBytes / RoundUp(k, 64);
  const int64_t n_block = std::max(kPanel, std::min(weight_block, sums_block) / kPanel * kPanel);
  const int64_t width = std::min(n_block, RoundUp(n1 - n0, 16));
  const int64_t sums_bytes = 3 * height * width * 4;
  auto* sums =
      reinterpret_cast<int32_t*>(BufferOfThread(kBufferSums, sums_bytes + height * width * 8));
  const int64_t no_offset = 0;
  DenseArgs args{};
  args.lda = rows.lda;
  args.taps = 1;
  args.tap_offset = &no_offset;
  args.end = rows.digits + rows.bytes;
  args.scratch_bytes = 32 * (RoundUp(std::min(k, kDeepest), 64) + 64);
  args.scratch = BufferOfThread(kBufferScratch, args.scratch_bytes);
  args.y_stride = width * 4;
  args.epilogue.output = kStoreInt32;
  for (int64_t m = m0; m < m1; m += most) {
    const int64_t count = std::min(most, m1 - m);
    args.m = args.run = args.pitch = 3 * count;
    for (int64_t c = n0; c < n1; c += n_block) {
      const int64_t channels = std::min(n_block, n1 - c);
      args.n_begin = c;
      args.n_end = c + channels;
      // Kernels count channels from 0.
      args.y = reinterpret_cast<uint8_t*>(sums) - c * 4;
      for (const WeightOnlyPiece& piece : pieces) {
        args.a = rows.digits + 3 * m * rows.lda + piece.begin;
        args.kc = piece.size;
        args.weight = weights.data() + piece.weights;
        args.epilogue.bias = corrections.data() + piece.table;
        CallDense(choice, args);
        JoinDigitsArgs join{};
        join.sums = sums;
        join.sums_stride = width;
        join.rows = count;
        join.n = channels;
        join.scale = scale.data() + piece.table + c;
        join.total = reinterpret_cast<double*>(reinterpret_cast<uint8_t*>(sums) + sums_bytes);
        join.total_stride = width;
        join.first = &piece == &pieces.front();
        join.last = &piece == &pieces.back();
        join.step = rows.step + m;
        join.bias = bias.data() + c;
        join.y = rows.y + m * rows.y_stride + c;
        join.y_stride = rows.y_stride;
        Call(Select(Op::JoinDigits), join);
      }
    }
  }
}

WeightOnlyLinear::WeightOnlyLinear(const WeightOnlyProblem& problem)
    : impl_((Check(problem), new Impl(problem))) {}
WeightOnlyLinear::~WeightOnlyLinear() = default;
WeightOnlyLinear::WeightOnlyLinear(WeightOnlyLinear&&) noexcept = default;
WeightOnlyLinear& WeightOnlyLinear::operator=(WeightOnlyLinear&&) noexcept = default;

void WeightOnlyLinear::Run(int64_t m, const float* x, int64_t x_stride, float* y,
                           int64_t y_stride) const {
  const Impl& l = *impl_;
  if (m < 0 || x_stride < l.k || y_stride < l.n) {
    Fail(ErrorCode::kInvalidArgument, "WeightOnlyLinear: M is ", m, ", row strides of x, y are ",
         x_stride, ", ", y_stride, "; expected M >= 0, strides >= K = ", l.k, " and N = ", l.n);
  }
  if (m == 0) return;
  // Rows a multiple of 1 KiB apart would share few sets of L1. Kernels read 64 bytes at a time.
  const int64_t row = RoundUp(l.k, 64) + 64, lda = row % 1024 == 0 ? row + 64 : row;
  const int64_t bytes = RoundUp(3 * m, 16) * lda + 128;
  uint8_t* digits = BufferOfThread(kBufferRows, bytes + m * 4);
  auto* step = reinterpret_cast<float*>(digits + bytes);
  const KernelInfo& split = Select(Op::SplitRows);
  ParallelFor(m, std::max<int64_t>(1, (32 << 10) / l.k), [&](int64_t begin, int64_t end) {
    Call(split, SplitRowsArgs{x + begin * x_stride, x_stride, end - begin, l.k,
                              digits + 3 * begin * lda, lda, step + begin});
  });

  const Impl::Rows rows{digits, lda, bytes, step, m, y, y_stride};
  const int64_t panels = CeilDiv(l.n, kPanel), macs = 3 * m * l.n * l.k;
  const int64_t threads = std::min<int64_t>(MaxThreads(), std::max<int64_t>(1, macs / kGrainMacs));
  if (panels >= threads) {
    ParallelFor(panels, CeilDiv(panels, threads), [&](int64_t begin, int64_t end) {
      l.Run(rows, 0, m, begin * kPanel, std::min(l.n, end * kPanel));
    });
  } else {
    ParallelFor(m, CeilDiv(m, threads),
                [&](int64_t begin, int64_t end) { l.Run(rows, begin, end, 0, l.n); });
  }
}

const std::vector<Candidate>& WeightOnlyLinear::candidates() const { return impl_->candidates; }
int64_t WeightOnlyLinear::packed_bytes() const {
  return impl_->weights.size() +
         static_cast<int64_t>(impl_->corrections.size() * 8 + impl_->bias.size() * 4);
}

}  // namespace octet::kernels
