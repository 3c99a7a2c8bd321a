// Every kernel of InterleaveRows, with rows that end at a guard page.
#include <gtest/gtest.h>

#include "kernels/dispatch.h"
#include "kernels/test_support.h"

namespace octet::kernels {
namespace {

using testing::FillCodes;
using testing::GuardedBuffer;

TEST(InterleaveRows, EveryKernelAndWidth) {
  std::mt19937 rng(7);
  for (const KernelInfo& kernel : Registry()) {
    if (kernel.op != Op::InterleaveRows || !IsSupported(kernel.isa)) continue;
    for (int64_t channels : {1, 2, 3, 4, 5, 8, 31, 32, 33}) {
      for (int64_t pixels : {1, 2, 9, 10, 11, 31, 32, 33, 65}) {
        for (const uint8_t flip : {uint8_t{0x00}, uint8_t{0x80}}) {
          GuardedBuffer upper(pixels * channels), lower(pixels * channels);
          GuardedBuffer to(2 * pixels * channels);
          FillCodes(upper.data(), upper.size(), 0, &rng);
          FillCodes(lower.data(), lower.size(), 0, &rng);
          Call(kernel,
               InterleaveRowsArgs{upper.data(), lower.data(), pixels, channels, to.data(), flip});
          for (int64_t i = 0; i < to.size(); ++i) {
            const int64_t pixel = i / (2 * channels), c = i % channels;
            const GuardedBuffer& from = i / channels % 2 == 0 ? upper : lower;
            ASSERT_EQ(int{to.data()[i]}, from.data()[pixel * channels + c] ^ flip)
                << kernel.name << " channels " << channels << " pixels " << pixels << " at " << i;
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace octet::kernels
