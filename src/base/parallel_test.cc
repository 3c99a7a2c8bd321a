#include "base/parallel.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <mutex>
#include <thread>
#include <vector>

#include "base/test_folder.h"

namespace octet {
namespace {

TEST(ParallelFor, CoversEveryIndexOnceInPiecesOfTheGrain) {
  for (const int threads : {1, 2, 3, 7}) {
    const ThreadScope scope(threads);
    for (const int64_t n : {0, 1, 2, 6, 7, 8, 100}) {
      for (const int64_t grain : {1, 3, 200}) {
        std::vector<std::atomic<int>> seen(static_cast<size_t>(n));
        std::mutex mutex;
        std::vector<int64_t> lengths;
        ParallelFor(n, grain, [&](int64_t begin, int64_t end) {
          for (int64_t i = begin; i < end; ++i) ++seen[static_cast<size_t>(i)];
          const std::scoped_lock lock(mutex);
          lengths.push_back(end - begin);
        });
        for (auto& s : seen) EXPECT_EQ(s, 1);
        EXPECT_LE(lengths.size(), static_cast<size_t>(threads));
        for (const int64_t length : lengths) EXPECT_GE(length, std::min(n, grain));
      }
    }
  }
}

TEST(ParallelForEach, CoversEveryIndexOnce) {
  const ThreadScope scope(3);
  std::vector<std::atomic<int>> seen(50);
  ParallelForEach(50, [&](int64_t i) { ++seen[static_cast<size_t>(i)]; });
  for (auto& s : seen) EXPECT_EQ(s, 1);
}

TEST(Parallel, TheFirstExceptionIsRethrown) {
  for (const int threads : {1, 4}) {
    const ThreadScope scope(threads);
    std::atomic<int> pieces{0};
    std::string message;
    try {
      ParallelFor(4, 1, [&](int64_t begin, int64_t end) {
        ++pieces;
        if (begin >= 1 || end == 4) Fail(ErrorCode::kBadData, "piece ", begin);
      });
    } catch (const Error& e) {
      message = e.what();
    }
    // One piece, or four, of which the first ends well.
    EXPECT_NE(message.find(pieces == 1 ? "piece 0" : "piece 1"), std::string::npos) << message;
    EXPECT_TRUE(pieces == 1 || pieces == threads) << pieces;
    ExpectError(
        ErrorCode::kBadData,
        [] {
          ParallelForEach(9, [](int64_t i) {
            if (i == 3 || i == 8) Fail(ErrorCode::kBadData, "item ", i);
          });
        },
        "item 3");
  }
}

TEST(Parallel, LoopsDoNotNest) {
  const ThreadScope scope(4);
  std::atomic<int> inner_threads{0};
  ParallelForEach(4,
                  [&](int64_t) { inner_threads = std::max(inner_threads.load(), MaxThreads()); });
  EXPECT_EQ(inner_threads, 1);
}

// Loops that several threads start at once, one after another, on either team: every index once,
// and what a body wrote is there when its loop returns.
TEST(Parallel, LoopsOfSeveralThreads) {
  for (const Team t : {Team::kCrew, Team::kOpenMp}) {
    std::vector<std::thread> callers;
    std::atomic<int> wrong{0};
    for (int caller = 0; caller < 3; ++caller) {
      callers.emplace_back([&, caller] {
        const TeamScope team(t);
        const ThreadScope scope(2 + caller);
        for (int round = 0; round < 200; ++round) {
          std::vector<int> seen(100, 0);
          ParallelFor(100, 1, [&](int64_t begin, int64_t end) {
            for (int64_t i = begin; i < end; ++i) seen[static_cast<size_t>(i)] += round;
          });
          for (const int v : seen) wrong += v == round ? 0 : 1;
        }
      });
    }
    for (std::thread& c : callers) c.join();
    EXPECT_EQ(wrong, 0);
  }
}

// A long pause puts the crew to sleep; the next loop wakes it, or ends without it.
TEST(Parallel, LoopsAfterAPause) {
  const ThreadScope scope(2);
  for (int round = 0; round < 5; ++round) {
    std::atomic<int> sum{0};
    ParallelFor(10, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) sum += static_cast<int>(i);
    });
    EXPECT_EQ(sum, 45);
    std::this_thread::sleep_for(std::chrono::milliseconds(3));
  }
}

// A piece may take long: its loop waits, however deep its threads sleep.
TEST(Parallel, WaitsForTheLastPiece) {
  const ThreadScope scope(3);
  std::atomic<int> ended{0};
  ParallelFor(3, 1, [&](int64_t begin, int64_t) {
    std::this_thread::sleep_for(std::chrono::milliseconds(begin == 1 ? 30 : 1));
    ++ended;
  });
  EXPECT_EQ(ended, 3);
}

TEST(ThreadScope, RestoresThePrevious) {
  const ThreadScope outer(3);
  {
    const ThreadScope inner(2);
    EXPECT_EQ(MaxThreads(), 2);
  }
  EXPECT_EQ(MaxThreads(), 3);
  const ThreadScope all(0);
  EXPECT_EQ(MaxThreads(), HardwareThreads());
}

}  // namespace
}  // namespace octet
