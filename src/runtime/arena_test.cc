#include "runtime/arena.h"

#include <gtest/gtest.h>

namespace octet {
namespace {

bool Overlap(const ArenaRequest& a, const ArenaRequest& b) {
  return a.first <= b.last && b.first <= a.last && a.offset < b.offset + b.bytes &&
         b.offset < a.offset + a.bytes;
}

TEST(Arena, ReusesMemoryOfDeadBuffers) {
  std::vector<ArenaRequest> r = {{100, 0, 1}, {100, 1, 2}, {100, 2, 3}};
  const int64_t bytes = AssignOffsets(r);
  EXPECT_EQ(bytes, 228);  // 100 rounded up to 128, + 100: the third reuses the first
  EXPECT_EQ(r[0].offset, r[2].offset);
}

TEST(Arena, NeverOverlapsLiveBuffersAndAligns) {
  uint32_t seed = 7;
  auto next = [&](uint32_t n) { return (seed = seed * 1664525U + 1013904223U) % 65521U % n; };
  for (int round = 0; round < 50; ++round) {
    std::vector<ArenaRequest> r(40);
    for (auto& x : r) {
      x.bytes = next(1000);
      x.first = next(60);
      x.last = x.first + next(8);
    }
    const int64_t bytes = AssignOffsets(r);
    for (size_t i = 0; i < r.size(); ++i) {
      EXPECT_EQ(r[i].offset % kArenaAlignment, 0);
      EXPECT_LE(r[i].offset + r[i].bytes, bytes);
      for (size_t j = 0; j < i; ++j) EXPECT_FALSE(Overlap(r[i], r[j])) << i << " " << j;
    }
  }
}

}  // namespace
}  // namespace octet
