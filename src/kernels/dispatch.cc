// Expands registry.inc and chooses among its entries.
#include "kernels/dispatch.h"

#include <string>

#include "base/error.h"

extern "C" {
#define OCTET_KERNEL(name, op, isa, layout) void name(const octet::kernels::op##Args* args);
#include "kernels/registry.inc"
#undef OCTET_KERNEL
}

namespace octet::kernels {
namespace {

const KernelInfo kRegistry[] = {
#define OCTET_KERNEL(name, op, isa, layout) \
  {#name, Op::op, Isa::isa, Layout::layout, reinterpret_cast<void (*)()>(&name)},
#include "kernels/registry.inc"
#undef OCTET_KERNEL
};

thread_local const ForcedChoice* forced = nullptr;

}  // namespace

std::span<const KernelInfo> Registry() { return kRegistry; }

ForcedChoice::ForcedChoice(Isa isa, std::string_view kernel)
    : previous_(forced), isa_(isa), kernel_(kernel) {
  forced = this;
}

ForcedChoice::~ForcedChoice() { forced = previous_; }

Isa ChosenIsa() { return forced != nullptr ? forced->isa_ : ActiveIsa(); }

bool KernelForced() { return forced != nullptr && !forced->kernel_.empty(); }

bool AllowedByChoice(const KernelInfo& kernel) {
  return IsaAllows(ChosenIsa(), kernel.isa) && (!KernelForced() || forced->kernel_ == kernel.name);
}

std::string RefusalByChoice(const KernelInfo& kernel) {
  if (AllowedByChoice(kernel)) return {};
  const Isa active = ChosenIsa();
  if (!IsaAllows(active, kernel.isa)) {
    return Cat("needs ", IsaName(kernel.isa), ", the level in force is ", IsaName(active));
  }
  return Cat("the kernel in force is ", forced->kernel_);
}

const KernelInfo& Select(Op op) {
  const Isa active = ChosenIsa();
  for (const KernelInfo& kernel : kRegistry) {
    if (kernel.op == op && IsaAllows(active, kernel.isa)) return kernel;
  }
  Fail(ErrorCode::kInternal, "no kernel of operator ", static_cast<int>(op), " in the registry");
}

}  // namespace octet::kernels
