#include "runtime/ops/onednn.h"

#include "base/parallel.h"

namespace octet {
namespace {

struct CallState {
  dnnl::stream stream;
  std::vector<dnnl::memory> memories;
  std::vector<dnnl_exec_arg_t> args;
};

}  // namespace

const dnnl::engine& DnnlEngine() {
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

dnnl::memory::desc DnnlDesc(const std::vector<int64_t>& dims, dnnl::memory::format_tag tag) {
  return {dims, dnnl::memory::data_type::f32, tag};
}

dnnl::memory::desc DnnlDesc(const std::vector<int64_t>& dims) {
  std::vector<int64_t> strides(dims.size());
  int64_t stride = 1;
  for (size_t i = dims.size(); i-- > 0;) {
    strides[i] = stride;
    stride *= std::max<int64_t>(dims[i], 1);
  }
  return {dims, dnnl::memory::data_type::f32, strides};
}

dnnl::memory DnnlPacked(const void* data, const dnnl::memory::desc& from,
                        const dnnl::memory::desc& to) {
  const dnnl::engine& engine = DnnlEngine();
  // oneDNN's source handle is not const; a reorder only reads it.
  dnnl::memory source(from, engine, const_cast<void*>(data));  // NOLINT
  dnnl::memory packed(to, engine);
  dnnl::stream stream(engine);
  dnnl::reorder(source, packed).execute(stream, source, packed);
  stream.wait();
  return packed;
}

DnnlCall::DnnlCall(dnnl::primitive primitive, std::vector<DnnlArg> args, int64_t repeat)
    : primitive_(std::move(primitive)), args_(std::move(args)), repeat_(repeat) {}

std::shared_ptr<void> DnnlCall::NewState() const {
  auto state = std::make_shared<CallState>();
  state->stream = dnnl::stream(DnnlEngine());
  for (const DnnlArg& a : args_) {
    state->memories.push_back(
        a.from == DnnlArg::From::kFixed ? a.fixed : dnnl::memory(a.desc, DnnlEngine(), nullptr));
    state->args.push_back({a.id, state->memories.back().get()});
  }
  return state;
}

void DnnlCall::Run(const StepArgs& args, void* state_ptr) const {
  auto& state = *static_cast<CallState*>(state_ptr);
  for (int64_t r = 0; r < repeat_; ++r) {
    for (size_t i = 0; i < args_.size(); ++i) {
      const DnnlArg& a = args_[i];
      const void* base = nullptr;
      switch (a.from) {
        case DnnlArg::From::kFixed:
          continue;
        case DnnlArg::From::kInput:
          base = args.inputs[a.index].raw;
          break;
        case DnnlArg::From::kOutput:
          base = args.outputs[a.index].raw;
          break;
        case DnnlArg::From::kScratch:
          base = args.scratch;
          break;
      }
      const auto* at =
          static_cast<const unsigned char*>(base) + a.offset_bytes + r * a.stride_bytes;
      // Sources are only read; oneDNN has one kind of handle.
      dnnl::error::wrap_c_api(
          dnnl_memory_set_data_handle(state.memories[i].get(),
                                      const_cast<unsigned char*>(at)),  // NOLINT
          "could not set a data handle");
    }
    dnnl::error::wrap_c_api(
        dnnl_primitive_execute(primitive_.get(), state.stream.get(),
                               static_cast<int>(state.args.size()), state.args.data()),
        "could not execute a primitive");
  }
  state.stream.wait();
}

void SetCalls(Step& step, std::vector<DnnlCall> calls,
              std::function<void(const StepArgs&)> before) {
  auto shared = std::make_shared<const std::vector<DnnlCall>>(std::move(calls));
  step.library_threads = MaxThreads() > 1;
  using States = std::vector<std::shared_ptr<void>>;
  step.new_state = [shared]() -> std::shared_ptr<void> {
    auto states = std::make_shared<States>();
    for (const DnnlCall& call : *shared) states->push_back(call.NewState());
    return states;
  };
  step.run = [shared, before = std::move(before)](const StepArgs& args) {
    if (before) before(args);
    auto& states = *static_cast<States*>(args.state);
    for (size_t i = 0; i < shared->size(); ++i) (*shared)[i].Run(args, states[i].get());
  };
}

bool IsReferenceKernel(const std::string& impl) { return impl.starts_with("ref"); }

}  // namespace octet
