#include "evaluate/bench.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "evaluate/test_models.h"
#include "octet/error.h"
#include "passes/lower.h"

namespace octet {
namespace {

TEST(Bench, TimesBothModelsAndComparesTheirOutputs) {
  const test::ScratchFolder folder("bench");
  const Graph g = test::Classifier();
  const Dataset data = test::MakeData(folder, g, 8);
  Graph lowered = test::QuantizeByExtrema(g, data);
  Lower(lowered, EvaluateNode);
  BenchRequest request;
  request.batch = 2;
  request.seconds = 0.05;
  request.steps = true;
  request.explain = true;
  request.threads = 1;
  const BenchResult r = BenchGraphs(g, &lowered, request);
  ASSERT_EQ(r.rows.size(), 2u);
  EXPECT_EQ(r.rows[0].name, "float32");
  EXPECT_EQ(r.rows[1].name, "int8");
  EXPECT_EQ(r.macs, 2 * (36 * 16 * 27 + 36 * 16 * 9 + 36 * 256 + 9 * 24 * 144 + 240));
  for (const auto& row : r.rows) {
    EXPECT_GE(row.runs, 7);
    EXPECT_GT(row.median_s, 0);
    EXPECT_LE(row.best_s, row.median_s);
    EXPECT_NEAR(row.gops, 2e-9 * static_cast<double>(r.macs) / row.median_s, 1e-9);
    EXPECT_FALSE(row.steps.empty());
    ASSERT_EQ(row.parts.size(), 5u);
    double parts = 0, steps = 0;
    size_t count = 0;
    for (const auto& part : row.parts) {
      parts += part.seconds;
      count += static_cast<size_t>(part.steps);
      double operators = 0;
      for (const auto& [op, seconds] : part.operators) operators += seconds;
      EXPECT_NEAR(operators, part.seconds, 1e-9);
      EXPECT_EQ(part.is_layers, part.name == "8-bit layers" || part.name == "float layers");
    }
    for (const auto& step : row.steps) steps += step.seconds;
    EXPECT_NEAR(parts, steps, 1e-9);  // the same numbers, added in another order
    EXPECT_EQ(count, row.steps.size());
    EXPECT_GE(row.samples, 7);
    EXPECT_LE(row.samples, row.runs);
    if (!row.disturbed) {
      EXPECT_EQ(row.best_alone_s, row.best_s);
    }
  }
  // Layers: 8-bit ones of the second model, float ones of the first. Its quantizers convert.
  const auto steps_of = [&](size_t row, size_t part) { return r.rows[row].parts[part].steps; };
  EXPECT_EQ(steps_of(0, 0), 0);
  EXPECT_GT(steps_of(0, 1), 3);
  EXPECT_EQ(steps_of(0, 3), 0);
  EXPECT_EQ(steps_of(1, 0) + steps_of(1, 1), steps_of(0, 1));
  EXPECT_GT(steps_of(1, 0), 3);
  EXPECT_GT(steps_of(1, 3), 0);
  EXPECT_EQ(r.threads, 1);
  EXPECT_EQ(r.speedup > 0, !r.rows[0].disturbed && !r.rows[1].disturbed);
  EXPECT_LT(r.output_max_difference, 0.2);
  EXPECT_GT(r.output_max_difference, 0);
  EXPECT_TRUE(BenchGraphs(g, nullptr, {1, 0.01, false, false, 1, {}}).rows[0].steps.empty());
}

TEST(Bench, CountsTheTimeBehindSizesThatDependOnData) {
  test::Net n({1, 12});
  const ValueId sizes = n.g.AddInput("sizes", ValueType::Of(DType::kInt64, Shape{2}));
  const ValueId before = n.Op("Exp", "before", {n.x});
  const ValueId shaped = n.Op("Reshape", "shaped", {before, sizes});
  const Graph g = n.Finish(n.Op("Exp", "behind", {shaped}));
  BenchRequest request;
  request.seconds = 0.01;
  request.threads = 1;
  const BenchResult r = BenchGraphs(g, nullptr, request);
  const auto& others = r.rows[0].parts[4];
  EXPECT_EQ(others.name, "other operators");
  EXPECT_EQ(others.steps, 2);
  ASSERT_EQ(others.operators.size(), 2u);
  const auto named = [&](const std::string& name) {
    return std::ranges::any_of(others.operators, [&](const auto& o) { return o.first == name; });
  };
  EXPECT_TRUE(named("Exp"));
  EXPECT_TRUE(named("behind sizes that depend on data"));
}

TEST(Bench, MediansWithTakenCoresGiveNoRatio) {
  BenchResult r;
  r.rows.resize(2);
  r.rows[0].median_s = 0.644;
  r.rows[0].best_alone_s = 1.2e-3;
  r.rows[1].median_s = 0.33e-3;
  r.rows[1].best_alone_s = 0.3e-3;
  BenchResult calm = r;
  CompareRows(calm);
  EXPECT_DOUBLE_EQ(calm.speedup, 0.644 / 0.33e-3);
  for (int disturbed : {0, 1}) {
    BenchResult taken = r;
    taken.rows[static_cast<size_t>(disturbed)].disturbed = true;
    CompareRows(taken);
    EXPECT_EQ(taken.speedup, 0);
    EXPECT_DOUBLE_EQ(taken.best_speedup, 4);
    taken.rows[0].best_alone_s = 0;  // never alone: nothing to compare
    taken.best_speedup = 0;
    CompareRows(taken);
    EXPECT_EQ(taken.best_speedup, 0);
  }
}

TEST(Bench, SaysWhereCoresWereTaken) {
  // More spinning threads than cores. When they come to run is the system's affair: as often as it
  // takes, for 20 s.
  std::atomic<bool> stop = false;
  std::vector<std::thread> others;
  for (unsigned i = 0; i < 2 * std::thread::hardware_concurrency(); ++i) {
    others.emplace_back([&] {
      while (!stop) {
      }
    });
  }
  const Graph g = test::Classifier();
  BenchResult r;
  const auto start = std::chrono::steady_clock::now();
  do {
    r = BenchGraphs(g, nullptr, {1, 0.1, false, false, 1, {}});
  } while (r.rows[0].interrupted == 0 &&
           std::chrono::steady_clock::now() - start < std::chrono::seconds(20));
  stop = true;
  for (std::thread& t : others) t.join();
  EXPECT_GT(r.rows[0].interrupted, 0);
}

TEST(Bench, RefusesNonsense) {
  const Graph g = test::Classifier();
  EXPECT_THROW((void)BenchGraphs(g, nullptr, {0, 1, false, false, 1, {}}), Error);
  EXPECT_THROW((void)BenchGraphs(g, nullptr, {1, 0, false, false, 1, {}}), Error);
  BenchRequest both{4, 0.01, false, false, 1, {}, {{"x", {2, 3, 12, 12}}}};
  EXPECT_THROW((void)BenchGraphs(g, nullptr, both), Error);
  both.batch.reset();  // the shape says it
  EXPECT_EQ(BenchGraphs(g, nullptr, both).macs,
            2 * (36 * 16 * 27 + 36 * 16 * 9 + 36 * 256 + 9 * 24 * 144 + 240));
}

}  // namespace
}  // namespace octet
