// A dense kernel (kernels/abi.h) for matrices that are not convolutions, and packing for it.
#pragma once

#include <vector>

#include "kernels/dispatch.h"
#include "kernels/pack.h"
#include "octet/kernels.h"

namespace octet::kernels {

struct DenseChoice {
  const KernelInfo* kernel = nullptr;
  const KernelInfo* few_rows = nullptr;  // of the same layout; `kernel` where no other
};

// For rows of k bytes, by the choice in force; and what the registry's dense kernels are to it.
[[nodiscard]] DenseChoice ChooseDense(int64_t k);
[[nodiscard]] std::vector<Candidate> DenseCandidates(int64_t k);

// Runs the one of the two that suits args.m.
void CallDense(const DenseChoice& choice, const DenseArgs& args);

// n rows of k codes, `stride` apart, in the layout of a dense kernel: PackedBytes(n, 1, k, layout)
// at `out`, which is aligned to 64; sums[i]: of row i, where not null.
void PackDense(const int8_t* rows, int64_t stride, int64_t n, int64_t k, Layout layout,
               uint8_t* out, int32_t* sums);

// For temporary operands: at least `bytes` of this thread's, aligned to 64; what they held is lost
// where they grow. Every slot is one buffer.
enum ThreadBuffer {
  kBufferRows,
  kBufferWeights,
  kBufferColumns,
  kBufferSums,
  kBufferScratch,
  kThreadBuffers
};
[[nodiscard]] uint8_t* BufferOfThread(ThreadBuffer slot, int64_t bytes);

}  // namespace octet::kernels
