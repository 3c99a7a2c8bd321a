#include "evaluate/metrics.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "evaluate/intervals.h"
#include "numerics/error_stats.h"

namespace octet {
namespace {

// Probabilities below this are read as this much: half the spacing of float32 below 1, so what a
// float32 softmax itself cannot tell from 0. Only for outputs that are probabilities: the logarithm
// of a softmax has no floor.
constexpr double kSmallestProbability = 0x1p-24;

constexpr std::array<MetricInfo, 10> kMetrics = {{
    {Metric::kTop1, "top1", true, false, true, true},
    {Metric::kTop5, "top5", true, false, true, true},
    {Metric::kCrossEntropy, "cross-entropy", true, false, true, true},
    {Metric::kKl, "kl", false, true, true, false},
    {Metric::kAgreement, "agreement", false, true, true, false},
    {Metric::kPsnr, "psnr", false, true, false, false},
    {Metric::kCosine, "cosine", false, true, false, false},
    {Metric::kTop1Change, "top1-change", true, true, true, true},
    {Metric::kTop5Change, "top5-change", true, true, true, true},
    {Metric::kCrossEntropyChange, "cross-entropy-change", true, true, true, true},
}};

// log p of one row, nats.
std::vector<double> LogProbabilities(std::span<const float> row, OutputKind kind) {
  std::vector<double> log_p(row.size());
  if (kind == OutputKind::kProbabilities) {
    double sum = 0;
    for (size_t i = 0; i < row.size(); ++i) {
      log_p[i] = std::max(static_cast<double>(row[i]), kSmallestProbability);
      sum += log_p[i];
    }
    for (double& v : log_p) v = std::log(v / sum);
    return log_p;
  }
  const double top = *std::max_element(row.begin(), row.end());
  double sum = 0;
  for (float v : row) sum += std::exp(static_cast<double>(v) - top);
  const double shift = top + std::log(sum);
  for (size_t i = 0; i < row.size(); ++i) log_p[i] = static_cast<double>(row[i]) - shift;
  return log_p;
}

// How many classes come before `label`: 0 is first. Ties go to the lower class.
int64_t Rank(std::span<const float> row, size_t label) {
  int64_t before = 0;
  for (size_t i = 0; i < row.size(); ++i) {
    if (row[i] > row[label] || (row[i] == row[label] && i < label)) ++before;
  }
  return before;
}

size_t ArgMax(std::span<const float> row) {
  return static_cast<size_t>(std::max_element(row.begin(), row.end()) - row.begin());
}

std::span<const float> CheckedFloats(const TensorView& t, const ScoredOutput& info,
                                     std::string_view sample) {
  if (t.dtype != DType::kFloat32) {
    Fail(ErrorCode::kUnsupported, "evaluate: output '", info.name, "' is ", NameOf(t.dtype),
         ", expected float32");
  }
  const auto data = t.data<float>();
  for (size_t i = 0; i < data.size(); ++i) {
    if (!std::isfinite(data[i])) {
      Fail(ErrorCode::kBadData, "evaluate: output '", info.name, "' of sample '", sample, "' is ",
           data[i], " at element ", i);
    }
  }
  return data;
}

}  // namespace

OutputKind KindOfOutput(const Graph& graph, ValueId output) {
  static constexpr std::array kTransparent = {"Identity",       "Reshape",         "Flatten",
                                              "Squeeze",        "Unsqueeze",       "Cast",
                                              "QuantizeLinear", "DequantizeLinear"};
  for (ValueId v = output; v != kNoValue && graph.value(v).producer != kNoNode;) {
    const Node& n = graph.node(graph.value(v).producer);
    if (n.Is("Softmax")) return OutputKind::kProbabilities;
    if (!n.domain.empty() ||
        std::find(kTransparent.begin(), kTransparent.end(), n.op) == kTransparent.end())
      break;
    v = n.input(0);
  }
  return OutputKind::kLogits;
}

std::span<const MetricInfo> AllMetrics() { return kMetrics; }

const MetricInfo& FindMetric(std::string_view name) {
  std::string hyphenated(name);
  std::replace(hyphenated.begin(), hyphenated.end(), '_', '-');
  std::string names;
  for (const MetricInfo& m : kMetrics) {
    if (m.name == hyphenated) return m;
    if (!names.empty()) names += ", ";
    names += m.name;
  }
  Fail(ErrorCode::kInvalidArgument, "unknown metric '", name, "'; expected one of ", names);
}

int64_t ClassesOf(const Shape& shape) {
  int rank = shape.rank();
  while (rank > 2 && shape[rank - 1] == 1) --rank;  // [N,C,1,1]
  return rank >= 2 && shape[rank - 1] >= 2 ? shape[rank - 1] : 0;
}

SampleScores ScoreSample(const TensorView& output, const ScoredOutput& info,
                         const TensorView* reference, const ScoredOutput& reference_info,
                         std::optional<int64_t> label, std::string_view sample) {
  const auto y = CheckedFloats(output, info, sample);
  std::span<const float> r;
  if (reference != nullptr) {
    r = CheckedFloats(*reference, reference_info, sample);
    if (!(output.shape == reference->shape)) {
      Fail(ErrorCode::kBadData, "evaluate: output '", info.name, "' is ", output.shape.ToString(),
           ", but that of the float model is ", reference->shape.ToString());
    }
  }
  SampleScores s;
  const int64_t classes = ClassesOf(output.shape);
  if (classes > 0 && !y.empty()) {
    const auto width = static_cast<size_t>(classes);
    s.rows = static_cast<int64_t>(y.size() / width);
    for (size_t row = 0; reference != nullptr && row < static_cast<size_t>(s.rows); ++row) {
      const auto ry = y.subspan(row * width, width), rr = r.subspan(row * width, width);
      const auto q = LogProbabilities(ry, info.kind), p = LogProbabilities(rr, reference_info.kind);
      for (size_t i = 0; i < width; ++i) s.kl += std::exp(p[i]) * (p[i] - q[i]);
      s.agreement += ArgMax(ry) == ArgMax(rr) ? 1 : 0;
    }
    s.kl /= static_cast<double>(s.rows);
    s.agreement /= static_cast<double>(s.rows);
    if (label && s.rows == 1) {
      if (*label < 0 || *label >= classes) {
        Fail(ErrorCode::kBadData, "evaluate: the label of sample '", sample, "' is ", *label,
             ", but output '", info.name, "' has ", classes, " classes");
      }
      const auto l = static_cast<size_t>(*label);
      const int64_t rank = Rank(y, l);
      s.top1 = rank < 1;
      s.top5 = rank < 5;
      s.cross_entropy = -LogProbabilities(y, info.kind)[l];
      if (reference != nullptr) {
        const int64_t reference_rank = Rank(r, l);
        s.reference_top1 = reference_rank < 1;
        s.reference_top5 = reference_rank < 5;
        s.reference_cross_entropy = -LogProbabilities(r, reference_info.kind)[l];
      }
    }
  }
  if (reference != nullptr) {
    ErrorStats stats;
    stats.Add(r, y);
    s.mse = stats.Mse();
    s.cosine = stats.Cosine();
    if (!r.empty()) {
      const auto [lo, hi] = std::minmax_element(r.begin(), r.end());
      s.reference_min = *lo;
      s.reference_max = *hi;
    }
  }
  return s;
}

Interval Summarize(Metric metric, std::span<const SampleScores> scores) {
  const auto mean = [&](auto field, const Bounds& bounds) {
    std::vector<double> values;
    values.reserve(scores.size());
    for (const SampleScores& s : scores) values.push_back(field(s));
    return MeanInterval(values, bounds);
  };
  constexpr Bounds kAny, kNotNegative{.least = 0};
  const auto share = [&](auto field) {
    const auto hits = std::count_if(scores.begin(), scores.end(), field);
    return WilsonInterval(hits, static_cast<int64_t>(scores.size()));
  };
  const auto change = [&](auto first, auto second) {
    PairCounts c;
    for (const SampleScores& s : scores) {
      ++(first(s) ? (second(s) ? c.both : c.first_only) : (second(s) ? c.second_only : c.neither));
    }
    return PairedDifference(c);
  };
  using S = const SampleScores&;
  switch (metric) {
    case Metric::kTop1:
      return share([](S s) { return s.top1; });
    case Metric::kTop5:
      return share([](S s) { return s.top5; });
    case Metric::kCrossEntropy:
      return mean([](S s) { return s.cross_entropy; }, kNotNegative);
    case Metric::kKl:
      return mean([](S s) { return s.kl; }, kNotNegative);
    case Metric::kAgreement: {
      const bool shares =
          std::all_of(scores.begin(), scores.end(), [](S s) { return s.rows == 1; });
      if (shares) return share([](S s) { return s.agreement == 1; });
      return mean([](S s) { return s.agreement; }, {0, 1});
    }
    case Metric::kPsnr: {
      // Of the mean error, so that one perfect sample does not make it infinite; monotonic, so the
      // limits of the mean error are those of the PSNR.
      double lo = std::numeric_limits<double>::infinity(), hi = -lo;
      for (S s : scores) {
        lo = std::min(lo, s.reference_min);
        hi = std::max(hi, s.reference_max);
      }
      const Interval mse = mean([](S s) { return s.mse; }, kNotNegative);
      const auto db = [&](double e) { return 10 * std::log10((hi - lo) * (hi - lo) / e); };
      return {db(mse.value), db(mse.hi), db(mse.lo)};
    }
    case Metric::kCosine:
      return mean([](S s) { return s.cosine; }, {-1, 1});
    case Metric::kTop1Change:
      return change([](S s) { return s.reference_top1; }, [](S s) { return s.top1; });
    case Metric::kTop5Change:
      return change([](S s) { return s.reference_top5; }, [](S s) { return s.top5; });
    case Metric::kCrossEntropyChange:
      return mean([](S s) { return s.cross_entropy - s.reference_cross_entropy; }, kAny);
  }
  Fail(ErrorCode::kInternal, "metric without a definition");
}

}  // namespace octet
