#include <cstring>

#include "base/error.h"
#include "base/file.h"
#include "base/parallel.h"
#include "files/npy.h"
#include "octet/octet.h"
#include "runtime/executor.h"

namespace octet {
namespace {

Array ToArray(const std::string& name, const TensorView& view) {
  Array a;
  a.name = name;
  a.dtype = NameOf(view.dtype);
  a.shape.assign(view.shape.dims().begin(), view.shape.dims().end());
  const auto* bytes = static_cast<const unsigned char*>(view.raw);
  a.bytes.assign(bytes, bytes + view.bytes());
  return a;
}

TensorView ViewOf(const Array& a) {
  TensorView v{ParseDType(a.dtype), Shape(a.shape), a.bytes.data()};
  if (v.bytes() != static_cast<int64_t>(a.bytes.size())) {
    Fail(ErrorCode::kInvalidArgument, "array '", a.name, "' has ", a.bytes.size(), " bytes; ",
         a.dtype, v.shape, " needs ", v.bytes());
  }
  return v;
}

}  // namespace

struct Session::Impl {
  Impl(const Graph& graph, ExecutorOptions options, int thread_count)
      : executor(graph, std::move(options)), threads(thread_count) {}
  Executor executor;
  std::vector<std::pair<std::string, ValueId>> taps;
  int threads;
};

Session::Session(const Model& model, const std::vector<std::string>& taps, int threads) {
  const Graph& graph = model.graph();
  ExecutorOptions options;
  std::vector<std::pair<std::string, ValueId>> named;
  for (const std::string& name : taps) {
    const ValueId v = graph.Find(name);
    if (v == kNoValue)
      Fail(ErrorCode::kInvalidArgument, "session: the model has no value '", name, "'");
    options.taps.push_back(v);
    named.emplace_back(name, v);
  }
  impl_ = std::make_unique<Impl>(graph, std::move(options), threads);
  impl_->taps = std::move(named);
}

Session::~Session() = default;
Session::Session(Session&&) noexcept = default;
Session& Session::operator=(Session&&) noexcept = default;

std::vector<Array> Session::Run(const std::vector<Array>& inputs) const {
  const Graph& graph = impl_->executor.graph();
  const ThreadScope scope(impl_->threads);
  for (const Array& a : inputs) {
    const ValueId v = graph.Find(a.name);
    if (v != kNoValue &&
        std::find(graph.inputs.begin(), graph.inputs.end(), v) != graph.inputs.end()) {
      continue;
    }
    std::string names;
    for (ValueId input : graph.inputs) {
      names += Cat(names.empty() ? "'" : ", '", graph.value(input).name, "'");
    }
    Fail(ErrorCode::kInvalidArgument, "run: the model has no input '", a.name,
         "'; its inputs: ", names);
  }
  std::vector<TensorView> views;
  for (ValueId v : graph.inputs) {
    const std::string& name = graph.value(v).name;
    const auto it =
        std::find_if(inputs.begin(), inputs.end(), [&](const Array& a) { return a.name == name; });
    if (it == inputs.end()) {
      Fail(ErrorCode::kInvalidArgument, "run: input '", name, "' was not given");
    }
    views.push_back(ViewOf(*it));
  }
  std::map<ValueId, Array> tapped;
  const auto outputs = impl_->executor.Run(views, [&](ValueId v, const TensorView& view) {
    tapped[v] = ToArray(graph.value(v).name, view);
  });
  std::vector<Array> arrays;
  for (size_t i = 0; i < outputs.size(); ++i) {
    arrays.push_back(ToArray(graph.value(graph.outputs[i]).name, outputs[i].view()));
  }
  for (const auto& [name, v] : impl_->taps) arrays.push_back(tapped.at(v));
  return arrays;
}

Array ReadNpyArray(const std::string& path) {
  const Tensor t = ReadNpy(path);
  return ToArray({}, t.view());
}

void WriteNpyArray(const std::string& path, const Array& array) { WriteNpy(path, ViewOf(array)); }

void WriteText(const std::string& path, const std::string& text) { WriteFileAtomic(path, text); }

}  // namespace octet
