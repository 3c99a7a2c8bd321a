// Every kernel of FlipRows, with rows that end at a guard page.
#include <gtest/gtest.h>

#include "kernels/dispatch.h"
#include "kernels/test_support.h"

namespace octet::kernels {
namespace {

using testing::FillCodes;
using testing::GuardedBuffer;

TEST(FlipRows, EveryKernelAndLength) {
  std::mt19937 rng(5);
  for (const KernelInfo& kernel : Registry()) {
    if (kernel.op != Op::FlipRows || !IsSupported(kernel.isa)) continue;
    for (int64_t n : {1, 2, 15, 31, 32, 33, 63, 64, 65, 127, 200}) {
      for (const uint8_t flip : {uint8_t{0x00}, uint8_t{0x80}}) {
        const int64_t rows = 3, from_stride = n + 5, to_stride = n + 2;
        GuardedBuffer from((rows - 1) * from_stride + n), to((rows - 1) * to_stride + n);
        FillCodes(from.data(), from.size(), 0, &rng);
        std::memset(to.data(), 0x5a, static_cast<size_t>(to.size()));
        Call(kernel, FlipRowsArgs{from.data(), from_stride, rows, n, to.data(), to_stride, flip});
        for (int64_t i = 0; i < to.size(); ++i) {
          const int64_t r = i / to_stride, j = i % to_stride;
          const int want = j < n ? from.data()[r * from_stride + j] ^ flip : 0x5a;
          ASSERT_EQ(int{to.data()[i]}, want) << kernel.name << " n " << n << " at " << i;
        }
      }
    }
  }
}

}  // namespace
}  // namespace octet::kernels
