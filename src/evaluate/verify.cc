#include "evaluate/verify.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>

#include "base/error.h"
#include "base/parallel.h"
#include "evaluate/branch.h"
#include "evaluate/check_products.h"
#include "evaluate/exact_element.h"
#include "evaluate/progress.h"
#include "evaluate/run_samples.h"
#include "graph/ops.h"
#include "passes/lower.h"
#include "passes/quantizers.h"
#include "runtime/executor.h"

namespace octet {
namespace {

// Differences looked into per layer and sample: 0.2 % of the elements (twice what may differ), at
// least this many. What is beyond is called unexplained; the promise does not hold by then anyway.
constexpr int64_t kLeastExamined = 1000;

// One layer: its codes in the lowered graph, and their recomputation from the real run's own
// inputs.
struct Checked {
  size_t real = 0;  // position among the lowered graph's outputs
  size_t fake = 0;  // position among the check graph's outputs
  ValueId fake_codes = kNoValue;
};

struct Differences {
  int64_t elements = 0, different = 0, unexplained = 0;
  int32_t max_difference = 0;
  double max_tie_distance = 0;
};

struct OutputRange {
  double difference = 0;
  double lo = HUGE_VAL, hi = -HUGE_VAL;
};

class Verifier {
 public:
  Verifier(const Graph& quantized, Graph lowered)
      : quantized_(quantized), lowered_(std::move(lowered)) {
    model_outputs_ = lowered_.outputs.size();
    check_.opsets = quantized_.opsets;
    check_.name = quantized_.name;
    for (NodeId id : lowered_.TopologicalOrder()) Check(id);
    if (checked_.empty() && !HasApproximateLayers(lowered_)) {
      Fail(ErrorCode::kInvalidArgument,
           "verify: the model has no quantizers and no approximate multipliers; nothing runs in "
           "INT8");
    }
  }

  VerifyResult Run(const Dataset& data, const VerifyRequest& request) {
    const ThreadScope threads(request.threads);
    const Executor fake(quantized_), real(lowered_), check(check_);
    const auto order = MatchInputs(quantized_, data, "the model");
    result_.products = CheckProducts(lowered_, data, request.progress);
    std::vector<std::vector<Differences>> differences(static_cast<size_t>(data.size()));
    std::vector<std::vector<OutputRange>> outputs(static_cast<size_t>(data.size()));
    ProgressMeter meter(request.progress, "verify", data.size());
    ParallelForEach(data.size(), [&](int64_t i) {
      const Sample sample = data.Load(i);
      const auto views = InputViews(sample, order);
      const std::vector<Tensor> codes = real.Run(views);
      differences[static_cast<size_t>(i)] = Compare(views, codes, check);
      outputs[static_cast<size_t>(i)] = CompareOutputs(fake.Run(views), codes);
      meter.Step();
    });
    return Sum(data.size(), differences, outputs);
  }

 private:
  // A node of the lowered graph whose codes the QDQ graph has too.
  void Check(NodeId id) {
    const Node n = lowered_.node(id);
    if (n.outputs.empty()) return;
    const Value& made = lowered_.value(n.outputs[0]);
    const ValueId target = quantized_.Find(made.name);
    if (target == kNoValue) return;
    const auto q = QuantizerOf(quantized_, quantized_.value(target).producer);
    if (!q || !q->is_activation() || q->codes != target) return;
    Branch branch(quantized_, check_, [&](ValueId v) -> std::optional<ValueId> {
      return v == target ? std::nullopt : FromRealRun(v);
    });
    Checked c;
    c.fake_codes = branch.Copy(target, n.name + "/fake/");
    c.fake = check_.outputs.size();
    check_.outputs.push_back(c.fake_codes);
    c.real = OutputPosition(n.outputs[0]);
    checked_.push_back(c);
    result_.layers.push_back(
        {n.name, n.domain.empty() ? n.op : n.domain + "." + n.op, 0, 0, 0, 0, 0});
  }

  // The input of the check graph that carries what the real run computed under this name.
  std::optional<ValueId> FromRealRun(ValueId v) {
    const std::string& name = quantized_.value(v).name;
    const ValueId real = lowered_.Find(name);
    if (real == kNoValue) return std::nullopt;
    const bool is_input =
        std::find(lowered_.inputs.begin(), lowered_.inputs.end(), real) != lowered_.inputs.end();
    if (!is_input && lowered_.value(real).producer == kNoNode) return std::nullopt;
    const auto known = check_inputs_.find(real);
    if (known != check_inputs_.end()) return known->second;
    const ValueId in = check_.AddInput(name, quantized_.value(v).type);
    check_inputs_[real] = in;
    // Inputs of the graph are at hand; what is computed becomes an output of the real run.
    sources_.push_back(is_input ? Source{true, InputPosition(real)}
                                : Source{false, OutputPosition(real)});
    return in;
  }

  size_t InputPosition(ValueId v) const {
    return static_cast<size_t>(std::find(lowered_.inputs.begin(), lowered_.inputs.end(), v) -
                               lowered_.inputs.begin());
  }
  size_t OutputPosition(ValueId v) {
    auto& outputs = lowered_.outputs;
    const auto it = std::find(outputs.begin(), outputs.end(), v);
    const auto position = static_cast<size_t>(it - outputs.begin());
    if (it == outputs.end()) outputs.push_back(v);
    return position;
  }

  std::vector<Differences> Compare(const std::vector<TensorView>& sample,
                                   const std::vector<Tensor>& real, const Executor& check) const {
    std::vector<TensorView> inputs;
    for (const Source& s : sources_)
      inputs.push_back(s.is_input ? sample[s.position] : real[s.position].view());
    const std::vector<Tensor> fake = check.Run(inputs);
    std::vector<Differences> all;
    std::unique_ptr<Graph> shaped;  // made where something differs
    for (const Checked& c : checked_) {
      const Tensor& r = real[c.real];
      const Tensor& f = fake[c.fake];
      if (r.dtype() != f.dtype() || !(r.shape() == f.shape())) {
        Fail(ErrorCode::kInternal, "verify: '", check_.value(c.fake_codes).name, "' is ",
             NameOf(f.dtype()), f.shape().ToString(), ", but the INT8 run gave ", NameOf(r.dtype()),
             r.shape().ToString());
      }
      Differences d;
      d.elements = r.elements();
      std::vector<int64_t> where;
      const auto compare = [&](auto a, auto b) {
        for (size_t i = 0; i < a.size(); ++i) {
          if (a[i] == b[i]) continue;
          ++d.different;
          d.max_difference = std::max(d.max_difference, std::abs(int32_t{a[i]} - int32_t{b[i]}));
          where.push_back(static_cast<int64_t>(i));
        }
      };
      if (r.dtype() == DType::kUint8) {
        compare(r.data<uint8_t>(), f.data<uint8_t>());
      } else {
        compare(r.data<int8_t>(), f.data<int8_t>());
      }
      if (!where.empty()) {
        if (!shaped) shaped = Shaped(inputs);
        Explain(*shaped, inputs, c, r, f, where, d);
      }
      all.push_back(d);
    }
    return all;
  }

  // The check graph with the shapes of this sample.
  std::unique_ptr<Graph> Shaped(const std::vector<TensorView>& inputs) const {
    auto g = std::make_unique<Graph>(check_);
    for (size_t i = 0; i < inputs.size(); ++i) {
      g->value(g->inputs[i]).type = ValueType::Of(inputs[i].dtype, inputs[i].shape);
    }
    for (NodeId id : g->TopologicalOrder()) {
      for (ValueId v : g->node(id).outputs) {
        if (v != kNoValue) g->value(v).type = ValueType::Unranked(g->value(v).type.dtype);
      }
    }
    InferShapes(*g, true);
    return g;
  }

  static int32_t CodeAt(const Tensor& t, int64_t i) {
    const auto k = static_cast<size_t>(i);
    return t.dtype() == DType::kUint8 ? int32_t{t.data<uint8_t>()[k]}
                                      : int32_t{t.data<int8_t>()[k]};
  }

  static void Explain(const Graph& graph, const std::vector<TensorView>& inputs, const Checked& c,
                      const Tensor& real, const Tensor& fake, const std::vector<int64_t>& where,
                      Differences& d) {
    const ExactElement exact(graph, inputs);
    const int64_t examined = std::max(kLeastExamined, real.elements() / 500);
    for (size_t k = 0; k < where.size(); ++k) {
      if (static_cast<int64_t>(k) >= examined) {
        d.unexplained += static_cast<int64_t>(where.size() - k);
        return;
      }
      const int32_t a = CodeAt(real, where[k]), b = CodeAt(fake, where[k]);
      CodeCandidates candidates;
      try {
        candidates = exact.Quantized(c.fake_codes, where[k]);
      } catch (const Error& e) {
        if (e.code() != ErrorCode::kUnsupported) throw;
        ++d.unexplained;  // an operator that cannot be computed exactly explains nothing
        continue;
      }
      const auto possible = [&](int32_t code) {
        return std::binary_search(candidates.possible.begin(), candidates.possible.end(), code);
      };
      if (!possible(a) || !possible(b)) ++d.unexplained;
      // The tie between the two codes (the lowest of them where they are further apart).
      const double tie = std::min(a, b) + 0.5;
      double distance = HUGE_VAL;
      for (const BoundedReal& x : candidates.codes)
        distance = std::min(distance, std::fabs(x.value - tie));
      d.max_tie_distance = std::max(d.max_tie_distance, distance);
    }
  }

  std::vector<OutputRange> CompareOutputs(const std::vector<Tensor>& fake,
                                          const std::vector<Tensor>& real) const {
    std::vector<OutputRange> ranges(model_outputs_);
    for (size_t i = 0; i < model_outputs_; ++i) {
      if (fake[i].dtype() != DType::kFloat32 || fake[i].elements() != real[i].elements()) continue;
      const auto f = fake[i].data<float>(), r = real[i].data<float>();
      for (size_t k = 0; k < f.size(); ++k) {
        const auto x = static_cast<double>(f[k]);
        ranges[i].lo = std::min(ranges[i].lo, x);
        ranges[i].hi = std::max(ranges[i].hi, x);
        ranges[i].difference =
            std::max(ranges[i].difference, std::fabs(x - static_cast<double>(r[k])));
      }
    }
    return ranges;
  }

  VerifyResult Sum(int64_t samples, const std::vector<std::vector<Differences>>& differences,
                   const std::vector<std::vector<OutputRange>>& outputs) {
    VerifyResult& r = result_;
    r.samples = samples;
    for (const auto& sample : differences) {
      for (size_t k = 0; k < sample.size(); ++k) {
        VerifyResult::Layer& layer = r.layers[k];
        layer.elements += sample[k].elements;
        layer.different += sample[k].different;
        layer.unexplained += sample[k].unexplained;
        layer.max_difference = std::max(layer.max_difference, sample[k].max_difference);
        layer.max_tie_distance = std::max(layer.max_tie_distance, sample[k].max_tie_distance);
      }
    }
    for (const auto& layer : r.layers) {
      r.elements += layer.elements;
      r.different += layer.different;
      r.unexplained += layer.unexplained;
      r.max_difference = std::max(r.max_difference, layer.max_difference);
    }
    for (size_t i = 0; i < model_outputs_; ++i) {
      OutputRange all;
      for (const auto& sample : outputs) {
        all.lo = std::min(all.lo, sample[i].lo);
        all.hi = std::max(all.hi, sample[i].hi);
        all.difference = std::max(all.difference, sample[i].difference);
      }
      if (all.hi > all.lo) all.difference /= all.hi - all.lo;
      r.output_max_difference = std::max(r.output_max_difference, all.difference);
    }
    r.holds = (r.elements > 0 || !r.products.empty()) && r.max_difference <= 1 &&
              r.different * 1000 <= r.elements && r.unexplained == 0;
    for (const auto& p : r.products) r.holds = r.holds && p.elements > 0 && p.different == 0;
    return std::move(r);
  }

  struct Source {
    bool is_input;
    size_t position;
  };

  const Graph& quantized_;
  Graph lowered_;
  Graph check_;
  size_t model_outputs_ = 0;
  std::map<ValueId, ValueId> check_inputs_;  // value of lowered_ -> input of check_
  std::vector<Source> sources_;              // of the check graph's inputs
  std::vector<Checked> checked_;
  VerifyResult result_;
};

}  // namespace

VerifyResult VerifyGraph(const Graph& quantized, const Dataset& data,
                         const VerifyRequest& request) {
  RequireSamples(data, "verify");
  Graph lowered = quantized;
  InferShapes(lowered, false);
  const LoweringReport report = Lower(lowered, EvaluateNode);
  VerifyResult result = Verifier(quantized, std::move(lowered)).Run(data, request);
  for (const auto& k : report.kept) result.kept_float.push_back({k.node, k.op, k.reason});
  return result;
}

VerifyResult VerifyLowered(const Graph& quantized, const Graph& lowered, const Dataset& data,
                           const VerifyRequest& request) {
  RequireSamples(data, "verify");
  return Verifier(quantized, lowered).Run(data, request);
}

}  // namespace octet
