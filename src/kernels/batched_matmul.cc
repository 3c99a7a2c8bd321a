// BatchedMatMul of octet/kernels.h: B is packed in each call. A is read where it lies by a kernel
// that takes int8; for others it is copied, block by block beside the product that reads it, its
// sign bits flipped where it is int8 (which moves its zero point by 128).
#include <emmintrin.h>

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
constexpr int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

int64_t ElementBytes(OutputType type) {
  return type == OutputType::kUint8 || type == OutputType::kInt8 ? 1 : 4;
}

int32_t LeastCode(CodeType type) { return type == CodeType::kInt8 ? -128 : 0; }

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
  const auto is_code = [](int32_t v, int32_t least) { return v >= least && v <= least + 255; };
  const int32_t y_least = p.output == OutputType::kInt8 ? -128 : 0;
  if (!is_code(p.a_zero_point, LeastCode(p.a_type)) || !is_code(p.y_zero_point, y_least)) {
    Fail(ErrorCode::kInvalidArgument, "BatchedMatMul: the zero points are ", p.a_zero_point,
         " of a and ", p.y_zero_point, " of y; expected codes of their types");
  }
}

// The largest K for which no sum can leave int32.
int64_t Deepest(const BatchedMatMulProblem& p) {
  const int64_t lo = p.a_zero_point - LeastCode(p.a_type), hi = 255 - lo;
  return std::numeric_limits<int32_t>::max() / (std::max<int64_t>({lo, hi, 1}) * 128);
}

Epilogue EpilogueOf(const BatchedMatMulProblem& p) {
  Epilogue e;
  e.output = p.output;
  e.multiplier = {p.alpha};
  e.y_zero_point = p.y_zero_point;
  return e;
}

// Matrices of `rows` rows of `columns` elements.
struct Matrices {
  const MatrixPlaces& places;
  int64_t rows, columns;

  [[nodiscard]] int64_t stride() const {
    return places.row_stride != 0 ? places.row_stride : columns;
  }
  [[nodiscard]] int64_t offset(int64_t matrix) const {
    return places.offsets.empty() ? matrix * rows * stride()
                                  : places.offsets[static_cast<size_t>(matrix)];
  }
  // One past the last element of all.
  [[nodiscard]] int64_t end(int64_t matrices) const {
    int64_t last = 0;
    for (int64_t i = 0; i < matrices; ++i) last = std::max(last, offset(i));
    return last + (rows - 1) * stride() + columns;
  }
};

struct Operands {
  Matrices a, b, y;

  explicit Operands(const BatchedMatMulProblem& p)
      : a{p.a_places, p.m, p.k},
        b{p.b_places, p.b_is_kn ? p.k : p.n, p.b_is_kn ? p.n : p.k},
        y{p.y_places, p.m, p.n} {}
};

void CheckPlaces(const Matrices& m, int64_t batch, const char* what) {
  const MatrixPlaces& p = m.places;
  const bool negative =
      std::any_of(p.offsets.begin(), p.offsets.end(), [](int64_t offset) { return offset < 0; });
  if ((p.row_stride != 0 && p.row_stride < m.columns) || negative ||
      (!p.offsets.empty() && static_cast<int64_t>(p.offsets.size()) != batch)) {
    Fail(ErrorCode::kInvalidArgument, "BatchedMatMul: the matrices of ", what, " have rows of ",
         m.columns, " elements, ", p.row_stride, " apart, and ", p.offsets.size(),
         " offsets; expected rows that do not overlap and ", batch, " offsets from 0 on, or none");
  }
}

// to (columns, rows), rows `to_stride` apart = from (rows, columns) transposed.
void Transpose(const int8_t* from, int64_t stride, int64_t rows, int64_t columns, int8_t* to,
               int64_t to_stride) {
  constexpr int64_t kBlock = 16;
  const int64_t whole_rows = rows / kBlock * kBlock, whole_columns = columns / kBlock * kBlock;
  for (int64_t r = 0; r < whole_rows; r += kBlock) {
    for (int64_t c = 0; c < whole_columns; c += kBlock) {
      __m128i v[kBlock], next[kBlock];
      for (int64_t i = 0; i < kBlock; ++i)
        v[i] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + (r + i) * stride + c));
      // Four perfect shuffles of 256 bytes are a transposition.
      for (int round = 0; round < 4; ++round) {
        for (int64_t i = 0; i < kBlock / 2; ++i) {
          next[2 * i] = _mm_unpacklo_epi8(v[i], v[i + kBlock / 2]);
          next[2 * i + 1] = _mm_unpackhi_epi8(v[i], v[i + kBlock / 2]);
        }
        std::copy(next, next + kBlock, v);
      }
      for (int64_t i = 0; i < kBlock; ++i)
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to + (c + i) * to_stride + r), v[i]);
    }
  }
  const auto rest = [&](int64_t r0, int64_t c0, int64_t c1) {
    for (int64_t c = c0; c < c1; ++c)
      for (int64_t r = r0; r < rows; ++r) to[c * to_stride + r] = from[r * stride + c];
  };
  rest(whole_rows, 0, whole_columns);
  rest(0, whole_columns, columns);
}

// One matrix's rows [m0, m1), channels [n0, n1); n0 is a multiple of 64.
struct Piece {
  int64_t batch, m0, m1, n0, n1;
};

// Channels of the piece in the kernel's layout; their sums at `sums`, where not null.
void PackChannels(const BatchedMatMulProblem& p, const Matrices& matrices, const int8_t* b,
                  const Piece& piece, Layout layout, uint8_t* out, int32_t* sums) {
  const int64_t n = piece.n1 - piece.n0, stride = matrices.stride();
  const int8_t* from = b + matrices.offset(piece.batch);
  if (!p.b_is_kn) return PackDense(from + piece.n0 * stride, stride, n, p.k, layout, out, sums);
  const int64_t row = CeilDiv(p.k, 16) * 16;
  auto* rows = reinterpret_cast<int8_t*>(BufferOfThread(kBufferColumns, n * row));
  Transpose(from + piece.n0, stride, p.k, n, rows, row);
  PackDense(rows, row, n, p.k, layout, out, sums);
}

void RunPiece(const BatchedMatMulProblem& p, const Operands& operands, const DenseChoice& choice,
              const EpilogueArgs& epilogue, const uint8_t* a, const int8_t* b, uint8_t* y,
              const Piece& piece) {
  const int64_t n = piece.n1 - piece.n0, row = CeilDiv(p.k, 64) * 64;
  const bool is_int8 = p.a_type == CodeType::kInt8;
  const bool in_place =
      choice.kernel->isa == Isa::kAmxInt8 && piece.m1 - piece.m0 >= kFewRowsInPlace;
  // Copied rows a multiple of 1 KiB apart would share few sets of L1.
  const int64_t a_stride = operands.a.stride();
  const int64_t lda = in_place ? a_stride : row % 1024 == 0 ? row + 64 : row;
  // Of the codes as the kernel reads them.
  const int32_t zero = p.a_zero_point + (is_int8 && !in_place ? 128 : 0);
  uint8_t* weights = BufferOfThread(kBufferWeights, PackedBytes(n, 1, p.k, choice.kernel->layout));
  auto* bias = in_place && zero == 0
                   ? nullptr
                   : reinterpret_cast<int32_t*>(BufferOfThread(kBufferSums, (n + 80) * 4));
  PackChannels(p, operands.b, b, piece, choice.kernel->layout, weights, bias);
  for (int64_t i = 0; bias != nullptr && i < n; ++i)
    bias[i] =
        static_cast<int32_t>(static_cast<uint32_t>(bias[i]) * (0U - static_cast<uint32_t>(zero)));

  const int64_t most = std::max(kRowsOfTile, kRowBlockBytes / lda / kRowsOfTile * kRowsOfTile);
  const int64_t n_block = std::max(kPanel, kWeightBlockBytes / row / kPanel * kPanel);
  const int64_t rows_bytes =
      in_place ? 0 : CeilDiv(std::min(most, piece.m1 - piece.m0), 16) * 16 * lda + 128;
  uint8_t* rows = BufferOfThread(kBufferRows, rows_bytes);
  const int64_t bytes = ElementBytes(p.output);
  const int64_t no_offset = 0;

  DenseArgs args{};
  args.a = rows;
  args.end = in_place ? a + operands.a.end(p.batch) : rows + rows_bytes;
  args.a_signed = in_place && is_int8;
  args.lda = lda;
  args.taps = 1;
  args.kc = p.k;
  args.tap_offset = &no_offset;
  args.scratch_bytes = 32 * (row + 64);
  args.scratch = BufferOfThread(kBufferScratch, args.scratch_bytes);
  args.weight = weights;
  args.y_stride = operands.y.stride() * bytes;
  args.epilogue = epilogue;
  args.epilogue.bias = bias;
  for (int64_t m = piece.m0; m < piece.m1; m += most) {
    const int64_t count = std::min(most, piece.m1 - m);
    const uint8_t* from = a + operands.a.offset(piece.batch) + m * a_stride;
    if (in_place) {
      args.a = from;
    } else {
      Call(Select(Op::FlipRows), FlipRowsArgs{from, a_stride, count, p.k, rows, lda,
                                              static_cast<uint8_t>(is_int8 ? 0x80 : 0)});
    }
    args.m = args.run = args.pitch = count;
    args.y = y + (operands.y.offset(piece.batch) + m * args.y_stride / bytes + piece.n0) * bytes;
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
void RunExact(const BatchedMatMulProblem& p, const Operands& operands, const uint8_t* a,
              const int8_t* b, void* y, int64_t row) {
  const int64_t matrix = row / p.m, m = row % p.m;
  const uint8_t* from = a + operands.a.offset(matrix) + m * operands.a.stride();
  for (int64_t n = 0; n < p.n; ++n) {
    const int64_t stride = operands.b.stride();
    const int8_t* w = b + operands.b.offset(matrix) + n * (p.b_is_kn ? 1 : stride);
    int64_t sum = 0;
    for (int64_t k = 0; k < p.k; ++k) {
      const int32_t code = p.a_type == CodeType::kInt8 ? static_cast<int8_t>(from[k]) : from[k];
      sum += int64_t{code - p.a_zero_point} * w[k * (p.b_is_kn ? stride : 1)];
    }
    const int64_t at = operands.y.offset(matrix) + m * operands.y.stride() + n;
    const float scaled = static_cast<float>(sum) * p.alpha;
    const auto zero = static_cast<float>(p.y_zero_point);
    switch (p.output) {
      case OutputType::kUint8:
        static_cast<uint8_t*>(y)[at] =
            static_cast<uint8_t>(RoundClamped(scaled, -zero, 255 - zero) + p.y_zero_point);
        break;
      case OutputType::kInt8:
        static_cast<int8_t*>(y)[at] =
            static_cast<int8_t>(RoundClamped(scaled, -128 - zero, 127 - zero) + p.y_zero_point);
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

void BatchedMatMul(const BatchedMatMulProblem& p, const void* a, const int8_t* b, void* y) {
  Check(p);
  if (p.batch == 0 || p.m == 0) return;
  const Operands operands(p);
  CheckPlaces(operands.a, p.batch, "a");
  CheckPlaces(operands.b, p.batch, "b");
  CheckPlaces(operands.y, p.batch, "y");
  const auto* rows = static_cast<const uint8_t*>(a);
  if (p.k > Deepest(p)) {
    ParallelFor(p.batch * p.m, 1, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) RunExact(p, operands, rows, b, y, row);
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
        RunPiece(p, operands, choice, epilogue.args(), rows, b, static_cast<uint8_t*>(y), piece);
    }
  });
}

}  // namespace octet::kernels
