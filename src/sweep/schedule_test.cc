#include "sweep/schedule.h"

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <vector>

#include "base/error.h"
#include "base/parallel.h"
#include "sweep/memo.h"
#include "sweep/views.h"

namespace octet {
namespace {

TEST(Schedule, EveryPieceRunsOnceAndTheFirstAlone) {
  std::vector<std::atomic<int>> runs(20);
  std::atomic<bool> first_is_done{false};
  std::atomic<int> early{0}, threads_of_others{0};
  const int jobs = RunBeside(20, {2, 0}, [&](int64_t i, int threads) {
    ++runs[static_cast<size_t>(i)];
    if (i == 0) {
      EXPECT_EQ(threads, 2);
      first_is_done = true;
    } else {
      early += first_is_done ? 0 : 1;
      threads_of_others = std::max<int>(threads_of_others, threads);
      EXPECT_EQ(MaxThreads(), 1);
    }
  });
  EXPECT_GE(jobs, 1);
  EXPECT_LE(jobs, 2);
  EXPECT_EQ(early, 0);
  for (const auto& r : runs) EXPECT_EQ(r, 1);
  EXPECT_EQ(RunBeside(0, {}, [](int64_t, int) { FAIL(); }), 0);
}

TEST(Schedule, MemoryLimitsHowManyRunAtOnce) {
  EXPECT_EQ(JobsThatFit(8, 1000, 300), 3);
  EXPECT_EQ(JobsThatFit(2, 1000, 300), 2);
  EXPECT_EQ(JobsThatFit(8, 100, 300), 1);
  EXPECT_EQ(JobsThatFit(8, 0, 300), 8);
  EXPECT_GT(FreeMemory(), 0);
  // 64 MiB beside each other do not fit in 1 MiB. Compilers may leave an allocation out that nobody
  // looks at.
  const int jobs = RunBeside(4, {4, 1 << 20}, [](int64_t, int) {
    const std::vector<char> block(64 << 20, 1);
    const volatile char* bytes = block.data();
    EXPECT_EQ(bytes[1000], 1);
  });
  EXPECT_EQ(jobs, 1);
}

TEST(Memo, ComputesOnceAndTellsEverybodyOfAnError) {
  Memo<int> memo;
  std::atomic<int> computed{0};
  const ThreadScope scope(4);
  ParallelForEach(16, [&](int64_t) {
    EXPECT_EQ(*memo.Get("a", [&] { return ++computed; }), 1);
    EXPECT_THROW((void)memo.Get("b", []() -> int { Fail(ErrorCode::kIo, "no"); }), Error);
  });
  EXPECT_EQ(computed, 1);
  EXPECT_EQ(memo.size(), 2U);
}

TEST(Views, HistogramKeepsCountsAndPlaces) {
  ValueStatistics statistics(0, 2);
  // Two channels of 32 values: -1 ... 0.94, and twice that.
  std::vector<float> values(64);
  for (size_t i = 0; i < 32; ++i) {
    values[i] = -1.0F + static_cast<float>(i) / 16;
    values[32 + i] = 2 * values[i];
  }
  statistics.Update(values, Extents{.outer = 1, .channels = 2, .inner = 32});
  const ActivationView view = ViewOf("v", statistics);
  EXPECT_EQ(view.channel_min, (std::vector<float>{-1, -2}));
  EXPECT_EQ(view.lo, -2.0F);
  EXPECT_EQ(view.hi, 1.875F);
  double total = 0, below = 0;
  for (int i = 0; i < kViewBins; ++i) {
    total += view.counts[static_cast<size_t>(i)];
    if (-2 + (i + 1) * 3.875 / kViewBins <= -1) below += view.counts[static_cast<size_t>(i)];
  }
  EXPECT_NEAR(total, 64, 1e-9);
  EXPECT_NEAR(below, 8, 1);  // -2 ... -1.125 of the second channel; a bin may be cut
}

TEST(Views, AConstantHasOneBin) {
  ValueStatistics statistics(-1, 1);
  statistics.Update(std::vector<float>(5, 2.0F), Extents{.outer = 1, .channels = 1, .inner = 5});
  const ActivationView view = ViewOf("v", statistics);
  EXPECT_EQ(view.counts[0], 5.0);
}

}  // namespace
}  // namespace octet
