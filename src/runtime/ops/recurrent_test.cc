// Recurrent layers whose weights are known, against their definition in double; weights that are
// computed are covered by the node tests of ONNX.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>

#include "base/error.h"
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

// A layer of size 1 and one row: `x` by time, weights by gate; returns Y (T) and, for
// an LSTM, the last cell.
struct Small {
  std::string op;
  std::vector<float> x, w, r;
  Attributes attributes = {};
  float initial = 0.0F;  // of state and cell
};
std::vector<float> RunSmall(const Small& s) {
  const auto steps = static_cast<int64_t>(s.x.size());
  const auto gates = static_cast<int64_t>(s.w.size());
  TestGraph g;
  const ValueId state = g.Constant(Floats(Shape{1, 1, 1}, {s.initial}));
  std::vector<ValueId> inputs = {g.Input({-1, 1, 1}),
                                 g.Constant(Floats(Shape{1, gates, 1}, s.w)),
                                 g.Constant(Floats(Shape{1, gates, 1}, s.r)),
                                 kNoValue,
                                 kNoValue,
                                 state};
  const bool lstm = s.op == "LSTM";
  if (lstm) inputs.push_back(state);
  const auto made = g.Nodes(s.op, inputs, s.attributes, lstm ? 3 : 1);
  g.Output(made[0]);
  if (lstm) g.Output(made[2]);
  const Tensor x = Floats(Shape{steps, 1, 1}, s.x);
  const auto results = g.Run({&x});
  std::vector<float> y(results[0].data<float>().begin(), results[0].data<float>().end());
  if (lstm) y.push_back(results[1].data<float>()[0]);
  return y;
}

// Every function of ONNX, through an RNN that passes its input on: with its numbers, and with those
// it has where the model has none. Those of ONNX Runtime, but for ThresholdedRelu (there 0) and
// Affine (there 0 and 0), whose defaults are the operators'.
TEST(Recurrent, FunctionsOfGates) {
  struct Case {
    std::string name;
    bool given;
    std::function<double(double)> f;
  };
  const std::vector<Case> cases = {
      {"Sigmoid", false, [](double x) { return 1 / (1 + std::exp(-x)); }},
      {"tanh", false, [](double x) { return std::tanh(x); }},
      {"Relu", false, [](double x) { return std::max(x, 0.0); }},
      {"HardSigmoid", true, [](double x) { return std::clamp(0.7 * x + 0.3, 0.0, 1.0); }},
      {"HardSigmoid", false, [](double x) { return std::clamp(0.2 * x + 0.5, 0.0, 1.0); }},
      {"LeakyRelu", true, [](double x) { return x >= 0 ? x : 0.7 * x; }},
      {"LeakyRelu", false, [](double x) { return x >= 0 ? x : 0.01 * x; }},
      {"ThresholdedRelu", true, [](double x) { return x > 0.7 ? x : 0; }},
      {"ThresholdedRelu", false, [](double x) { return x > 1 ? x : 0; }},
      {"ScaledTanh", true, [](double x) { return 0.7 * std::tanh(0.3 * x); }},
      {"Softsign", false, [](double x) { return x / (1 + std::fabs(x)); }},
      {"Softplus", false, [](double x) { return std::log(1 + std::exp(x)); }},
      {"Elu", true, [](double x) { return x >= 0 ? x : 0.7 * (std::exp(x) - 1); }},
      {"Elu", false, [](double x) { return x >= 0 ? x : std::exp(x) - 1; }},
      {"Affine", true, [](double x) { return 0.7 * x + 0.3; }},
      {"Affine", false, [](double x) { return x; }},
  };
  const std::vector<float> x = {-4, -2.6F, -1, -0.3F, 0, 0.4F, 0.8F, 1.1F, 2.4F, 5};
  for (const Case& c : cases) {
    Small s{"RNN", x, {1}, {0}, {{"activations", std::vector<std::string>{c.name}}}};
    if (c.given) {
      s.attributes["activation_alpha"] = std::vector<float>{0.7F};
      s.attributes["activation_beta"] = std::vector<float>{0.3F};
    }
    const auto y = RunSmall(s);
    for (size_t i = 0; i < x.size(); ++i)
      EXPECT_NEAR(y[i], c.f(x[i]), kTolerance) << c.name << " of " << x[i];
  }
}

// Numbers belong to the functions that take one: here g and h.
TEST(Recurrent, NumbersOfFunctionsAreTakenInOrder) {
  const auto y =
      RunSmall({"LSTM",
                {0.5F},
                {1, 2, 3, 4},
                {0, 0, 0, 0},
                {{"activations", std::vector<std::string>{"Sigmoid", "LeakyRelu", "Affine"}},
                 {"activation_alpha", std::vector<float>{0.25F, 3}},
                 {"activation_beta", std::vector<float>{0.125F}}}});
  const double cell = Sigmoid(0.5) * 2;
  EXPECT_NEAR(y[0], Sigmoid(1) * (3 * cell + 0.125), kTolerance);
  EXPECT_NEAR(y[1], cell, kTolerance);
}

TEST(Recurrent, CoupledForgetGate) {
  const auto y = RunSmall({"LSTM",
                           {0.5F, -0.25F},
                           {1, 2, 3, 4},
                           {0.1F, 0.2F, 0.3F, 0.4F},
                           {{"input_forget", int64_t{1}}},
                           0.75F});
  double h = 0.75, c = 0.75;
  for (const double x : {0.5, -0.25}) {
    const double input = Sigmoid(x + 0.1 * h), output = Sigmoid(2 * x + 0.2 * h);
    c = (1 - input) * c + input * std::tanh(4 * x + 0.4 * h);
    h = output * std::tanh(c);
  }
  EXPECT_NEAR(y[1], h, kTolerance);
  EXPECT_NEAR(y[2], c, kTolerance);
}

// (T,B,H) = (3,2,2), with initial states of 1.
struct Sized {
  std::string op;
  int64_t input = 3, hidden = 2;
  std::vector<int32_t> lengths = {};
  Attributes attributes = {};
};
std::vector<Tensor> RunSized(const Sized& s, size_t outputs, const Tensor* x = nullptr) {
  const int64_t gates = s.op == "LSTM" ? 4 : s.op == "GRU" ? 3 : 1;
  const bool both = s.attributes.contains("direction");
  const int64_t directions = both ? 2 : 1;
  TestGraph g;
  const auto ones = [&] {
    Tensor t(DType::kFloat32, {directions, 2, s.hidden});
    for (float& v : t.mutable_data<float>()) v = 1;
    return g.Constant(std::move(t));
  };
  std::vector<ValueId> inputs = {g.Input({3, 2, s.input}),
                                 g.Constant(Noise({directions, gates * s.hidden, s.input}, 1)),
                                 g.Constant(Noise({directions, gates * s.hidden, s.hidden}, 2)),
                                 kNoValue,
                                 kNoValue,
                                 ones()};
  if (!s.lengths.empty()) {
    inputs[4] = g.Constant(Tensor::Of<int32_t>(Shape{2}, std::span<const int32_t>(s.lengths)));
  }
  if (s.op == "LSTM") inputs.push_back(ones());
  for (ValueId v : g.Nodes(s.op, inputs, s.attributes, outputs)) g.Output(v);
  g.graph.node(0).name = "layer";
  const Tensor noise = Noise({3, 2, s.input}, 3);
  return g.Run({x != nullptr ? x : &noise});
}

constexpr std::array kOps = {"LSTM", "GRU", "RNN"};

// Without inputs: as with one that is 0.
TEST(Recurrent, NoInputs) {
  for (const char* op : kOps) {
    const Tensor zeros = Tensor::Of<float>(Shape{3, 2, 1}, std::vector<float>(6, 0.0F));
    const auto expected = RunSized({op, 1}, 2, &zeros), got = RunSized({op, 0}, 2);
    for (size_t i = 0; i < 2; ++i) {
      const auto a = got[i].data<float>(), b = expected[i].data<float>();
      EXPECT_EQ(std::vector<float>(a.begin(), a.end()), std::vector<float>(b.begin(), b.end()))
          << op << " " << i;
    }
  }
}

// As in ONNX Runtime: nothing of the initial states comes out of a row without steps.
TEST(Recurrent, RowsOfLengthZeroEndInZero) {
  for (const char* op : kOps) {
    const size_t outputs = op == kOps[0] ? 3 : 2;
    const auto results =
        RunSized({op, 3, 2, {0, 2}, {{"direction", std::string("bidirectional")}}}, outputs);
    for (size_t i = 1; i < outputs; ++i) {
      const auto last = results[i].data<float>();  // (D,B,H)
      for (const size_t at : {0U, 1U, 4U, 5U}) EXPECT_EQ(last[at], 0.0F) << op << " " << i;
      for (const size_t at : {2U, 3U, 6U, 7U}) EXPECT_NE(last[at], 0.0F) << op << " " << i;
    }
  }
}

std::string ErrorOf(const Sized& s, ErrorCode code) {
  try {
    (void)RunSized(s, 2);
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), code) << e.what();
    return e.what();
  }
  return "none";
}

TEST(Recurrent, RefusesWhatContradictsItself) {
  using Names = std::vector<std::string>;
  for (const std::string op : kOps) {
    const size_t functions = op == "LSTM" ? 3 : op == "GRU" ? 2 : 1;
    EXPECT_EQ(ErrorOf({op, 3, 2, {2, 7}}, ErrorCode::kBadData),
              "run: node 'layer': sequence_lens[1] is 7, expected 0 to 3");
    EXPECT_EQ(ErrorOf({op, 3, 2, {-1, 2}}, ErrorCode::kBadData),
              "run: node 'layer': sequence_lens[0] is -1, expected 0 to 3");
    const auto refused = [&](Sized s, const std::string& what) {
      s.op = op;
      EXPECT_NE(ErrorOf(s, ErrorCode::kBadFile).find("node 'layer' (" + op + "): " + what),
                std::string::npos)
          << ErrorOf(s, ErrorCode::kBadFile);
    };
    refused({op, 3, 0}, "the recurrence weights are of hidden size 0");
    refused({op, 3, 2, {}, {{"clip", -1.0F}}}, "clip is -1, expected");
    refused({op, 3, 2, {}, {{"clip", 0.0F}}}, "clip is 0, expected");
    refused({op, 3, 2, {}, {{"clip", std::nanf("")}}}, "clip is nan, expected");
    refused({op, 3, 2, {}, {{"activations", Names(functions, "Mish")}}}, "activation 'Mish'");
    refused({op, 3, 2, {}, {{"activations", Names(functions + 1, "Tanh")}}},
            Cat(functions + 1, " activations, expected ", functions));
    refused({op, 3, 2, {}, {{"activations", Names(functions, "ScaledTanh")}}},
            "activation ScaledTanh has no number in 'activation_alpha'");
  }
}

}  // namespace
}  // namespace octet
