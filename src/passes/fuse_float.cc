#include "passes/fuse_float.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <optional>

#include "passes/quantizers.h"

namespace octet {
namespace {

// Exporters round these constants to float32, or write 1.4142.
constexpr double kConstantTolerance = 1e-4;

class Fuser {
 public:
  Fuser(Graph& graph, const std::set<ValueId>& kept)
      : graph_(graph), kept_(kept), uses_(graph.UseMap()) {
    kept_.insert(graph.outputs.begin(), graph.outputs.end());
  }

  int Run() {
    const std::vector<NodeId> order = graph_.TopologicalOrder();
    for (NodeId id : order) {
      const Node& n = graph_.node(id);
      if (n.Is("Erf") || n.Is("Tanh")) {
        FuseGelu(id);
      } else if (n.Is("Sigmoid")) {
        FuseSwish(id);
      } else if (n.Is("Clip")) {
        FuseHardSwish(id);
      } else if (n.Is("HardSigmoid")) {
        GateByHardSigmoid(id);
      } else if (n.Is("Sqrt")) {
        FuseNorm(id);
      } else if (n.Is("Softmax")) {
        ScaleSoftmax(id);
      } else if (n.Is("MatMul")) {
        PermuteMatMul(id);
      } else if (n.Is("QMatMul", "octet")) {
        PermuteCodes(id);
      }
    }
    for (NodeId id : graph_.TopologicalOrder()) {
      const Node& n = graph_.node(id);
      if (n.Is("ScaledSoftmax", "octet") || n.Is("Softmax")) {
        TakeIntoProduct(id);
      } else if (n.Is("LayerNormalization") || n.Is("RMSNormalization")) {
        WidenNorm(id);
      } else if (n.Is("Gelu") || n.Is("Swish") || n.Is("HardSwish") || n.Is("Sigmoid") ||
                 n.Is("Tanh") || n.Is("Erf")) {
        QuantizeMap(id);
      }
    }
    if (made_ > 0) graph_.opsets["octet"] = 1;
    return made_;
  }

 private:
  // Nodes that still read `v`.
  std::vector<Graph::Use> Readers(ValueId v) const {
    std::vector<Graph::Use> readers;
    for (const Graph::Use& use : uses_[static_cast<size_t>(v)]) {
      const Node& n = graph_.node(use.node);
      if (!n.removed && n.input(use.input) == v) readers.push_back(use);
    }
    return readers;
  }
  // The one reader of a value that nobody else wants to see.
  const Node* OnlyReader(ValueId v) const {
    if (kept_.contains(v)) return nullptr;
    const auto readers = Readers(v);
    return readers.size() == 1 ? &graph_.node(readers[0].node) : nullptr;
  }
  const Node* Producer(ValueId v, std::string_view op) const {
    if (v == kNoValue) return nullptr;
    const NodeId id = graph_.value(v).producer;
    return id != kNoNode && graph_.node(id).Is(op) ? &graph_.node(id) : nullptr;
  }
  bool IsScalar(ValueId v, double expected) const {
    if (v == kNoValue) return false;
    const auto s = ScalarOf(v);
    return s && std::fabs(*s - expected) <= kConstantTolerance * expected;
  }
  std::optional<double> ScalarOf(ValueId v) const {
    const Tensor* t = graph_.ConstantOf(v);
    if (t == nullptr || t->dtype() != DType::kFloat32 || t->elements() != 1) return std::nullopt;
    return t->data<float>()[0];
  }
  // The other operand of a commutative node with a scalar constant near `c`, or kNoValue.
  ValueId OtherThanScalar(const Node& n, double c) const {
    if (n.inputs.size() != 2) return kNoValue;
    if (IsScalar(n.inputs[1], c)) return n.inputs[0];
    return IsScalar(n.inputs[0], c) ? n.inputs[1] : kNoValue;
  }
  static ValueId OtherThan(const Node& n, ValueId v) {
    if (n.inputs.size() != 2) return kNoValue;
    if (n.inputs[0] == v) return n.inputs[1];
    return n.inputs[1] == v ? n.inputs[0] : kNoValue;
  }
  bool IsFloat(ValueId v) const {
    const DType dtype = graph_.value(v).type.dtype;
    return dtype == DType::kFloat32;
  }

  // `out` is made by a new node, which takes the name of `widened`, or else of the node that made
  // `out`. Both go, and what was only there for them.
  void Make(ValueId out, Node node, NodeId widened = kNoNode) {
    const NodeId old = graph_.value(out).producer;
    node.name = graph_.node(widened != kNoNode ? widened : old).name;
    std::vector<ValueId> read = graph_.node(old).inputs;
    graph_.RemoveNode(old);
    if (widened != kNoNode && widened != old) {
      const auto& more = graph_.node(widened).inputs;
      read.insert(read.end(), more.begin(), more.end());
      graph_.RemoveNode(widened);
    }
    node.outputs = {out};
    Add(std::move(node));
    for (ValueId v : read) RemoveUnread(v);
  }
  void RemoveUnread(ValueId v) {
    if (v == kNoValue || kept_.contains(v) || !Readers(v).empty()) return;
    const NodeId producer = graph_.value(v).producer;
    if (producer == kNoNode) return;
    const std::vector<ValueId> read = graph_.node(producer).inputs;
    graph_.RemoveNode(producer);
    for (ValueId input : read) RemoveUnread(input);
  }

  // The x of x / sqrt 2, or of sqrt(2 / pi) (x + 0.044715 x^3).
  ValueId GeluInput(const Node& n) const {
    const ValueId s = n.inputs[0];
    if (OnlyReader(s) == nullptr) return kNoValue;
    if (n.op == "Erf") {
      if (const Node* div = Producer(s, "Div"))
        return IsScalar(div->inputs[1], std::sqrt(2.0)) ? div->inputs[0] : kNoValue;
      const Node* mul = Producer(s, "Mul");
      return mul == nullptr ? kNoValue : OtherThanScalar(*mul, std::sqrt(0.5));
    }
    const Node* mul = Producer(s, "Mul");
    if (mul == nullptr) return kNoValue;
    const ValueId inner = OtherThanScalar(*mul, std::sqrt(2 / 3.14159265358979323846));
    const Node* add = Producer(inner, "Add");
    if (add == nullptr || OnlyReader(inner) == nullptr) return kNoValue;
    for (const size_t side : {0U, 1U}) {
      const ValueId x = add->inputs[side], cubic = add->inputs[1 - side];
      const Node* scaled = Producer(cubic, "Mul");
      if (scaled == nullptr || OnlyReader(cubic) == nullptr) continue;
      const ValueId cube = OtherThanScalar(*scaled, 0.044715);
      if (cube == kNoValue || OnlyReader(cube) == nullptr) continue;
      if (const Node* pow = Producer(cube, "Pow");
          pow != nullptr && pow->inputs[0] == x && IsScalar(pow->inputs[1], 3.0)) {
        return x;
      }
      if (const Node* product = Producer(cube, "Mul")) {  // x (x x), either way round
        const Node* square = Producer(OtherThan(*product, x), "Mul");
        if (square != nullptr && square->inputs[0] == x && square->inputs[1] == x) return x;
      }
    }
    return kNoValue;
  }

  void FuseGelu(NodeId id) {
    const Node n = graph_.node(id);
    const ValueId x = GeluInput(n);
    if (x == kNoValue || !IsFloat(x) || graph_.ConstantOf(x) != nullptr) return;
    const Node* add = OnlyReader(n.outputs[0]);
    if (add == nullptr || !add->Is("Add") || OtherThanScalar(*add, 1.0) != n.outputs[0]) return;
    // The factors of u = f + 1: x and 1/2, one after the other or multiplied before.
    const Node* first = OnlyReader(add->outputs[0]);
    if (first == nullptr || !first->Is("Mul")) return;
    const ValueId factor = OtherThan(*first, add->outputs[0]);
    ValueId out = kNoValue;
    if (const Node* half = Producer(factor, "Mul");
        half != nullptr && OnlyReader(factor) != nullptr && OtherThanScalar(*half, 0.5) == x) {
      out = first->outputs[0];
    } else {
      const Node* second = OnlyReader(first->outputs[0]);
      if (second == nullptr || !second->Is("Mul")) return;
      const ValueId last = OtherThan(*second, first->outputs[0]);
      if ((factor == x && IsScalar(last, 0.5)) || (IsScalar(factor, 0.5) && last == x))
        out = second->outputs[0];
    }
    if (out == kNoValue || !graph_.SameRank(x, out)) return;
    Node gelu;
    gelu.op = "Gelu";
    gelu.inputs = {x};
    if (n.op == "Tanh") gelu.attributes["approximate"] = std::string("tanh");
    Make(out, std::move(gelu));
  }

  void FuseSwish(NodeId id) {
    const Node n = graph_.node(id);
    const ValueId x = n.inputs[0];
    const Node* mul = OnlyReader(n.outputs[0]);
    if (!IsFloat(x) || mul == nullptr || !mul->Is("Mul") || OtherThan(*mul, n.outputs[0]) != x)
      return;
    Node swish;
    swish.op = "Swish";
    swish.inputs = {x};
    Make(mul->outputs[0], std::move(swish));
  }

  void MakeHardSwish(ValueId x, ValueId out) {
    Node swish;
    swish.op = "HardSwish";
    swish.inputs = {x};
    Make(out, std::move(swish));
  }
  // A sixth of `v`.
  bool IsSixth(const Node& n, ValueId v) const {
    if (n.Is("Div")) return n.inputs[0] == v && IsScalar(n.inputs[1], 6.0);
    return n.Is("Mul") && OtherThanScalar(n, 1.0 / 6.0) == v;
  }
  // From the Clip of x + 3 both ways; the sixth is taken before or after the product.
  void FuseHardSwish(NodeId id) {
    const Node clip = graph_.node(id);
    const Node* add = Producer(clip.inputs[0], "Add");
    if (add == nullptr || OnlyReader(clip.inputs[0]) == nullptr || !IsScalar(clip.input(1), 0.0) ||
        !IsScalar(clip.input(2), 6.0))
      return;
    const ValueId x = OtherThanScalar(*add, 3.0);
    const ValueId gate = clip.outputs[0];
    const Node* first = OnlyReader(gate);
    if (x == kNoValue || !IsFloat(x) || graph_.ConstantOf(x) != nullptr || first == nullptr) return;
    const Node* second = OnlyReader(first->outputs[0]);
    if (second == nullptr) return;
    const bool product_first =
        first->Is("Mul") && OtherThan(*first, gate) == x && IsSixth(*second, first->outputs[0]);
    const bool sixth_first =
        IsSixth(*first, gate) && second->Is("Mul") && OtherThan(*second, first->outputs[0]) == x;
    const ValueId out = second->outputs[0];
    if ((product_first || sixth_first) && graph_.SameRank(x, out)) MakeHardSwish(x, out);
  }
  void GateByHardSigmoid(NodeId id) {
    const Node n = graph_.node(id);
    const ValueId x = n.inputs[0];
    const double alpha = static_cast<double>(n.GetFloat("alpha", 0.2F)) * 6.0;
    const Node* mul = OnlyReader(n.outputs[0]);
    if (!IsFloat(x) || std::fabs(alpha - 1.0) > kConstantTolerance ||
        n.GetFloat("beta", 0.5F) != 0.5F || mul == nullptr || !mul->Is("Mul") ||
        OtherThan(*mul, n.outputs[0]) != x)
      return;
    MakeHardSwish(x, mul->outputs[0]);
  }

  // ReduceMean over the last axis, kept.
  bool IsMeanOfLast(const Node& n) const {
    const ValueType& type = graph_.value(n.inputs[0]).type;
    if (!n.Is("ReduceMean") || n.GetInt("keepdims", 1) == 0 || !type.has_rank) return false;
    std::vector<int64_t> axes = n.GetInts("axes", {});
    if (const Tensor* t = graph_.ConstantOf(n.input(1));
        t != nullptr && t->dtype() == DType::kInt64)
      axes.assign(t->data<int64_t>().begin(), t->data<int64_t>().end());
    const auto rank = static_cast<int64_t>(type.dims.size());
    return axes.size() == 1 && (axes[0] == -1 || axes[0] == rank - 1);
  }
  // One number per element of the last axis of x, constant.
  bool IsRow(ValueId v, ValueId x) const {
    const Tensor* t = graph_.ConstantOf(v);
    const ValueType& type = graph_.value(x).type;
    return t != nullptr && t->dtype() == DType::kFloat32 && type.has_rank && !type.dims.empty() &&
           t->elements() == type.dims.back() && t->shape().rank() >= 1 &&
           t->shape()[t->shape().rank() - 1] == t->elements() &&
           t->shape().rank() <= static_cast<int>(type.dims.size());
  }

  // From the Sqrt of a variance (or mean square) both ways.
  void FuseNorm(NodeId id) {
    const Node sqrt = graph_.node(id);
    const Node* add = Producer(sqrt.inputs[0], "Add");
    if (add == nullptr || OnlyReader(sqrt.inputs[0]) == nullptr || add->inputs.size() != 2) return;
    const size_t side = graph_.ConstantOf(add->inputs[0]) != nullptr ? 0 : 1;
    const auto epsilon = ScalarOf(add->inputs[side]);
    const ValueId variance = add->inputs[1 - side];
    const Node* mean = Producer(variance, "ReduceMean");
    if (!epsilon || *epsilon < 0 || mean == nullptr || OnlyReader(variance) == nullptr ||
        !IsMeanOfLast(*mean)) {
      return;
    }
    const ValueId squares = mean->inputs[0];
    if (OnlyReader(squares) == nullptr) return;
    ValueId d = kNoValue;
    if (const Node* pow = Producer(squares, "Pow"); pow != nullptr && IsScalar(pow->inputs[1], 2.0))
      d = pow->inputs[0];
    if (const Node* mul = Producer(squares, "Mul");
        mul != nullptr && mul->inputs[0] == mul->inputs[1]) {
      d = mul->inputs[0];
    }
    if (d == kNoValue || !IsFloat(d)) return;
    // d over the root, at once or as a product with the reciprocal.
    const Node* divide = OnlyReader(sqrt.outputs[0]);
    if (divide == nullptr) return;
    if (divide->Is("Reciprocal") || (divide->Is("Div") && IsScalar(divide->inputs[0], 1.0))) {
      const ValueId inverse = divide->outputs[0];
      divide = OnlyReader(inverse);
      if (divide == nullptr || !divide->Is("Mul") || OtherThan(*divide, inverse) != d) return;
    } else if (!divide->Is("Div") || divide->inputs[0] != d ||
               divide->inputs[1] != sqrt.outputs[0]) {
      return;
    }
    const Node* sub = Producer(d, "Sub");
    const bool centred =
        sub != nullptr && IsDeviation(*sub) && Readers(d).size() <= 3 && !kept_.contains(d);
    const ValueId x = centred ? sub->inputs[0] : d;
    const Node* scale = OnlyReader(divide->outputs[0]);
    if (scale == nullptr || !scale->Is("Mul")) return;
    const ValueId gamma = OtherThan(*scale, divide->outputs[0]);
    if (!IsRow(gamma, x)) return;
    ValueId out = scale->outputs[0], beta = kNoValue;
    if (const Node* shift = OnlyReader(out); shift != nullptr && shift->Is("Add")) {
      const ValueId b = OtherThan(*shift, out);
      if (IsRow(b, x)) {
        beta = b;
        out = shift->outputs[0];
      }
    }
    if (!graph_.SameRank(x, out)) return;
    Node norm;
    norm.attributes["epsilon"] = static_cast<float>(*epsilon);
    if (centred) {
      norm.op = "LayerNormalization";
      norm.attributes["axis"] = int64_t{-1};
      norm.inputs = {x, gamma};
      if (beta != kNoValue) norm.inputs.push_back(beta);
    } else {
      norm.op = "Norm";
      norm.domain = "octet";
      norm.attributes["rms"] = int64_t{1};
      norm.inputs = {x, kNoValue, gamma, beta};
    }
    Make(out, std::move(norm));
  }
  // x - ReduceMean(x)
  bool IsDeviation(const Node& sub) const {
    const Node* mean = Producer(sub.inputs[1], "ReduceMean");
    return mean != nullptr && mean->inputs[0] == sub.inputs[0] && IsMeanOfLast(*mean) &&
           OnlyReader(sub.inputs[1]) != nullptr;
  }

  struct Scaled {
    ValueId value;
    float factor;
  };
  // `s` as a number above 0 times a computed value of its shape: Mul, or Div by a power of two,
  // which is multiplying by its reciprocal.
  std::optional<Scaled> ScaledOf(ValueId s) const {
    ValueId x = kNoValue;
    std::optional<double> factor;
    if (const Node* div = Producer(s, "Div")) {
      x = div->inputs[0];
      factor = ScalarOf(div->inputs[1]);
      int exponent = 0;
      if (!factor || std::frexp(*factor, &exponent) != 0.5 || std::abs(exponent) > 100) return {};
      factor = 1.0 / *factor;
    } else if (const Node* mul = Producer(s, "Mul")) {
      const size_t side = graph_.ConstantOf(mul->inputs[0]) != nullptr ? 0 : 1;
      x = mul->inputs[1 - side];
      factor = ScalarOf(mul->inputs[side]);
    }
    if (!factor || !(*factor > 0) || !std::isfinite(*factor) || graph_.ConstantOf(x) != nullptr ||
        !graph_.value(x).type.has_rank || graph_.value(x).type.dims != graph_.value(s).type.dims) {
      return {};
    }
    return Scaled{x, static_cast<float>(*factor)};
  }

  // Whose last axis is the one softmax runs over.
  void ScaleSoftmax(NodeId id) {
    const Node n = graph_.node(id);
    const ValueId s = n.inputs[0];
    const ValueType& type = graph_.value(s).type;
    const int64_t axis = n.GetInt("axis", graph_.opset() < 13 ? 1 : -1);
    if (!type.has_rank || !IsFloat(s) || OnlyReader(s) == nullptr ||
        (axis != -1 && axis + 1 != static_cast<int64_t>(type.dims.size()))) {
      return;
    }
    const auto scaled = ScaledOf(s);
    if (!scaled) return;
    Node softmax;
    softmax.op = "ScaledSoftmax";
    softmax.domain = "octet";
    softmax.attributes["scale"] = scaled->factor;
    softmax.inputs = {scaled->value};
    Make(n.outputs[0], std::move(softmax));
  }

  // Keys transposed element by element become rows that are moved whole, and a product that reads
  // them across: a Transpose of B keeps B's last axis last, and perm_b swaps the two innermost.
  void PermuteMatMul(NodeId id) {
    const Node n = graph_.node(id);
    const ValueId moved = n.inputs[1];
    const Node* transpose = Producer(moved, "Transpose");
    const ValueType& type = graph_.value(n.inputs[0]).type;
    if (transpose == nullptr || OnlyReader(moved) == nullptr || !IsFloat(moved) ||
        graph_.ConstantOf(transpose->inputs[0]) != nullptr || !type.has_rank ||
        type.dims.size() < 2) {
      return;
    }
    auto perm = transpose->GetInts("perm", {});
    const size_t rank = perm.size();
    if (rank < 2 || perm[rank - 2] + 1 != static_cast<int64_t>(rank)) return;
    std::swap(perm[rank - 2], perm[rank - 1]);
    std::vector<int64_t> swap(rank);
    std::iota(swap.begin(), swap.end(), 0);
    Node product;
    product.op = "PermutedMatMul";
    product.domain = "octet";
    ValueId b = transpose->inputs[0];
    if (perm != swap) {
      Node rows;
      rows.op = "Transpose";
      rows.attributes["perm"] = perm;
      rows.inputs = {b};
      ValueType rows_type = graph_.value(moved).type;
      rows_type.symbols.clear();
      if (rows_type.has_rank) std::swap(rows_type.dims[rank - 2], rows_type.dims[rank - 1]);
      b = graph_.AddValue(graph_.value(moved).name + "_rows", rows_type);
      uses_.resize(graph_.value_count());
      rows.outputs = {b};
      Add(std::move(rows));
      --made_;
    }
    std::swap(swap[rank - 2], swap[rank - 1]);
    product.attributes["perm_b"] = swap;
    product.inputs = {n.inputs[0], b};
    Make(n.outputs[0], std::move(product));
  }

  // The permutation of a Transpose of computed values of known rank, or nothing.
  std::vector<int64_t> PermutationOf(const Node* transpose) const {
    if (transpose == nullptr || graph_.ConstantOf(transpose->inputs[0]) != nullptr) return {};
    const auto perm = transpose->GetInts("perm", {});
    return perm.size() >= 2 ? perm : std::vector<int64_t>();
  }

  // Codes of heads are read and written where the layers before and behind have them. Kernels take
  // rows of neighbouring elements: the last axis stays last, or in B next to last.
  void PermuteCodes(NodeId id) {
    Node product = graph_.node(id);
    ValueId out = product.outputs[0];
    bool changed = false;
    for (const size_t side : {0U, 1U}) {
      const ValueId moved = product.inputs[side];
      const Node* transpose = Producer(moved, "Transpose");
      const auto perm = PermutationOf(transpose);
      if (perm.empty() || OnlyReader(moved) == nullptr) continue;
      const auto last = static_cast<int64_t>(perm.size()) - 1;
      if (perm.back() != last && (side == 0 || perm[perm.size() - 2] != last)) continue;
      product.attributes[side == 0 ? "perm_a" : "perm_b"] = perm;
      product.inputs[side] = transpose->inputs[0];
      changed = true;
    }
    const Node* behind = OnlyReader(out);
    if (behind != nullptr && behind->Is("Transpose")) {
      const auto perm = PermutationOf(behind);
      if (!perm.empty() && perm.back() + 1 == static_cast<int64_t>(perm.size())) {
        product.attributes["perm_y"] = perm;
        out = behind->outputs[0];
        changed = true;
      }
    }
    if (changed) Make(out, std::move(product), id);
  }

  // A product of attention in float32, which may take softmax in.
  bool IsScores(ValueId v) const {
    const NodeId producer = graph_.value(v).producer;
    if (producer == kNoNode || OnlyReader(v) == nullptr || !IsFloat(v)) return false;
    const Node& n = graph_.node(producer);
    return (n.Is("PermutedMatMul", "octet") || n.Is("QMatMul", "octet")) && !n.Has("perm_y") &&
           !n.Has("softmax_scale");
  }

  // Float32 of the scores' last axis, every other one the scores' or 1.
  bool IsMaskOf(ValueId mask, ValueId scores) const {
    const ValueType& m = graph_.value(mask).type;
    const ValueType& s = graph_.value(scores).type;
    if (!m.has_rank || !s.has_rank || m.dims.empty() || m.dims.size() > s.dims.size() ||
        m.dims.back() == kUnknownDim || m.dims.back() != s.dims.back() || !IsFloat(mask)) {
      return false;
    }
    const size_t skip = s.dims.size() - m.dims.size();
    for (size_t i = 0; i + 1 < m.dims.size(); ++i) {
      const int64_t d = m.dims[i];
      if (d != 1 && (d == kUnknownDim || d != s.dims[skip + i])) return false;
    }
    return true;
  }

  // Attention's scores become weights while each matrix of them is in the cache; of codes, codes.
  void TakeIntoProduct(NodeId id) {
    const Node n = graph_.node(id);
    const ValueType& type = graph_.value(n.inputs[0]).type;
    const int64_t axis = n.Is("Softmax") ? n.GetInt("axis", graph_.opset() < 13 ? 1 : -1) : -1;
    if (axis != -1 && !(type.has_rank && axis + 1 == static_cast<int64_t>(type.dims.size())))
      return;
    ValueId scores = n.inputs[0], mask = kNoValue;
    float scale = n.GetFloat("scale", 1.0F);
    if (const Node* add = Producer(scores, "Add");
        add != nullptr && n.Is("Softmax") && OnlyReader(scores) != nullptr) {
      for (const size_t side : {0U, 1U}) {
        const ValueId s = add->inputs[side];
        const auto scaled = OnlyReader(s) != nullptr ? ScaledOf(s) : std::nullopt;
        const ValueId product = scaled ? scaled->value : s;
        if (!IsScores(product) || !IsMaskOf(add->inputs[1 - side], product)) continue;
        mask = add->inputs[1 - side];
        scores = product;
        scale = scaled ? scaled->factor : 1.0F;
        break;
      }
    }
    if (!IsScores(scores)) return;
    const NodeId producer = graph_.value(scores).producer;
    Node product = graph_.node(producer);
    const bool of_codes = product.Is("QMatMul", "octet");
    product.attributes["softmax_scale"] = scale;
    ValueId out = n.outputs[0];
    const auto q = of_codes && OnlyReader(out) != nullptr ? QuantizerAmong(out) : std::nullopt;
    if (q) {
      const Node& quantizer = graph_.node(q->node);
      product.inputs.resize(4, kNoValue);
      product.inputs[2] = quantizer.inputs[1];
      product.inputs[3] = quantizer.input(2);
      out = q->codes;
    }
    if (mask != kNoValue) {
      product.inputs.resize(of_codes ? 5 : 3, kNoValue);
      product.inputs.back() = mask;
    }
    Make(out, std::move(product), producer);
  }

  bool SameStaticShape(ValueId a, ValueId b) const {
    const ValueType& ta = graph_.value(a).type;
    const ValueType& tb = graph_.value(b).type;
    if (!ta.has_rank || !tb.has_rank || ta.dims != tb.dims) return false;
    for (size_t i = 0; i < ta.dims.size(); ++i) {
      if (ta.dims[i] != kUnknownDim) continue;
      const bool named = i < ta.symbols.size() && i < tb.symbols.size() && !ta.symbols[i].empty();
      if (!named || ta.symbols[i] != tb.symbols[i]) return false;
    }
    return true;
  }

  // The quantizer among the readers of `v` whose codes a kernel can make, or nullopt.
  std::optional<QuantizerInfo> QuantizerAmong(ValueId v) const {
    for (const Graph::Use& use : Readers(v)) {
      if (use.input != 0 || !graph_.node(use.node).Is("QuantizeLinear")) continue;
      const auto q = QuantizerOf(graph_, use.node);
      if (q && q->is_activation() && q->scale[0] > 0 && std::isfinite(q->scale[0])) return q;
    }
    return std::nullopt;
  }
  bool Wanted(ValueId v) const { return kept_.contains(v) || !Readers(v).empty(); }

  // Takes an Add in front and a QuantizeLinear behind into a LayerNormalization or RMSNormalization
  // over the last axis.
  void WidenNorm(NodeId id) {
    const Node n = graph_.node(id);
    const ValueType& type = graph_.value(n.inputs[0]).type;
    const int64_t axis = n.GetInt("axis", -1);
    const bool statistics =
        std::any_of(n.outputs.begin() + 1, n.outputs.end(), [&](ValueId v) { return v >= 0; });
    const bool last =
        axis == -1 || (type.has_rank && axis + 1 == static_cast<int64_t>(type.dims.size()));
    if (statistics || !last || !IsFloat(n.inputs[0])) return;
    const Node* add = Producer(n.inputs[0], "Add");
    if (add != nullptr &&
        (add->inputs[0] == add->inputs[1] || graph_.ConstantOf(add->inputs[0]) != nullptr ||
         graph_.ConstantOf(add->inputs[1]) != nullptr ||
         !SameStaticShape(add->inputs[0], add->inputs[1]))) {
      add = nullptr;
    }
    const ValueId y = n.outputs[0];
    const auto q = QuantizerAmong(y);
    if (add == nullptr && !q) return;
    Node norm;
    norm.op = "Norm";
    norm.domain = "octet";
    norm.name = n.name;
    norm.attributes["epsilon"] = n.GetFloat("epsilon", 1e-5F);
    if (n.Is("RMSNormalization")) norm.attributes["rms"] = int64_t{1};
    norm.inputs = {n.inputs[0], kNoValue, n.inputs[1], n.input(2)};
    norm.outputs = {y, kNoValue, kNoValue};
    graph_.RemoveNode(id);
    if (add != nullptr) {
      const ValueId sum = n.inputs[0];
      norm.inputs[0] = add->inputs[0];
      norm.inputs[1] = add->inputs[1];
      graph_.RemoveNode(graph_.value(sum).producer);
      if (Wanted(sum)) norm.outputs[1] = sum;
      TakeResidualCodes(norm);
    }
    if (q) {
      const Node& quantizer = graph_.node(q->node);
      norm.inputs.push_back(quantizer.inputs[1]);
      norm.inputs.push_back(quantizer.input(2));
      graph_.RemoveNode(q->node);
      norm.outputs[2] = q->codes;
      if (!Wanted(y)) norm.outputs[0] = kNoValue;
    }
    Add(std::move(norm));
  }

  // A residual that a DequantizeLinear makes for this Norm alone is read as its codes.
  void TakeResidualCodes(Node& norm) {
    for (const size_t side : {1U, 0U}) {
      const ValueId real = norm.inputs[side];
      const auto dq = DequantizerOf(graph_, real);
      // The Add that read it is gone; who else does?
      if (!dq || !dq->is_activation() || Wanted(real) || !std::isfinite(dq->scale[0]) ||
          graph_.ConstantOf(dq->codes) != nullptr) {
        continue;
      }
      if (side == 0) std::swap(norm.inputs[0], norm.inputs[1]);
      norm.inputs[1] = dq->codes;
      norm.attributes["residual_scale"] = dq->scale[0];
      norm.attributes["residual_zero_point"] = int64_t{dq->zero_point[0]};
      graph_.RemoveNode(dq->node);
      return;
    }
  }

  void QuantizeMap(NodeId id) {
    const Node n = graph_.node(id);
    const ValueId y = n.outputs[0];
    if (!IsFloat(n.inputs[0]) || OnlyReader(y) == nullptr) return;
    const auto q = QuantizerAmong(y);
    if (!q) return;
    const Node quantizer = graph_.node(q->node);
    Node map;
    map.op = "QMap";
    map.domain = "octet";
    map.name = n.name;
    map.attributes = n.attributes;
    map.attributes["function"] = n.op;
    map.inputs = {n.inputs[0], quantizer.inputs[1], quantizer.input(2)};
    map.outputs = {q->codes};
    graph_.RemoveNode(q->node);
    graph_.RemoveNode(id);
    Add(std::move(map));
  }

  void Add(Node node) {
    while (!node.inputs.empty() && node.inputs.back() == kNoValue) node.inputs.pop_back();
    while (!node.outputs.empty() && node.outputs.back() == kNoValue) node.outputs.pop_back();
    const NodeId id = graph_.AddNode(std::move(node));
    const std::vector<ValueId>& inputs = graph_.node(id).inputs;
    for (size_t i = 0; i < inputs.size(); ++i) {
      if (inputs[i] != kNoValue) uses_[static_cast<size_t>(inputs[i])].push_back({id, i});
    }
    ++made_;
  }

  Graph& graph_;
  std::set<ValueId> kept_;
  std::vector<std::vector<Graph::Use>> uses_;
  int made_ = 0;
};

}  // namespace

int FuseFloat(Graph& graph, const std::set<ValueId>& kept) { return Fuser(graph, kept).Run(); }

}  // namespace octet
