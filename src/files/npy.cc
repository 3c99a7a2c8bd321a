#include "files/npy.h"

#include <array>
#include <cctype>
#include <cstdint>
#include <cstring>
#include <optional>

#include "base/checked_math.h"
#include "base/file.h"

namespace octet {
namespace {

constexpr std::string_view kMagic = "\x93NUMPY";
constexpr size_t kMaxHeaderBytes = 65536;  // a header of rank 8 takes less than 300
constexpr size_t kHeaderAlignment = 64;

struct TypeRow {
  DType dtype;
  std::string_view code;  // without the byte order
};
constexpr TypeRow kTypes[] = {
    {DType::kBool, "b1"},    {DType::kInt8, "i1"},    {DType::kUint8, "u1"},
    {DType::kInt16, "i2"},   {DType::kUint16, "u2"},  {DType::kInt32, "i4"},
    {DType::kUint32, "u4"},  {DType::kInt64, "i8"},   {DType::kUint64, "u8"},
    {DType::kFloat16, "f2"}, {DType::kFloat32, "f4"}, {DType::kFloat64, "f8"},
};

struct Header {
  std::string descr;
  bool fortran = false;
  std::vector<int64_t> shape;
};

// Reads the Python literal {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }: the three
// keys, each once, in any order, and nothing else.
class HeaderParser {
 public:
  HeaderParser(std::string_view text, std::string_view name) : text_(text), name_(name) {}

  Header Parse() {
    Header header;
    bool has_descr = false, has_order = false, has_shape = false;
    Expect('{');
    while (!Take('}')) {
      const std::string key = String();
      Expect(':');
      if (key == "descr" && !has_descr) {
        header.descr = String();
        has_descr = true;
      } else if (key == "fortran_order" && !has_order) {
        header.fortran = Bool();
        has_order = true;
      } else if (key == "shape" && !has_shape) {
        header.shape = Tuple();
        has_shape = true;
      } else {
        Bad(Cat("unexpected or repeated key '", key, "'"));
      }
      if (!Take(',')) {
        Expect('}');
        break;
      }
    }
    SkipSpace();
    if (at_ != text_.size()) Bad("bytes after the header's '}'");
    if (!has_descr || !has_order || !has_shape) Bad("descr, fortran_order or shape is missing");
    return header;
  }

 private:
  [[noreturn]] void Bad(std::string_view what) const {
    Fail(ErrorCode::kBadFile, "npy '", name_, "': header, offset ", at_, ": ", what);
  }
  void SkipSpace() {
    while (at_ < text_.size() && std::isspace(static_cast<unsigned char>(text_[at_]))) ++at_;
  }
  bool Take(char c) {
    SkipSpace();
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  void Expect(char c) {
    if (!Take(c)) Bad(Cat("expected '", c, "'"));
  }
  bool TakeWord(std::string_view word) {
    SkipSpace();
    if (text_.substr(at_, word.size()) != word) return false;
    at_ += word.size();
    return true;
  }
  std::string String() {
    SkipSpace();
    if (at_ >= text_.size() || (text_[at_] != '\'' && text_[at_] != '"')) Bad("expected a string");
    const char quote = text_[at_++];
    const size_t end = text_.find(quote, at_);
    if (end == std::string_view::npos) Bad("a string that does not end");
    const std::string s(text_.substr(at_, end - at_));
    at_ = end + 1;
    return s;
  }
  bool Bool() {
    if (TakeWord("True")) return true;
    if (TakeWord("False")) return false;
    Bad("expected True or False");
  }
  std::vector<int64_t> Tuple() {
    std::vector<int64_t> dims;
    Expect('(');
    while (!Take(')')) {
      dims.push_back(Integer());
      if (!Take(',')) {
        Expect(')');
        break;
      }
    }
    return dims;
  }
  int64_t Integer() {
    SkipSpace();
    const size_t begin = at_;
    int64_t value = 0;
    while (at_ < text_.size() && std::isdigit(static_cast<unsigned char>(text_[at_]))) {
      const auto scaled = CheckedMul(value, 10);
      const auto next = scaled ? CheckedAdd(*scaled, text_[at_] - '0') : std::nullopt;
      if (!next) Bad("a dimension above 2^63");
      value = *next;
      ++at_;
    }
    if (at_ == begin) Bad("expected a dimension");
    if (at_ < text_.size() && text_[at_] == 'L') ++at_;  // long integers of Python 2
    return value;
  }

  std::string_view text_;
  std::string_view name_;
  size_t at_ = 0;
};

DType TypeOfDescr(std::string_view descr, std::string_view name) {
  if (!descr.empty()) {
    const char order = descr[0];
    for (const auto& row : kTypes) {
      if (descr.substr(1) != row.code) continue;
      if (order == '<' || order == '=' || (order == '|' && SizeOf(row.dtype) == 1))
        return row.dtype;
    }
  }
  Fail(ErrorCode::kUnsupported, "npy '", name, "': element type '", descr,
       "'; expected little-endian b1, i1…i8, u1…u8, f2, f4 or f8");
}

// Fortran order: the first axis runs fastest. Walks the output in row-major order and keeps the
// input's offset.
Tensor FromFortran(DType dtype, const Shape& shape, const std::byte* data) {
  Tensor out(dtype, shape);
  const auto size = static_cast<size_t>(SizeOf(dtype));
  const int rank = shape.rank();
  std::array<int64_t, kMaxRank> stride{};
  std::array<int64_t, kMaxRank> index{};
  int64_t running = 1;
  for (int i = 0; i < rank; ++i) {
    stride[static_cast<size_t>(i)] = running;
    running *= shape[i];
  }
  auto* to = static_cast<std::byte*>(out.mutable_raw());
  int64_t from = 0;
  for (int64_t n = shape.elements(); n > 0; --n, to += size) {
    std::memcpy(to, data + static_cast<size_t>(from) * size, size);
    for (int i = rank - 1; i >= 0; --i) {
      const auto axis = static_cast<size_t>(i);
      from += stride[axis];
      if (++index[axis] < shape[i]) break;
      from -= stride[axis] * shape[i];
      index[axis] = 0;
    }
  }
  return out;
}

}  // namespace

Tensor ParseNpy(std::span<const std::byte> bytes, std::string_view name,
                std::shared_ptr<const void> owner) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  if (text.size() < kMagic.size() + 2 || text.substr(0, kMagic.size()) != kMagic) {
    Fail(ErrorCode::kBadFile, "npy '", name, "': does not begin as a .npy file (", bytes.size(),
         " bytes)");
  }
  const auto byte = [&](size_t i) { return static_cast<size_t>(static_cast<uint8_t>(bytes[i])); };
  const size_t major = byte(6), minor = byte(7);
  if (major < 1 || major > 3 || minor != 0) {
    Fail(ErrorCode::kUnsupported, "npy '", name, "': format version ", major, ".", minor,
         "; expected 1.0, 2.0 or 3.0");
  }
  const size_t length_bytes = major == 1 ? 2 : 4;
  const size_t header_begin = 8 + length_bytes;
  if (bytes.size() < header_begin)
    Fail(ErrorCode::kBadFile, "npy '", name, "': cut short in the header");
  size_t header_bytes = 0;
  for (size_t i = 0; i < length_bytes; ++i) header_bytes |= byte(8 + i) << (8 * i);
  if (header_bytes > kMaxHeaderBytes || header_bytes > bytes.size() - header_begin) {
    Fail(ErrorCode::kBadFile, "npy '", name, "': a header of ", header_bytes,
         " bytes in a file of ", bytes.size());
  }
  const Header header = HeaderParser(text.substr(header_begin, header_bytes), name).Parse();
  const DType dtype = TypeOfDescr(header.descr, name);
  const auto elements = CheckedProduct(header.shape);
  const auto size = elements ? CheckedMul(*elements, SizeOf(dtype)) : std::nullopt;
  const auto data = bytes.subspan(header_begin + header_bytes);
  if (!size || static_cast<uint64_t>(*size) != data.size()) {
    Fail(ErrorCode::kBadFile, "npy '", name, "': ", data.size(), " bytes of data; the shape ",
         header.shape.size() <= kMaxRank ? Shape(header.shape).ToString() : "given", " of ",
         NameOf(dtype), " takes ", size ? std::to_string(*size) : std::string("more than 2^63"));
  }
  if (header.shape.size() > kMaxRank) {
    Fail(ErrorCode::kUnsupported, "npy '", name, "': rank ", header.shape.size(), "; the most is ",
         kMaxRank);
  }
  const Shape shape(header.shape);
  if (dtype == DType::kBool) {
    for (const std::byte b : data) {
      if (b > std::byte{1})
        Fail(ErrorCode::kBadFile, "npy '", name, "': a bool that is neither 0 nor 1");
    }
  }
  if (header.fortran && shape.rank() > 1) return FromFortran(dtype, shape, data.data());
  const auto address = reinterpret_cast<uintptr_t>(data.data());
  if (owner != nullptr && address % static_cast<uintptr_t>(SizeOf(dtype)) == 0) {
    return Tensor::Borrow(dtype, shape, data.data(), std::move(owner));
  }
  return Tensor::CopyOf({dtype, shape, data.data()});
}

Tensor ReadNpy(const std::filesystem::path& path) {
  auto file = std::make_shared<MappedFile>(path);
  const auto bytes = file->bytes();
  return ParseNpy(bytes, path.string(), std::move(file));
}

std::string EncodeNpyHeader(DType dtype, const Shape& shape) {
  std::string_view code;
  for (const auto& row : kTypes) {
    if (row.dtype == dtype) code = row.code;
  }
  if (code.empty()) Fail(ErrorCode::kUnsupported, "npy has no element type ", NameOf(dtype));
  std::string dict = Cat("{'descr': '", SizeOf(dtype) == 1 ? '|' : '<', code,
                         "', 'fortran_order': False, 'shape': (");
  for (int i = 0; i < shape.rank(); ++i) {
    dict += Cat(i > 0 ? " " : "", shape[i], i + 1 < shape.rank() || shape.rank() == 1 ? "," : "");
  }
  dict += "), }";
  const size_t prefix = kMagic.size() + 2 + 2;  // magic, version, length
  dict.append((kHeaderAlignment - (prefix + dict.size() + 1) % kHeaderAlignment) % kHeaderAlignment,
              ' ');
  dict += '\n';
  std::string out(kMagic);
  out += '\1';
  out += '\0';
  out += static_cast<char>(dict.size() & 0xff);
  out += static_cast<char>(dict.size() >> 8);
  return out + dict;
}

void WriteNpy(const std::filesystem::path& path, const TensorView& tensor) {
  const std::string header = EncodeNpyHeader(tensor.dtype, tensor.shape);
  AtomicFile file(path);
  file.Write(header);
  file.Write(
      std::span(static_cast<const std::byte*>(tensor.raw), static_cast<size_t>(tensor.bytes())));
  file.Commit();
}

}  // namespace octet
