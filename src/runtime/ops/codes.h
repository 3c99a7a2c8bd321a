// Shared by the operators that run on 8-bit codes: domain octet, the standard integer operators,
// and the integer operators of com.microsoft.
#pragma once

#include <octet/kernels.h>

#include <functional>
#include <vector>

#include "graph/conv_geometry.h"
#include "runtime/step.h"

namespace octet::ops {

// Throws kUnsupported for anything but uint8 and int8.
[[nodiscard]] kernels::CodeType CodeTypeOf(const StepRequest& r, DType dtype);

// The least and greatest code of an 8-bit type.
struct CodeBounds {
  int32_t lo, hi;
};
[[nodiscard]] CodeBounds BoundsOf(kernels::CodeType type);

// Which kernel was taken, and why not the others.
void ReportCandidates(Step& step, const std::vector<kernels::Candidate>& candidates);

// Geometry of a 2-D (or 1-D: height 1) convolution; without weights and epilogue.
[[nodiscard]] kernels::ConvProblem ConvProblemOf(const StepRequest& r, const ConvGeometry& g);

// The window, ceil_mode and count_include_pad of an average pool.
void SetPoolWindow(const StepRequest& r, const ConvGeometry& g, kernels::PoolProblem& p);

// Where kernels want N,H,W,C: declares channels-last layouts for rank-4 values. Values of rank 3
// are row-major in the plan; these are converted in scratch memory around the kernel. `images` are
// the inputs that are images; the output is one too. The body gets their memory in that order, then
// the output's.
using ImageBody = std::function<void(const StepArgs&, const std::vector<const void*>&, void*)>;
void RunOnImages(const StepRequest& r, Step& step, const std::vector<size_t>& images,
                 ImageBody body);

}  // namespace octet::ops
