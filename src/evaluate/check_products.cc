#include "evaluate/check_products.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/parallel.h"
#include "evaluate/progress.h"
#include "evaluate/run_samples.h"
#include "graph/conv_geometry.h"
#include "numerics/approx_errors.h"
#include "runtime/approx_node.h"

namespace octet {
namespace {

// Rows of a layer: pixels of a convolution's output, rows of a matrix.
struct Geometry {
  bool is_conv = false;
  ConvGeometry conv;
  int64_t rows = 0, groups = 1;
};

struct Layer {
  NodeId node = kNoNode;
  ApproxOperands operands;
  std::vector<double> exact;  // products of all pairs of codes, scales apart
  size_t x = 0, y = 0;        // positions among the outputs of the graph that is run
};

// What one layer multiplies and gives in one run.
class LayerRun {
 public:
  LayerRun(const Graph& graph, const Layer& layer, const Tensor& x, const Tensor& y)
      : layer_(layer), x_(static_cast<const uint8_t*>(x.raw())), y_(y.data<float>().data()) {
    const Node& node = graph.node(layer.node);
    geometry_.is_conv = node.op == "ApproxConv";
    if (geometry_.is_conv) {
      const Tensor& weight = *graph.ConstantOf(node.inputs[kApproxWeight]);
      geometry_.conv = ResolveConv(node, x.shape(), weight.shape());
      geometry_.groups = geometry_.conv.group;
    }
    geometry_.rows = y.elements() / layer.operands.n;
  }

  [[nodiscard]] int64_t rows() const { return geometry_.rows; }
  [[nodiscard]] int64_t groups() const { return geometry_.groups; }

  // groups * k codes.
  void Codes(int64_t row, uint8_t* out) const {
    const int64_t k = layer_.operands.k;
    if (!geometry_.is_conv) {
      std::copy_n(x_ + row * k, k, out);
      return;
    }
    const ConvGeometry& g = geometry_.conv;
    const WindowAxis &v = g.axes[0], &h = g.axes[1];
    const int64_t pixel = row % (v.out * h.out), image = row / (v.out * h.out);
    const int64_t top = pixel / h.out * v.stride - v.pad_begin;
    const int64_t left = pixel % h.out * h.stride - h.pad_begin;
    const uint8_t pad = layer_.operands.pad_code();
    for (int64_t c = 0; c < g.in_channels; ++c) {
      const uint8_t* plane = x_ + (image * g.in_channels + c) * v.in * h.in;
      for (int64_t i = 0; i < v.kernel; ++i)
        for (int64_t j = 0; j < h.kernel; ++j) {
          const int64_t r = top + i * v.dilation, q = left + j * h.dilation;
          const bool inside = r >= 0 && r < v.in && q >= 0 && q < h.in;
          *out++ = inside ? plane[r * h.in + q] : pad;
        }
    }
  }

  [[nodiscard]] float result(int64_t row, int64_t channel) const {
    const int64_t n = layer_.operands.n;
    if (!geometry_.is_conv) return y_[row * n + channel];
    const int64_t pixels = geometry_.conv.axes[0].out * geometry_.conv.axes[1].out;
    return y_[(row / pixels * n + channel) * pixels + row % pixels];
  }

  // The definition of include/octet/approx.h, term by term.
  [[nodiscard]] int64_t Sum(const uint8_t* codes, int64_t channel) const {
    const ApproxOperands& o = layer_.operands;
    const kernels::SumRounding& r = o.tables.multiply.rounding;
    const GridRounding rounding{r.mantissa_bits, r.largest};
    const uint8_t* w = o.weight.data() + channel * o.k;
    const int64_t* table = Table(channel);
    if (r.enabled && r.each_add) {
      double sum = 0;
      for (int64_t i = 0; i < o.k; ++i)
        sum = rounding.Round(sum + static_cast<double>(table[codes[i] * 256 + w[i]]));
      return static_cast<int64_t>(sum);  // whole, and below 2^52
    }
    int64_t sum = 0;
    for (int64_t i = 0; i < o.k; ++i) sum += table[codes[i] * 256 + w[i]];
    return r.enabled ? static_cast<int64_t>(rounding.Round(static_cast<double>(sum))) : sum;
  }

  [[nodiscard]] double ExactSum(const uint8_t* codes, int64_t channel) const {
    const ApproxOperands& o = layer_.operands;
    const uint8_t* w = o.weight.data() + channel * o.k;
    double sum = 0;
    for (int64_t i = 0; i < o.k; ++i) sum += layer_.exact[codes[i] * size_t{256} + w[i]];
    return sum;
  }

  [[nodiscard]] const uint8_t* OfGroup(const uint8_t* codes, int64_t channel) const {
    const ApproxOperands& o = layer_.operands;
    return codes + channel / (o.n / geometry_.groups) * o.k;
  }

 private:
  [[nodiscard]] const int64_t* Table(int64_t channel) const {
    const auto& t = layer_.operands.tables;
    const auto& of = t.multiply.table_of_channel;
    return t.tables[of.empty() ? 0 : static_cast<size_t>(of[static_cast<size_t>(channel)])].data();
  }

  const Layer& layer_;
  const uint8_t* x_;
  const float* y_;
  Geometry geometry_;
};

float OfChannel(const std::vector<float>& values, int64_t channel) {
  return values[values.size() == 1 ? 0 : static_cast<size_t>(channel)];
}

// The approximate layers of a graph, and the graph that shows what they read and make.
class WatchedLayers {
 public:
  WatchedLayers(const Graph& graph, const std::string& only) : graph_(graph) {
    for (NodeId id : graph_.TopologicalOrder()) {
      const Node& node = graph_.node(id);
      if (IsApproximate(node) && (only.empty() || node.name == only)) Watch(id);
    }
  }

  [[nodiscard]] const Graph& graph() const { return graph_; }
  [[nodiscard]] const std::vector<Layer>& layers() const { return layers_; }

 private:
  void Watch(NodeId id) {
    const Node& node = graph_.node(id);
    Layer layer;
    layer.node = id;
    std::map<size_t, std::vector<Tensor>> made;  // biases out of a DequantizeLinear
    layer.operands = ReadApproxNode(node, [&](size_t i) -> const Tensor* {
      const Tensor* known = graph_.ConstantOf(node.input(i));
      if (known != nullptr || node.input(i) == kNoValue) return known;
      const NodeId producer = graph_.value(node.input(i)).producer;
      if (producer == kNoNode) return nullptr;
      std::vector<const Tensor*> inputs;
      for (ValueId v : graph_.node(producer).inputs) {
        inputs.push_back(v == kNoValue ? nullptr : graph_.ConstantOf(v));
        if (v != kNoValue && inputs.back() == nullptr) return nullptr;
      }
      made[i] = EvaluateNode(graph_, graph_.node(producer), inputs);
      return &made[i][0];
    });
    layer.operands.bias.resize(static_cast<size_t>(layer.operands.n));
    for (const double a : layer.operands.XValues())
      for (const double b : layer.operands.WValues()) layer.exact.push_back(a * b);
    layer.x = Output(node.inputs[kApproxX]);
    layer.y = Output(node.outputs[0]);
    layers_.push_back(std::move(layer));
  }

  size_t Output(ValueId v) {
    graph_.outputs.push_back(v);
    return graph_.outputs.size() - 1;
  }

  Graph graph_;
  std::vector<Layer> layers_;
};

struct Found {
  int64_t different = 0;
  ProductErrors errors;
};

Found CheckRow(const Layer& layer, const LayerRun& run, int64_t row, uint8_t* codes) {
  const ApproxOperands& o = layer.operands;
  run.Codes(row, codes);
  Found found;
  for (int64_t c = 0; c < o.n; ++c) {
    const uint8_t* x = run.OfGroup(codes, c);
    const float bias = o.bias[static_cast<size_t>(c)];
    const float unit = OfChannel(o.tables.multiply.unit, c);
    const float y = run.result(row, c);
    const float defined = static_cast<float>(run.Sum(x, c)) * unit + bias;
    found.different += std::bit_cast<uint32_t>(y) != std::bit_cast<uint32_t>(defined) ? 1 : 0;
    const double scale =
        static_cast<double>(o.layer.x.scale) * static_cast<double>(OfChannel(o.layer.w_scale, c));
    found.errors.Add(static_cast<double>(y) - static_cast<double>(bias),
                     run.ExactSum(x, c) * scale);
  }
  return found;
}

// Of codes as they lie in memory.
CodeShares Shares(const NumberFormat& format, int32_t zero, std::span<const uint8_t> codes) {
  if (format.is_float()) {
    const FloatFormat& f = format.floating();
    return SharesOf(codes, CodeFormat{f.exponent_bits, f.mantissa_bits, f.is_signed, 0});
  }
  const auto zeros = std::count(codes.begin(), codes.end(), static_cast<uint8_t>(zero));
  const double share =
      static_cast<double>(zeros) / static_cast<double>(std::max<size_t>(codes.size(), 1));
  return {1 - share, 0, share};
}

VerifyResult::Products Describe(const Graph& graph, const Layer& layer) {
  const ApproxOperands& o = layer.operands;
  const Node& node = graph.node(layer.node);
  VerifyResult::Products p;
  p.node = node.name;
  p.op = "octet." + node.op;
  p.multiplier = o.multiplier.Name();
  p.x_format = o.x_format.Name();
  p.w_format = o.w_format.Name();
  const CodeShares w = Shares(o.w_format, o.w_zero, o.weight);
  p.w_subnormal = w.subnormal;
  p.w_zero = w.zero;
  return p;
}

// The exponent bias that a scale is, where it is one.
nlohmann::ordered_json Quantizer(const NumberFormat& format, const std::vector<float>& scale,
                                 int32_t zero) {
  nlohmann::ordered_json j = {{"format", format.Name()}, {"scale", scale}, {"zero_point", zero}};
  if (!format.is_float()) return j;
  const FloatFormat& f = format.floating();
  j["exponent_bits"] = f.exponent_bits;
  j["mantissa_bits"] = f.mantissa_bits;
  std::vector<int> biases;
  for (const float s : scale) {
    int exponent = 0;
    if (std::frexp(s, &exponent) != 0.5F) return j;
    // Codes at the format's own bias b stand for 2^(e - b), so those times 2^t have bias b - t.
    biases.push_back(f.bias() - (exponent - 1));
  }
  j["exponent_bias"] = biases;
  return j;
}

std::string OperandsJson(const Graph& graph, const Layer& layer, const LayerRun& run) {
  const ApproxOperands& o = layer.operands;
  const kernels::SumRounding& r = o.tables.multiply.rounding;
  nlohmann::ordered_json j = {
      {"layer", graph.node(layer.node).name},
      {"op", graph.node(layer.node).op},
      {"multiplier", o.multiplier.Name()},
      {"rows", run.rows()},
      {"groups", run.groups()},
      {"k", o.k},
      {"n", o.n},
      {"tables", o.tables.tables.size()},
      {"x", Quantizer(o.x_format, {o.layer.x.scale}, o.x_zero)},
      {"w", Quantizer(o.w_format, o.layer.w_scale, o.w_zero)},
      {"definition",
       "sum[r][c] = sum over i of table[table_of_channel[c]][x[r][g k + i]][w[c][i]], g = c / (n / "
       "groups); y = float32(sum) * unit + bias"}};
  if (o.multiplier.kind == MultiplierKind::kHw || o.multiplier.kind == MultiplierKind::kV9 ||
      o.multiplier.kind == MultiplierKind::kQamaa)
    j["result"] = Quantizer(NumberFormat(o.layer.result.format), {o.layer.result.scale}, 0);
  if (r.enabled)
    j["rounding"] = {
        {"each_add", r.each_add}, {"mantissa_bits", r.mantissa_bits}, {"largest", r.largest}};
  return j.dump(2) + "\n";
}

}  // namespace

bool HasApproximateLayers(const Graph& graph) {
  for (NodeId id : graph.TopologicalOrder())
    if (IsApproximate(graph.node(id))) return true;
  return false;
}

struct ProductChecker::Impl {
  WatchedLayers watched;
  std::vector<VerifyResult::Products> results;
  std::vector<ProductErrors> errors;
  int64_t samples = 0;
};

ProductChecker::ProductChecker(const Graph& graph)
    : impl_(new Impl{WatchedLayers(graph, ""), {}, {}}) {
  for (const Layer& layer : impl_->watched.layers())
    impl_->results.push_back(Describe(graph, layer));
  impl_->errors.resize(impl_->results.size());
}
ProductChecker::~ProductChecker() = default;
ProductChecker::ProductChecker(ProductChecker&&) noexcept = default;
ProductChecker& ProductChecker::operator=(ProductChecker&&) noexcept = default;

const Graph& ProductChecker::graph() const { return impl_->watched.graph(); }

void ProductChecker::Add(const std::vector<Tensor>& outputs) {
  ++impl_->samples;
  const auto& layers = impl_->watched.layers();
  for (size_t l = 0; l < layers.size(); ++l) {
    const Layer& layer = layers[l];
    const ApproxOperands& o = layer.operands;
    const Tensor& x = outputs[layer.x];
    const LayerRun run(graph(), layer, x, outputs[layer.y]);
    std::vector<Found> rows(static_cast<size_t>(run.rows()));
    ParallelFor(run.rows(), 1, [&](int64_t begin, int64_t end) {
      std::vector<uint8_t> codes(static_cast<size_t>(run.groups() * o.k));
      for (int64_t r = begin; r < end; ++r)
        rows[static_cast<size_t>(r)] = CheckRow(layer, run, r, codes.data());
    });
    VerifyResult::Products& p = impl_->results[l];
    for (const Found& row : rows) {  // in order: the same sums for any number of threads
      p.different += row.different;
      impl_->errors[l].Add(row.errors);
    }
    const auto* codes = static_cast<const uint8_t*>(x.raw());
    const CodeShares shares =
        Shares(o.x_format, o.x_zero, {codes, static_cast<size_t>(x.elements())});
    p.x_subnormal += shares.subnormal;
    p.x_zero += shares.zero;
  }
}

std::vector<VerifyResult::Products> ProductChecker::Results() const {
  std::vector<VerifyResult::Products> results = impl_->results;
  const auto samples = static_cast<double>(std::max<int64_t>(impl_->samples, 1));
  for (size_t l = 0; l < results.size(); ++l) {
    VerifyResult::Products& p = results[l];
    const ProductErrors& errors = impl_->errors[l];
    p.x_subnormal /= samples;
    p.x_zero /= samples;
    p.elements = errors.results;
    p.mean_error = errors.mean();
    p.max_error = errors.largest;
    p.rmse = errors.rmse();
    p.exact_rms = errors.exact_rms();
    p.sqnr_db = errors.sqnr_db();
  }
  return results;
}

std::vector<VerifyResult::Products> CheckProducts(const Graph& graph, const Dataset& data,
                                                  const Progress& progress) {
  if (!HasApproximateLayers(graph)) return {};
  ProductChecker checker(graph);
  const Executor executor(checker.graph());
  const auto order = MatchInputs(graph, data, "the model");
  ProgressMeter meter(progress, "products", data.size());
  for (int64_t i = 0; i < data.size(); ++i) {
    const Sample sample = data.Load(i);
    checker.Add(executor.Run(InputViews(sample, order)));
    meter.Step();
  }
  return checker.Results();
}

std::vector<std::filesystem::path> DumpOperands(const Graph& graph, const Dataset& data,
                                                const std::string& layer,
                                                const std::filesystem::path& folder,
                                                OperandFiles files) {
  RequireSamples(data, "verify");
  const WatchedLayers watched(graph, layer);
  if (watched.layers().size() != 1) {
    std::string names;
    for (NodeId id : graph.TopologicalOrder())
      if (IsApproximate(graph.node(id)))
        names += Cat(names.empty() ? "" : ", ", graph.node(id).name);
    Fail(ErrorCode::kInvalidArgument, "verify: no layer '", layer,
         "' has an approximate multiplier; those that have: ", names.empty() ? "none" : names);
  }
  const Executor executor(watched.graph());
  const Sample sample = data.Load(0);
  const std::vector<Tensor> outputs =
      executor.Run(InputViews(sample, MatchInputs(graph, data, "the model")));
  const Layer& l = watched.layers()[0];
  const ApproxOperands& o = l.operands;
  const LayerRun run(watched.graph(), l, outputs[l.x], outputs[l.y]);
  const auto n = static_cast<size_t>(o.n), rows = static_cast<size_t>(run.rows());
  const auto width = static_cast<size_t>(run.groups() * o.k);
  std::vector<uint8_t> x(rows * width);
  std::vector<int64_t> sums(rows * n);
  std::vector<float> y(rows * n);
  ParallelFor(run.rows(), 1, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      uint8_t* codes = x.data() + static_cast<size_t>(r) * width;
      run.Codes(r, codes);
      for (int64_t c = 0; c < o.n; ++c) {
        const size_t at = static_cast<size_t>(r) * n + static_cast<size_t>(c);
        sums[at] = run.Sum(run.OfGroup(codes, c), c);
        y[at] = run.result(r, c);
      }
    }
  });
  std::vector<float> unit(n);
  for (int64_t c = 0; c < o.n; ++c)
    unit[static_cast<size_t>(c)] = OfChannel(o.tables.multiply.unit, c);
  std::vector<int32_t> table_of = o.tables.multiply.table_of_channel;
  table_of.resize(n);
  LayerOperands operands;
  operands.layer = layer;
  operands.json = OperandsJson(watched.graph(), l, run);
  operands.rows = run.rows();
  operands.k = o.k;
  operands.n = o.n;
  operands.groups = run.groups();
  operands.x = x;
  operands.weight = o.weight;
  for (const auto& table : o.tables.tables) operands.tables.emplace_back(table);
  operands.table_of_channel = table_of;
  operands.sums = sums;
  operands.unit = unit;
  operands.bias = o.bias;
  operands.result = y;
  return WriteOperands(folder, operands, files);
}

}  // namespace octet
