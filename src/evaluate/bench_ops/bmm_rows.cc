// Attention's products, batch by batch: float32 by the runtime, int8 by kernels::BatchedMatMul.
#include <cmath>

#include "base/error.h"
#include "evaluate/bench_ops/rows.h"
#include "graph/graph.h"
#include "kernels/dense_choice.h"
#include "numerics/rounding.h"
#include "runtime/executor.h"

namespace octet {
namespace {

using kernels::OutputType;

int64_t SumAt(const OperatorData& d, const OutputAt& at) {
  const int64_t m = d.problem.width, k = d.problem.depth(), n = d.problem.conv.out_channels;
  const uint8_t* a = d.codes.data() + (at.image * m + at.x) * k;
  const int8_t* b = d.weight.data() + (at.image * n + at.channel) * k;
  int64_t sum = 0;
  for (int64_t i = 0; i < k; ++i) sum += int64_t{static_cast<int8_t>(a[i])} * b[i];
  return sum;
}

template <typename Expected, typename T>
void CheckSampled(const OperatorData& d, const std::string& row, const T* y, Expected expected) {
  for (const OutputAt& at : SampledOutputs(d.problem)) {
    const T got = y[IndexNhwc(d.problem, at)], right = expected(at);
    if (got == right) continue;
    Fail(ErrorCode::kCheckFailed, d.problem.text, ": ", row, " is wrong in batch ", at.image,
         ", row ", at.x, ", column ", at.channel, ": got ", +got, ", expected ", +right);
  }
}

// (B,N,K) to (B,K,N): what MatMul takes.
std::vector<float> Transposed(const OperatorData& d) {
  const int64_t k = d.problem.depth(), n = d.problem.conv.out_channels;
  std::vector<float> b(d.float_weight.size());
  for (int64_t batch = 0; batch < d.problem.batch; ++batch)
    for (int64_t c = 0; c < n; ++c)
      for (int64_t i = 0; i < k; ++i)
        b[static_cast<size_t>((batch * k + i) * n + c)] =
            d.float_weight[static_cast<size_t>((batch * n + c) * k + i)];
  return b;
}

BenchRow FloatRow(const DataPtr& d) {
  const OperatorProblem& p = d->problem;
  const int64_t k = p.depth(), n = p.conv.out_channels;
  const Shape a_shape{p.batch, p.width, k}, b_shape{p.batch, k, n}, y_shape{p.batch, p.width, n};
  Graph g;
  g.opsets[""] = 17;
  const ValueId a = g.AddInput("a", ValueType::Of(DType::kFloat32, a_shape));
  const ValueId b = g.AddInput("b", ValueType::Of(DType::kFloat32, b_shape));
  const ValueId y = g.AddValue("y", ValueType::Of(DType::kFloat32, y_shape));
  g.AddOp("MatMul", {a, b}, {y});
  g.outputs = {y};

  BenchRow row;
  row.name = "float32";
  row.data = "f32 > f32";
  row.peak = PeakKind::kFloat;
  const auto executor = std::make_shared<Executor>(g);
  const std::vector<Shape> shapes = {a_shape, b_shape};
  for (const StepInfo& step : executor->Explain(shapes))
    row.kernel += (row.kernel.empty() ? "" : " + ") + step.kernel;
  const auto second = std::make_shared<std::vector<float>>(Transposed(*d));
  const auto outputs = std::make_shared<std::vector<Tensor>>();
  row.run = [=] {
    const TensorView views[] = {{DType::kFloat32, a_shape, d->x.data()},
                                {DType::kFloat32, b_shape, second->data()}};
    *outputs = executor->Run(views);
  };
  row.verify = [=] { CheckBmmFloats(*d, "float32", outputs->at(0).data<float>().data()); };
  return row;
}

std::vector<BenchRow> Int8Rows(const DataPtr& d, const std::string& without) {
  const OperatorProblem& p = d->problem;
  kernels::BatchedMatMulProblem problem;
  problem.batch = p.batch;
  problem.m = p.width;
  problem.n = p.conv.out_channels;
  problem.k = p.depth();
  const auto* a = reinterpret_cast<const int8_t*>(d->codes.data());
  const kernels::DenseChoice choice = kernels::ChooseDense(p.depth());
  // The call chooses, too: it must see what is forced as rows are made.
  const bool vnni = !without.empty();
  const auto run = [=](const kernels::BatchedMatMulProblem& what, void* y) {
    if (!vnni) return kernels::BatchedMatMul(what, a, d->weight.data(), y);
    const kernels::ForcedChoice forced(Isa::kAvx512Vnni);
    kernels::BatchedMatMul(what, a, d->weight.data(), y);
  };
  std::vector<BenchRow> rows;
  const auto add = [&](const std::string& name, const std::string& data, OutputType type,
                       float alpha, auto check) {
    problem.output = type;
    problem.alpha = alpha;
    BenchRow row;
    row.name = name;
    row.data = data + without;
    row.kernel = choice.kernel->name;
    for (const kernels::Candidate& c : kernels::DenseCandidates(p.depth())) {
      if (!c.refused_because.empty()) row.refused.push_back(c.kernel + ": " + c.refused_because);
    }
    if (row.kernel.find("amx") != std::string::npos) row.peak = PeakKind::kAmxInt8;
    const auto y = std::make_shared<kernels::AlignedBytes>(p.outputs() * 4);
    row.run = [run, what = problem, y] { run(what, y->data()); };
    row.verify = [d, y, name, check] { check(*d, name, y->data()); };
    rows.push_back(std::move(row));
  };
  const float multiplier = p.conv.epilogue.multiplier[0];
  add("int8", "s8 > s8", OutputType::kInt8, multiplier,
      [](const OperatorData& data, const std::string& name, const uint8_t* y) {
        CheckBmmCodes(data, name, reinterpret_cast<const int8_t*>(y), 0);
      });
  const float alpha = OperatorData::kXScale * d->weight_scale[0];
  add("int8 to float", "s8 > f32", OutputType::kFloat32, alpha,
      [alpha](const OperatorData& data, const std::string& name, const uint8_t* y) {
        CheckSampled(data, name, reinterpret_cast<const float*>(y), [&](const OutputAt& at) {
          return static_cast<float>(SumAt(data, at)) * alpha;
        });
      });
  return rows;
}

}  // namespace

void CheckBmmCodes(const OperatorData& d, const std::string& row, const int8_t* y, int apart) {
  const float multiplier = d.problem.conv.epilogue.multiplier[0];
  for (const OutputAt& at : SampledOutputs(d.problem)) {
    const int got = y[IndexNhwc(d.problem, at)];
    const int expected = RoundClamped(static_cast<float>(SumAt(d, at)) * multiplier, -128, 127);
    if (std::abs(got - expected) <= apart) continue;
    Fail(ErrorCode::kCheckFailed, d.problem.text, ": ", row, " is wrong in batch ", at.image,
         ", row ", at.x, ", column ", at.channel, ": got ", got, ", expected ", expected);
  }
}

void CheckBmmFloats(const OperatorData& d, const std::string& row, const float* y) {
  // Products of codes and powers of two are exact; sums round K times at most.
  const double relative = static_cast<double>(d.problem.depth()) * 0x1p-24;
  const int64_t m = d.problem.width, k = d.problem.depth(), n = d.problem.conv.out_channels;
  for (const OutputAt& at : SampledOutputs(d.problem)) {
    double sum = 0, magnitude = 0;
    for (int64_t i = 0; i < k; ++i) {
      const double product =
          static_cast<double>(d.x[static_cast<size_t>((at.image * m + at.x) * k + i)]) *
          static_cast<double>(
              d.float_weight[static_cast<size_t>((at.image * n + at.channel) * k + i)]);
      sum += product;
      magnitude += std::fabs(product);
    }
    const auto got = static_cast<double>(y[IndexNhwc(d.problem, at)]);
    if (std::fabs(got - sum) <= relative * magnitude) continue;
    Fail(ErrorCode::kCheckFailed, d.problem.text, ": ", row, " is wrong in batch ", at.image,
         ", row ", at.x, ", column ", at.channel, ": got ", got, ", expected ", sum);
  }
}

std::vector<BenchRow> BmmRows(const DataPtr& d) {
  std::vector<BenchRow> rows = {FloatRow(d)};
  for (BenchRow& row : Int8Rows(d, "")) rows.push_back(std::move(row));
  if (rows[1].peak != PeakKind::kAmxInt8) return rows;
  const kernels::ForcedChoice vnni(Isa::kAvx512Vnni);
  for (BenchRow& row : Int8Rows(d, kWithoutAmx)) rows.push_back(std::move(row));
  return rows;
}

}  // namespace octet
