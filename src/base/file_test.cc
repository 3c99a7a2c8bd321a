#include "base/file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "base/test_folder.h"

namespace octet {
namespace {

// Runs `body` in a child process; returns its wait status. The child's exit status is what body
// returns.
template <typename F>
int InChild(const F& body) {
  const pid_t child = ::fork();
  if (child == 0) {
    int result = 99;
    try {
      result = body();
    } catch (...) {
      result = 98;
    }
    ::_exit(result);
  }
  int status = 0;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  return status;
}

TEST(MappedFile, WholeFileAndEmptyFile) {
  const TestFolder folder;
  const MappedFile file(folder.Write("a", "hello"));
  EXPECT_EQ(file.bytes().size(), 5u);
  EXPECT_EQ(file.bytes()[4], std::byte{'o'});
  EXPECT_EQ(MappedFile(folder.Write("empty", "")).bytes().size(), 0u);
  EXPECT_EQ(ReadFile(folder.Write("zero", std::string("a\0b", 3))), std::string("a\0b", 3));
}

TEST(MappedFile, ErrorsNamePathAndCause) {
  const TestFolder folder;
  ExpectError(
      ErrorCode::kIo, [&] { const MappedFile f(folder / "none"); }, "none", "No such file");
  ExpectError(
      ErrorCode::kIo, [&] { const MappedFile f(folder.path()); }, folder.path().string(),
      "not a regular file");
  ExpectError(
      ErrorCode::kIo, [] { const MappedFile f("/dev/null"); }, "not a regular file");
}

TEST(AtomicFile, ReplacesOnlyOnCommit) {
  const TestFolder folder;
  folder.Write("a", "old");
  {
    AtomicFile file(folder / "a");
    file.Write("new ");
    file.Write("text");
    EXPECT_EQ(file.offset(), 8u);
    EXPECT_EQ(ReadFile(folder / "a"), "old");
  }
  EXPECT_EQ(ReadFile(folder / "a"), "old");
  EXPECT_EQ(folder.EntryCount(), 1u);
  WriteFileAtomic(folder / "a", "new text");
  EXPECT_EQ(ReadFile(folder / "a"), "new text");
  EXPECT_EQ(folder.EntryCount(), 1u);
}

TEST(AtomicFile, FollowsLinks) {
  const TestFolder folder;
  std::filesystem::create_directory(folder / "far");
  folder.Write("far/a", "old");
  std::filesystem::create_symlink("far/a", folder / "link");
  std::filesystem::create_symlink("link", folder / "link of link");
  std::filesystem::create_symlink("far/none", folder / "dangling");
  WriteFileAtomic(folder / "link of link", "new");
  WriteFileAtomic(folder / "dangling", "made");
  EXPECT_TRUE(std::filesystem::is_symlink(folder / "link"));
  EXPECT_EQ(ReadFile(folder / "far/a"), "new");
  EXPECT_EQ(ReadFile(folder / "far/none"), "made");
  EXPECT_EQ(folder.EntryCount(), 4u);
}

TEST(AtomicFile, LeavesDevicesAndPipesInPlace) {
  const TestFolder folder;
  const std::string pipe = (folder / "pipe").string();
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  const int reader = ::open(pipe.c_str(), O_RDONLY | O_NONBLOCK);
  ASSERT_GE(reader, 0);
  WriteFileAtomic(pipe, "through");
  char text[8] = {};
  EXPECT_EQ(::read(reader, text, sizeof(text)), 7);
  EXPECT_STREQ(text, "through");
  ::close(reader);
  EXPECT_TRUE(std::filesystem::is_fifo(pipe));
  EXPECT_EQ(folder.EntryCount(), 1u);
  // A name of this test's own, so that a fault does not cost the machine its device.
  std::filesystem::create_symlink("/dev/full", folder / "full");
  ExpectError(
      ErrorCode::kIo, [&] { WriteFileAtomic(folder / "full", "x"); }, "full", "No space left");
  EXPECT_TRUE(std::filesystem::is_symlink(folder / "full"));
}

TEST(AtomicFile, TwoWritersOfOneFileDoNotMix) {
  const TestFolder folder;
  AtomicFile first(folder / "a");
  AtomicFile second(folder / "a");
  first.Write("first");
  second.Write("2nd");
  first.Commit();
  EXPECT_EQ(ReadFile(folder / "a"), "first");
  second.Commit();
  EXPECT_EQ(ReadFile(folder / "a"), "2nd");
  EXPECT_EQ(folder.EntryCount(), 1u);
}

TEST(AtomicFile, ErrorsNamePathAndCause) {
  const TestFolder folder;
  ExpectError(
      ErrorCode::kIo, [&] { WriteFileAtomic(folder / "no/a", "x"); }, "no/a", "No such file");
  std::filesystem::create_directory(folder / "taken");
  ExpectError(
      ErrorCode::kIo, [&] { WriteFileAtomic(folder / "taken", "x"); }, "taken", "directory");
  EXPECT_EQ(folder.EntryCount(), 1u);  // no temporary is left
}

TEST(AtomicFile, AnUnwritableFolderIsNamed) {
  const TestFolder folder;
  std::filesystem::create_directory(folder / "locked");
  folder.Write("locked/a", "old");
  ASSERT_EQ(::chmod((folder / "locked").c_str(), 0555), 0);
  // Root may write everywhere: the child becomes somebody else.
  constexpr uid_t kNobody = 65534;
  ASSERT_EQ(::chmod(folder.path().c_str(), 0755), 0);
  const int status = InChild([&] {
    if (::geteuid() == 0 && ::setuid(kNobody) != 0) return 2;
    const auto error = ErrorOf([&] { WriteFileAtomic(folder / "locked/a", "new"); });
    const bool good =
        error && error->code() == ErrorCode::kIo &&
        std::string_view(error->what()).find("Permission denied") != std::string_view::npos;
    return good ? 0 : 1;
  });
  EXPECT_EQ(status, 0);
  ASSERT_EQ(::chmod((folder / "locked").c_str(), 0755), 0);
  EXPECT_EQ(ReadFile(folder / "locked/a"), "old");
}

// A limit on file size stops a write half-way with EFBIG, as a full disk does with ENOSPC: same
// path.
TEST(AtomicFile, ADiskThatFillsUpLeavesTheOldFile) {
  const TestFolder folder;
  folder.Write("a", "old");
  const int status = InChild([&] {
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{.rlim_cur = 1000, .rlim_max = 1000};
    if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) return 2;
    const auto error = ErrorOf([&] { WriteFileAtomic(folder / "a", std::string(5000, 'x')); });
    return error && error->code() == ErrorCode::kIo ? 0 : 1;
  });
  EXPECT_EQ(status, 0);
  EXPECT_EQ(ReadFile(folder / "a"), "old");
  EXPECT_EQ(folder.EntryCount(), 1u);
}

TEST(AtomicFile, KilledHalfWayLeavesTheOldFile) {
  const TestFolder folder;
  folder.Write("a", "old");
  const int status = InChild([&] {
    AtomicFile file(folder / "a");
    file.Write(std::string(5000, 'x'));
    ::raise(SIGKILL);
    return 0;
  });
  EXPECT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(ReadFile(folder / "a"), "old");
}

// FIPS 180-2, appendix B.
TEST(Sha256, KnownAnswers) {
  EXPECT_EQ(Sha256Hex(BytesOf("abc")),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(Sha256Hex({}), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  const TestFolder folder;
  EXPECT_EQ(Sha256HexOfFile(
                folder.Write("a", "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq")),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
}

}  // namespace
}  // namespace octet
