#include "files/output_folder.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/test_folder.h"
#include "files/manifest.h"

namespace octet {
namespace {

TEST(OutputFolder, AppearsWholeOrNotAtAll) {
  const TestFolder folder;
  {
    OutputFolder out(folder / "run/");
    WriteFileAtomic(out.path() / "a", "1");
    EXPECT_FALSE(std::filesystem::exists(folder / "run"));
    out.Commit();
  }
  EXPECT_EQ(ReadFile(folder / "run/a"), "1");
  { const OutputFolder abandoned(folder / "other"); }
  EXPECT_EQ(folder.EntryCount(), 1u);
}

TEST(OutputFolder, ReplacesOnlyItsOwnKind) {
  const TestFolder folder;
  folder.Write("run/holiday.jpg", "precious");
  ExpectError(
      ErrorCode::kInvalidArgument, [&] { const OutputFolder out(folder / "run"); }, "run",
      "not empty");
  folder.Write("run/manifest.json", "{\"kind\": \"something else\"}");
  ExpectError(
      ErrorCode::kInvalidArgument, [&] { const OutputFolder out(folder / "run"); }, "run");
  EXPECT_EQ(ReadFile(folder / "run/holiday.jpg"), "precious");
  ExpectError(
      ErrorCode::kInvalidArgument, [&] { const OutputFolder out(folder.Write("file", "")); },
      "no folder");

  std::filesystem::create_directory(folder / "mine");  // empty: fine
  for (const auto* value : {"old", "new"}) {
    OutputFolder out(folder / "mine");
    WriteManifest(out.path() / kManifestName, {.command = "quantize"});
    WriteFileAtomic(out.path() / value, value);
    out.Commit();
  }
  EXPECT_TRUE(std::filesystem::exists(folder / "mine/new"));
  EXPECT_FALSE(std::filesystem::exists(folder / "mine/old"));
  EXPECT_EQ(folder.EntryCount(), 3u);  // run, file, mine: nothing hidden left over
}

TEST(OutputFolder, AParentThatIsMissingIsNamed) {
  const TestFolder folder;
  ExpectError(
      ErrorCode::kIo, [&] { const OutputFolder out(folder / "no/run"); }, "no/run", "No such file");
}

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

TEST(Manifest, HasEverythingInFixedOrder) {
  const TestFolder folder;
  folder.Write("deep/model.onnx", "abc");
  Manifest m{
      .command = "quantize", .version = "0.1.0", .isa = "portable", .cpu = "a \xff", .seed = 7};
  m.AddInput("model", folder / "deep/model.onnx");
  m.recipe_json = R"({"z": 1, "a": {"b": 2}})";
  WriteManifest(folder / "manifest.json", m);
  const std::string text = ReadFile(folder / "manifest.json");
  EXPECT_EQ(text, m.ToJson());
  EXPECT_EQ(text.find(folder.path().string()),
            std::string::npos);  // says nothing about the machine
  const auto j = nlohmann::json::parse(text);
  EXPECT_EQ(j["inputs"][0]["name"], "model.onnx");
  EXPECT_EQ(j["inputs"][0]["sha256"],
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(j["recipe"]["a"]["b"], 2);
  EXPECT_LT(text.find("\"z\""), text.find("\"a\""));
  EXPECT_TRUE(IsManifest(folder / "manifest.json"));
  EXPECT_FALSE(IsManifest(folder / "none.json"));
  EXPECT_FALSE(IsManifest(folder.Write("bad.json", "{")));
  m.recipe_json = "{";
  ExpectError(
      ErrorCode::kInternal, [&] { (void)m.ToJson(); }, "recipe");
}

}  // namespace
}  // namespace octet
