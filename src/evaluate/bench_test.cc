#include "evaluate/bench.h"

#include <gtest/gtest.h>
#include <unistd.h>

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
  }
  EXPECT_EQ(r.threads, 1);
  EXPECT_GT(r.speedup, 0);
  EXPECT_LT(r.output_max_difference, 0.2);
  EXPECT_GT(r.output_max_difference, 0);
  EXPECT_TRUE(BenchGraphs(g, nullptr, {1, 0.01, false, false, 1, {}}).rows[0].steps.empty());
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
