// How to quantize: a plain value, read from YAML (docs/recipes.md), checked as a whole, printed
// back in full.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace octet {

enum class Switch { kOff, kOn, kAuto };  // kAuto: where it helps; finding nothing is fine

// Overrides for the nodes whose name matches a glob ("conv_dw_*"; ? is one character). Later rules
// win.
struct LayerRule {
  std::string match;
  std::optional<bool> skip;                      // stays float
  std::optional<std::string> estimator;          // of its input
  std::optional<std::string> activation_format;  // of its input
  std::optional<std::string> weight_format;
  std::optional<std::string> weight_estimator;
  std::optional<std::string> weight_granularity;
  std::optional<std::string> multiplier;
  std::optional<float> alpha;  // smoothing of the group its input belongs to
};

struct Recipe {
  std::string name = "default";
  std::string target = "onnxruntime";  // octet | onnxruntime | tensorrt
  // Where quantizers go: "compute": at the inputs of Conv, Gemm and MatMul alone; "full": on other
  // operators that the target runs in INT8 as well; "auto": full, but where the target cannot.
  std::string placement = "auto";
  std::string matmul = "weights";  // "all": those of two computed operands, too
  // A number format (octet/formats.h); "float32": not quantized; "search:A,B,...": for every value
  // the best of these, by search_by; "vote:e4m3", "vote:A,B,...": the format, of all splits of
  // e4m3's bits or of these, in which most channels err least. Empty: uint8, or int8 where the
  // target wants it.
  std::string activation_format;
  // minmax | percentile:P | mse | mse-2d | golden-section | line-search | entropy | auto; in a
  // layer rule cross-entropy, too
  std::string estimator = "auto";
  std::string weight_format = "int8-narrow";  // as activation_format
  // minmax | percentile:P | mse | golden-section | line-search
  std::string weight_estimator = "minmax";
  std::string weight_granularity = "channel";  // channel | tensor
  // What "search:" goes by: "output": the error of what reads a value or has a weight, in its own
  // output; "tensor": that of the value or weight itself.
  std::string search_by = "output";
  // What multiplies codes (octet/multipliers.h): "exact" is arithmetic on the values. Others, such
  // as "hw:d=3" or "table:FILE.npy,x=int8,w=int8", take target octet.
  std::string multiplier = "exact";
  // Where products of approximate multipliers are rounded to a format: its range. "minmax": that of
  // exact results; "search": the power of two below it of least error in the results.
  std::string result_range = "search";
  bool fold_batchnorm = true;
  bool reestimate_batchnorm = false;  // behind quantized layers, where it is not folded
  Switch equalize = Switch::kAuto;    // cross-layer equalization
  Switch smooth = Switch::kAuto;      // smoothing by dataflow
  std::optional<float> alpha;         // of smoothing; none: swept 0.05 ... 0.95 by real error
  std::string bias_correction = "empirical";  // none | analytic | empirical
  bool quantize_outputs = false;              // also what only leads to graph outputs
  std::vector<LayerRule> layers;

  // The named recipes: default, fast, naive. Throws kInvalidArgument naming them.
  [[nodiscard]] static Recipe Preset(const std::string& preset);
  [[nodiscard]] static std::vector<std::string> PresetNames();
  // From YAML text. An unknown key, a value outside its choices or a wrong type is an error naming
  // key, what was got, what was expected, and the line. `origin` goes into messages.
  [[nodiscard]] static Recipe Parse(const std::string& yaml, const std::string& origin = "recipe");
  // A preset's name, or the path of a YAML file, beside which its tables of products are.
  [[nodiscard]] static Recipe Load(const std::string& preset_or_path);
  // The whole effective recipe; Parse() of it gives the same recipe.
  [[nodiscard]] std::string ToYaml() const;
  // The files of its multipliers, "table:FILE,...", each once.
  [[nodiscard]] std::vector<std::string> TableFiles() const;
  // The same with those that are relative in `folder`.
  [[nodiscard]] Recipe WithTablesIn(const std::string& folder) const;
  // Throws kInvalidArgument for combinations that make no sense, with the reason.
  void Check() const;
};

}  // namespace octet
