#include "runtime/plan.h"

#include <chrono>
#include <cstring>
#include <set>

#include "base/error.h"

namespace octet {

// Memory and views of one run at a time. Views into the arena and constants are resolved once;
// those into the caller's inputs and outputs are patched at the start of each run.
struct Plan::Context {
  struct Views {
    std::vector<TensorView> inputs;
    std::vector<MutableTensorView> outputs;
    std::shared_ptr<void> state;
  };
  struct Patch {
    const void** input = nullptr;  // one of the two
    void** output = nullptr;
    Buffer::Place place;
    size_t index;
  };

  explicit Context(const Parts& parts) : arena(parts.arena_bytes) {
    steps.resize(parts.steps.size());
    for (size_t i = 0; i < parts.steps.size(); ++i) {
      const PlannedStep& planned = parts.steps[i];
      if (!planned.step.run) continue;  // an alias: nothing is read or written
      Views& views = steps[i];
      views.inputs.resize(planned.inputs.size());
      views.outputs.resize(planned.outputs.size());
      if (planned.step.new_state) views.state = planned.step.new_state();
      for (size_t k = 0; k < planned.inputs.size(); ++k) {
        if (planned.inputs[k] < 0) continue;
        const Buffer& b = parts.buffers[static_cast<size_t>(planned.inputs[k])];
        views.inputs[k] = {b.dtype, b.shape, nullptr};
        Place(b, &views.inputs[k].raw, nullptr);
      }
      for (size_t k = 0; k < planned.outputs.size(); ++k) {
        if (planned.outputs[k] < 0) continue;
        const Buffer& b = parts.buffers[static_cast<size_t>(planned.outputs[k])];
        views.outputs[k] = {b.dtype, b.shape, nullptr};
        Place(b, nullptr, &views.outputs[k].raw);
      }
    }
  }

  void Place(const Buffer& b, const void** input, void** output) {
    switch (b.place) {
      case Buffer::Place::kArena:
        if (input != nullptr) *input = arena.at(b.index);
        if (output != nullptr) *output = arena.at(b.index);
        return;
      case Buffer::Place::kConstant:
        OCTET_INVARIANT(input != nullptr);
        *input = b.constant->raw();
        return;
      case Buffer::Place::kSource:
      case Buffer::Place::kOutput:
        patches.push_back({input, output, b.place, static_cast<size_t>(b.index)});
        return;
    }
  }

  Arena arena;
  std::vector<Views> steps;
  std::vector<Patch> patches;
};

Plan::Plan(Parts parts) : parts_(std::move(parts)) {}
Plan::~Plan() = default;

std::unique_ptr<Plan::Context> Plan::TakeContext() const {
  {
    const std::lock_guard lock(mutex_);
    if (!idle_.empty()) {
      auto context = std::move(idle_.back());
      idle_.pop_back();
      return context;
    }
  }
  return std::make_unique<Context>(parts_);
}

std::vector<Tensor> Plan::Run(std::span<const TensorView> sources,
                              const std::function<void(ValueId, const TensorView&)>& tap,
                              std::vector<double>* seconds) const {
  std::vector<Tensor> results(parts_.outputs.size());
  std::vector<void*> result_memory(results.size(), nullptr);
  for (size_t i = 0; i < results.size(); ++i) {
    if (parts_.outputs[i] < 0) continue;
    const Buffer& b = parts_.buffers[static_cast<size_t>(parts_.outputs[i])];
    results[i] = Tensor(b.dtype, b.shape);
    result_memory[i] = results[i].mutable_raw();
  }
  auto context = TakeContext();
  for (const Context::Patch& patch : context->patches) {
    if (patch.place == Buffer::Place::kSource) {
      OCTET_INVARIANT(patch.input != nullptr);
      *patch.input = sources[patch.index].raw;
    } else if (patch.input != nullptr) {
      *patch.input = result_memory[patch.index];
    } else {
      *patch.output = result_memory[patch.index];
    }
  }
  auto view_of = [&](int buffer) -> TensorView {
    const Buffer& b = parts_.buffers[static_cast<size_t>(buffer)];
    const auto index = static_cast<size_t>(b.index);
    switch (b.place) {
      case Buffer::Place::kArena:
        return {b.dtype, b.shape, context->arena.at(b.index)};
      case Buffer::Place::kConstant:
        return {b.dtype, b.shape, b.constant->raw()};
      case Buffer::Place::kSource:
        return {b.dtype, b.shape, sources[index].raw};
      case Buffer::Place::kOutput:
        return {b.dtype, b.shape, result_memory[index]};
    }
    return {};
  };

  if (tap) {
    for (const auto& [value, buffer] : parts_.early_taps) tap(value, view_of(buffer));
  }
  void* scratch = context->arena.at(parts_.scratch_offset);
  const TeamScope team(parts_.team);
  using Clock = std::chrono::steady_clock;
  for (size_t i = 0; i < parts_.steps.size(); ++i) {
    const PlannedStep& planned = parts_.steps[i];
    const auto start = seconds != nullptr ? Clock::now() : Clock::time_point();
    if (planned.step.run && (tap || !planned.for_tap_only)) {
      const Context::Views& views = context->steps[i];
      planned.step.run({views.inputs, views.outputs, scratch, views.state.get()});
    }
    if (seconds != nullptr) {
      seconds->push_back(std::chrono::duration<double>(Clock::now() - start).count());
    }
    if (tap) {
      for (const auto& [value, buffer] : planned.taps) tap(value, view_of(buffer));
    }
  }
  // Outputs that are not computed in place: an input or a constant, or one value returned twice.
  for (size_t i = 0; i < results.size(); ++i) {
    if (parts_.outputs[i] < 0) continue;
    const TensorView from = view_of(parts_.outputs[i]);
    if (from.raw != result_memory[i] && from.bytes() > 0) {
      std::memcpy(result_memory[i], from.raw, static_cast<size_t>(from.bytes()));
    }
  }
  const std::lock_guard lock(mutex_);
  idle_.push_back(std::move(context));
  return results;
}

int64_t Plan::constant_bytes() const {
  std::set<const Tensor*> seen;
  int64_t bytes = 0;
  for (const Buffer& b : parts_.buffers) {
    if (b.constant && seen.insert(b.constant.get()).second) bytes += b.constant->view().bytes();
  }
  return bytes;
}

std::vector<StepInfo> Plan::Explain() const {
  std::vector<StepInfo> infos;
  infos.reserve(parts_.steps.size());
  for (const PlannedStep& planned : parts_.steps) infos.push_back(planned.step.info);
  return infos;
}

}  // namespace octet
