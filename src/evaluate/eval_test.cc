#include "evaluate/eval.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "evaluate/test_models.h"
#include "octet/error.h"

namespace octet {
namespace {

using testing::HasSubstr;

std::string MessageOf(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return {};
}

TEST(Eval, IdenticalModelsAgreeAndThreadsDoNotMatter) {
  const test::ScratchFolder folder("eval");
  const Graph g = test::Classifier();
  std::vector<int64_t> labels(20);
  for (size_t i = 0; i < labels.size(); ++i) labels[i] = static_cast<int64_t>(i % 10);
  const Dataset data = test::MakeData(folder, g, 20, labels);
  const EvalResult one = EvaluateGraphs(g, &g, data, {{}, 1, {}});
  EXPECT_EQ(one.samples, 20);
  EXPECT_EQ(one.metrics.size(), 10u);
  EXPECT_EQ(one.metrics.at("kl").value, 0.0);
  EXPECT_EQ(one.metrics.at("agreement").value, 1.0);
  EXPECT_EQ(one.metrics.at("top1-change").value, 0.0);
  EXPECT_NEAR(one.metrics.at("cosine").value, 1.0, 1e-12);
  EXPECT_GT(one.metrics.at("top5").value, one.metrics.at("top1").value - 1e-12);
  Graph other = g;
  test::ScaleConstant(other, "conv2.w", 0.5F);
  const EvalResult a = EvaluateGraphs(other, &g, data, {{}, 1, {}});
  const EvalResult b = EvaluateGraphs(other, &g, data, {{}, 2, {}});
  EXPECT_GT(a.metrics.at("kl").value, 0.0);
  EXPECT_LT(a.metrics.at("kl").lo, a.metrics.at("kl").value);
  const ReferenceOutputs outputs = RunReference(g, data, 2);
  EvalRequest kept;
  kept.threads = 1;
  kept.outputs = &outputs;
  const EvalResult c = EvaluateGraphs(other, nullptr, data, kept);
  EXPECT_EQ(c.metrics.size(), a.metrics.size());
  for (const auto& [name, interval] : a.metrics) {
    EXPECT_EQ(interval.value, b.metrics.at(name).value) << name;
    EXPECT_EQ(interval.lo, b.metrics.at(name).lo) << name;
    EXPECT_EQ(interval.value, c.metrics.at(name).value) << name;
  }
}

TEST(Eval, SaysWhatAMetricLacks) {
  const test::ScratchFolder folder("eval_lacks");
  const Graph g = test::Classifier();
  const Dataset data = test::MakeData(folder, g, 3);
  const auto evaluate = [&](const std::string& metric, const Graph* reference) {
    return MessageOf([&] { (void)EvaluateGraphs(g, reference, data, {{metric}, 1, {}}); });
  };
  EXPECT_THAT(evaluate("top1", nullptr), HasSubstr("metric 'top1' needs labels"));
  EXPECT_THAT(evaluate("kl", nullptr), HasSubstr("metric 'kl' needs a float model"));
  EXPECT_THAT(evaluate("speed", nullptr), HasSubstr("unknown metric 'speed'"));
  EXPECT_THAT(evaluate("", nullptr), HasSubstr("unknown metric ''"));
  EXPECT_EQ(evaluate("kl", &g), "");
  EXPECT_THAT(MessageOf([&] { (void)EvaluateGraphs(g, nullptr, data, {}); }),
              HasSubstr("nothing to judge by"));
  // An output that is no [1, classes].
  test::Net n({-1, 3, 12, 12});
  const Graph wide = n.Finish(n.Conv("c", n.x, {4, 3, 3, 3}));
  const std::string message = MessageOf([&] {
    (void)EvaluateGraphs(wide, &wide, data, {{"top1"}, 1, {}});
  });
  EXPECT_THAT(message, HasSubstr("labels"));
  const test::ScratchFolder labelled("eval_labelled");
  const Dataset with_labels = test::MakeData(labelled, wide, 3, {0, 1, 2});
  EXPECT_THAT(MessageOf([&] {
                (void)EvaluateGraphs(wide, &wide, with_labels, {{"top1"}, 1, {}});
              }),
              HasSubstr("output 'c_out' is [1,4,12,12]"));
  const EvalResult r = EvaluateGraphs(wide, &wide, with_labels, {});
  EXPECT_FALSE(r.metrics.contains("top1"));
  EXPECT_TRUE(r.metrics.contains("psnr"));
}

TEST(Eval, RefusesLabelsThatAreNoClasses) {
  const test::ScratchFolder folder("eval_labels");
  const Graph g = test::Classifier();
  const Dataset data = test::MakeData(folder, g, 3, {0, 10, 2});
  EXPECT_THROW((void)EvaluateGraphs(g, nullptr, data, {}), Error);
}

TEST(Eval, ReportsProgressToTheEnd) {
  const test::ScratchFolder folder("eval_progress");
  const Graph g = test::Classifier();
  const Dataset data = test::MakeData(folder, g, 5);
  ProgressEvent last;
  EvalRequest request;
  request.threads = 2;
  request.progress = [&](const ProgressEvent& e) { last = e; };
  (void)EvaluateGraphs(g, &g, data, request);
  EXPECT_EQ(last.done, 5);
  EXPECT_EQ(last.total, 5);
}

}  // namespace
}  // namespace octet
