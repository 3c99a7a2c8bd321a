#include "kernels/dense_choice.h"

#include <cstring>

#include "base/error.h"
#include "kernels/linear_abi.h"

namespace octet::kernels {
namespace {

// A tile kernel computes 16 rows whatever it is given: below this a vector kernel is faster.
constexpr int64_t kFewRows = 4;

constexpr int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

// As for convolutions: a tile's 64 of K cost what 4 of K cost in vectors, and a detour.
bool LeavesTilesEmpty(const KernelInfo& kernel, int64_t k) {
  return kernel.isa == Isa::kAmxInt8 && !KernelForced() && CeilDiv(k, 64) * 3 >= CeilDiv(k, 4);
}

bool Serves(const KernelInfo& kernel, int64_t k) {
  return kernel.op == Op::Dense && AllowedByChoice(kernel) && !LeavesTilesEmpty(kernel, k);
}

}  // namespace

DenseChoice ChooseDense(int64_t k) {
  DenseChoice choice;
  for (const KernelInfo& kernel : Registry()) {
    if (!Serves(kernel, k)) continue;
    if (choice.kernel == nullptr) {
      choice.kernel = choice.few_rows = &kernel;
    } else if (choice.few_rows->isa == Isa::kAmxInt8 && kernel.layout == choice.kernel->layout) {
      choice.few_rows = &kernel;
    }
  }
  OCTET_INVARIANT(choice.kernel != nullptr);
  return choice;
}

std::vector<Candidate> DenseCandidates(int64_t k) {
  const DenseChoice choice = ChooseDense(k);
  std::vector<Candidate> candidates;
  for (const KernelInfo& kernel : Registry()) {
    if (kernel.op != Op::Dense) continue;
    std::string why = RefusalByChoice(kernel);
    if (why.empty() && LeavesTilesEmpty(kernel, k))
      why = Cat("rows of ", k, " bytes leave tiles of 64 too empty");
    if (why.empty() && &kernel != choice.kernel)
      why = Cat("later in the list than ", choice.kernel->name);
    candidates.push_back({std::string(kernel.name), std::move(why)});
  }
  return candidates;
}

void CallDense(const DenseChoice& choice, const DenseArgs& args) {
  Call(args.m < kFewRows ? *choice.few_rows : *choice.kernel, args);
}

void PackDense(const int8_t* rows, int64_t stride, int64_t n, int64_t k, Layout layout,
               uint8_t* out, int32_t* sums) {
  if (layout == Layout::kTilesK64) {
    Call(Select(Op::PackTiles),
         PackTilesArgs{rows, stride, n, k, reinterpret_cast<int8_t*>(out), sums});
    return;
  }
  std::vector<int8_t> dense(static_cast<size_t>(n * k));
  for (int64_t i = 0; i < n; ++i) {
    int32_t sum = 0;
    for (int64_t j = 0; j < k; ++j) {
      dense[static_cast<size_t>(i * k + j)] = rows[i * stride + j];
      sum += rows[i * stride + j];
    }
    if (sums != nullptr) sums[i] = sum;
  }
  const AlignedBytes packed = PackWeights({dense, n, 1, k}, layout);
  std::memcpy(out, packed.data(), static_cast<size_t>(packed.size()));
}

uint8_t* BufferOfThread(ThreadBuffer slot, int64_t bytes) {
  static thread_local AlignedBytes buffers[kThreadBuffers];
  AlignedBytes& buffer = buffers[slot];
  if (buffer.size() < bytes) buffer = AlignedBytes(bytes);
  return buffer.data();
}

}  // namespace octet::kernels
