#include "files/preprocess.h"

#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/test_folder.h"

namespace octet {
namespace {

// pixel (x, y), channel c: (7x + 13y + 50c + xy) mod 256
Image Drawn(int64_t width = 41, int64_t height = 29) {
  Image image{.width = width, .height = height, .rgb = {}};
  for (int64_t y = 0; y < height; ++y) {
    for (int64_t x = 0; x < width; ++x) {
      for (int64_t c = 0; c < 3; ++c)
        image.rgb.push_back(static_cast<uint8_t>((x * 7 + y * 13 + c * 50 + x * y) % 256));
    }
  }
  return image;
}

std::string HashOf(const Image& image) { return Sha256Hex(std::as_bytes(std::span(image.rgb))); }

const InputSpec kNchw{.name = "x", .dtype = DType::kFloat32, .dims = {-1, 3, -1, -1}};

// Hashes of the bytes of PIL.Image.resize(size, BILINEAR), Pillow 13, of the same picture.
TEST(Resize, EqualsPillow) {
  const struct {
    int64_t width, height;
    std::string_view hash;
  } cases[] = {
      {41, 29, "6ba0463f19f2d0108bd26feba313071bf4772d6732b1d3b4d6f407149073ef97"},
      {20, 14, "6e3a4faa20c3bbfba3a88c94f8179683b05cec29ba836f40f76cd4eb42c814ed"},
      {80, 29, "bff124eb6d62bba39122fe4fa69c573491ade192b0c7a566031ed8f2474b091b"},
      {41, 50, "a2a782da7be463fb85e74201abb24aec5aa12bcc0299a43b31ad659b705eb56d"},
      {13, 90, "5af6e21d97abaec122092fe68d3118766eeac8c2b2aa1660b172d7e567a37a0b"},
      {1, 1, "fe517f7870528680edf964918099871911bfa87f3f63f0dff548dc8567509c86"},
  };
  for (const auto& c : cases) {
    const Image out = ResizeBilinear(Drawn(), c.width, c.height);
    EXPECT_EQ(out.width, c.width);
    EXPECT_EQ(out.height, c.height);
    EXPECT_EQ(HashOf(out), c.hash) << c.width << " x " << c.height;
  }
}

TEST(Resize, AnImageThatGrowsOnTheWayIsRefused) {
  Image thin{.width = 1, .height = int64_t{1} << 20, .rgb = {}};
  thin.rgb.resize(static_cast<size_t>(thin.height) * 3);
  ExpectError(
      ErrorCode::kUnsupported, [&] { (void)ResizeBilinear(thin, 1024, 1); }, "on the way");
}

// torchvision: Resize(16) makes 41 x 29 into 22 x 16; CenterCrop((12, 11)) begins at (2, 6):
// round(5.5) is 6.
TEST(FitImage, ShorterSideAndCropEqualTorchvision) {
  Preprocess p;
  p.resize = ResizeMode::kShorterSide;
  p.resize_width = 16;
  p.crop_width = 11;
  p.crop_height = 12;
  EXPECT_EQ(HashOf(FitImage(Drawn(), p, 12, 11, "x")),
            "7448c5bf0cab701574e7ba0c1ab09c175f97a311c2ff5e5553ee50b7f6966812");
}

TEST(FitImage, TheModelsSizeIsLeftAlone) {
  const Preprocess torch = ParsePreset("imagenet-torch");
  EXPECT_EQ(FitImage(Drawn(), torch, 29, 41, "x").rgb, Drawn().rgb);
  EXPECT_EQ(FitImage(Drawn(), ParsePreset("imagenet-tf"), 14, 20, "x").rgb,
            ResizeBilinear(Drawn(), 20, 14).rgb);
}

TEST(FitImage, WrongSizesAreNamed) {
  ExpectError(
      ErrorCode::kBadData, [] { (void)FitImage(Drawn(), {}, 224, 224, "cat.jpg"); }, "cat.jpg",
      "41 x 29", "224 x 224", "--resize");
  Preprocess crop;
  crop.crop_width = crop.crop_height = 30;
  ExpectError(
      ErrorCode::kBadData, [&] { (void)FitImage(Drawn(), crop, -1, -1, "cat.jpg"); }, "cat.jpg",
      "30 x 30");
  ExpectError(
      ErrorCode::kBadData,
      [] { (void)FitImage(Drawn(), ParsePreset("imagenet-tf"), -1, -1, "cat.jpg"); }, "not fixed");
}

// y = (pixel · scale − mean) / std in double, rounded once.
TEST(ImageToTensor, ValuesAndLayout) {
  const Image image{.width = 2, .height = 1, .rgb = {0, 128, 255, 10, 20, 30}};
  const Tensor face =
      ImageToTensor(image, MakePreprocess({.mean = "127", .std = "128"}), kNchw, "x");
  EXPECT_EQ(face.shape(), (Shape{1, 3, 1, 2}));
  const float expected[] = {-127.0F / 128, -117.0F / 128, 1.0F / 128,
                            -107.0F / 128, 1.0F,          -97.0F / 128};
  for (size_t i = 0; i < 6; ++i) EXPECT_EQ(face.data<float>()[i], expected[i]) << i;

  const InputSpec nhwc{.name = "x", .dtype = DType::kFloat32, .dims = {1, -1, -1, 3}};
  const Tensor tf = ImageToTensor(
      image, MakePreprocess({.preset = "imagenet-tf", .resize = "none", .order = "bgr"}), nhwc,
      "x");
  EXPECT_EQ(tf.shape(), (Shape{1, 1, 2, 3}));
  EXPECT_EQ(tf.data<float>()[0], 1.0F);                                    // blue 255
  EXPECT_EQ(tf.data<float>()[2], -1.0F);                                   // red 0
  EXPECT_EQ(tf.data<float>()[3], static_cast<float>(30.0 / 127.5 - 1.0));  // second pixel, blue

  const Tensor torch = ImageToTensor(
      image, MakePreprocess({.preset = "imagenet-torch", .resize = "none", .crop = "none"}), kNchw,
      "x");
  EXPECT_EQ(torch.data<float>()[2], static_cast<float>((128.0 * (1.0 / 255.0) - 0.456) / 0.224));
  EXPECT_EQ(ImageToTensor(image, ParsePreset("unit"), kNchw, "x").data<float>()[4], 1.0F);
  EXPECT_EQ(ImageToTensor(image, {}, kNchw, "x").data<float>()[2], 128.0F);
}

TEST(ImageToTensor, GreyIsPillowsLuma) {
  const InputSpec grey{.name = "x", .dtype = DType::kUint8, .dims = {-1, 1, 29, 41}};
  const Tensor t = ImageToTensor(Drawn(), MakePreprocess({.order = "gray"}), grey, "x");
  EXPECT_EQ(t.data<uint8_t>()[0], 41);
  EXPECT_EQ(Sha256Hex(std::as_bytes(t.data<uint8_t>())),
            "734a125676ed8032c382edd25a3fefb774a5ad8e69fa36c3bade38f8a89b6637");
}

TEST(ImageToTensor, InputsThatTakeNoImage) {
  const auto refused = [](const Preprocess& p, const InputSpec& spec, std::string_view part) {
    ExpectError(
        ErrorCode::kBadData, [&] { (void)ImageToTensor(Drawn(), p, spec, "cat.jpg"); }, spec.name,
        part);
  };
  refused({}, {"tokens", DType::kFloat32, {-1, 64}}, "takes no images");
  refused({}, {"latent", DType::kFloat32, {-1, 4, 29, 41}}, "[-1,4,29,41]");
  refused({}, {"ids", DType::kInt64, {-1, 3, 29, 41}}, "int64");
  refused(ParsePreset("unit"), {"raw", DType::kUint8, {-1, 3, 29, 41}}, "without scale");
  refused(MakePreprocess({.layout = "nhwc"}), {"x", DType::kFloat32, {-1, 3, 29, 41}}, "nhwc");
}

TEST(Flags, Parse) {
  const Preprocess p = MakePreprocess({.preset = "imagenet-torch",
                                       .resize = "320x240",
                                       .crop = "300x200",
                                       .mean = "1,2,3",
                                       .std = "4",
                                       .scale = "1/4",
                                       .order = "bgr",
                                       .layout = "nhwc"});
  EXPECT_EQ(p.resize, ResizeMode::kExact);
  EXPECT_EQ(p.resize_width, 320);
  EXPECT_EQ(p.resize_height, 240);
  EXPECT_EQ(p.crop_width, 300);
  EXPECT_EQ(p.crop_height, 200);
  EXPECT_EQ(p.mean, (std::array<double, 3>{1, 2, 3}));
  EXPECT_EQ(p.std, (std::array<double, 3>{4, 4, 4}));
  EXPECT_EQ(p.scale, 0.25);
  EXPECT_EQ(p.order, ChannelOrder::kBgr);
  EXPECT_EQ(p.layout, ImageLayout::kNhwc);
  EXPECT_TRUE(MakePreprocess({}).is_identity());
  EXPECT_FALSE(MakePreprocess({.preset = "unit"}).is_identity());
  const auto json = nlohmann::json::parse(p.ToJson());
  EXPECT_EQ(json["resize_size"], (std::vector<int>{320, 240}));
  EXPECT_EQ(json["mean"], (std::vector<double>{1, 2, 3}));
}

TEST(Flags, WhatIsWrongIsNamed) {
  const auto refused = [](const PreprocessFlags& flags, std::string_view part) {
    ExpectError(
        ErrorCode::kInvalidArgument, [&] { (void)MakePreprocess(flags); }, part);
  };
  for (const auto& name : PresetNames()) refused({.preset = "imagenet"}, name);
  refused({.resize = "0"}, "--resize '0'");
  refused({.resize = "12x"}, "--resize");
  refused({.resize = "99999999999999999999"}, "--resize");
  refused({.crop = "-3"}, "--crop");
  refused({.mean = "1,2"}, "--mean '1,2'");
  refused({.mean = "1,,2"}, "--mean");
  refused({.mean = "nan"}, "--mean");
  refused({.std = "1,0,1"}, "deviation of 0");
  refused({.scale = "0"}, "--scale");
  refused({.scale = "1/0"}, "--scale");
  refused({.order = "gbr"}, "rgb, bgr, gray");
  refused({.layout = "chw"}, "auto, nchw, nhwc");
}

}  // namespace
}  // namespace octet
