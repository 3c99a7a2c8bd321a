// BatchedMatMul of octet/kernels.h: B is packed in each call. A is read where it lies by a kernel
// that takes int8; for others it gets its sign bits flipped (the zero point 128 of dense kernels),
// block by block beside the product that reads it.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/checked_math.h"
#include "base/error.h"
#include "base/parallel.h"
#include "kernels/dense_choice.h"
#include "numerics/rounding.h"

namespace octet::kernels {
namespace {

// As for convolutions: multiply-adds worth a second thread, and what may stay in a 2 MiB L2.
constexpr int64_t kGrainMacs = 1'500'000;
constexpr int64_t kRowBlockBytes = 128 << 10;
constexpr int64_t kWeightBlockBytes = 768 << 10;
constexpr int64_t kPanel = 64;
constexpr int64_t kRowsOfTile = 48;
// Below it a tile of 16 rows is mostly empty, and vectors are faster, copies included.
constexpr int64_t kFewRowsInPlace = 4;
// Beyond it, a sum of products of int8 can leave int32: 2^17 * 2^14 = 2^31.
constexpr int64_t kDeepest = (int64_t{1} << 17) - 1;

constexpr int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

int64_t ElementBytes(OutputType type) {
  return type == OutputType::kUint8 || type == OutputType::kInt8 ? 1 : 4;
}

void Check(const BatchedMatMulProblem& p) {
  const auto fits = [](int64_t a, int64_t b, int64_t c) {
    const int64_t dims[] = {a, b, c};
    const auto product = CheckedProduct(dims);
    return product && *product <= int64_t{1} << 40;
  };
  if (p.batch < 0 || p.m < 0 || p.n < 1 || p.k < 1 || !fits(p.batch, p.m, p.k) ||
      !fits(p.batch, p.n, p.k) || !fits(p.batch, p.m, p.n)) {
    Fail(ErrorCode::kInvalidArgument, "BatchedMatMul: batch, M, N, K are ", p.batch, ", ", p.m,
         ", ", p.n, ", ", p.k,
         "; expected batch and M >= 0, N and K >= 1, and at most 2^40 elements");
  }
  if (p.output != OutputType::kInt32 && !std::isfinite(p.alpha))
    Fail(ErrorCode::kInvalidArgument, "BatchedMatMul: alpha is ", p.alpha, "; expected finite");
}

Epilogue EpilogueOf(const BatchedMatMulProblem& p) {
  Epilogue e;
  e.output = p.output;
  e.multiplier = {p.alpha};
  return e;
}

// One batch's rows [m0, m1), channels [n0, n1); n0 is a multiple of 64.
struct Piece {
  int64_t batch, m0, m1, n0, n1;
};

void RunPiece(const BatchedMatMulProblem& p, const DenseChoice& choice,
              const EpilogueArgs& epilogue, const int8_t* a, const int8_t* b, uint8_t* y,
              const Piece& piece) {
  const int64_t n = piece.n1 - piece.n0, row = CeilDiv(p.k, 64) * 64;
  const bool in_place =
      choice.kernel->isa == Isa::kAmxInt8 && piece.m1 - piece.m0 >= kFewRowsInPlace;
  // Copied rows a multiple of 1 KiB apart would share few sets of L1.
  const int64_t lda = in_place ? p.k : row % 1024 == 0 ? row + 64 : row;
  uint8_t* weights = BufferOfThread(kBufferWeights, PackedBytes(n, 1, p.k, choice.kernel->layout));
  auto* bias =
      in_place ? nullptr : reinterpret_cast<int32_t*>(BufferOfThread(kBufferSums, (n + 80) * 4));
  PackDense(b + (piece.batch * p.n + piece.n0) * p.k, p.k, n, p.k, choice.kernel->layout, weights,
            bias);
  for (int64_t i = 0; bias != nullptr && i < n; ++i)
    bias[i] = static_cast<int32_t>(static_cast<uint32_t>(bias[i]) * uint32_t{0U - 128U});

  const int64_t most = std::max(kRowsOfTile, kRowBlockBytes / lda / kRowsOfTile * kRowsOfTile);
  const int64_t n_block = std::max(kPanel, kWeightBlockBytes / row / kPanel * kPanel);
  const int64_t rows_bytes =
      in_place ? 0 : CeilDiv(std::min(most, piece.m1 - piece.m0), 16) * 16 * lda + 128;
  uint8_t* rows = BufferOfThread(kBufferRows, rows_bytes);
  const int64_t bytes = ElementBytes(p.output);
  const int64_t no_offset = 0;

  DenseArgs args{};
  args.a = rows;
  args.end =
      in_place ? reinterpret_cast<const uint8_t*>(a + p.batch * p.m * p.k) : rows + rows_bytes;
  args.a_signed = in_place;
  args.lda = lda;
  args.taps = 1;
  args.kc = p.k;
  args.tap_offset = &no_offset;
  args.scratch_bytes = 32 * (row + 64);
  args.scratch = BufferOfThread(kBufferScratch, args.scratch_bytes);
  args.weight = weights;
  args.y_stride = p.n * bytes;
  args.epilogue = epilogue;
  args.epilogue.bias = bias;
  for (int64_t m = piece.m0; m < piece.m1; m += most) {
    const int64_t count = std::min(most, piece.m1 - m);
    const auto* from = reinterpret_cast<const uint8_t*>(a + (piece.batch * p.m + m) * p.k);
    if (in_place) {
      args.a = from;
    } else {
      Call(Select(Op::FlipRows), FlipRowsArgs{from, p.k, count, p.k, rows, lda, 0x80});
    }
    args.m = args.run = args.pitch = count;
    args.y = y + ((piece.batch * p.m + m) * p.n + piece.n0) * bytes;
    for (int64_t c = 0; c < n; c += n_block) {
      args.n_begin = c;
      args.n_end = std::min(n, c + n_block);
      if (in_place) {
        Call(*choice.kernel, args);
      } else {
        CallDense(choice, args);
      }
    }
  }
}

// Where int32 could overflow: the definition, with 64-bit sums.
void RunExact(const BatchedMatMulProblem& p, const int8_t* a, const int8_t* b, void* y,
              int64_t row) {
  const int8_t* from = a + row * p.k;
  for (int64_t n = 0; n < p.n; ++n) {
    const int8_t* w = b + (row / p.m * p.n + n) * p.k;
    int64_t sum = 0;
    for (int64_t k = 0; k < p.k; ++k) sum += from[k] * w[k];
    const int64_t at = row * p.n + n;
    const float scaled = static_cast<float>(sum) * p.alpha;
    switch (p.output) {
      case OutputType::kUint8:
        static_cast<uint8_t*>(y)[at] = static_cast<uint8_t>(RoundClamped(scaled, 0, 255));
        break;
      case OutputType::kInt8:
        static_cast<int8_t*>(y)[at] = static_cast<int8_t>(RoundClamped(scaled, -128, 127));
        break;
      case OutputType::kInt32:
        static_cast<int32_t*>(y)[at] = static_cast<int32_t>(std::clamp<int64_t>(
            sum, std::numeric_limits<int32_t>::min(), std::numeric_limits<int32_t>::max()));
        break;
      case OutputType::kFloat32:
        static_cast<float*>(y)[at] = scaled;
        break;
    }
  }
}

}  // namespace

void BatchedMatMul(const BatchedMatMulProblem& p, const int8_t* a, const int8_t* b, void* y) {
  Check(p);
  if (p.batch == 0 || p.m == 0) return;
  if (p.k > kDeepest) {
    ParallelFor(p.batch * p.m, 1, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) RunExact(p, a, b, y, row);
    });
    return;
  }
  const DenseChoice choice = ChooseDense(p.k);
  const PackedEpilogue epilogue(EpilogueOf(p), std::vector<int64_t>(static_cast<size_t>(p.n)), 0);
  const int64_t panels = CeilDiv(p.n, kPanel), macs = p.batch * p.m * p.n * p.k;
  const int64_t threads = std::min<int64_t>(MaxThreads(), std::max<int64_t>(1, macs / kGrainMacs));
  // Whole matrices for each thread where that is fair; else every one is cut, by panels of N, or
  // where there are too few of these, by rows, and then packed by each.
  const int64_t parts = p.batch % threads == 0 || p.batch >= 4 * threads ? 1 : threads;
  const bool by_n = panels >= parts;
  ParallelFor(p.batch * parts, CeilDiv(p.batch * parts, threads), [&](int64_t begin, int64_t end) {
    for (int64_t u = begin; u < end; ++u) {
      const int64_t part = u % parts;
      Piece piece{u / parts, 0, p.m, 0, p.n};
      if (by_n) {
        piece.n0 = panels * part / parts * kPanel;
        piece.n1 = std::min(p.n, panels * (part + 1) / parts * kPanel);
      } else {
        piece.m0 = p.m * part / parts;
        piece.m1 = p.m * (part + 1) / parts;
      }
      if (piece.m0 < piece.m1)
        RunPiece(p, choice, epilogue.args(), a, b, static_cast<uint8_t*>(y), piece);
    }
  });
}

}  // namespace octet::kernels
