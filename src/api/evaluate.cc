#include "api/internal.h"
#include "evaluate/analyze.h"
#include "evaluate/bench.h"
#include "evaluate/bench_ops/measure.h"
#include "evaluate/bench_ops/problem.h"
#include "evaluate/check_products.h"
#include "evaluate/eval.h"
#include "evaluate/inspect.h"
#include "evaluate/verify.h"
#include "octet/octet.h"
#include "passes/audit.h"
#include "passes/quantizers.h"
#include "quantize/road.h"

namespace octet {
namespace {

// Quantized models run on the INT8 kernels, others as they are.
Model Runnable(const Model& model, bool lower) {
  return lower && HasQuantizers(model.graph()) ? Lower(model).first : model;
}

}  // namespace

InspectResult Inspect(const Model& model, const InputShapes& shapes) {
  return InspectGraph(model.graph(), Target::kOnnxRuntime, shapes);
}

EvalResult Evaluate(const Model& model, const DataOptions& data, const Model* reference,
                    const EvalOptions& options) {
  EvalRequest request;
  request.metrics = options.metrics;
  request.threads = options.threads;
  request.progress = options.progress;
  const Model runnable = Runnable(model, options.lower);
  return EvaluateGraphs(runnable.graph(), reference != nullptr ? &reference->graph() : nullptr,
                        OpenData(model.graph(), data), request);
}

AnalyzeResult Analyze(const Model& reference, const Model& quantized, const DataOptions& data,
                      const RunOptions& options) {
  AnalyzeRequest request;
  request.threads = options.threads;
  request.progress = options.progress;
  Analysis analysis = AnalyzeGraphs(reference.graph(), quantized.graph(),
                                    OpenData(quantized.graph(), data), request);
  analysis.result.left_out = std::move(analysis.left_out);
  return std::move(analysis.result);
}

VerifyResult Verify(const Model& quantized, const DataOptions& data, const RunOptions& options) {
  VerifyRequest request;
  request.threads = options.threads;
  request.progress = options.progress;
  return VerifyGraph(quantized.graph(), OpenData(quantized.graph(), data), request);
}

std::vector<std::string> DumpOperands(const Model& quantized, const DataOptions& data,
                                      const std::string& layer, const std::string& folder,
                                      bool csv) {
  const Model runnable = Runnable(quantized, true);
  std::vector<std::string> paths;
  for (const auto& path : DumpOperands(runnable.graph(), OpenData(quantized.graph(), data), layer,
                                       folder, csv ? OperandFiles::kCsv : OperandFiles::kNpy))
    paths.push_back(path.string());
  return paths;
}

AuditResult Audit(const Model& quantized, const std::string& target, const InputShapes& shapes) {
  return AuditGraph(quantized.graph(), ParseTarget(target), Evaluator(), shapes);
}

BenchResult Bench(const Model& model, const Model* quantized, const BenchOptions& options) {
  BenchRequest request;
  request.batch = options.batch;
  request.shapes = options.shapes;
  request.seconds = options.seconds;
  request.steps = options.steps;
  request.explain = options.explain;
  request.threads = options.threads;
  request.progress = options.progress;
  const Model first = Runnable(model, true);
  if (quantized == nullptr) return BenchGraphs(first.graph(), nullptr, request);
  const Model second = Runnable(*quantized, true);
  return BenchGraphs(first.graph(), &second.graph(), request);
}

std::vector<OperatorBenchResult> BenchOperator(const std::string& problem,
                                               const OperatorBenchOptions& options) {
  return BenchProblem(ParseProblem(problem),
                      {options.threads, options.seconds, options.peers, options.progress});
}

std::vector<std::string> BenchSuite(const std::string& name) { return SuiteProblems(name); }

std::vector<std::string> BenchSuiteNames() { return SuiteNames(); }

}  // namespace octet
