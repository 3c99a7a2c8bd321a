#include "base/file.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/error.h"

namespace octet {
namespace {

[[noreturn]] void FailIo(std::string_view what, const std::filesystem::path& path) {
  const int error = errno;
  Fail(ErrorCode::kIo, what, " '", path.string(), "': ", std::strerror(error));
}

// Closes the descriptor when it goes out of scope.
struct Descriptor {
  int fd;
  ~Descriptor() {
    if (fd >= 0) ::close(fd);
  }
};

std::string ToHex(const unsigned char* digest, unsigned size) {
  static constexpr char kHex[] = "0123456789abcdef";
  std::string out;
  for (unsigned i = 0; i < size; ++i) {
    out.push_back(kHex[digest[i] >> 4]);
    out.push_back(kHex[digest[i] & 15]);
  }
  return out;
}

}  // namespace

MappedFile::MappedFile(const std::filesystem::path& path) {
  const Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  if (file.fd < 0) FailIo("cannot open", path);
  struct stat info {};
  if (::fstat(file.fd, &info) != 0) FailIo("cannot stat", path);
  if (!S_ISREG(info.st_mode)) {
    Fail(ErrorCode::kIo, "cannot read '", path.string(), "': not a regular file");
  }
  size_ = static_cast<size_t>(info.st_size);
  if (size_ == 0) return;
  void* mapping = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file.fd, 0);
  if (mapping == MAP_FAILED) FailIo("cannot map", path);
  data_ = static_cast<const std::byte*>(mapping);
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

std::string ReadFile(const std::filesystem::path& path) {
  const MappedFile file(path);
  const auto bytes = file.bytes();
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::filesystem::path FollowLinks(std::filesystem::path path) {
  constexpr int kMostLinks = 40;  // what Linux follows
  std::error_code error;
  for (int i = 0; i < kMostLinks && std::filesystem::is_symlink(path, error); ++i) {
    const auto target = std::filesystem::read_symlink(path, error);
    if (error) break;
    path = path.parent_path() / target;
  }
  return path;
}

AtomicFile::AtomicFile(std::filesystem::path path) : path_(std::move(path)) {
  struct stat info {};
  if (::stat(path_.c_str(), &info) == 0) {
    if (S_ISCHR(info.st_mode) || S_ISFIFO(info.st_mode)) {
      fd_ = ::open(path_.c_str(), O_WRONLY | O_CLOEXEC);
      if (fd_ < 0) FailIo("cannot write", path_);
      return;
    }
    if (!S_ISREG(info.st_mode) && !S_ISDIR(info.st_mode))
      Fail(ErrorCode::kIo, "cannot write '", path_.string(), "': not a regular file");
  }
  path_ = FollowLinks(std::move(path_));
  // Unique among the writers of a machine: processes, and threads and nested writers of this one.
  static std::atomic<uint64_t> count{0};
  temporary_ = path_;
  temporary_ += Cat(".tmp", ::getpid(), ".", count.fetch_add(1));
  fd_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (fd_ < 0) FailIo("cannot write", path_);
}

AtomicFile::~AtomicFile() {
  if (fd_ >= 0) {
    ::close(fd_);
    if (!temporary_.empty()) ::unlink(temporary_.c_str());
  }
}

void AtomicFile::Write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::write(fd_, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) FailIo("cannot write", path_);
    bytes = bytes.subspan(static_cast<size_t>(n));
    offset_ += static_cast<uint64_t>(n);
  }
}

void AtomicFile::Commit() {
  if (temporary_.empty()) {
    const int fd = std::exchange(fd_, -1);
    if (::close(fd) != 0) FailIo("cannot write", path_);
    return;
  }
  if (::fsync(fd_) != 0) FailIo("cannot write", path_);
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) FailIo("cannot write", path_);
  ::close(fd_);
  fd_ = -1;
  // The rename itself is durable once the folder is; where a folder cannot be synced, nothing is
  // lost but that.
  const auto folder =
      path_.parent_path().empty() ? std::filesystem::path(".") : path_.parent_path();
  const Descriptor dir{::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  if (dir.fd >= 0) ::fsync(dir.fd);
}

void WriteFileAtomic(const std::filesystem::path& path, std::string_view contents) {
  AtomicFile file(path);
  file.Write(contents);
  file.Commit();
}

std::string Sha256Hex(std::span<const std::byte> bytes) {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  if (EVP_Digest(bytes.data(), bytes.size(), digest, &size, EVP_sha256(), nullptr) != 1) {
    Fail(ErrorCode::kInternal, "sha256 is not available in libcrypto");
  }
  return ToHex(digest, size);
}

std::string Sha256HexOfFile(const std::filesystem::path& path) {
  return Sha256Hex(MappedFile(path).bytes());
}

}  // namespace octet
