// The registry as data, and the choice of a kernel.
#pragma once

#include <span>
#include <string_view>

#include "base/cpu.h"
#include "kernels/abi.h"
#include "kernels/approx_abi.h"
#include "kernels/fake_quantize_abi.h"
#include "kernels/float_abi.h"
#include "kernels/linear_abi.h"

namespace octet::kernels {

struct ReferenceArgs;  // kernels/reference.h

enum class Op {
  Dense,
  DenseNarrow,
  Depthwise,
  Reference,
  QuantizeToNhwc,
  DequantizeToNchw,
  Extrema,
  Quantize,
  QuantizeRows,
  Dequantize,
  FakeQuantize,
  FlipRows,
  InterleaveRows,
  Add,
  Mul,
  Lookup,
  MaxPixels,
  AveragePixels,
  Map,
  Softmax,
  LayerNorm,
  PackTiles,
  SplitRows,
  JoinDigits,
  Fp8Linear,
  ApproxRows,
  ApproxEachAdd,
};

// How weights lie in memory for a kernel: kernels/pack.h.
enum class Layout {
  kNone,
  kPlain,
  kRowsS16,
  kPairsS16,
  kTilesK64,
  kDepthwiseS16,
  kDepthwiseTaps4,
  kDepthwise3x3,
  kDepthwise3x3Tiled,
  kDepthwise3x3Twos,
  kDepthwiseColumns,
  kApproxDigits,
  kApproxIntegers,
};

struct KernelInfo {
  std::string_view name;
  Op op;
  Isa isa;
  Layout layout;
  void (*function)();  // of type void(const Args*), Args by op: call through Call()
};

// Every kernel of this build, best first.
[[nodiscard]] std::span<const KernelInfo> Registry();

template <typename Args>
void Call(const KernelInfo& kernel, const Args& args) {
  reinterpret_cast<void (*)(const Args*)>(kernel.function)(&args);
}

// The level kernels are chosen for: ActiveIsa(), unless a ForcedChoice lives in this thread.
[[nodiscard]] Isa ChosenIsa();

// Whether `kernel` may run under the level and the name in force; and why not, else empty.
[[nodiscard]] bool AllowedByChoice(const KernelInfo& kernel);
[[nodiscard]] std::string RefusalByChoice(const KernelInfo& kernel);

// True where a test has named the kernel: reasons of speed do not count then.
[[nodiscard]] bool KernelForced();

// The best kernel of an operator whose kernels take any shape.
[[nodiscard]] const KernelInfo& Select(Op op);

// For tests and benchmarks: while it lives, this thread's choices are made for `isa`, and, where
// `kernel` is not empty, among operators that have a kernel of that name, for that kernel alone.
class ForcedChoice {
 public:
  explicit ForcedChoice(Isa isa, std::string_view kernel = {});
  ~ForcedChoice();
  ForcedChoice(const ForcedChoice&) = delete;
  ForcedChoice& operator=(const ForcedChoice&) = delete;

 private:
  const ForcedChoice* previous_;
  Isa isa_;
  std::string_view kernel_;
  friend Isa ChosenIsa();
  friend bool AllowedByChoice(const KernelInfo& kernel);
  friend std::string RefusalByChoice(const KernelInfo& kernel);
  friend bool KernelForced();
};

}  // namespace octet::kernels
