#include "files/output_files.h"

#include <gtest/gtest.h>

#include "base/file.h"
#include "base/test_folder.h"

namespace octet {
namespace {

TEST(OutputFiles, RenamesAllAtOnce) {
  const TestFolder folder;
  folder.Write("model.onnx", "old");
  {
    OutputFiles out(folder.path());
    WriteFileAtomic(out.Add("model.onnx.data"), "weights");
    WriteFileAtomic(out.Add("model.onnx"), "graph");
    EXPECT_EQ(ReadFile(folder / "model.onnx"), "old");
    out.Commit();
  }
  EXPECT_EQ(ReadFile(folder / "model.onnx"), "graph");
  EXPECT_EQ(ReadFile(folder / "model.onnx.data"), "weights");
  EXPECT_EQ(folder.EntryCount(), 2u);
}

TEST(OutputFiles, NothingChangesWithoutCommit) {
  const TestFolder folder;
  folder.Write("m", "old");
  {
    OutputFiles out(folder.path());
    WriteFileAtomic(out.Add("m"), "new");
  }
  EXPECT_EQ(ReadFile(folder / "m"), "old");
  EXPECT_EQ(folder.EntryCount(), 1u);
  OutputFiles out(folder.path());
  WriteFileAtomic(out.Add("m"), "new");
  std::filesystem::create_directory(folder / "taken");
  WriteFileAtomic(out.Add("taken"), "x");
  ExpectError(
      ErrorCode::kIo, [&] { out.Commit(); }, "taken");
  EXPECT_EQ(ReadFile(folder / "m"), "old");
  for (const auto* name : {"", ".", "..", "a/b", "../a"}) {
    ExpectError(ErrorCode::kInvalidArgument, [&] { (void)out.Add(name); });
  }
}

}  // namespace
}  // namespace octet
