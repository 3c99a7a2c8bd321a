// Real layers, as lines that ParseProblem() reads.
#include <array>
#include <span>
#include <string_view>

#include "base/error.h"
#include "evaluate/bench_ops/problem.h"

namespace octet {
namespace {

// What torch_quantizer's README and its benchmark's defaults time, and the layer of the SmoothQuant
// for Conv2d discussion.
constexpr std::string_view kTorchQuantizer[] = {
    "linear 512x960x960",         "conv2d 1x512x64x64 512 3x3",   "conv2d 1x960x64x64 960 3x3",
    "conv2d 8x384x32x32 384 3x3", "conv2d 4x256x182x182 128 3x3", "quantize 512x960",
    "quantize 1x512x64x64",
};

// torch-int's layers (fc1, fc2, attention projections) for OPT-125m, 1.3b and, once, the 12288 wide
// layers of its own scripts; its tests' shapes.
constexpr std::string_view kTorchInt[] = {
    "linear 1x16x4",        "linear 128x512x1024",  "linear 128x768x768",
    "linear 128x768x3072",  "linear 128x3072x768",  "linear 512x768x768",
    "linear 512x768x3072",  "linear 512x3072x768",  "linear 512x2048x2048",
    "linear 512x2048x8192", "linear 512x8192x2048", "linear 128x12288x12288",
    "bmm 12x128x64x128",    "bmm 12x512x64x512",    "bmm 12x512x512x64",
    "quantize 512x12288",   "layernorm 512x12288",  "layernorm 128x768",
};

constexpr std::string_view kResnet50[] = {
    "conv2d 1x3x224x224 64 7x7 stride=2 pad=3",
    "conv2d 1x64x56x56 64 1x1",
    "conv2d 1x64x56x56 64 3x3 pad=1",
    "conv2d 1x64x56x56 256 1x1",
    "conv2d 1x256x56x56 64 1x1",
    "conv2d 1x128x56x56 128 3x3 stride=2 pad=1",
    "conv2d 1x256x56x56 512 1x1 stride=2",
    "conv2d 1x128x28x28 128 3x3 pad=1",
    "conv2d 1x128x28x28 128 3x3 pad=1 zero-point=128",
    "conv2d 1x128x28x28 512 1x1",
    "conv2d 1x512x28x28 128 1x1",
    "conv2d 1x256x14x14 256 3x3 pad=1",
    "conv2d 1x256x14x14 256 3x3 pad=1 zero-point=128",
    "conv2d 1x256x14x14 1024 1x1",
    "conv2d 1x1024x14x14 256 1x1",
    "conv2d 1x512x7x7 512 3x3 pad=1",
    "conv2d 1x512x7x7 512 3x3 pad=1 zero-point=128",
    "conv2d 1x512x7x7 2048 1x1",
    "conv2d 1x2048x7x7 512 1x1",
    "linear 1x2048x1000",
    "quantize 1x3x224x224",
};

constexpr std::string_view kMobilenet[] = {
    "conv2d 1x3x224x224 8 3x3 stride=2 pad=1",
    "conv2d 1x3x224x224 32 3x3 stride=2 pad=1",
    "conv2d 1x8x112x112 8 3x3 pad=1 groups=8",
    "conv2d 1x16x112x112 16 3x3 stride=2 pad=1 groups=16",
    "conv2d 1x32x112x112 32 3x3 pad=1 groups=32",
    "conv2d 1x64x112x112 64 3x3 stride=2 pad=1 groups=64",
    "conv2d 1x144x56x56 144 3x3 pad=1 groups=144",
    "conv2d 1x64x28x28 64 3x3 pad=1 groups=64",
    "conv2d 1x128x14x14 128 3x3 pad=1 groups=128",
    "conv2d 1x512x14x14 512 3x3 pad=1 groups=512",
    "conv2d 1x576x14x14 576 3x3 pad=1 groups=576",
    "conv2d 1x8x112x112 16 1x1",
    "conv2d 1x32x56x56 32 1x1",
    "conv2d 1x128x56x56 128 1x1",
    "conv2d 1x128x14x14 128 1x1",
    "conv2d 1x512x14x14 512 1x1",
    "conv2d 1x16x120x120 16 3x3 pad=1",
    "conv2d 1x32x60x60 32 3x3 pad=1",
};

// BERT-base at 128 and 384 tokens, ViT-B at 197, and a decoder's single tokens.
constexpr std::string_view kBert[] = {
    "linear 1x768x768",    "linear 16x768x768",  "linear 128x768x768",  "linear 128x768x3072",
    "linear 128x3072x768", "linear 384x768x768", "linear 197x768x3072", "linear 197x3072x768",
    "bmm 12x128x64x128",   "bmm 12x128x128x64",  "bmm 6x197x64x197",    "bmm 6x197x197x64",
};

// From one row to many, from caches to memory.
constexpr std::string_view kGemm[] = {
    "linear 512x960x960",    "linear 1x768x768",    "linear 1x4096x4096",   "linear 16x4096x4096",
    "linear 128x768x3072",   "linear 512x768x768",  "linear 512x2048x8192", "linear 512x4096x4096",
    "linear 2048x1024x1024", "linear 197x768x3072",
};

#define OCTET_MULTIPLIERS \
  " multiplier=hw:e3m4,d=3+hw:e4m3,d=3+hw:e2m5,d=3+v9:e3m4,d=3+v9:e4m3,d=3+v9:e2m5,d=3+hw:e5m2"
// ResNet-18's layers under approximate multipliers, 8 images.
constexpr std::string_view kApprox[] = {
    "conv2d 8x3x224x224 64 7x7 stride=2 pad=3" OCTET_MULTIPLIERS,
    "conv2d 8x64x56x56 64 3x3 pad=1" OCTET_MULTIPLIERS,
    "conv2d 8x64x56x56 128 1x1 stride=2" OCTET_MULTIPLIERS,
    "conv2d 8x128x28x28 128 3x3 pad=1" OCTET_MULTIPLIERS,
    "conv2d 8x256x14x14 256 3x3 pad=1" OCTET_MULTIPLIERS,
    "conv2d 8x512x7x7 512 3x3 pad=1" OCTET_MULTIPLIERS,
    "conv2d 8x144x56x56 144 3x3 pad=1 groups=144" OCTET_MULTIPLIERS,
    "linear 8x512x1000" OCTET_MULTIPLIERS,
};
#undef OCTET_MULTIPLIERS

struct Suite {
  std::string_view name;
  std::span<const std::string_view> problems;
};
constexpr Suite kSuites[] = {
    {"torch-quantizer", kTorchQuantizer},
    {"torch-int", kTorchInt},
    {"resnet50", kResnet50},
    {"mobilenet", kMobilenet},
    {"bert", kBert},
    {"gemm", kGemm},
    {"approx", kApprox},
};

}  // namespace

std::vector<std::string> SuiteNames() {
  std::vector<std::string> names;
  for (const Suite& suite : kSuites) names.emplace_back(suite.name);
  return names;
}

std::vector<std::string> SuiteProblems(const std::string& name) {
  std::string known;
  for (const Suite& suite : kSuites) {
    if (suite.name == name) return {suite.problems.begin(), suite.problems.end()};
    known += Cat(known.empty() ? "" : ", ", suite.name);
  }
  Fail(ErrorCode::kInvalidArgument, "bench: no suite '", name, "'; expected one of ", known);
}

}  // namespace octet
