#include "evaluate/bench_ops/measure.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "octet/error.h"

namespace octet {
namespace {

using testing::HasSubstr;

// Runs `check` and returns the message of its kCheckFailed, or "" where it passes.
template <typename Check>
std::string Complaint(Check check) {
  try {
    check();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kCheckFailed);
    return e.what();
  }
  return {};
}

constexpr const char* kConv = "conv2d 2x6x9x8 10 3x3 stride=2 pad=1 groups=2 zero-point=31";

TEST(OperatorData, FloatsRoundToTheCodes) {
  for (const char* text : {kConv, "linear 5x17x3 zero-point=200"}) {
    const auto d = MakeOperatorData(ParseProblem(text));
    const OperatorProblem& p = d->problem;
    const int64_t space = p.height * p.width, c = p.conv.in_channels;
    for (int64_t i = 0; i < p.inputs(); ++i) {
      const int64_t n = i / (c * space), s = i % (c * space) / c, ch = i % c;
      const int64_t at = p.op == OperatorProblem::Op::kLinear ? i : (n * c + ch) * space + s;
      const float code = d->x[static_cast<size_t>(at)] / OperatorData::kXScale +
                         static_cast<float>(p.conv.x_zero_point);
      EXPECT_LT(std::fabs(code - static_cast<float>(d->codes.data()[i])), 0.45F)
          << text << " " << i;
    }
  }
}

TEST(OperatorChecks, FindOneWrongCode) {
  const auto d = MakeOperatorData(ParseProblem(kConv));
  std::vector<uint8_t> y(d->expected.data(), d->expected.data() + d->expected.size());
  EXPECT_EQ(Complaint([&] { CheckCodes(*d, "row", y.data()); }), "");
  EXPECT_EQ(Complaint([&] { CheckPeerCodes(*d, "row", y.data()); }), "");
  for (size_t i = 0; i < y.size(); ++i) {
    const uint8_t right = y[i];
    y[i] = static_cast<uint8_t>(right ^ 1);
    EXPECT_THAT(Complaint([&] { CheckCodes(*d, "row", y.data()); }), HasSubstr("row is wrong"));
    EXPECT_EQ(Complaint([&] { CheckPeerCodes(*d, "row", y.data()); }), "");
    y[i] = static_cast<uint8_t>(right ^ 2);
    EXPECT_THAT(Complaint([&] { CheckPeerCodes(*d, "row", y.data()); }), HasSubstr("is wrong"));
    y[i] = right;
  }
}

TEST(OperatorChecks, FindWrongFloats) {
  for (const char* text : {kConv, "linear 5x17x3"}) {
    const auto d = MakeOperatorData(ParseProblem(text));
    const OperatorProblem& p = d->problem;
    const auto multiplier = d->FloatMultiplier();
    std::vector<float> exact(static_cast<size_t>(p.outputs())), dequantized = exact, codes = exact;
    for (int64_t n = 0; n < p.batch; ++n)
      for (int64_t y = 0; y < p.out_height(); ++y)
        for (int64_t x = 0; x < p.out_width(); ++x)
          for (int64_t c = 0; c < p.conv.out_channels; ++c) {
            const OutputAt at{n, y, x, c};
            const auto i = static_cast<size_t>(
                p.op == OperatorProblem::Op::kLinear ? IndexNhwc(p, at) : IndexNchw(p, at));
            exact[i] = static_cast<float>(ExactFloat(*d, at).value);
            dequantized[i] =
                static_cast<float>(ExactSum(*d, at)) * multiplier[static_cast<size_t>(c)];
            codes[i] = static_cast<float>(ExactCode(*d, at)) * OperatorData::kYScale;
          }
    EXPECT_EQ(Complaint([&] { CheckFloats(*d, "row", exact.data(), 0x1p-24); }), "");
    EXPECT_EQ(Complaint([&] { CheckDequantized(*d, "row", dequantized.data()); }), "");
    EXPECT_EQ(Complaint([&] { CheckFloatCodes(*d, "row", codes.data(), 0); }), "");
    // The first output is always looked at.
    exact[0] *= 1.001F;
    dequantized[0] = std::nextafter(dequantized[0], 1e9F);
    codes[0] += OperatorData::kYScale;
    EXPECT_NE(Complaint([&] { CheckFloats(*d, "row", exact.data(), 0x1p-24); }), "");
    EXPECT_NE(Complaint([&] { CheckDequantized(*d, "row", dequantized.data()); }), "");
    EXPECT_EQ(Complaint([&] { CheckDequantized(*d, "row", dequantized.data(), 0x1p-20F); }), "");
    EXPECT_NE(Complaint([&] { CheckFloatCodes(*d, "row", codes.data(), 0); }), "");
    EXPECT_EQ(Complaint([&] { CheckFloatCodes(*d, "row", codes.data(), 1); }), "");
    exact[0] = NAN;
    EXPECT_NE(Complaint([&] { CheckFloats(*d, "row", exact.data(), 0x1p-24); }), "");
  }
}

TEST(OperatorChecks, FindWrongDynamicOutputs) {
  const auto d = MakeOperatorData(ParseProblem("linear 5x17x3"));
  std::vector<float> y;
  for (int64_t m = 0; m < 5; ++m)
    for (int64_t n = 0; n < 3; ++n) y.push_back(ExactDynamic(*d, {0, 0, m, n}));
  // Half a step of x per product, as a random walk of 17: far below the values themselves.
  for (int64_t m = 0; m < 5; ++m)
    for (int64_t n = 0; n < 3; ++n)
      EXPECT_NEAR(y[static_cast<size_t>(m * 3 + n)], ExactFloat(*d, {0, 0, m, n}).value,
                  0.01 * ExactFloat(*d, {0, 0, m, n}).magnitude);
  EXPECT_EQ(Complaint([&] { CheckDynamic(*d, "row", y.data()); }), "");
  y[14] = std::nextafter(y[14], 1e9F);
  EXPECT_NE(Complaint([&] { CheckDynamic(*d, "row", y.data()); }), "");
}

TEST(TimeRows, TimesNothingWhereOneResultIsWrong) {
  int right_runs = 0, wrong_runs = 0;
  BenchRow right, wrong;
  right.name = "right";
  right.run = [&] { ++right_runs; };
  right.verify = [] {};
  wrong = right;
  wrong.run = [&] { ++wrong_runs; };
  wrong.verify = [] { throw Error(ErrorCode::kCheckFailed, "wrong"); };
  EXPECT_EQ(Complaint([&] { (void)TimeRows({right, wrong}, 0.01); }), "wrong");
  EXPECT_EQ(right_runs, 1);
  EXPECT_EQ(wrong_runs, 1);
}

TEST(TimeRows, LeavesOutWhatIsMissing) {
  BenchRow row, missing;
  row.name = "here";
  row.run = row.verify = [] {};
  missing.name = "missing";
  missing.missing = "no such instruction";
  const auto rows = TimeRows({missing, row}, 0.001);
  ASSERT_EQ(rows.size(), 2U);
  EXPECT_EQ(rows[0].missing, "no such instruction");
  EXPECT_EQ(rows[0].samples, 0);
  EXPECT_GE(rows[1].samples, 7);
}

// Runs and verifies every row, the peers' too, on shapes with edges.
TEST(BenchProblem, ComparesRowsOfEqualData) {
  for (const char* text : {"linear 7x33x65", "linear 3x20x9 zero-point=12", kConv,
                           "conv2d 1x16x8x8 16 3x3 pad=1 groups=16", "quantize 2x5x6x7",
                           "quantize 3x11 zero-point=9", "layernorm 40x13"}) {
    OperatorRequest request;
    request.seconds = 0.002;
    request.threads = {1};
    const OperatorBenchResult r = BenchProblem(ParseProblem(text), request).at(0);
    EXPECT_EQ(r.problem, text);
    EXPECT_EQ(r.threads, 1);
    double best = INFINITY, float32 = 0;
    for (const auto& row : r.rows) {
      if (!row.peer && row.data == "u8 > u8") best = std::min(best, row.median_s);
      if (row.name == "float32") float32 = row.median_s;
    }
    bool peer = false;
    for (const auto& row : r.rows) {
      if (!row.missing.empty()) continue;
      EXPECT_FALSE(row.kernel.empty()) << text << " " << row.name;
      EXPECT_LE(row.best_s, row.median_s);
      if (r.macs == 0) continue;
      EXPECT_NEAR(row.rate, 2e-9 * static_cast<double>(r.macs) / row.median_s, 1e-9);
      EXPECT_DOUBLE_EQ(row.times_float32, float32 / row.median_s);
      if (row.peer && row.data == "u8 > u8") {
        peer = true;
        EXPECT_DOUBLE_EQ(row.octet_speed, row.median_s / best);
      }
    }
    EXPECT_EQ(peer, r.macs > 0) << text;
    request.peers = false;
    const OperatorBenchResult alone = BenchProblem(ParseProblem(text), request).at(0);
    for (const auto& row : alone.rows) EXPECT_FALSE(row.peer);
  }
  OperatorRequest none;
  none.seconds = 0;
  EXPECT_THROW((void)BenchProblem(ParseProblem("linear 1x1x1"), none), Error);
}

}  // namespace
}  // namespace octet
