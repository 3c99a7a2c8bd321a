// From a photograph to the tensor a network takes.
//
//   image → resize → center crop → y = (pixel · scale − mean) / std, per channel → layout
//
// Resizing is Pillow's antialiased bilinear filter, bit for bit (fixed point, horizontal pass
// first), which is what torchvision applies to files. y is computed in double and rounded once to
// float32.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "files/image.h"
#include "tensor/tensor.h"

namespace octet {

// What a model input takes. dims holds the batch dimension first; -1 is a dimension that is not
// fixed.
struct InputSpec {
  std::string name;
  DType dtype = DType::kFloat32;
  std::vector<int64_t> dims;
};

enum class ResizeMode : uint8_t {
  kNone,
  kShorterSide,  // the shorter side becomes `width`, the other keeps the aspect (truncated, as
                 // torchvision)
  kExact,        // to width × height
  kModelInput,   // to the model's width × height
};
enum class ChannelOrder : uint8_t { kRgb, kBgr, kGray };  // kGray: ITU-R 601 luma, as Pillow's "L"
enum class ImageLayout : uint8_t {
  kAuto,
  kNchw,
  kNhwc
};  // kAuto: by where the input has its 1 or 3 channels

struct Preprocess {
  ResizeMode resize = ResizeMode::kNone;
  int64_t resize_width = 0;
  int64_t resize_height = 0;  // kExact only
  int64_t crop_width = 0;     // 0: no crop
  int64_t crop_height = 0;
  double scale = 1.0;
  std::array<double, 3> mean = {0.0, 0.0, 0.0};  // in the order of `order`; kGray uses the first
  std::array<double, 3> std = {1.0, 1.0, 1.0};
  ChannelOrder order = ChannelOrder::kRgb;
  ImageLayout layout = ImageLayout::kAuto;

  [[nodiscard]] bool is_identity() const;    // no geometry and y = pixel
  [[nodiscard]] std::string ToJson() const;  // one line, for manifests
};

// "none" (raw 0…255, the default), "unit" (x/255), "imagenet-torch" (shorter side 256, crop 224,
// x/255, mean and deviation of ImageNet), "imagenet-tf" (to the model's size, x/127.5 − 1). Throws
// kInvalidArgument naming these.
[[nodiscard]] Preprocess ParsePreset(std::string_view name);
[[nodiscard]] std::vector<std::string> PresetNames();

// What a command line says about preprocessing; empty means "as the preset has it". resize: "256",
// "320x240" (width × height), "input", "none". crop: "224", "320x240", "none". mean, std: one
// number or three, by comma. scale: a number, or a fraction "1/255". order: rgb, bgr, gray. layout:
// auto, nchw, nhwc.
struct PreprocessFlags {
  std::string preset = {};
  std::string resize = {};
  std::string crop = {};
  std::string mean = {};
  std::string std = {};
  std::string scale = {};
  std::string order = {};
  std::string layout = {};
};
[[nodiscard]] Preprocess MakePreprocess(const PreprocessFlags& flags);  // throws kInvalidArgument

// Both sides at least 1. Equal size copies.
[[nodiscard]] Image ResizeBilinear(const Image& image, int64_t width, int64_t height);
[[nodiscard]] Image CenterCrop(const Image& image, int64_t width, int64_t height);

// Resize and crop only. `model_height` and `model_width` are -1 where free. An image that already
// has the model's size is left as it is. Throws kBadData naming `name` where the outcome is not the
// model's size.
[[nodiscard]] Image FitImage(const Image& image, const Preprocess& preprocess, int64_t model_height,
                             int64_t model_width, std::string_view name);

// Where an image input has its channels: its dims are [N,C,H,W] or [N,H,W,C].
struct ImageInput {
  bool nchw = true;
  int64_t channels = 0;
  int64_t height = -1;  // -1 where free
  int64_t width = -1;
};
[[nodiscard]] ImageInput ReadImageInput(const Preprocess& preprocess,
                                        const InputSpec& input);  // throws kBadData

// The whole road. The result has the dtype of the input (float32, or uint8 where y = pixel) and the
// leading dimension 1. Throws kBadData where the input is no image input or the size does not fit.
[[nodiscard]] Tensor ImageToTensor(const Image& image, const Preprocess& preprocess,
                                   const InputSpec& input, std::string_view name);

}  // namespace octet
