// Files: read whole or mapped, written whole or not at all.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace octet {

// A read-only mapping of a whole file. An empty file maps to an empty span. Truncating the file
// while it is mapped is the caller's hazard (SIGBUS), as with every mmap.
class MappedFile {
 public:
  explicit MappedFile(const std::filesystem::path& path);  // throws kIo, naming path and cause
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  [[nodiscard]] std::span<const std::byte> bytes() const { return {data_, size_}; }

 private:
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

[[nodiscard]] std::string ReadFile(const std::filesystem::path& path);  // throws kIo

// Where a file of this name is written: links followed, also those to nothing yet.
[[nodiscard]] std::filesystem::path FollowLinks(std::filesystem::path path);

// Writes to a temporary name in the same folder, fsyncs, renames. Whatever fails (folder missing,
// no permission, disk full), the old file is still there whole and the temporary is gone. Links are
// followed; pipes and character devices (/dev/null) are written to as they are, for a file renamed
// to their name would take their place. Throws kIo.
class AtomicFile {
 public:
  explicit AtomicFile(std::filesystem::path path);
  ~AtomicFile();  // removes the temporary unless committed
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void Write(std::span<const std::byte> bytes);
  void Write(std::string_view text) { Write(std::as_bytes(std::span(text.data(), text.size()))); }
  [[nodiscard]] uint64_t offset() const { return offset_; }
  void Commit();

 private:
  std::filesystem::path path_;
  std::filesystem::path temporary_;  // empty: path_ itself is written to
  int fd_ = -1;
  uint64_t offset_ = 0;
};

void WriteFileAtomic(const std::filesystem::path& path, std::string_view contents);

// Lower-case hex SHA-256; of a file it is streamed.
[[nodiscard]] std::string Sha256Hex(std::span<const std::byte> bytes);
[[nodiscard]] std::string Sha256HexOfFile(const std::filesystem::path& path);

}  // namespace octet
