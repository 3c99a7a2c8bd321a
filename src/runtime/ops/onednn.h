// oneDNN behind a step: a primitive, where its arguments come from, and the handles of one run at a
// time.
#pragma once

#include <dnnl.hpp>
#include <memory>
#include <string>
#include <vector>

#include "runtime/step.h"

namespace octet {

[[nodiscard]] const dnnl::engine& DnnlEngine();

// oneDNN's memory descriptor of dense float32 data.
[[nodiscard]] dnnl::memory::desc DnnlDesc(const std::vector<int64_t>& dims,
                                          dnnl::memory::format_tag tag);
[[nodiscard]] dnnl::memory::desc DnnlDesc(const std::vector<int64_t>& dims);  // row-major

// Constant data, reordered into `desc`.
[[nodiscard]] dnnl::memory DnnlPacked(const void* data, const dnnl::memory::desc& from,
                                      const dnnl::memory::desc& to);

struct DnnlArg {
  enum class From : uint8_t { kInput, kOutput, kScratch, kFixed };
  int id = 0;  // DNNL_ARG_...
  dnnl::memory::desc desc;
  From from = From::kInput;
  size_t index = 0;          // kInput, kOutput
  int64_t offset_bytes = 0;  // from there, or into the scratch memory
  int64_t stride_bytes = 0;  // added per repetition: the next image
  dnnl::memory fixed;        // kFixed
};

// One primitive, run `repeat` times with advancing arguments. Immutable; the handles are in the
// state.
class DnnlCall {
 public:
  DnnlCall(dnnl::primitive primitive, std::vector<DnnlArg> args, int64_t repeat);
  [[nodiscard]] std::shared_ptr<void> NewState() const;
  void Run(const StepArgs& args, void* state) const;

 private:
  dnnl::primitive primitive_;
  std::vector<DnnlArg> args_;
  int64_t repeat_;
};

// Runs the calls in order as the step's `run`, after `before` if given.
void SetCalls(Step& step, std::vector<DnnlCall> calls,
              std::function<void(const StepArgs&)> before = {});

// Calls `body`, turning dnnl::error into octet::Error (kUnsupported, naming the node).
template <typename Body>
auto WithDnnlErrors(const StepRequest& request, Body body) {
  try {
    return body();
  } catch (const dnnl::error& e) {
    FailStep(request, std::string("oneDNN: ") + e.what());
  }
}

// True for oneDNN's unoptimised fallbacks.
[[nodiscard]] bool IsReferenceKernel(const std::string& impl);

}  // namespace octet
