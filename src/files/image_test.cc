#include "files/image.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "base/file.h"
#include "base/test_folder.h"

namespace octet {
namespace {

std::string HashOf(const Image& image) { return Sha256Hex(std::as_bytes(std::span(image.rgb))); }

std::string Data(std::string_view name) {
  return ReadFile(std::filesystem::path(OCTET_SOURCE_DIR) / "tests" / "data" / name);
}

// Two drawn 32 x 24 pictures with 4:2:0 chroma, written by Pillow 13 from the same pixels; the hash
// is that of the RGB bytes Pillow decodes from either.
constexpr std::string_view kDrawnHash =
    "a0d01118da80dc03af6a5c1841c06ac2fa6c16977220b3f4a1f026d51c978948";

TEST(Image, JpegPixelsArePillows) {
  for (const auto* name : {"drawn_baseline.jpg", "drawn_progressive.jpg"}) {
    const std::string file = Data(name);
    const Image image = DecodeImage(BytesOf(file), name);
    EXPECT_EQ(image.width, 32);
    EXPECT_EQ(image.height, 24);
    EXPECT_EQ(HashOf(image), kDrawnHash) << name;
  }
}

TEST(Image, EveryTruncatedJpegIsRefused) {
  for (const auto* name : {"drawn_baseline.jpg", "drawn_progressive.jpg"}) {
    const std::string file = Data(name);
    for (size_t n = 0; n < file.size(); ++n) {
      ExpectError(
          ErrorCode::kBadFile,
          [&] { (void)DecodeImage(BytesOf(std::string_view(file).substr(0, n)), name); }, name);
    }
  }
}

// JPEG has no checksum: a flip may go unseen, but never crash and never change the size of what is
// returned against what was allocated.
TEST(Image, EveryFlippedJpegBitIsReadOrRefused) {
  const std::string file = Data("drawn_baseline.jpg");
  int refused = 0;
  for (size_t bit = 0; bit < file.size() * 8; ++bit) {
    const size_t at = bit / 8;
    std::string flipped = file;
    flipped[at] = static_cast<char>(flipped[at] ^ (1 << (bit % 8)));
    try {
      const Image image = DecodeImage(BytesOf(flipped), "flipped");
      EXPECT_EQ(static_cast<int64_t>(image.rgb.size()), image.width * image.height * 3);
    } catch (const Error& e) {
      EXPECT_NE(e.code(), ErrorCode::kInternal) << e.what();
      ++refused;
    }
  }
  EXPECT_GT(refused, 500);
}

Image Drawn(int64_t width, int64_t height) {
  Image image{.width = width, .height = height, .rgb = {}};
  for (int64_t i = 0; i < width * height * 3; ++i)
    image.rgb.push_back(static_cast<uint8_t>(i * 31 % 251));
  return image;
}

TEST(Image, PngRoundTrip) {
  const TestFolder folder;
  const Image image = Drawn(17, 9);
  WritePng(folder / "a.PNG", image);
  const Image back = ReadImage(folder / "a.PNG");
  EXPECT_EQ(back.width, 17);
  EXPECT_EQ(back.height, 9);
  EXPECT_EQ(back.rgb, image.rgb);
}

TEST(Image, EveryTruncatedOrFlippedPngIsRefusedOrEqual) {
  const Image image = Drawn(5, 4);
  const std::string file = EncodePng(image);
  for (size_t n = 0; n < file.size(); ++n) {
    ExpectError(
        ErrorCode::kBadFile,
        [&] { (void)DecodeImage(BytesOf(std::string_view(file).substr(0, n)), "cut.png"); },
        "cut.png");
  }
  for (size_t bit = 0; bit < file.size() * 8; ++bit) {
    std::string flipped = file;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
    try {
      EXPECT_EQ(DecodeImage(BytesOf(flipped), "flipped").rgb, image.rgb)
          << "bit " << bit;  // checksums hold
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ErrorCode::kBadFile) << e.what();
    }
  }
}

// Written by Pillow 13 and listed here whole: 2 x 2, palette {red, green, blue, white} with
// transparency; grey with alpha; 16-bit grey.
TEST(Image, OtherPngKindsBecomeRgb) {
  const TestFolder folder;
  const auto pixels = [](const char* name) {
    const std::string file = Data(name);
    return DecodeImage(BytesOf(file), name).rgb;
  };
  EXPECT_EQ(pixels("palette.png"),
            (std::vector<uint8_t>{255, 0, 0, 0, 255, 0, 0, 0, 255, 255, 255, 255}));
  EXPECT_EQ(pixels("grey_alpha.png"),
            (std::vector<uint8_t>{10, 10, 10, 20, 20, 20, 30, 30, 30, 40, 40, 40}));
  EXPECT_EQ(pixels("grey_16.png"),
            (std::vector<uint8_t>{0, 0, 0, 1, 1, 1, 127, 127, 127, 255, 255, 255}));
}

TEST(Image, TooLargeIsRefusedBeforeAllocation) {
  // A valid header of 65,279 x 65,279 pixels in place of the true one: 12 GB if it were believed.
  std::string file = Data("drawn_baseline.jpg");
  const size_t frame = file.find("\xff\xc0");
  ASSERT_NE(frame, std::string::npos);
  for (size_t i = 5; i < 9; ++i) file[frame + i] = i % 2 == 1 ? '\xfe' : '\xff';
  ExpectError(
      ErrorCode::kUnsupported, [&] { (void)DecodeImage(BytesOf(file), "huge.jpg"); }, "huge.jpg",
      "65279 x 65279");
}

TEST(Image, WhatIsNoImage) {
  const TestFolder folder;
  ExpectError(
      ErrorCode::kBadFile, [&] { (void)ReadImage(folder.Write("a.jpg", "")); }, "a.jpg",
      "neither JPEG nor PNG");
  ExpectError(
      ErrorCode::kBadFile, [&] { (void)ReadImage(folder.Write("b.png", "GIF89a")); }, "b.png");
  ExpectError(
      ErrorCode::kIo, [&] { (void)ReadImage(folder / "missing.jpg"); }, "missing.jpg");
  EXPECT_TRUE(IsImagePath("a/B.JPeG"));
  EXPECT_FALSE(IsImagePath("a/jpg"));
}

}  // namespace
}  // namespace octet
