#include "evaluate/bench.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <map>
#include <numeric>
#include <optional>
#include <random>

#include "base/cpu.h"
#include "base/error.h"
#include "base/parallel.h"
#include "evaluate/peak.h"
#include "evaluate/run_timer.h"
#include "passes/macs.h"
#include "passes/quantizers.h"
#include "runtime/executor.h"

namespace octet {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kProfiles = 9, kFewestProfiles = 3;  // per step: the median of so many runs
constexpr std::array<std::string_view, 5> kPartNames = {
    "8-bit layers", "float layers", "other operators on 8 bits", "conversions to and from 8 bits",
    "other operators"};
constexpr const char* kLater = "behind sizes that depend on data";
constexpr uint32_t kSeed = 20240229;

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// What the quantizer of an input can represent.
struct Range {
  float lo = -1, hi = 1;
};

Range RangeOfInput(const Graph* quantized, const std::string& input) {
  if (quantized == nullptr) return {};
  const ValueId v = quantized->Find(input);
  if (v == kNoValue) return {};
  for (const Graph::Use& use : quantized->UsesOf(v)) {
    if (const auto q = QuantizerOf(*quantized, use.node); q && q->is_activation() && q->real == v) {
      return {static_cast<float>(q->qmin() - q->zero_point[0]) * q->scale[0],
              static_cast<float>(q->qmax() - q->zero_point[0]) * q->scale[0]};
    }
  }
  return {};
}

Tensor RandomInput(const std::string& name, DType dtype, const Shape& shape, Range range,
                   std::mt19937& random) {
  Tensor t(dtype, shape);
  if (dtype == DType::kFloat32) {
    std::uniform_real_distribution<float> uniform(range.lo, range.hi);
    for (float& v : t.mutable_data<float>()) v = uniform(random);
  } else if (dtype == DType::kUint8) {
    for (uint8_t& v : t.mutable_data<uint8_t>()) v = static_cast<uint8_t>(random());
  } else if (dtype == DType::kInt8) {
    for (int8_t& v : t.mutable_data<int8_t>()) v = static_cast<int8_t>(random());
  } else if (dtype != DType::kInt64 && dtype != DType::kInt32 && dtype != DType::kBool) {
    Fail(ErrorCode::kUnsupported, "bench: input '", name, "' is ", NameOf(dtype),
         ", expected float32, uint8, int8, int32, int64 or bool");
  }
  return t;  // indices, lengths and masks are zero: valid everywhere
}

int64_t TotalMacs(const Graph& graph) {
  int64_t total = 0;
  for (NodeId id : graph.TopologicalOrder()) total += MacsOf(graph, graph.node(id));
  return total;
}

std::string RowName(const Graph& graph) {
  bool fake = false;
  for (size_t i = 0; i < graph.node_count(); ++i) {
    const Node& n = graph.node(static_cast<NodeId>(i));
    if (n.removed) continue;
    if (n.domain == "octet" || n.op.starts_with("QLinear") || n.Is("MatMulInteger") ||
        n.Is("ConvInteger")) {
      return "int8";
    }
    fake = fake || n.Is("QuantizeLinear");
  }
  return fake ? "fake-int8" : "float32";
}

// One graph on the bench.
class Contestant {
 public:
  Contestant(const Graph& graph, const std::vector<Shape>& shapes,
             std::span<const TensorView> inputs, bool explain)
      : name_(RowName(graph)), shapes_(shapes), inputs_(inputs) {
    const auto start = Clock::now();
    executor_.emplace(graph, ExecutorOptions{{}, explain});
    steps_ = executor_->Explain(shapes_);
    load_s_ = SecondsSince(start);
    constant_bytes_ = executor_->ConstantBytes(shapes_);
    activation_bytes_ = executor_->ActivationBytes(shapes_);
  }

  std::vector<Tensor> Run() const { return executor_->Run(inputs_); }
  BenchResult::Row Row(int64_t macs, const PeakRates& peak, const RunTimer::Result& timed) const {
    const TimeSummary& t = timed.seconds;
    BenchResult::Row row;
    row.name = name_;
    row.median_s = t.median;
    row.mad_s = t.mad;
    row.best_s = t.best;
    row.runs = timed.runs;
    row.samples = timed.samples;
    row.interrupted = timed.interrupted;
    row.disturbed = timed.disturbed;
    row.best_alone_s = timed.best_alone;
    row.gops = 2.0 * static_cast<double>(macs) / t.median * 1e-9;
    const double int8 = std::max(peak.int8_gops, peak.amx_gops);
    row.peak_fraction = row.gops / (name_ == "int8" ? int8 : peak.float_gops);
    row.load_s = load_s_;
    for (const StepInfo& s : steps_) row.packed_bytes += s.packed_bytes;
    row.constant_bytes = constant_bytes_;
    row.activation_bytes = activation_bytes_;
    return row;
  }

  // Runs the steps one by one, for about so many seconds.
  void Profile(double at_most) {
    const auto start = Clock::now();
    std::vector<std::vector<double>> seconds(steps_.size());
    std::vector<double> later;
    for (int i = 0; i < kProfiles; ++i) {
      if (i >= kFewestProfiles && SecondsSince(start) > at_most) break;
      const auto profile = executor_->Profile(inputs_);
      for (size_t s = 0; s < seconds.size(); ++s) seconds[s].push_back(profile[s]);
      if (profile.size() > seconds.size()) {
        later.push_back(std::accumulate(
            profile.begin() + static_cast<std::ptrdiff_t>(seconds.size()), profile.end(), 0.0));
      }
    }
    step_seconds_.clear();
    for (const auto& s : seconds) step_seconds_.push_back(SummarizeTimes(s).median);
    later_seconds_ = later.empty() ? 0 : SummarizeTimes(later).median;
  }

  std::vector<BenchResult::Step> Steps(bool explain) const {
    std::vector<BenchResult::Step> result;
    for (size_t s = 0; s < steps_.size(); ++s) {
      const StepInfo& info = steps_[s];
      result.push_back({info.node, info.op, info.kernel, info.shape, info.macs, step_seconds_[s],
                        explain ? info.refused : std::vector<std::string>{}});
    }
    return result;
  }

  std::vector<BenchResult::Part> Parts() const {
    std::vector<BenchResult::Part> result;
    for (size_t part = 0; part < kPartNames.size(); ++part) {
      BenchResult::Part p;
      p.name = kPartNames[part];
      p.is_layers = part <= static_cast<size_t>(StepPart::kFloatLayer);
      std::map<std::string, double> operators;
      for (size_t s = 0; s < steps_.size(); ++s) {
        if (static_cast<size_t>(steps_[s].part) != part) continue;
        ++p.steps;
        p.seconds += step_seconds_[s];
        operators[steps_[s].op] += step_seconds_[s];
      }
      if (part == static_cast<size_t>(StepPart::kOther) && later_seconds_ > 0) {
        ++p.steps;
        p.seconds += later_seconds_;
        operators[kLater] = later_seconds_;
      }
      p.operators.assign(operators.begin(), operators.end());
      std::stable_sort(p.operators.begin(), p.operators.end(),
                       [](const auto& a, const auto& b) { return a.second > b.second; });
      result.push_back(std::move(p));
    }
    return result;
  }

 private:
  std::string name_;
  std::vector<Shape> shapes_;
  std::span<const TensorView> inputs_;
  std::optional<Executor> executor_;
  std::vector<StepInfo> steps_;
  std::vector<double> step_seconds_;
  double later_seconds_ = 0;  // from the first operator on whose result's size depends on data
  double load_s_ = 0;
  int64_t constant_bytes_ = 0, activation_bytes_ = 0;
};

// What a user might write for an input with open sizes, such as 1x3x224x224.
std::string ShapeToGive(const ValueType& type) {
  if (!type.has_rank) return "1x...";
  std::string text;
  for (size_t i = 0; i < type.dims.size(); ++i) {
    const int64_t size = type.dims[i] != kUnknownDim ? type.dims[i] : i == 0 ? 1 : 224;
    text += Cat(i > 0 ? "x" : "", size);
  }
  return text;
}

// The shapes that were given must not contradict the batch that was given.
void CheckBatch(const Graph& model, const Graph& sized, int64_t batch, const InputShapes& shapes) {
  for (ValueId id : sized.inputs) {
    const Value& input = sized.value(id);
    const auto& declared = model.value(id).type.dims;
    if (!shapes.contains(input.name) && !shapes.contains("")) continue;
    if (declared.empty() || declared[0] != kUnknownDim || input.type.dims[0] == batch) continue;
    Fail(ErrorCode::kInvalidArgument, "bench: the batch is ", batch, ", but the shape of input '",
         input.name, "' begins with ", input.type.dims[0], "; expected ", batch, ", or no batch");
  }
}

// Largest difference of any output, over the range of the first graph's.
double OutputDifference(const std::vector<Tensor>& a, const std::vector<Tensor>& b) {
  if (a.size() != b.size()) {
    Fail(ErrorCode::kInvalidArgument, "bench: the models have ", a.size(), " and ", b.size(),
         " outputs");
  }
  double worst = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    if (!(a[i].shape() == b[i].shape()) || a[i].dtype() != b[i].dtype()) {
      Fail(ErrorCode::kInvalidArgument, "bench: output ", i, " is ", NameOf(a[i].dtype()),
           a[i].shape().ToString(), " of one model and ", NameOf(b[i].dtype()),
           b[i].shape().ToString(), " of the other");
    }
    if (a[i].dtype() != DType::kFloat32 || a[i].elements() == 0) continue;
    const auto x = a[i].data<float>(), y = b[i].data<float>();
    const auto [lo, hi] = std::minmax_element(x.begin(), x.end());
    double difference = 0;
    for (size_t k = 0; k < x.size(); ++k) {
      difference =
          std::max(difference, std::fabs(static_cast<double>(x[k]) - static_cast<double>(y[k])));
    }
    const double range = static_cast<double>(*hi) - static_cast<double>(*lo);
    worst = std::max(worst, range > 0 ? difference / range : difference);
  }
  return worst;
}

}  // namespace

void CompareRows(BenchResult& result) {
  if (result.rows.size() != 2) return;
  const BenchResult::Row &first = result.rows[0], &second = result.rows[1];
  if (!first.disturbed && !second.disturbed) result.speedup = first.median_s / second.median_s;
  if (first.best_alone_s > 0 && second.best_alone_s > 0)
    result.best_speedup = first.best_alone_s / second.best_alone_s;
}

BenchResult BenchGraphs(const Graph& model, const Graph* quantized, const BenchRequest& request) {
  const int64_t batch = request.batch.value_or(1);
  if (batch < 1)
    Fail(ErrorCode::kInvalidArgument, "bench: batch is ", batch, ", expected at least 1");
  if (!(request.seconds > 0)) {
    Fail(ErrorCode::kInvalidArgument, "bench: seconds is ", request.seconds,
         ", expected more than 0");
  }
  const ThreadScope threads(request.threads);
  const Graph sized = WithBatch(model, batch, request.shapes);
  if (request.batch) CheckBatch(model, sized, *request.batch, request.shapes);
  std::mt19937 random(kSeed);
  std::vector<Tensor> tensors;
  std::vector<Shape> shapes;
  for (ValueId id : sized.inputs) {
    const Value& input = sized.value(id);
    if (!input.type.is_static()) {
      Fail(ErrorCode::kInvalidArgument, "bench: input '", input.name, "' is ",
           input.type.ToString(), ": fix its open sizes with --shape ", input.name, "=",
           ShapeToGive(input.type));
    }
    shapes.push_back(input.type.static_shape());
    tensors.push_back(RandomInput(input.name, input.type.dtype, shapes.back(),
                                  RangeOfInput(quantized, input.name), random));
  }
  std::vector<TensorView> inputs;
  for (const Tensor& t : tensors) inputs.push_back(t.view());

  std::vector<Contestant> contestants;
  contestants.emplace_back(model, shapes, inputs, request.explain);
  if (quantized != nullptr) contestants.emplace_back(*quantized, shapes, inputs, request.explain);

  BenchResult result;
  if (quantized != nullptr)
    result.output_max_difference = OutputDifference(contestants[0].Run(), contestants[1].Run());
  // The peak is measured before and after: a shared or throttled machine is not the same for long.
  PeakRates peak = MeasurePeak(request.threads);
  std::vector<RunTimer> timers;
  for (const Contestant& c : contestants) timers.emplace_back([&c] { (void)c.Run(); });
  TakeTurns(timers, request.seconds, [&](double spent, double of) {
    if (request.progress)
      request.progress(
          {"bench", static_cast<int64_t>(spent * 1000), static_cast<int64_t>(of * 1000)});
  });
  const PeakRates after = MeasurePeak(request.threads);
  peak.int8_gops = std::max(peak.int8_gops, after.int8_gops);
  peak.float_gops = std::max(peak.float_gops, after.float_gops);
  peak.amx_gops = std::max(peak.amx_gops, after.amx_gops);

  result.macs = TotalMacs(sized);
  for (size_t i = 0; i < contestants.size(); ++i) {
    Contestant& c = contestants[i];
    c.Profile(request.seconds / 2);
    result.rows.push_back(c.Row(result.macs, peak, timers[i].Finish()));
    result.rows.back().parts = c.Parts();
    if (request.steps || request.explain) result.rows.back().steps = c.Steps(request.explain);
  }
  result.threads = MaxThreads();
  const bool tiles = peak.amx_gops > peak.int8_gops;
  result.int8_peak_gops = tiles ? peak.amx_gops : peak.int8_gops;
  result.int8_peak_instruction = tiles ? peak.amx_instruction : peak.int8_instruction;
  result.float_peak_gops = peak.float_gops;
  result.cpu = CpuModelName();
  result.isa = IsaName(ActiveIsa());
  CompareRows(result);
  return result;
}

}  // namespace octet
