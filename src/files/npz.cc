// The .npz half of npy.h: a ZIP archive of .npy entries. Sizes and places are taken from the
// central directory (numpy's local headers hold placeholders), and every one is checked against the
// file before use.
#include <zlib.h>

#include <cstdint>
#include <set>

#include "base/file.h"
#include "files/npy.h"

namespace octet {
namespace {

constexpr size_t kEndBytes = 22;  // end of central directory, without comment
constexpr size_t kMaxComment = 65535;
constexpr size_t kCentralBytes = 46;  // central directory entry, without name, extra, comment
constexpr size_t kLocalBytes = 30;    // local header, without name and extra
constexpr uint32_t kEndSignature = 0x06054b50;
constexpr uint32_t kCentralSignature = 0x02014b50;
constexpr uint32_t kLocalSignature = 0x04034b50;
constexpr uint32_t kZip64Marker = 0xffffffff;
// Deflate cannot expand by more than 1032 : 1 (258 bytes from 2 bits); what claims more is refused
// unallocated.
constexpr uint64_t kMaxExpansion = 1032;

class Archive {
 public:
  Archive(std::span<const std::byte> bytes, std::string_view name) : bytes_(bytes), name_(name) {}

  std::vector<NamedArray> Read() {
    size_t end = FindEnd();
    const uint64_t count = U16(end + 10);
    const uint64_t directory_bytes = U32(end + 12);
    const uint64_t directory = U32(end + 16);
    if (U16(end + 4) != 0 || U16(end + 6) != 0 || U16(end + 8) != count) {
      Fail(ErrorCode::kUnsupported, "npz '", name_, "': an archive in several parts");
    }
    if (count == 0xffff || directory == kZip64Marker || directory_bytes == kZip64Marker) {
      Fail(ErrorCode::kUnsupported, "npz '", name_,
           "': a ZIP64 archive (4 GiB or more); use .npy or .safetensors");
    }
    if (directory > end || directory_bytes > end - directory) Bad("a directory outside the file");
    std::vector<NamedArray> arrays;
    std::set<std::string> names;
    uint64_t stored = 0;
    size_t at = static_cast<size_t>(directory);
    for (uint64_t i = 0; i < count; ++i) {
      if (end - at < kCentralBytes || U32(at) != kCentralSignature)
        Bad(Cat("damaged directory entry ", i));
      Entry entry;
      entry.flags = U16(at + 8);
      entry.method = U16(at + 10);
      entry.crc = U32(at + 16);
      entry.packed = U32(at + 20);
      entry.size = U32(at + 24);
      entry.local = U32(at + 42);
      const size_t name_bytes = U16(at + 28);
      const size_t more = size_t{U16(at + 30)} + U16(at + 32);
      if (end - at - kCentralBytes < name_bytes + more) Bad(Cat("damaged directory entry ", i));
      entry.name.assign(reinterpret_cast<const char*>(bytes_.data()) + at + kCentralBytes,
                        name_bytes);
      at += kCentralBytes + name_bytes + more;
      stored += entry.packed;
      if (stored > bytes_.size()) Bad("entries that overlap");
      if (!entry.name.ends_with(".npy")) {
        Bad(Cat("an entry '", entry.name, "' that is no .npy array"));
      }
      if (!names.insert(entry.name).second) Bad(Cat("two entries '", entry.name, "'"));
      arrays.push_back({entry.name.substr(0, entry.name.size() - 4), ReadEntry(entry)});
    }
    return arrays;
  }

 private:
  struct Entry {
    std::string name;
    uint32_t flags = 0, method = 0, crc = 0;
    uint64_t packed = 0, size = 0, local = 0;
  };

  [[noreturn]] void Bad(std::string_view what) const {
    Fail(ErrorCode::kBadFile, "npz '", name_, "': ", what);
  }
  uint32_t Byte(size_t i) const { return static_cast<uint32_t>(static_cast<uint8_t>(bytes_[i])); }
  uint16_t U16(size_t i) const { return static_cast<uint16_t>(Byte(i) | Byte(i + 1) << 8); }
  uint32_t U32(size_t i) const { return U16(i) | static_cast<uint32_t>(U16(i + 2)) << 16; }

  size_t FindEnd() const {
    if (bytes_.size() >= kEndBytes) {
      const size_t last = bytes_.size() - kEndBytes;
      const size_t first = last > kMaxComment ? last - kMaxComment : 0;
      for (size_t at = last + 1; at-- > first;) {
        if (U32(at) == kEndSignature && at + kEndBytes + U16(at + 20) == bytes_.size()) return at;
      }
    }
    Bad("no ZIP directory at the end: not an archive, or cut short");
  }

  Tensor ReadEntry(const Entry& entry) const {
    const std::string label = Cat(name_, ":", entry.name);
    if (entry.flags & 1u) Fail(ErrorCode::kUnsupported, "npz '", label, "': encrypted");
    if (entry.packed == kZip64Marker || entry.size == kZip64Marker || entry.local == kZip64Marker) {
      Fail(ErrorCode::kUnsupported, "npz '", label, "': 4 GiB or more; use .npy or .safetensors");
    }
    if (entry.local > bytes_.size() || bytes_.size() - entry.local < kLocalBytes ||
        U32(static_cast<size_t>(entry.local)) != kLocalSignature) {
      Bad(Cat("entry '", entry.name, "' begins outside the file"));
    }
    const auto local = static_cast<size_t>(entry.local);
    const size_t begin = local + kLocalBytes + U16(local + 26) + U16(local + 28);
    if (begin > bytes_.size() || entry.packed > bytes_.size() - begin) {
      Bad(Cat("entry '", entry.name, "' ends outside the file"));
    }
    const auto packed = bytes_.subspan(begin, static_cast<size_t>(entry.packed));
    auto data = std::make_shared<std::vector<std::byte>>();
    if (entry.method == 0) {
      if (entry.packed != entry.size) Bad(Cat("entry '", entry.name, "' has two sizes"));
      data->assign(packed.begin(), packed.end());
    } else if (entry.method == Z_DEFLATED) {
      if (entry.size > (entry.packed + 1) * kMaxExpansion) {
        Bad(Cat("entry '", entry.name, "' claims ", entry.size, " bytes from ", entry.packed));
      }
      Inflate(packed, static_cast<size_t>(entry.size), label, *data);
    } else {
      Fail(ErrorCode::kUnsupported, "npz '", label, "': compression method ", entry.method,
           "; expected 0 (stored) or 8 (deflated)");
    }
    const auto crc = crc32_z(0, reinterpret_cast<const Bytef*>(data->data()), data->size());
    if (crc != entry.crc)
      Fail(ErrorCode::kBadFile, "npz '", label, "': the checksum does not match");
    const std::span<const std::byte> bytes(*data);
    return ParseNpy(bytes, label, std::move(data));
  }

  static void Inflate(std::span<const std::byte> packed, size_t size, std::string_view label,
                      std::vector<std::byte>& out) {
    out.resize(size);
    z_stream stream{};
    if (inflateInit2(&stream, -MAX_WBITS) != Z_OK)
      Fail(ErrorCode::kInternal, "zlib does not start");
    // Sizes are below 2^32: they fit zlib's uInt. An output byte more than expected shows as no
    // stream end.
    stream.next_in = const_cast<Bytef*>(reinterpret_cast<const Bytef*>(packed.data()));
    stream.avail_in = static_cast<uInt>(packed.size());
    stream.next_out = reinterpret_cast<Bytef*>(out.data());
    stream.avail_out = static_cast<uInt>(size);
    Bytef none = 0;
    if (size == 0) stream.next_out = &none;
    const int result = inflate(&stream, Z_FINISH);
    const bool whole = result == Z_STREAM_END && stream.avail_out == 0 && stream.avail_in == 0;
    inflateEnd(&stream);
    if (!whole) Fail(ErrorCode::kBadFile, "npz '", label, "': damaged compressed data");
  }

  std::span<const std::byte> bytes_;
  std::string_view name_;
};

}  // namespace

std::vector<NamedArray> ParseNpz(std::span<const std::byte> bytes, std::string_view name) {
  return Archive(bytes, name).Read();
}

std::vector<NamedArray> ReadNpz(const std::filesystem::path& path) {
  const MappedFile file(path);
  return ParseNpz(file.bytes(), path.string());
}

}  // namespace octet
