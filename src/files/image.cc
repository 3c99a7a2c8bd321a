#include "files/image.h"

#include <jerror.h>
#include <jpeglib.h>
#include <png.h>

#include <algorithm>
#include <cctype>
#include <csetjmp>
#include <cstdio>  // jpeglib.h needs it
#include <cstring>

#include "base/error.h"
#include "base/file.h"

// libjpeg and libpng report errors by a callback that must not return. Both are left by longjmp,
// over C frames only: the functions that call setjmp hold nothing with a destructor; what must be
// released lives one frame up.

namespace octet {
namespace {

constexpr size_t kPngSignatureBytes = 8;
constexpr uint8_t kPngSignature[kPngSignatureBytes] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};

[[noreturn]] void FailImage(std::string_view name, std::string_view what) {
  Fail(ErrorCode::kBadFile, "image '", name, "': ", what);
}

void CheckSize(int64_t width, int64_t height, std::string_view name) {
  if (width < 1 || height < 1) FailImage(name, "has no pixels");
  if (width > kMaxImagePixels || height > kMaxImagePixels / width) {
    Fail(ErrorCode::kUnsupported, "image '", name, "': ", width, " x ", height,
         " pixels; the most is ", kMaxImagePixels);
  }
}

size_t RowBytes(int64_t width) { return static_cast<size_t>(width) * kImageChannels; }

// ---- JPEG

struct JpegReader {
  jpeg_error_mgr errors{};  // first: libjpeg hands back a pointer to it
  jpeg_decompress_struct info{};
  std::jmp_buf on_error{};
  char message[JMSG_LENGTH_MAX] = {};

  JpegReader() {
    info.err = jpeg_std_error(&errors);
    errors.error_exit = [](j_common_ptr common) { Leave(common); };
    errors.emit_message = [](j_common_ptr common, int level) { Warn(common, level); };
    errors.output_message = [](j_common_ptr) {};
  }
  ~JpegReader() { jpeg_destroy_decompress(&info); }  // fine on a zeroed structure
  JpegReader(const JpegReader&) = delete;
  JpegReader& operator=(const JpegReader&) = delete;

  [[noreturn]] static void Leave(j_common_ptr common) {
    auto* self = reinterpret_cast<JpegReader*>(common->err);
    (*common->err->format_message)(common, self->message);
    std::longjmp(self->on_error, 1);
  }
  // Level -1 is a warning: for libjpeg damaged or missing data is one, and grey pixels are filled
  // in. Three warnings cost no pixel: padding before a marker (some cameras write it), an odd Adobe
  // or JFIF tag.
  static void Warn(j_common_ptr common, int level) {
    const int code = common->err->msg_code;
    const bool harmless =
        code == JWRN_EXTRANEOUS_DATA || code == JWRN_ADOBE_XFORM || code == JWRN_JFIF_MAJOR;
    if (level < 0 && !harmless) Leave(common);
  }
};

// These return false with reader.message set where libjpeg gave up.
bool StartJpeg(JpegReader& reader, const unsigned char* data, unsigned long size) {
  if (setjmp(reader.on_error) != 0) return false;
  jpeg_create_decompress(&reader.info);
  jpeg_mem_src(&reader.info, data, size);
  jpeg_read_header(&reader.info, TRUE);
  return true;
}

bool ReadJpegRows(JpegReader& reader, uint8_t* rgb) {
  if (setjmp(reader.on_error) != 0) return false;
  reader.info.out_color_space = JCS_RGB;
  jpeg_start_decompress(&reader.info);
  const size_t row_bytes = size_t{reader.info.output_width} * kImageChannels;
  while (reader.info.output_scanline < reader.info.output_height) {
    JSAMPROW row = rgb + reader.info.output_scanline * row_bytes;
    jpeg_read_scanlines(&reader.info, &row, 1);
  }
  jpeg_finish_decompress(&reader.info);  // reads on to the end marker
  return true;
}

Image DecodeJpeg(std::span<const std::byte> bytes, std::string_view name) {
  JpegReader reader;
  if (!StartJpeg(reader, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size())) {
    FailImage(name, reader.message);
  }
  CheckSize(reader.info.image_width, reader.info.image_height, name);
  const J_COLOR_SPACE space = reader.info.jpeg_color_space;
  if (space != JCS_YCbCr && space != JCS_RGB && space != JCS_GRAYSCALE) {
    Fail(ErrorCode::kUnsupported, "image '", name, "': a JPEG with ", reader.info.num_components,
         " components; expected colour (YCbCr or RGB) or grey");
  }
  Image image{.width = reader.info.image_width, .height = reader.info.image_height, .rgb = {}};
  image.rgb.resize(RowBytes(image.width) * static_cast<size_t>(image.height));
  if (!ReadJpegRows(reader, image.rgb.data())) FailImage(name, reader.message);
  return image;
}

// ---- PNG

struct PngReader {
  std::span<const std::byte> bytes;
  size_t at = 0;
  char message[256] = {};
  png_structp png = nullptr;
  png_infop info = nullptr;

  explicit PngReader(std::span<const std::byte> source) : bytes(source) {
    png = png_create_read_struct(PNG_LIBPNG_VER_STRING, this, &Leave,
                                 [](png_structp, png_const_charp) {});
    if (png != nullptr) info = png_create_info_struct(png);
    if (info == nullptr) {
      png_destroy_read_struct(&png, nullptr, nullptr);
      Fail(ErrorCode::kInternal, "libpng does not start");
    }
    png_set_read_fn(png, this, &Take);
  }
  ~PngReader() { png_destroy_read_struct(&png, &info, nullptr); }
  PngReader(const PngReader&) = delete;
  PngReader& operator=(const PngReader&) = delete;

  [[noreturn]] static void Leave(png_structp png_ptr, png_const_charp text) {
    auto* self = static_cast<PngReader*>(png_get_error_ptr(png_ptr));
    std::snprintf(self->message, sizeof self->message, "%s", text);
    png_longjmp(png_ptr, 1);
  }
  static void Take(png_structp png_ptr, png_bytep out, png_size_t size) {
    auto* self = static_cast<PngReader*>(png_get_io_ptr(png_ptr));
    if (size > self->bytes.size() - self->at) png_error(png_ptr, "cut short");
    std::memcpy(out, self->bytes.data() + self->at, size);
    self->at += size;
  }
};

bool StartPng(PngReader& reader) {
  if (setjmp(png_jmpbuf(reader.png)) != 0) return false;
  // The limit on pixels is checked by the caller; these are the format's own.
  png_set_user_limits(reader.png, 0x7fffffff, 0x7fffffff);
  png_read_info(reader.png, reader.info);
  return true;
}

bool ReadPngRows(PngReader& reader, uint8_t* rgb, size_t row_bytes, uint32_t height) {
  if (setjmp(png_jmpbuf(reader.png)) != 0) return false;
  png_set_expand(reader.png);  // palette to RGB, grey to 8 bits
  png_set_strip_16(reader.png);
  png_set_strip_alpha(reader.png);
  png_set_gray_to_rgb(reader.png);
  const int passes = png_set_interlace_handling(reader.png);
  png_read_update_info(reader.png, reader.info);
  if (png_get_rowbytes(reader.png, reader.info) != row_bytes)
    png_error(reader.png, "rows of an unexpected size");
  for (int pass = 0; pass < passes; ++pass) {
    for (uint32_t y = 0; y < height; ++y) png_read_row(reader.png, rgb + y * row_bytes, nullptr);
  }
  png_read_end(reader.png, nullptr);
  return true;
}

Image DecodePng(std::span<const std::byte> bytes, std::string_view name) {
  PngReader reader(bytes);
  if (!StartPng(reader)) FailImage(name, reader.message);
  const uint32_t width = png_get_image_width(reader.png, reader.info);
  const uint32_t height = png_get_image_height(reader.png, reader.info);
  CheckSize(width, height, name);
  Image image{.width = width, .height = height, .rgb = {}};
  image.rgb.resize(RowBytes(width) * height);
  if (!ReadPngRows(reader, image.rgb.data(), RowBytes(width), height))
    FailImage(name, reader.message);
  return image;
}

struct PngWriter {
  std::string out;
  char message[256] = {};
  png_structp png = nullptr;
  png_infop info = nullptr;

  PngWriter() {
    png = png_create_write_struct(PNG_LIBPNG_VER_STRING, this, &Leave,
                                  [](png_structp, png_const_charp) {});
    if (png != nullptr) info = png_create_info_struct(png);
    if (info == nullptr) {
      png_destroy_write_struct(&png, nullptr);
      Fail(ErrorCode::kInternal, "libpng does not start");
    }
    png_set_write_fn(png, this, &Put, [](png_structp) {});
  }
  ~PngWriter() { png_destroy_write_struct(&png, &info); }
  PngWriter(const PngWriter&) = delete;
  PngWriter& operator=(const PngWriter&) = delete;

  [[noreturn]] static void Leave(png_structp png_ptr, png_const_charp text) {
    auto* self = static_cast<PngWriter*>(png_get_error_ptr(png_ptr));
    std::snprintf(self->message, sizeof self->message, "%s", text);
    png_longjmp(png_ptr, 1);
  }
  static void Put(png_structp png_ptr, png_bytep data, png_size_t size) {
    static_cast<PngWriter*>(png_get_io_ptr(png_ptr))
        ->out.append(reinterpret_cast<char*>(data), size);
  }
};

bool WritePngRows(PngWriter& writer, const Image& image) {
  if (setjmp(png_jmpbuf(writer.png)) != 0) return false;
  png_set_IHDR(writer.png, writer.info, static_cast<png_uint_32>(image.width),
               static_cast<png_uint_32>(image.height), 8, PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE,
               PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
  png_write_info(writer.png, writer.info);
  for (int64_t y = 0; y < image.height; ++y) {
    png_write_row(writer.png, image.rgb.data() + static_cast<size_t>(y) * RowBytes(image.width));
  }
  png_write_end(writer.png, nullptr);
  return true;
}

}  // namespace

bool IsImagePath(const std::filesystem::path& path) {
  std::string ending = path.extension().string();
  std::transform(ending.begin(), ending.end(), ending.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return ending == ".jpg" || ending == ".jpeg" || ending == ".png";
}

Image DecodeImage(std::span<const std::byte> bytes, std::string_view name) {
  const auto* data = reinterpret_cast<const uint8_t*>(bytes.data());
  if (bytes.size() >= kPngSignatureBytes &&
      std::memcmp(data, kPngSignature, kPngSignatureBytes) == 0) {
    return DecodePng(bytes, name);
  }
  if (bytes.size() >= 3 && data[0] == 0xff && data[1] == 0xd8 && data[2] == 0xff) {
    return DecodeJpeg(bytes, name);
  }
  FailImage(name, Cat("neither JPEG nor PNG (", bytes.size(), " bytes)"));
}

Image ReadImage(const std::filesystem::path& path) {
  const MappedFile file(path);
  return DecodeImage(file.bytes(), path.string());
}

std::string EncodePng(const Image& image) {
  CheckSize(image.width, image.height, "PNG to write");
  OCTET_INVARIANT(image.rgb.size() == RowBytes(image.width) * static_cast<size_t>(image.height));
  PngWriter writer;
  if (!WritePngRows(writer, image)) Fail(ErrorCode::kInternal, "writing a PNG: ", writer.message);
  return std::move(writer.out);
}

void WritePng(const std::filesystem::path& path, const Image& image) {
  WriteFileAtomic(path, EncodePng(image));
}

}  // namespace octet
