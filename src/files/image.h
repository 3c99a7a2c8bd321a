// Photographs: JPEG and PNG in, PNG out, always as 8-bit RGB.
//
// Decoded pixels are those of libjpeg's defaults (accurate integer DCT, fancy chroma upsampling),
// which is what Pillow and torchvision decode too. Orientation tags and colour profiles are not
// applied, as there.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace octet {

// Larger images are refused before anything is allocated for them.
inline constexpr int64_t kMaxImagePixels = int64_t{64} << 20;
inline constexpr int kImageChannels = 3;

// (height, width, 3) interleaved, top row first.
struct Image {
  int64_t width = 0;
  int64_t height = 0;
  std::vector<uint8_t> rgb;
};

// True for the endings .jpg, .jpeg and .png, in any case.
[[nodiscard]] bool IsImagePath(const std::filesystem::path& path);

// The format is told by the first bytes, not by the name. Palette, grey, 16-bit (high byte) and
// transparency (dropped) become RGB. Throws kBadFile naming `name` where the bytes are no image,
// damaged or cut short; kUnsupported for CMYK and for more than kMaxImagePixels.
[[nodiscard]] Image DecodeImage(std::span<const std::byte> bytes, std::string_view name);
[[nodiscard]] Image ReadImage(const std::filesystem::path& path);

[[nodiscard]] std::string EncodePng(const Image& image);
void WritePng(const std::filesystem::path& path, const Image& image);  // atomic

}  // namespace octet
