// Octet's rows: float32 by the runtime, INT8 by the operators of octet/kernels.h.
#include <cstring>

#include "base/parallel.h"
#include "evaluate/bench_ops/rows.h"
#include "graph/graph.h"
#include "kernels/dispatch.h"
#include "octet/error.h"
#include "runtime/executor.h"

namespace octet {
namespace {

using kernels::AlignedBytes;
using kernels::Candidate;
using kernels::CodeType;

std::shared_ptr<AlignedBytes> Buffer(int64_t bytes) {
  return std::make_shared<AlignedBytes>(bytes);
}
float* Floats(const AlignedBytes& bytes) { return reinterpret_cast<float*>(bytes.data()); }

// Borrowed from the data, which lives as long.
Tensor Constant(const DataPtr& d, const std::vector<int64_t>& dims,
                const std::vector<float>& values) {
  return Tensor::Borrow(DType::kFloat32, Shape(dims), values.data(), d);
}

// One Gemm or Conv in a graph, through the executor that runs whole networks.
BenchRow Float32Row(const DataPtr& d) {
  const OperatorProblem& p = d->problem;
  const kernels::ConvProblem& c = p.conv;
  const bool linear = p.op == OperatorProblem::Op::kLinear;
  const int64_t n = c.out_channels;
  const Shape in =
      linear ? Shape{p.width, c.in_channels} : Shape{p.batch, c.in_channels, p.height, p.width};
  const Shape out = linear ? Shape{p.width, n} : Shape{p.batch, n, p.out_height(), p.out_width()};
  Graph g;
  g.opsets[""] = 17;
  const ValueId x = g.AddInput("x", ValueType::Of(DType::kFloat32, in));
  std::vector<int64_t> dims = {n, p.depth()};
  if (!linear) dims = {n, c.in_channels / c.groups, c.kernel_h, c.kernel_w};
  const ValueId w = g.AddConstant("w", Constant(d, dims, d->float_weight));
  const ValueId b = g.AddConstant("b", Constant(d, {n}, d->float_bias));
  const ValueId y = g.AddValue("y", ValueType::Of(DType::kFloat32, out));
  if (linear) {
    g.AddOp("Gemm", {x, w, b}, {y}, {{"transB", int64_t{1}}});
  } else {
    g.AddOp("Conv", {x, w, b}, {y},
            {{"group", c.groups},
             {"kernel_shape", std::vector<int64_t>{c.kernel_h, c.kernel_w}},
             {"strides", std::vector<int64_t>{c.stride_h, c.stride_w}},
             {"dilations", std::vector<int64_t>{c.dilation_h, c.dilation_w}},
             {"pads", std::vector<int64_t>{c.pad_top, c.pad_left, c.pad_bottom, c.pad_right}}});
  }
  g.outputs = {y};

  BenchRow row;
  row.name = "float32";
  row.data = "f32 > f32";
  row.peak = PeakKind::kFloat;
  row.packed_bytes = static_cast<int64_t>(d->float_weight.size()) * 4;
  const auto executor = std::make_shared<Executor>(g);
  for (const StepInfo& step : executor->Explain({&in, 1}))
    row.kernel += (row.kernel.empty() ? "" : " + ") + step.kernel;
  const auto outputs = std::make_shared<std::vector<Tensor>>();
  row.run = [=] {
    const TensorView view{DType::kFloat32, in, d->x.data()};
    *outputs = executor->Run({&view, 1});
  };
  row.verify = [=] { CheckFloats(*d, "float32", outputs->at(0).data<float>().data(), 0x1p-24); };
  return row;
}

BenchRow DynamicRow(const DataPtr& d, const std::string& without) {
  const int64_t m = d->problem.width, k = d->problem.conv.in_channels,
                n = d->problem.conv.out_channels;
  kernels::DynamicGemmProblem problem;
  problem.n = n;
  problem.k = k;
  problem.weight = d->weight.data();
  problem.weight_scale = d->weight_scale;
  problem.bias = d->float_bias;
  BenchRow row;
  row.name = "int8 dynamic, per token";
  row.data = "f32 > f32 dynamic" + without;
  try {
    const auto gemm = std::make_shared<kernels::DynamicGemm>(problem);
    const auto y = Buffer(m * n * 4);
    TakeCandidates(gemm->candidates(), row);
    row.packed_bytes = gemm->packed_bytes();
    row.run = [=] { gemm->Run(m, d->x.data(), k, Floats(*y), n); };
    row.verify = [=] { CheckDynamic(*d, "int8 dynamic", Floats(*y)); };
  } catch (const Error& e) {
    if (e.code() != ErrorCode::kUnsupported) throw;
    row.missing = e.what();
  }
  return row;
}

// The INT8 rows of kernels as they are chosen now; `data` gets `without` at its end.
std::vector<BenchRow> Int8LinearRows(const DataPtr& d, const std::string& without) {
  const OperatorProblem& p = d->problem;
  const int64_t m = p.width, k = p.conv.in_channels, n = p.conv.out_channels;
  kernels::GemmProblem problem;
  problem.n = n;
  problem.k = k;
  problem.x_zero_point = p.conv.x_zero_point;
  problem.weight = d->weight.data();
  problem.epilogue = p.conv.epilogue;

  std::vector<BenchRow> rows;
  {
    const auto gemm = std::make_shared<kernels::Gemm>(problem);
    const auto y = Buffer(m * n);
    BenchRow row;
    row.name = "int8";
    row.data = "u8 > u8" + without;
    TakeCandidates(gemm->candidates(), row);
    row.packed_bytes = gemm->packed_bytes();
    row.run = [=] { gemm->Run(m, d->codes.data(), k, y->data(), n); };
    row.verify = [=] { CheckCodes(*d, "int8", y->data()); };
    rows.push_back(std::move(row));
  }
  {
    problem.epilogue.output = kernels::OutputType::kFloat32;
    problem.epilogue.multiplier = d->FloatMultiplier();
    const auto gemm = std::make_shared<kernels::Gemm>(problem);
    const auto codes = Buffer(m * k), y = Buffer(m * n * 4);
    const int32_t zero = p.conv.x_zero_point;
    BenchRow row;
    row.name = "int8, conversions included";
    row.data = "f32 > f32" + without;
    TakeCandidates(gemm->candidates(), row);
    row.packed_bytes = gemm->packed_bytes();
    row.scratch_bytes = codes->size();
    row.run = [=] {
      kernels::Quantize(d->x.data(), m * k, OperatorData::kXScale, zero, CodeType::kUint8,
                        codes->data());
      gemm->Run(m, codes->data(), k, y->data(), n);
    };
    row.verify = [=] { CheckDequantized(*d, "int8, conversions included", Floats(*y)); };
    rows.push_back(std::move(row));
  }
  rows.push_back(DynamicRow(d, without));
  return rows;
}

std::vector<BenchRow> Int8ConvRows(const DataPtr& d, const std::string& without) {
  const OperatorProblem& p = d->problem;
  const auto conv = std::make_shared<kernels::Conv>(p.conv);
  const auto y = Buffer(p.outputs());
  BenchRow row;
  row.name = "int8";
  row.data = "u8 > u8" + without;
  TakeCandidates(conv->candidates(), row);
  row.packed_bytes = conv->packed_bytes();
  row.run = [=, batch = p.batch, height = p.height, width = p.width] {
    conv->Run(batch, height, width, d->codes.data(), y->data());
  };
  row.verify = [=] { CheckCodes(*d, "int8", y->data()); };
  std::vector<BenchRow> rows = {row};

  const auto codes = Buffer(p.inputs()), result = Buffer(p.outputs() * 4);
  row.name = "int8, conversions included";
  row.data = "f32 > f32" + without;
  row.scratch_bytes = codes->size() + y->size();
  row.run = [=] {
    const OperatorProblem& q = d->problem;
    kernels::QuantizeToNhwc(d->x.data(), q.batch, q.conv.in_channels, q.height * q.width,
                            OperatorData::kXScale, q.conv.x_zero_point, CodeType::kUint8,
                            codes->data());
    conv->Run(q.batch, q.height, q.width, codes->data(), y->data());
    kernels::DequantizeToNchw(y->data(), CodeType::kUint8, q.batch, q.conv.out_channels,
                              q.out_height() * q.out_width(), OperatorData::kYScale, 0,
                              Floats(*result));
  };
  row.verify = [=] { CheckFloatCodes(*d, "int8, conversions included", Floats(*result), 0); };
  rows.push_back(std::move(row));
  return rows;
}

// float32, INT8, and, where INT8 took AMX, INT8 without it.
template <typename Make>
std::vector<BenchRow> FloatAndInt8(const DataPtr& d, Make make) {
  std::vector<BenchRow> rows = {Float32Row(d)};
  for (BenchRow& row : make(d, "")) rows.push_back(std::move(row));
  if (rows[1].peak != PeakKind::kAmxInt8) return rows;
  const kernels::ForcedChoice vnni(Isa::kAvx512Vnni);
  for (BenchRow& row : make(d, kWithoutAmx)) rows.push_back(std::move(row));
  return rows;
}

}  // namespace

void TakeCandidates(const std::vector<kernels::Candidate>& candidates, BenchRow& row) {
  for (const kernels::Candidate& c : candidates) {
    if (c.refused_because.empty()) {
      row.kernel = c.kernel;
    } else {
      row.refused.push_back(c.kernel + ": " + c.refused_because);
    }
  }
  if (row.kernel.find("amx") != std::string::npos) row.peak = PeakKind::kAmxInt8;
}

std::vector<BenchRow> LinearRows(const DataPtr& d) {
  std::vector<BenchRow> rows = FloatAndInt8(d, Int8LinearRows);
  for (BenchRow& row : WeightOnlyRows(d)) rows.push_back(std::move(row));
  return rows;
}

std::vector<BenchRow> ConvRows(const DataPtr& d) { return FloatAndInt8(d, Int8ConvRows); }

std::vector<BenchRow> QuantizeRows(const DataPtr& d) {
  const OperatorProblem& p = d->problem;
  const int64_t n = p.inputs(), space = p.height * p.width;
  const int32_t zero = p.conv.x_zero_point;
  const bool image = p.conv.in_channels > 1;
  const auto codes = Buffer(n), floats = Buffer(n * 4);
  BenchRow row;
  row.peak = PeakKind::kNone;
  row.bytes = static_cast<double>(n) * 5;
  row.name = image ? "quantize to NHWC" : "quantize";
  row.data = "f32 > u8";
  row.kernel = kernels::Select(image ? kernels::Op::QuantizeToNhwc : kernels::Op::Quantize).name;
  row.run = [=, batch = p.batch, channels = p.conv.in_channels] {
    if (image) {
      kernels::QuantizeToNhwc(d->x.data(), batch, channels, space, OperatorData::kXScale, zero,
                              CodeType::kUint8, codes->data());
    } else {
      kernels::Quantize(d->x.data(), n, OperatorData::kXScale, zero, CodeType::kUint8,
                        codes->data());
    }
  };
  row.verify = [=, name = row.name] { CheckInputCodes(*d, name, codes->data()); };
  std::vector<BenchRow> rows = {row};

  row.name = image ? "dequantize to NCHW" : "dequantize";
  row.data = "u8 > f32";
  row.kernel =
      kernels::Select(image ? kernels::Op::DequantizeToNchw : kernels::Op::Dequantize).name;
  row.run = [=, batch = p.batch, channels = p.conv.in_channels] {
    if (image) {
      kernels::DequantizeToNchw(d->codes.data(), CodeType::kUint8, batch, channels, space,
                                OperatorData::kXScale, zero, Floats(*floats));
    } else {
      kernels::Dequantize(d->codes.data(), CodeType::kUint8, n, OperatorData::kXScale, zero,
                          Floats(*floats));
    }
  };
  row.verify = [=, name = row.name] { CheckInputFloats(*d, name, Floats(*floats)); };
  rows.push_back(row);

  // As many bytes read and written together as above.
  rows.push_back(CopyRow(n * 5 / 2));
  for (BenchRow& fake : FakeQuantizeRows(d)) rows.push_back(std::move(fake));
  return rows;
}

BenchRow CopyRow(int64_t bytes) {
  const auto from = Buffer(bytes), to = Buffer(bytes);
  BenchRow row;
  row.name = "memcpy";
  row.data = "copy";
  row.kernel = "libc";
  row.peak = PeakKind::kNone;
  row.bytes = static_cast<double>(bytes) * 2;
  row.run = [=] {
    ParallelFor(bytes, int64_t{1} << 16, [&](int64_t begin, int64_t end) {
      std::memcpy(to->data() + begin, from->data() + begin, static_cast<size_t>(end - begin));
    });
  };
  row.verify = [] {};
  return row;
}

std::vector<BenchRow> RowsOf(const DataPtr& data, bool peers) {
  std::vector<BenchRow> rows;
  switch (data->problem.op) {
    case OperatorProblem::Op::kLinear:
      rows = LinearRows(data);
      break;
    case OperatorProblem::Op::kConv2d:
      rows = ConvRows(data);
      break;
    case OperatorProblem::Op::kBmm:
      rows = BmmRows(data);
      break;
    case OperatorProblem::Op::kQuantize:
      rows = QuantizeRows(data);
      break;
    case OperatorProblem::Op::kLayerNorm:
      rows = LayerNormRows(data);
      break;
  }
  for (BenchRow& row : ApproxRows(data)) rows.push_back(std::move(row));
  if (peers) {
    for (BenchRow& row : OneDnnRows(data)) rows.push_back(std::move(row));
  }
  return rows;
}

}  // namespace octet
