#include "files/output_files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>  // rename
#include <cstring>
#include <system_error>

#include "base/error.h"

namespace octet {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void FailOutput(const fs::path& path, std::string_view why) {
  Fail(ErrorCode::kIo, "cannot write '", path.string(), "': ", why);
}

// A folder nobody else has, beside `target`: mkdir fails rather than share one, and the next number
// is tried.
fs::path MakeTemporary(const fs::path& parent, const std::string& name, const fs::path& target) {
  constexpr int kAttempts = 1000;
  for (int i = 0; i < kAttempts; ++i) {
    fs::path path = parent / Cat(".", name, ".tmp", ::getpid(), "-", i);
    if (::mkdir(path.c_str(), 0777) == 0) return path;
    if (errno != EEXIST) break;
  }
  FailOutput(target, std::strerror(errno));
}

void SyncFolder(const fs::path& folder) {
  const int fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;
  ::fsync(fd);
  ::close(fd);
}

void RemoveQuietly(const fs::path& path) {
  std::error_code ignored;
  fs::remove_all(path, ignored);
}

}  // namespace

OutputFiles::OutputFiles(fs::path folder)
    : folder_(folder.empty() ? fs::path(".") : std::move(folder)) {
  temporary_ = MakeTemporary(folder_, "octet", folder_);
}

OutputFiles::~OutputFiles() { RemoveQuietly(temporary_); }

fs::path OutputFiles::Add(const std::string& name) {
  if (name.empty() || name == "." || name == ".." || fs::path(name).filename() != name) {
    Fail(ErrorCode::kInvalidArgument, "output file '", name, "': expected a name without folders");
  }
  if (std::find(names_.begin(), names_.end(), name) == names_.end()) names_.push_back(name);
  return temporary_ / name;
}

void OutputFiles::Commit() {
  // What can be known to fail is looked for before the first file is replaced.
  for (const auto& name : names_) {
    std::error_code ignored;
    if (!fs::exists(temporary_ / name, ignored)) {
      Fail(ErrorCode::kInternal, "output file '", (folder_ / name).string(),
           "' was announced and not written");
    }
    if (fs::is_directory(folder_ / name, ignored)) FailOutput(folder_ / name, "it is a folder");
  }
  for (const auto& name : names_) {
    if (::rename((temporary_ / name).c_str(), (folder_ / name).c_str()) != 0) {
      FailOutput(folder_ / name, std::strerror(errno));
    }
  }
  names_.clear();
  SyncFolder(folder_);
}

}  // namespace octet
