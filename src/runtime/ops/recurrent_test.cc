// Recurrent layers whose weights are known, against their definition in double; weights that are
// computed are covered by the node tests of ONNX.
#include <gtest/gtest.h>

#include <cmath>

#include "runtime/test_graph.h"

namespace octet {
namespace {

using namespace testing_graph;  // NOLINT

constexpr int64_t kTime = 7, kBatch = 3, kInput = 5, kHidden = 20;
// Float sums of up to 25 terms of size 1 through contracting gates: 25 * 2^-24, some steps long.
constexpr double kTolerance = 2e-5;

double Sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

struct Weights {
  Tensor w, r, b;
  int64_t gates;
  Weights(int64_t directions, int64_t g)
      : w(Noise({directions, g * kHidden, kInput}, 1, 0.4F)),
        r(Noise({directions, g * kHidden, kHidden}, 2, 0.3F)),
        b(Noise({directions, 2 * g * kHidden}, 3, 0.2F)),
        gates(g) {}

  // What input and state contribute to row `at` of gate `g`, biases included.
  double Input(int64_t d, int64_t g, int64_t at, const float* x) const {
    const int64_t row = d * gates * kHidden + g * kHidden + at;
    double sum = b.data<float>()[static_cast<size_t>(row + d * gates * kHidden)];
    for (int64_t i = 0; i < kInput; ++i)
      sum += static_cast<double>(w.data<float>()[static_cast<size_t>(row * kInput + i)]) * x[i];
    return sum;
  }
  double State(int64_t d, int64_t g, int64_t at, const std::vector<double>& h) const {
    const int64_t row = d * gates * kHidden + g * kHidden + at;
    double sum = b.data<float>()[static_cast<size_t>(row + d * gates * kHidden + gates * kHidden)];
    for (size_t i = 0; i < h.size(); ++i)
      sum += r.data<float>()[static_cast<size_t>(row * kHidden) + i] * h[i];
    return sum;
  }
};

// Y (T,D,B,H) and the last states (D,B,H).
struct Expected {
  std::vector<double> y, last;
};

template <typename StepFn>
Expected Loop(int64_t directions, const Tensor& x, const std::vector<int32_t>& lengths,
              StepFn step) {
  Expected e;
  e.y.assign(static_cast<size_t>(kTime * directions * kBatch * kHidden), 0.0);
  for (int64_t d = 0; d < directions; ++d) {
    for (int64_t n = 0; n < kBatch; ++n) {
      std::vector<double> h(kHidden, 0.0), c(kHidden, 0.0);
      const int64_t length = lengths[static_cast<size_t>(n)];
      for (int64_t s = 0; s < length; ++s) {
        const int64_t t = d == 1 ? length - 1 - s : s;
        step(d, x.data<float>().data() + (t * kBatch + n) * kInput, h, c);
        for (int64_t i = 0; i < kHidden; ++i) {
          e.y[static_cast<size_t>(((t * directions + d) * kBatch + n) * kHidden + i)] =
              h[static_cast<size_t>(i)];
        }
      }
      e.last.insert(e.last.end(), h.begin(), h.end());
    }
  }
  return e;
}

void ExpectNear(const Tensor& got, const std::vector<double>& expected) {
  ASSERT_EQ(static_cast<size_t>(got.elements()), expected.size());
  for (size_t i = 0; i < expected.size(); ++i)
    ASSERT_NEAR(static_cast<double>(got.data<float>()[i]), expected[i], kTolerance) << i;
}

void Check(const std::string& op, int64_t directions, const Weights& w, Attributes attributes,
           const std::vector<int32_t>& lengths, const Expected& expected, const Tensor& x) {
  attributes["hidden_size"] = kHidden;
  if (directions == 2) attributes["direction"] = std::string("bidirectional");
  TestGraph g;
  const ValueId input = g.Input({-1, kBatch, kInput});
  const auto made =
      g.Nodes(op,
              {input, g.Constant(w.w.Clone()), g.Constant(w.r.Clone()), g.Constant(w.b.Clone()),
               g.Constant(Tensor::Of<int32_t>(Shape{kBatch}, std::span<const int32_t>(lengths)))},
              std::move(attributes), 2);
  g.Output(made[0]);
  g.Output(made[1]);
  const Executor executor(g.graph);
  const std::vector<TensorView> inputs = {x.view()};
  const auto results = executor.Run(inputs);
  ExpectNear(results[0], expected.y);
  ExpectNear(results[1], expected.last);
}

TEST(Recurrent, LstmOfBothDirectionsAndUnequalLengths) {
  const Tensor x = Noise({kTime, kBatch, kInput}, 4);
  const std::vector<int32_t> lengths = {kTime, 3, 1};
  const Weights w(2, 4);
  const auto expected = Loop(2, x, lengths, [&](int64_t d, const float* in, auto& h, auto& c) {
    std::vector<double> next(kHidden);
    for (int64_t i = 0; i < kHidden; ++i) {
      const auto gate = [&](int64_t g) { return w.Input(d, g, i, in) + w.State(d, g, i, h); };
      double& cell = c[static_cast<size_t>(i)];
      cell = Sigmoid(gate(2)) * cell + Sigmoid(gate(0)) * std::tanh(gate(3));
      next[static_cast<size_t>(i)] = Sigmoid(gate(1)) * std::tanh(cell);
    }
    h = next;
  });
  Check("LSTM", 2, w, {}, lengths, expected, x);
}

TEST(Recurrent, GruThatResetsBeforeAndAfterTheProduct) {
  const Tensor x = Noise({kTime, kBatch, kInput}, 5);
  const std::vector<int32_t> lengths = {2, kTime, 5};
  const Weights w(1, 3);
  for (const bool after : {false, true}) {
    const auto expected = Loop(1, x, lengths, [&](int64_t d, const float* in, auto& h, auto&) {
      std::vector<double> z(kHidden), r(kHidden), reset(kHidden), next(kHidden);
      for (int64_t i = 0; i < kHidden; ++i) {
        const auto at = static_cast<size_t>(i);
        z[at] = Sigmoid(w.Input(d, 0, i, in) + w.State(d, 0, i, h));
        r[at] = Sigmoid(w.Input(d, 1, i, in) + w.State(d, 1, i, h));
        reset[at] = r[at] * h[at];
      }
      for (int64_t i = 0; i < kHidden; ++i) {
        const auto at = static_cast<size_t>(i);
        const double state = after ? r[at] * w.State(d, 2, i, h) : w.State(d, 2, i, reset);
        next[at] = (1 - z[at]) * std::tanh(w.Input(d, 2, i, in) + state) + z[at] * h[at];
      }
      h = next;
    });
    Check("GRU", 1, w, {{"linear_before_reset", int64_t{after ? 1 : 0}}}, lengths, expected, x);
  }
}

TEST(Recurrent, RefusesWhatItDoesNotDo) {
  const Tensor x = Noise({kTime, kBatch, kInput}, 6);
  const Weights w(1, 1);
  const std::vector<int32_t> lengths(kBatch, kTime);
  try {
    Check("RNN", 1, w, {{"activations", std::vector<std::string>{"Softsign"}}}, lengths, {}, x);
    FAIL();
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("softsign"), std::string::npos) << e.what();
  }
}

}  // namespace
}  // namespace octet
