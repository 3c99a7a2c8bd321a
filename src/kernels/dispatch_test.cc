// The registry's promises, and what forces a choice.
#include "kernels/dispatch.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <set>
#include <string>

#include "kernels/test_support.h"
#include "octet/kernels.h"

namespace octet::kernels {
namespace {

TEST(Dispatch, NamesAreUniqueAndEndInTheirLevel) {
  std::set<std::string_view> names;
  for (const KernelInfo& k : Registry()) {
    EXPECT_TRUE(names.insert(k.name).second) << k.name;
    EXPECT_TRUE(k.name.starts_with("octet_")) << k.name;
    if (k.op != Op::Reference) {
      EXPECT_TRUE(k.name.ends_with(Cat("_", IsaName(k.isa)))) << k.name;
    }
  }
}

// So that a program never lacks a kernel, and the first that may run is the best.
TEST(Dispatch, EveryOperatorHasAPortableKernelAfterTheOthers) {
  std::set<Op> portable;
  // What narrow kernels refuse, dense ones take.
  const auto served = [](Op op) { return op == Op::DenseNarrow ? Op::Dense : op; };
  for (const KernelInfo& k : Registry()) {
    if (k.isa == Isa::kPortable) {
      portable.insert(served(k.op));
    } else {
      EXPECT_FALSE(portable.contains(served(k.op))) << k.name << " comes after a portable kernel";
    }
  }
  for (const KernelInfo& k : Registry()) EXPECT_TRUE(portable.contains(served(k.op))) << k.name;
}

TEST(Dispatch, TheEnvironmentForcesALevel) {
  const char* before = std::getenv("OCTET_FORCE_ISA");
  const std::string restore = before == nullptr ? "" : before;
  ASSERT_EQ(setenv("OCTET_FORCE_ISA", "portable", 1), 0);
  EXPECT_EQ(ChosenIsa(), Isa::kPortable);
  EXPECT_EQ(Select(Op::Add).isa, Isa::kPortable);
  const int8_t weight = 1;
  GemmProblem p;
  p.n = p.k = 1;
  p.weight = &weight;
  p.epilogue.multiplier = {1.0F};
  const Gemm gemm(p);
  for (const Candidate& c : gemm.candidates()) {
    if (c.refused_because.empty()) {
      EXPECT_EQ(c.kernel, "octet_dense_u8s8_4x64_portable");
    }
    if (c.kernel == "octet_dense_u8s8_6x64_avx512vnni") {
      EXPECT_NE(c.refused_because.find("the level in force is portable"), std::string::npos);
    }
  }
  ASSERT_EQ(setenv("OCTET_FORCE_ISA", "sse9", 1), 0);
  EXPECT_THROW(static_cast<void>(Select(Op::Add)), Error);
  EXPECT_THROW(Gemm{p}, Error);  // an unknown level is refused, not ignored
  ASSERT_EQ(before == nullptr ? unsetenv("OCTET_FORCE_ISA")
                              : setenv("OCTET_FORCE_ISA", restore.c_str(), 1),
            0);
}

TEST(Dispatch, TheBestKernelOfTheLevelIsTaken) {
  const Isa best = testing::IsasToTest().back();
  const ForcedChoice forced(best);
  if (best == Isa::kAvx512Vnni) {
    EXPECT_EQ(Select(Op::Add).isa, Isa::kAvx512Vnni);
  }
  EXPECT_LE(Select(Op::Quantize).isa, best);
}

}  // namespace
}  // namespace octet::kernels
