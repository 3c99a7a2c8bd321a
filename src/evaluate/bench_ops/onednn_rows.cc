// oneDNN as a peer, on the same codes and floats: weights packed beforehand, scratch memory its
// own.
//
// Its implementations are tried in its own order. On a CPU with AMX the first one usually takes it;
// the first that does not is what ONEDNN_MAX_CPU_ISA=AVX512_CORE_VNNI would have taken (checked
// with 2.6.3), so both can be timed in one process.
#include <dnnl.hpp>
#include <optional>

#include "base/error.h"
#include "evaluate/bench_ops/rows.h"

namespace octet {
namespace {

using dnnl::memory;
using Tag = memory::format_tag;
using Type = memory::data_type;
using Arguments = std::unordered_map<int, memory>;

const dnnl::engine& Engine() {
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

// A primitive with its arguments, ready to run.
struct Call {
  dnnl::primitive primitive;
  Arguments arguments;
};

// Everything of one row that must live as long as it runs.
struct State {
  DataPtr data;
  dnnl::stream stream{Engine()};
  std::vector<Call> calls;
  memory result;

  void Run() {
    for (Call& call : calls) call.primitive.execute(stream, call.arguments);
    stream.wait();
  }
};

// oneDNN's handles are not const; sources are only read.
memory View(const memory::desc& desc, const void* data) {
  return {desc, Engine(), const_cast<void*>(data)};  // NOLINT
}

memory Reordered(const memory& from, const memory::desc& to) {
  memory result(to, Engine());
  dnnl::stream stream(Engine());
  dnnl::reorder(from, result).execute(stream, const_cast<memory&>(from), result);  // NOLINT
  stream.wait();
  return result;
}

// Shapes and strides of one problem.
struct Layout {
  explicit Layout(const OperatorProblem& p) : linear(p.op == OperatorProblem::Op::kLinear) {
    const kernels::ConvProblem& c = p.conv;
    if (linear) {
      x = {p.width, c.in_channels};
      y = {p.width, c.out_channels};
      w = {c.in_channels, c.out_channels};
      w_plain = Tag::ba;  // ours is (N,K)
      bias = {1, c.out_channels};
      codes = floats = Tag::ab;
      return;
    }
    x = {p.batch, c.in_channels, p.height, p.width};
    y = {p.batch, c.out_channels, p.out_height(), p.out_width()};
    w = {c.out_channels, c.in_channels / c.groups, c.kernel_h, c.kernel_w};
    w_plain = Tag::oihw;
    if (c.groups > 1) {
      w[0] /= c.groups;
      w.insert(w.begin(), c.groups);
      w_plain = Tag::goihw;
    }
    bias = {c.out_channels};
    codes = Tag::nhwc;
    floats = Tag::nchw;
  }
  [[nodiscard]] memory::desc X(Type type, Tag tag) const { return {x, type, tag}; }
  [[nodiscard]] memory::desc Y(Type type, Tag tag) const { return {y, type, tag}; }
  [[nodiscard]] memory::desc W(Type type) const { return {w, type, Tag::any}; }
  [[nodiscard]] memory::desc WPlain(Type type) const { return {w, type, w_plain}; }
  [[nodiscard]] memory::desc Bias(Type type) const {
    return {bias, type, linear ? Tag::ab : Tag::a};
  }

  bool linear;
  memory::dims x, y, w, bias;
  Tag w_plain, codes, floats;
};

struct Kernel {
  std::string name;
  dnnl::primitive primitive;
  memory::desc weights;
  int64_t scratch_bytes;
};

// The first implementation, or the first without AMX. The iterator reads `desc` as long as it
// lives.
template <typename Primitive, typename Desc>
std::optional<Kernel> FirstOf(const Desc& desc, const dnnl::primitive_attr& attributes, bool amx) {
  typename Primitive::primitive_desc pd(desc, attributes, Engine());
  std::string name = pd.impl_info_str();
  while (!amx && name.find("amx") != std::string::npos) {
    if (!pd.next_impl()) return std::nullopt;
    name = pd.impl_info_str();
  }
  return Kernel{name, Primitive(pd), pd.weights_desc(),
                pd.query_s64(dnnl::query::memory_consumption_s64)};
}

std::optional<Kernel> KernelFor(const OperatorProblem& p, const Layout& l, const memory::desc& x,
                                const memory::desc& w, const memory::desc& b, const memory::desc& y,
                                const dnnl::primitive_attr& attributes, bool amx) {
  if (l.linear) return FirstOf<dnnl::matmul>(dnnl::matmul::desc(x, w, b, y), attributes, amx);
  const kernels::ConvProblem& c = p.conv;
  const dnnl::convolution_forward::desc desc(
      dnnl::prop_kind::forward_inference, dnnl::algorithm::convolution_direct, x, w, b, y,
      {c.stride_h, c.stride_w}, {c.dilation_h - 1, c.dilation_w - 1}, {c.pad_top, c.pad_left},
      {c.pad_bottom, c.pad_right});
  return FirstOf<dnnl::convolution_forward>(desc, attributes, amx);
}

// Codes to `output` type.
struct Int8Primitive {
  Kernel kernel;
  Call call;
};
std::optional<Int8Primitive> Int8(const DataPtr& d, const Layout& l, const memory& x,
                                  const memory& y, std::span<const float> scales, bool amx) {
  const kernels::Epilogue& e = d->problem.conv.epilogue;
  dnnl::primitive_attr attributes;
  attributes.set_output_scales(2, {scales.begin(), scales.end()});
  if (d->problem.conv.x_zero_point != 0)
    attributes.set_zero_points(DNNL_ARG_SRC, 0, {d->problem.conv.x_zero_point});
  std::optional<Kernel> kernel = KernelFor(d->problem, l, x.get_desc(), l.W(Type::s8),
                                           l.Bias(Type::s32), y.get_desc(), attributes, amx);
  if (!kernel) return std::nullopt;
  Call call{
      kernel->primitive,
      {{DNNL_ARG_SRC, x},
       {DNNL_ARG_WEIGHTS, Reordered(View(l.WPlain(Type::s8), d->weight.data()), kernel->weights)},
       {DNNL_ARG_BIAS, View(l.Bias(Type::s32), e.bias.data())},
       {DNNL_ARG_DST, y}}};
  return Int8Primitive{std::move(*kernel), std::move(call)};
}

void Describe(const Kernel& kernel, PeakKind peak, BenchRow& row) {
  row.kernel = kernel.name;
  row.packed_bytes = static_cast<int64_t>(kernel.weights.get_size());
  row.scratch_bytes = kernel.scratch_bytes;
  row.peak = peak;
  if (peak == PeakKind::kInt8 && kernel.name.find("amx") != std::string::npos)
    row.peak = PeakKind::kAmxInt8;
}

BenchRow Peer(const std::string& name, const std::string& data) {
  BenchRow row;
  row.name = name;
  row.data = data;
  row.peer = true;
  return row;
}

// Runs `make`, and says in the row why oneDNN cannot.
template <typename Make>
void OrMissing(BenchRow& row, Make make) {
  try {
    make();
  } catch (const dnnl::error& e) {
    const dnnl_version_t* v = dnnl_version();
    row.missing = Cat("oneDNN ", v->major, ".", v->minor, ".", v->patch, ": ", e.what());
  }
}

BenchRow CodesRow(const DataPtr& d, const Layout& l, bool amx) {
  BenchRow row = Peer("onednn int8", amx ? "u8 > u8" : std::string("u8 > u8") + kWithoutAmx);
  OrMissing(row, [&] {
    const auto state = std::make_shared<State>();
    state->data = d;
    state->result = memory(l.Y(Type::u8, l.codes), Engine());
    auto made = Int8(d, l, View(l.X(Type::u8, l.codes), d->codes.data()), state->result,
                     d->problem.conv.epilogue.multiplier, amx);
    if (!made) Fail(ErrorCode::kInternal, "oneDNN has no int8 implementation without AMX");
    Describe(made->kernel, PeakKind::kInt8, row);
    state->calls = {std::move(made->call)};
    row.run = [state] { state->Run(); };
    row.verify = [state, name = row.name] {
      CheckPeerCodes(*state->data, name, static_cast<uint8_t*>(state->result.get_data_handle()));
    };
  });
  return row;
}

// A reorder that quantizes or dequantizes on the way. oneDNN 2.6 adds the zero point of what it
// writes, and subtracts that of what it reads.
Call Conversion(const memory& from, const memory& to, float scale, int zero_point_argument,
                int32_t zero_point) {
  dnnl::primitive_attr attributes;
  attributes.set_output_scales(0, {scale});
  if (zero_point != 0) attributes.set_zero_points(zero_point_argument, 0, {zero_point});
  const dnnl::reorder::primitive_desc pd(from, to, attributes);
  return {dnnl::reorder(pd), {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}}};
}

BenchRow FloatsRow(const DataPtr& d, const Layout& l, bool amx) {
  BenchRow row = Peer("onednn int8, conversions included",
                      amx ? "f32 > f32" : std::string("f32 > f32") + kWithoutAmx);
  OrMissing(row, [&] {
    const auto state = std::make_shared<State>();
    state->data = d;
    state->result = memory(l.Y(Type::f32, l.floats), Engine());
    const memory x = View(l.X(Type::f32, l.floats), d->x.data());
    const memory codes(l.X(Type::u8, l.codes), Engine());
    const memory y = l.linear ? state->result : memory(l.Y(Type::u8, l.codes), Engine());
    const std::vector<float> scales =
        l.linear ? d->FloatMultiplier() : d->problem.conv.epilogue.multiplier;
    auto made = Int8(d, l, codes, y, scales, amx);
    if (!made) Fail(ErrorCode::kInternal, "oneDNN has no int8 implementation without AMX");
    Describe(made->kernel, PeakKind::kInt8, row);
    row.scratch_bytes += static_cast<int64_t>(codes.get_desc().get_size()) +
                         (l.linear ? 0 : static_cast<int64_t>(y.get_desc().get_size()));
    state->calls.push_back(Conversion(x, codes, 1 / OperatorData::kXScale, DNNL_ARG_DST,
                                      d->problem.conv.x_zero_point));
    state->calls.push_back(std::move(made->call));
    if (!l.linear)
      state->calls.push_back(Conversion(y, state->result, OperatorData::kYScale, DNNL_ARG_SRC, 0));
    row.run = [state] { state->Run(); };
    row.verify = [state, name = row.name, linear = l.linear] {
      const auto* got = static_cast<float*>(state->result.get_data_handle());
      // float32 arithmetic of the same exact sum: two roundings more or less.
      if (linear) return CheckDequantized(*state->data, name, got, 0x1p-22F);
      CheckFloatCodes(*state->data, name, got, 1);
    };
  });
  return row;
}

// Floats of a format, in the layout that oneDNN's kernels are made for, converted outside the time.
BenchRow FloatRow(const DataPtr& d, const Layout& l, Type type, const std::string& name,
                  double roundoff) {
  const std::string format = name.substr(name.rfind(' ') + 1);
  BenchRow row = Peer(name, format + " > " + format);
  OrMissing(row, [&] {
    const auto state = std::make_shared<State>();
    state->data = d;
    const memory x = Reordered(View(l.X(Type::f32, l.floats), d->x.data()), l.X(type, l.codes));
    state->result = memory(l.Y(type, l.codes), Engine());
    const auto kernel = KernelFor(d->problem, l, x.get_desc(), l.W(type), l.Bias(Type::f32),
                                  state->result.get_desc(), dnnl::primitive_attr(), true);
    if (kernel->name.find("ref") != std::string::npos) {
      row.missing = Cat("oneDNN has only a reference kernel (", kernel->name, ")");
      return;
    }
    Describe(*kernel, type == Type::f32 ? PeakKind::kFloat : PeakKind::kNone, row);
    const memory w = Reordered(View(l.WPlain(Type::f32), d->float_weight.data()), kernel->weights);
    state->calls = {{kernel->primitive,
                     {{DNNL_ARG_SRC, x},
                      {DNNL_ARG_WEIGHTS, w},
                      {DNNL_ARG_BIAS, View(l.Bias(Type::f32), d->float_bias.data())},
                      {DNNL_ARG_DST, state->result}}}};
    row.run = [state] { state->Run(); };
    row.verify = [state, name, roundoff, y = l.Y(Type::f32, l.floats)] {
      const memory floats = Reordered(state->result, y);
      CheckFloats(*state->data, name, static_cast<float*>(floats.get_data_handle()), roundoff);
    };
  });
  return row;
}

// b as its rows come, not packed beforehand: an activation, like a.
std::vector<BenchRow> BmmPeers(const DataPtr& d) {
  const OperatorProblem& p = d->problem;
  const memory::dims a = {p.batch, p.width, p.depth()},
                     b = {p.batch, p.depth(), p.conv.out_channels},
                     y = {p.batch, p.width, p.conv.out_channels};
  std::vector<BenchRow> rows;
  const auto add = [&](BenchRow row, Type type, const void* first, const void* second,
                       PeakKind peak, bool amx) {
    OrMissing(row, [&] {
      const memory::desc a_desc(a, type, Tag::abc), b_desc(b, type, Tag::acb),
          y_desc(y, type, Tag::abc);
      dnnl::primitive_attr attributes;
      if (type == Type::s8) attributes.set_output_scales(0, {p.conv.epilogue.multiplier[0]});
      const auto kernel =
          FirstOf<dnnl::matmul>(dnnl::matmul::desc(a_desc, b_desc, y_desc), attributes, amx);
      if (!kernel) Fail(ErrorCode::kInternal, "oneDNN has no int8 implementation without AMX");
      Describe(*kernel, peak, row);
      row.packed_bytes = -1;
      const auto state = std::make_shared<State>();
      state->data = d;
      state->result = memory(y_desc, Engine());
      state->calls = {{kernel->primitive,
                       {{DNNL_ARG_SRC, View(a_desc, first)},
                        {DNNL_ARG_WEIGHTS, View(b_desc, second)},
                        {DNNL_ARG_DST, state->result}}}};
      row.run = [state] { state->Run(); };
      row.verify = [state, type, name = row.name] {
        const void* got = state->result.get_data_handle();
        if (type == Type::s8)
          return CheckBmmCodes(*state->data, name, static_cast<const int8_t*>(got), 1);
        CheckBmmFloats(*state->data, name, static_cast<const float*>(got));
      };
    });
    rows.push_back(std::move(row));
  };
  const auto int8 = [&](const std::string& data, bool amx) {
    add(Peer("onednn int8", data), Type::s8, d->codes.data(), d->weight.data(), PeakKind::kInt8,
        amx);
  };
  int8("s8 > s8", true);
  if (rows.back().kernel.find("amx") != std::string::npos)
    int8(std::string("s8 > s8") + kWithoutAmx, false);
  add(Peer("onednn f32", "f32 > f32"), Type::f32, d->x.data(), d->float_weight.data(),
      PeakKind::kFloat, true);
  return rows;
}

std::vector<BenchRow> QuantizePeers(const DataPtr& d) {
  const OperatorProblem& p = d->problem;
  const memory::dims dims = {p.batch, p.conv.in_channels, p.height, p.width};
  const memory::desc nchw(dims, Type::f32, Tag::nchw), nhwc(dims, Type::u8, Tag::nhwc);
  std::vector<BenchRow> rows;
  const auto add = [&](const std::string& name, const std::string& data, bool to_codes) {
    BenchRow row = Peer(name, data);
    row.peak = PeakKind::kNone;
    row.bytes = static_cast<double>(p.inputs()) * 5;
    OrMissing(row, [&] {
      const auto state = std::make_shared<State>();
      state->data = d;
      state->result = memory(to_codes ? nhwc : nchw, Engine());
      const memory from = to_codes ? View(nchw, d->x.data()) : View(nhwc, d->codes.data());
      state->calls = {Conversion(from, state->result,
                                 to_codes ? 1 / OperatorData::kXScale : OperatorData::kXScale,
                                 to_codes ? DNNL_ARG_DST : DNNL_ARG_SRC, p.conv.x_zero_point)};
      row.kernel = "reorder";
      row.run = [state] { state->Run(); };
      row.verify = [state, name, to_codes] {
        const void* got = state->result.get_data_handle();
        if (to_codes) return CheckInputCodes(*state->data, name, static_cast<const uint8_t*>(got));
        CheckInputFloats(*state->data, name, static_cast<const float*>(got));
      };
    });
    rows.push_back(std::move(row));
  };
  add("onednn reorder", "f32 > u8", true);
  add("onednn reorder back", "u8 > f32", false);
  return rows;
}

BenchRow LayerNormPeer(const DataPtr& d) {
  BenchRow row = Peer("onednn layernorm", "f32 > f32");
  row.peak = PeakKind::kNone;
  row.bytes = static_cast<double>(d->problem.inputs()) * 8;
  OrMissing(row, [&] {
    const memory::dim m = d->problem.height, n = d->problem.width;
    const memory::desc rows({m, n}, Type::f32, Tag::ab), parameters({n}, Type::f32, Tag::a);
    using dnnl::normalization_flags;
    const dnnl::layer_normalization_forward::desc desc(
        dnnl::prop_kind::forward_inference, rows, 1e-5F,
        normalization_flags::use_scale | normalization_flags::use_shift);
    const dnnl::layer_normalization_forward::primitive_desc pd(desc, Engine());
    const auto state = std::make_shared<State>();
    state->data = d;
    state->result = memory(rows, Engine());
    state->calls = {{dnnl::layer_normalization_forward(pd),
                     {{DNNL_ARG_SRC, View(rows, d->x.data())},
                      {DNNL_ARG_SCALE, View(parameters, d->float_weight.data())},
                      {DNNL_ARG_SHIFT, View(parameters, d->float_bias.data())},
                      {DNNL_ARG_DST, state->result}}}};
    row.kernel = pd.impl_info_str();
    row.run = [state] { state->Run(); };
    row.verify = [] {};  // a float result: nothing of ours rests on it
  });
  return row;
}

}  // namespace

std::vector<BenchRow> OneDnnRows(const DataPtr& d) {
  if (d->problem.op == OperatorProblem::Op::kBmm) return BmmPeers(d);
  if (d->problem.op == OperatorProblem::Op::kQuantize) return QuantizePeers(d);
  if (d->problem.op == OperatorProblem::Op::kLayerNorm) return {LayerNormPeer(d)};
  const Layout layout(d->problem);
  std::vector<BenchRow> rows;
  for (const auto make : {CodesRow, FloatsRow}) {
    rows.push_back(make(d, layout, true));
    if (rows.back().kernel.find("amx") != std::string::npos) rows.push_back(make(d, layout, false));
  }
  rows.push_back(FloatRow(d, layout, Type::f32, "onednn f32", 0x1p-24));
  rows.push_back(FloatRow(d, layout, Type::f16, "onednn f16", 0x1p-11));
  rows.push_back(FloatRow(d, layout, Type::bf16, "onednn bf16", 0x1p-8));
  return rows;
}

}  // namespace octet
