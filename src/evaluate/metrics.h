// What one sample's outputs are worth, against its label and against the float model's outputs, and
// how the samples are summed up. All arithmetic is in double.
//
// Metrics look at the first output. Its last dimension (trailing dimensions of 1 left out) holds
// the classes; the other dimensions are rows. A classifier has one row per sample; a detector or
// language model has many.
//
//   top1, top5       share of samples whose label is the first / among the first five; ties go to
//                    the lower class
//   cross-entropy    mean of -log p(label), nats
//   kl               mean over samples (and their rows) of KL(float || model), nats
//   agreement        share of rows whose highest class is the same as the float model's
//   psnr             10 log10(peak^2 / mean squared error) in dB; peak: range of the float model's
//                    output
//   cosine           mean over samples of the cosine of the flattened output
//   *-change         the model's metric minus the float model's, on the same samples
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "graph/graph.h"
#include "octet/results.h"
#include "tensor/tensor.h"

namespace octet {

// Logits become probabilities by softmax; what a Softmax made already is taken as it is. Told from
// the graph, not from the numbers: the producer of the output, through Identity, quantizers and
// reshaping.
enum class OutputKind : uint8_t { kLogits, kProbabilities };
[[nodiscard]] OutputKind KindOfOutput(const Graph& graph, ValueId output);

enum class Metric : uint8_t {
  kTop1,
  kTop5,
  kCrossEntropy,
  kKl,
  kAgreement,
  kPsnr,
  kCosine,
  kTop1Change,
  kTop5Change,
  kCrossEntropyChange,
};

struct MetricInfo {
  Metric metric;
  std::string_view name;
  bool needs_labels;
  bool needs_reference;
  bool needs_classes;  // the output has to have a last dimension of two or more
  bool needs_one_row;  // ... and one row per sample
};
[[nodiscard]] std::span<const MetricInfo> AllMetrics();
// An underscore in the name is read as a hyphen.
[[nodiscard]] const MetricInfo& FindMetric(
    std::string_view name);  // throws kInvalidArgument naming them all

struct SampleScores {
  int64_t rows = 0;
  bool top1 = false, top5 = false, reference_top1 = false, reference_top5 = false;
  double cross_entropy = 0, reference_cross_entropy = 0;
  double kl = 0, agreement = 0;  // means over the rows
  double mse = 0, cosine = 0;
  double reference_min = 0, reference_max = 0;
};

struct ScoredOutput {
  std::string name;
  OutputKind kind = OutputKind::kLogits;
};

// The classes of an output of this shape, or 0 where it has none.
[[nodiscard]] int64_t ClassesOf(const Shape& shape);

// Scores of float32 outputs (leading dimension 1). `reference` may be null. Only what is possible
// is set: labels need one row, KL and agreement need classes. Throws kBadData, naming sample and
// output, where an output is NaN or infinite, the shapes differ, or the label is not below the
// number of classes.
[[nodiscard]] SampleScores ScoreSample(const TensorView& output, const ScoredOutput& info,
                                       const TensorView* reference,
                                       const ScoredOutput& reference_info,
                                       std::optional<int64_t> label, std::string_view sample);

// One metric over all samples, in their order.
[[nodiscard]] Interval Summarize(Metric metric, std::span<const SampleScores> scores);

}  // namespace octet
