#include "evaluate/run_timer.h"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <chrono>
#include <thread>

namespace octet {
namespace {

void SpinFor(std::chrono::microseconds time) {
  const auto end = std::chrono::steady_clock::now() + time;
  while (std::chrono::steady_clock::now() < end) {
  }
}

TEST(SummarizeTimes, MedianAndDeviation) {
  const std::array<double, 5> odd = {5, 1, 2, 100, 3};
  const TimeSummary a = SummarizeTimes(odd);
  EXPECT_EQ(a.median, 3);
  EXPECT_EQ(a.mad, 2);  // |deviations| 2 2 1 97 0
  EXPECT_EQ(a.best, 1);
  const std::array<double, 2> even = {1, 3};
  EXPECT_EQ(SummarizeTimes(even).median, 2);
}

TEST(RunTimer, TimesOneRunWhateverTheRepetitions) {
  // Where others hold the cores a turn may have no clean sample: as often as it takes, for 20 s.
  RunTimer::Result quick, slow;
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  do {
    std::vector<RunTimer> timers;
    for (int us : {50, 3000}) timers.emplace_back([us] { SpinFor(std::chrono::microseconds(us)); });
    TakeTurns(timers, 0.03, {});
    quick = timers[0].Finish();
    slow = timers[1].Finish();
  } while ((quick.seconds.best >= 70e-6 || slow.seconds.best >= 4e-3 || quick.samples < 7 ||
            quick.runs <= 10 * quick.samples) &&
           std::chrono::steady_clock::now() < end);
  EXPECT_GE(quick.seconds.best, 50e-6);
  EXPECT_LT(quick.seconds.best, 70e-6);
  EXPECT_GE(slow.seconds.best, 3e-3);
  EXPECT_LT(slow.seconds.best, 4e-3);
  EXPECT_GE(quick.samples, 7);
  EXPECT_GT(quick.runs, 10 * quick.samples);
  EXPECT_EQ(slow.runs, slow.samples);
}

TEST(RunTimer, TellsWhereTheProcessWasInterrupted) {
  // As many spinning threads as cores, and as many again: cores are taken away.
  std::atomic<bool> stop = false;
  std::vector<std::thread> others;
  for (unsigned i = 0; i < 2 * std::thread::hardware_concurrency(); ++i) {
    others.emplace_back([&] {
      while (!stop) {
      }
    });
  }
  // When the others come to run is the system's affair: as often as it takes, for 20 s.
  RunTimer::Result r;
  const auto start = std::chrono::steady_clock::now();
  do {
    std::vector<RunTimer> timers;
    timers.emplace_back([] { SpinFor(std::chrono::microseconds(100)); });
    TakeTurns(timers, 0.1, {});
    r = timers[0].Finish();
  } while (r.interrupted == 0 &&
           std::chrono::steady_clock::now() - start < std::chrono::seconds(20));
  stop = true;
  for (std::thread& t : others) t.join();
  EXPECT_GT(r.interrupted, 0);
  EXPECT_GE(r.samples, 7);
}

}  // namespace
}  // namespace octet
