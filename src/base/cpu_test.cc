#include "base/cpu.h"

#include <gtest/gtest.h>
#include <stdlib.h>  // setenv

#include <algorithm>

#include "base/test_folder.h"

namespace octet {
namespace {

constexpr Isa kAll[] = {Isa::kPortable,   Isa::kAvx2,       Isa::kAvxVnni,
                        Isa::kAvx512Vnni, Isa::kAvx512Vbmi, Isa::kAmxInt8};

// Sets OCTET_FORCE_ISA while it lives.
class Forced {
 public:
  explicit Forced(std::string_view value) {
    if (const char* old = ::getenv("OCTET_FORCE_ISA")) previous_ = old;
    ::setenv("OCTET_FORCE_ISA", std::string(value).c_str(), 1);
  }
  ~Forced() {
    if (previous_) {
      ::setenv("OCTET_FORCE_ISA", previous_->c_str(), 1);
    } else {
      ::unsetenv("OCTET_FORCE_ISA");
    }
  }
  Forced(const Forced&) = delete;
  Forced& operator=(const Forced&) = delete;

 private:
  std::optional<std::string> previous_;
};

TEST(Isa, NamesParseBack) {
  for (const Isa isa : kAll) EXPECT_EQ(ParseIsa(IsaName(isa)), isa);
  ExpectError(
      ErrorCode::kInvalidArgument, [] { (void)ParseIsa("sse9"); }, "sse9", "portable",
      "avx512vnni");
}

TEST(Isa, SupportedIsSortedAndHoldsPortable) {
  const auto supported = SupportedIsas();
  ASSERT_FALSE(supported.empty());
  EXPECT_EQ(supported.front(), Isa::kPortable);
  EXPECT_TRUE(std::is_sorted(supported.begin(), supported.end()));
  const Forced none("");
  EXPECT_EQ(ActiveIsa(), supported.back());
}

TEST(Isa, ForcingNeverFallsBack) {
  const auto supported = SupportedIsas();
  for (const Isa isa : kAll) {
    const Forced forced(IsaName(isa));
    if (std::find(supported.begin(), supported.end(), isa) != supported.end()) {
      EXPECT_EQ(ActiveIsa(), isa);
    } else {
      ExpectError(
          ErrorCode::kInvalidArgument, [] { (void)ActiveIsa(); }, IsaName(isa), "does not have it");
    }
  }
  const Forced unknown("fastest");
  ExpectError(
      ErrorCode::kInvalidArgument, [] { (void)ActiveIsa(); }, "fastest");
}

TEST(Isa, AllowsNothingAboveTheActiveOne) {
  const auto supported = SupportedIsas();
  for (const Isa active : supported) {
    for (const Isa kernel : kAll) {
      const bool has = std::find(supported.begin(), supported.end(), kernel) != supported.end();
      EXPECT_EQ(IsaAllows(active, kernel), has && kernel <= active);
    }
  }
}

}  // namespace
}  // namespace octet
