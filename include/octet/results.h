// What the operations of octet.h report: plain data, for people and programs to print as they like.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace octet {

// Called while long work goes on, at most a few times a second, from one thread at a time. total is
// 0 where it is not known.
struct ProgressEvent {
  std::string stage;  // "calibrate"
  int64_t done = 0;
  int64_t total = 0;
};
using Progress = std::function<void(const ProgressEvent&)>;

// Shapes of inputs by name, for models with open sizes; the name may be empty where there is one
// input.
using InputShapes = std::map<std::string, std::vector<int64_t>>;

struct LayerNote {
  std::string node;
  std::string op;
  std::string text;
};

struct InspectResult {
  struct Layer {
    std::string node, op, shape;  // shape of the first output
    int64_t macs = 0;             // for batch 1; 0 where shapes are not known
    int64_t parameters = 0;
    bool quantizable = false;
    std::string reason;  // why not
  };
  std::string name;
  int64_t opset = 0;
  std::vector<std::string> inputs, outputs;  // "input: float32[N,3,224,224]"
  std::map<std::string, int64_t> operators;  // how many of each; "octet.QConv" outside ai.onnx
  std::vector<Layer> layers;                 // in execution order
  int64_t macs = 0, quantizable_macs = 0, parameters = 0;
  std::vector<std::string> unsupported;  // operators that cannot run, with a node each
  // Inputs with sizes that neither the model nor the caller fixes, "x: float32[1,3,?,?]": what
  // depends on them is not counted.
  std::vector<std::string> open_inputs;
};

// One sweep of α for one group of channels: mean squared error of the readers' outputs relative to
// their signal, at each α; index 0 of `alphas` is "not smoothed" (NaN).
struct SmoothingRow {
  std::string group;
  std::vector<std::string> producers, consumers;
  std::vector<float> alphas;
  std::vector<double> errors;
  int round = 1;  // later rounds refine what earlier ones changed; only what helped is listed
  float chosen = std::numeric_limits<float>::quiet_NaN();  // NaN: left as it was
  bool applied = false;
};

struct QuantizeResult {
  struct Layer {
    std::string node, op;
    std::string format;      // of the weight
    std::string multiplier;  // "exact", or what the recipe asks for
    float weight_scale_min = 0, weight_scale_max = 0;
    int64_t dead_channels = 0, raised_scales = 0;  // see design: dead channels, int32 bias
    double bias_shift = 0;                         // largest |correction| of the bias
    float result_scale = 0;  // of an approximate multiplier's rounded products; 0: none are
  };
  struct Activation {
    std::string value;
    float lo = 0, hi = 0, scale = 0;
    int32_t zero_point = 0;
    std::string format;
    std::string method;  // the estimator taken
    double clipped_fraction = 0;
  };
  std::vector<Layer> layers;
  int64_t computed_products = 0;  // MatMul of two computed operands
  std::vector<Activation> activations;
  std::vector<LayerNote> kept_float;  // and why
  std::vector<std::string> folded_batchnorm;
  std::vector<SmoothingRow> smoothing;
  std::vector<LayerNote> not_smoothed;  // value, "", reason
  int64_t equalized_groups = 0;
  std::vector<std::string> warnings;
  int64_t samples = 0;
  std::optional<double> macs_int8_fraction;  // of all multiply-adds, where they can be counted
  std::string macs_uncounted;                // why they cannot
  double seconds = 0;
  double float_difference = 0;  // max |Δ| of the float model's outputs by folding, smoothing and
                                // equalization, over the output range
};

struct CalibrateResult {
  int64_t samples = 0;
  std::vector<std::string> warnings;
};

// A figure with its 95 % interval.
struct Interval {
  double value = 0, lo = 0, hi = 0;
};

struct EvalResult {
  int64_t samples = 0;
  bool has_labels = false, has_reference = false;
  // By name: top1, top5, cross-entropy (labels); kl, agreement, psnr, cosine (against a reference);
  // top1-change, top5-change, cross-entropy-change (labels and reference, paired).
  std::map<std::string, Interval> metrics;
  double seconds = 0;
};

struct AnalyzeResult {
  struct Layer {
    std::string node, op, value;
    double local_sqnr_db = 0;        // the layer alone: float inputs, quantized layer
    double accumulated_sqnr_db = 0;  // the whole quantized model up to here
    double l1 = 0, cosine = 0;       // accumulated
    double saturated = 0;            // share of codes at either end of the grid
  };
  std::vector<Layer> layers;        // in execution order
  std::vector<size_t> ranking;      // worst local SQNR first: indices into layers
  std::vector<LayerNote> left_out;  // quantized layers that cannot be compared, and why
  int64_t samples = 0;
};

struct VerifyResult {
  struct Layer {
    std::string node, op;
    int64_t elements = 0;
    int64_t different = 0;        // codes that are not equal, given the same input codes
    int32_t max_difference = 0;   // in codes
    int64_t unexplained = 0;      // differences that do not sit at a rounding tie
    double max_tie_distance = 0;  // largest distance from a tie, in steps, among the differences
  };
  std::vector<Layer> layers;
  int64_t elements = 0, different = 0, unexplained = 0;
  int32_t max_difference = 0;
  double output_max_difference =
      0;  // of the graph outputs over their range, fake run against real run
  int64_t samples = 0;
  // A layer with an approximate multiplier: the run against the definition, int64 sums over its
  // table, which it must equal bit for bit, and against exact products of the same codes.
  struct Products {
    std::string node, op, multiplier, x_format, w_format;
    int64_t elements = 0;
    int64_t different = 0;  // results that are not the definition's
    // Of results less exact ones, biases left out; real numbers, the mean is signed.
    double mean_error = 0, max_error = 0, rmse = 0, exact_rms = 0, sqnr_db = 0;
    double x_subnormal = 0, x_zero = 0, w_subnormal = 0, w_zero = 0;  // shares of the codes
  };
  std::vector<Products> products;
  // design.md §1: at most one code apart, >= 99.9 % equal, nothing unexplained; products as defined
  bool holds = false;
  std::vector<LayerNote> kept_float;
};

struct AuditResult {
  struct Finding {
    std::string node, op;
    bool fatal = false;  // the target will not load it
    std::string rule, text;
  };
  std::vector<Finding> findings;
  // Conv, ConvTranspose, Gemm, MatMul, LSTM, GRU, RNN, Add, pooling, Concat
  int64_t operators = 0, int8_operators = 0;
  std::vector<std::string> open_inputs;  // as in InspectResult
  // Of the multiply-adds; none where there are no such or open sizes leave them uncounted.
  std::optional<double> int8_mac_fraction;
};

struct BenchResult {
  struct Step {
    std::string node, op, kernel, shape;
    int64_t macs = 0;
    double seconds = 0;
    std::vector<std::string> refused;
  };
  // Of a run's time, step by step, what goes to layers (what multiplies and adds), to other
  // operators, and to conversions between float and 8 bits.
  struct Part {
    std::string name;  // "8-bit layers"
    bool is_layers = false;
    int64_t steps = 0;
    double seconds = 0;                                     // sum of medians
    std::vector<std::pair<std::string, double>> operators;  // seconds by name, longest first
  };
  struct Row {
    std::string name;  // "float32", "int8"
    double median_s = 0, mad_s = 0, best_s = 0;
    int64_t runs = 0, samples = 0;  // runs in samples of about a millisecond
    int64_t interrupted = 0;        // samples in which another process took a core; left out
    bool disturbed = false;         // ... but kept, for too few others remained: read with care
    double best_alone_s = 0;        // best of the samples that were not interrupted; 0: none
    double gops = 0;                // 2 x multiply-adds / median
    double peak_fraction = 0;       // of the peak measured in this run
    double load_s = 0;              // plan and pack
    int64_t packed_bytes = 0;       // weights as kernels keep them
    int64_t constant_bytes = 0;     // other constants that are read in a run
    int64_t activation_bytes = 0;   // of one run at a time: activations and scratch
    std::vector<Part> parts;        // always the same five, some without steps
    std::vector<Step> steps;        // where asked for
  };
  std::vector<Row> rows;
  int64_t macs = 0;
  int threads = 0;
  double int8_peak_gops = 0, float_peak_gops = 0;  // measured
  std::string int8_peak_instruction;               // "vpdpbusd zmm", "tdpbusd"
  std::string cpu, isa;
  double speedup = 0;       // median float / median int8; 0 where one of them is disturbed
  double best_speedup = 0;  // of the best samples that were not interrupted; 0 where there are none
  double output_max_difference = 0;
};

// One operator at one shape: our rows and the peers' on the same data, verified, interleaved.
struct OperatorBenchResult {
  struct Row {
    std::string name;     // "int8"
    std::string data;     // what goes in and comes out, "u8 > u8": rows of equal data compete
    bool peer = false;    // not ours
    std::string kernel;   // implementation
    std::string missing;  // not empty: this row cannot run here, and why; it has no times
    double median_s = 0, mad_s = 0, best_s = 0;
    int64_t samples = 0;
    int64_t interrupted = 0;  // samples in which another process took a core; left out of the times
    bool disturbed = false;   // ... but kept, for too few others remained: read with care
    double rate = 0;          // GOP/s or, where nothing is computed, GB/s
    std::string peak;         // instruction of the peak; empty: none
    double peak_fraction = 0;                       // of that peak
    double times_float32 = 0;                       // median of "float32" / this median; 0: none
    double octet_speed = 0;                         // peers: this median / Octet's best; 0: none
    int64_t packed_bytes = -1, scratch_bytes = -1;  // weights as kept; -1: not known
    std::vector<std::string> refused;               // "kernel: reason"
  };
  struct Peak {
    std::string instruction;
    double gops = 0;
  };
  std::string problem;  // "linear 512x960x960", as octet bench takes it
  std::string unit;     // of the rates: "GOP/s" or "GB/s"
  std::string cpu, isa;
  int threads = 0;
  int64_t macs = 0;         // of the operator as written
  std::vector<Peak> peaks;  // measured before and after the rows
  std::vector<Row> rows;
};

}  // namespace octet
