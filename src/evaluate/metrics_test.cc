#include "evaluate/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "octet/error.h"

namespace octet {
namespace {

const ScoredOutput kLogits{"y", OutputKind::kLogits};
const ScoredOutput kProbabilities{"y", OutputKind::kProbabilities};

SampleScores Score(std::initializer_list<float> y, std::initializer_list<float> r, int64_t label,
                   const ScoredOutput& info = kLogits) {
  const Shape shape{1, static_cast<int64_t>(y.size())};
  const Tensor ty = Tensor::Of<float>(shape, y), tr = Tensor::Of<float>(shape, r);
  const TensorView rv = tr.view();
  return ScoreSample(ty.view(), info, &rv, info, label, "s");
}

TEST(Metrics, RanksTiesByClassAndCountsTopFive) {
  const SampleScores s = Score({1, 3, 3, 0, 2, -1, 5}, {1, 3, 3, 0, 2, -1, 5}, 2);
  EXPECT_FALSE(s.top1);
  EXPECT_TRUE(s.top5);
  EXPECT_EQ(Score({7, 7, 0}, {1, 0, 0}, 0).top1, true);
  EXPECT_EQ(Score({7, 7, 0}, {1, 0, 0}, 1).top1, false);
  // Six classes ahead or equal with a lower index: not among five.
  EXPECT_FALSE(Score({1, 1, 1, 1, 1, 1, 0}, {1, 0, 0, 0, 0, 0, 0}, 5).top5);
  EXPECT_TRUE(Score({1, 1, 1, 1, 1, 1, 0}, {1, 0, 0, 0, 0, 0, 0}, 4).top5);
}

TEST(Metrics, CrossEntropyAndKlByHand) {
  const float l2 = std::log(2.0F);
  // softmax(log 2, 0) = (2/3, 1/3); softmax(0, 0) = (1/2, 1/2).
  const SampleScores s = Score({0, 0}, {l2, 0}, 1);
  EXPECT_NEAR(s.cross_entropy, std::log(2.0), 1e-7);
  EXPECT_NEAR(s.reference_cross_entropy, std::log(3.0), 1e-7);
  EXPECT_NEAR(s.kl, 2.0 / 3 * std::log(4.0 / 3) + 1.0 / 3 * std::log(2.0 / 3), 1e-7);
  // A common shift of the logits changes nothing, large ones do not overflow.
  EXPECT_NEAR(Score({1000, 1000}, {1000 + l2, 1000}, 1).kl, s.kl, 1e-4);
  EXPECT_EQ(Score({1, 2, 3}, {1, 2, 3}, 0).kl, 0.0);
}

TEST(Metrics, ProbabilitiesAreNotSoftmaxedAgain) {
  const SampleScores s = Score({0.5F, 0.5F}, {0.75F, 0.25F}, 1, kProbabilities);
  EXPECT_NEAR(s.cross_entropy, std::log(2.0), 1e-9);
  EXPECT_NEAR(s.reference_cross_entropy, std::log(4.0), 1e-9);
  EXPECT_NEAR(s.kl, 0.75 * std::log(1.5) + 0.25 * std::log(0.5), 1e-9);
  // A probability of 0 costs log 2^24, not infinity.
  EXPECT_NEAR(Score({1, 0}, {1, 0}, 1, kProbabilities).cross_entropy, 24 * std::log(2.0), 1e-6);
}

TEST(Metrics, KindOfOutputFollowsTheGraph) {
  Graph g;
  g.opsets[""] = 13;
  const ValueId x = g.AddInput("x", ValueType::Of(DType::kFloat32, {1, 4}));
  const ValueId p = g.AddValue("p"), f = g.AddValue("f"), r = g.AddValue("r");
  g.AddOp("Softmax", {x}, {p});
  g.AddOp("Flatten", {p}, {f});
  g.AddOp("Relu", {f}, {r});
  EXPECT_EQ(KindOfOutput(g, f), OutputKind::kProbabilities);
  EXPECT_EQ(KindOfOutput(g, r), OutputKind::kLogits);
  EXPECT_EQ(KindOfOutput(g, x), OutputKind::kLogits);
}

TEST(Metrics, RefusesNonFiniteOutputsAndBadLabels) {
  EXPECT_THROW((void)Score({NAN, 0}, {0, 0}, 0), Error);
  EXPECT_THROW((void)Score({0, 0}, {INFINITY, 0}, 0), Error);
  EXPECT_THROW((void)Score({0, 0}, {0, 0}, 2), Error);
  const Tensor a(DType::kFloat32, Shape{1, 3}), b(DType::kFloat32, Shape{1, 4});
  const TensorView bv = b.view();
  EXPECT_THROW((void)ScoreSample(a.view(), kLogits, &bv, kLogits, {}, "s"), Error);
}

TEST(Metrics, ManyRowsAverageKlAndAgreement) {
  const Tensor y = Tensor::Of<float>(Shape{1, 2, 2}, {0, 1, 1, 0}),
               r = Tensor::Of<float>(Shape{1, 2, 2}, {0, 1, 0, 1});
  const TensorView rv = r.view();
  const SampleScores s = ScoreSample(y.view(), kLogits, &rv, kLogits, {}, "s");
  EXPECT_EQ(s.rows, 2);
  EXPECT_DOUBLE_EQ(s.agreement, 0.5);
  EXPECT_EQ(ClassesOf(Shape{1, 1000, 1, 1}), 1000);
  EXPECT_EQ(ClassesOf(Shape{1, 1}), 0);
  EXPECT_EQ(ClassesOf(Shape{8}), 0);
}

TEST(Metrics, SummaryPairsSamples) {
  std::vector<SampleScores> scores(10);
  for (size_t i = 0; i < 10; ++i) {
    scores[i].rows = 1;
    scores[i].top1 = i < 6;
    scores[i].reference_top1 = i < 8;
    scores[i].agreement = i < 7 ? 1 : 0;
    scores[i].cross_entropy = 2;
    scores[i].reference_cross_entropy = 1.5;
    scores[i].mse = 0.01;
    scores[i].reference_min = -1;
    scores[i].reference_max = i == 3 ? 9 : 1;
  }
  EXPECT_DOUBLE_EQ(Summarize(Metric::kTop1, scores).value, 0.6);
  EXPECT_NEAR(Summarize(Metric::kTop1Change, scores).value, -0.2, 1e-12);
  EXPECT_DOUBLE_EQ(Summarize(Metric::kAgreement, scores).value, 0.7);
  const Interval ce = Summarize(Metric::kCrossEntropyChange, scores);
  EXPECT_DOUBLE_EQ(ce.value, 0.5);
  EXPECT_DOUBLE_EQ(ce.hi, 0.5);
  EXPECT_NEAR(Summarize(Metric::kPsnr, scores).value, 40.0, 1e-9);  // 10 log10(10^2 / 0.01)
}

TEST(Metrics, IntervalsStayWhereTheMetricCanBe) {
  std::vector<SampleScores> scores(4);
  for (SampleScores& s : scores) {
    s.rows = 50;
    s.agreement = s.cosine = 1;
    s.reference_max = 1;
  }
  scores[1].agreement = 0.98;
  scores[1].cosine = 0.9;
  scores[1].kl = scores[1].cross_entropy = scores[1].mse = 0.01;
  EXPECT_EQ(Summarize(Metric::kAgreement, scores).hi, 1.0);
  EXPECT_EQ(Summarize(Metric::kCosine, scores).hi, 1.0);
  EXPECT_EQ(Summarize(Metric::kKl, scores).lo, 0.0);
  EXPECT_EQ(Summarize(Metric::kCrossEntropy, scores).lo, 0.0);
  EXPECT_EQ(Summarize(Metric::kPsnr, scores).hi, INFINITY);
}

TEST(Metrics, UnderscoresAreReadAsHyphens) {
  EXPECT_EQ(FindMetric("cross-entropy").metric, Metric::kCrossEntropy);
  EXPECT_EQ(FindMetric("cross_entropy").metric, Metric::kCrossEntropy);
  EXPECT_EQ(FindMetric("cross_entropy_change").name, "cross-entropy-change");
}

TEST(Metrics, UnknownNameListsTheChoices) {
  try {
    (void)FindMetric("accuracy");
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kInvalidArgument);
    EXPECT_THAT(e.what(), testing::HasSubstr("'accuracy'"));
    EXPECT_THAT(e.what(), testing::HasSubstr("cross-entropy-change"));
  }
}

}  // namespace
}  // namespace octet
