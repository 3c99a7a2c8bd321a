#include "files/dataset.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "base/file.h"
#include "base/parallel.h"
#include "base/test_folder.h"
#include "files/dataset_source.h"
#include "files/npy.h"
#include "files/safetensors.h"

namespace octet {
namespace {

const std::vector<InputSpec> kImages = {{"image", DType::kFloat32, {-1, 3, 2, 2}}};
const std::vector<InputSpec> kRows = {{"x", DType::kFloat32, {-1, 2}}};

// A 2 x 2 picture of one colour but for its first pixel, which is black.
std::string Picture(uint8_t value) {
  Image image{.width = 2, .height = 2, .rgb = std::vector<uint8_t>(12, value)};
  image.rgb[0] = image.rgb[1] = image.rgb[2] = 0;
  return EncodePng(image);
}

Dataset Open(const std::filesystem::path& path, const std::vector<InputSpec>& inputs = kRows,
             DatasetOptions options = {}) {
  return Dataset::Open(path, inputs, std::move(options));
}

template <typename... Parts>
void OpenFails(const std::filesystem::path& path, const std::vector<InputSpec>& inputs,
               const Parts&... parts) {
  ExpectError(
      ErrorCode::kBadData, [&] { (void)Open(path, inputs); }, parts...);
}

Tensor Rows(int64_t n, float first = 0.0F) {
  Tensor t(DType::kFloat32, Shape{n, 2});
  auto values = t.mutable_data<float>();
  for (size_t i = 0; i < values.size(); ++i) values[i] = first + static_cast<float>(i);
  return t;
}

TEST(Dataset, LabelsCsv) {
  const TestFolder folder;
  folder.Write("b.png", Picture(10));
  folder.Write("sub/a, \"b\".png", Picture(20));
  folder.Write("unlisted.png", Picture(30));
  folder.Write("labels.csv",
               "\xef\xbb\xbf"
               "file,label\r\nb.png,7\r\n\r\n\"sub/a, \"\"b\"\".png\",0\r\n");
  const Dataset data = Open(folder.path(), kImages);
  ASSERT_EQ(data.size(), 2);
  EXPECT_TRUE(data.has_labels());
  EXPECT_EQ(data.NameOf(0), "b.png");
  EXPECT_EQ(data.NameOf(1), "sub/a, \"b\".png");
  const Sample sample = data.Load(0);
  EXPECT_EQ(sample.label, 7);
  EXPECT_EQ(sample.inputs[0].shape(), (Shape{1, 3, 2, 2}));
  EXPECT_EQ(sample.inputs[0].data<float>()[0], 0.0F);
  EXPECT_EQ(sample.inputs[0].data<float>()[1], 10.0F);
  EXPECT_EQ(data.Load(1).inputs[0].data<float>()[11], 20.0F);
  data.CheckLabels(8);
  ExpectError(
      ErrorCode::kBadData, [&] { data.CheckLabels(7); }, "b.png", "label 7", "7 classes");
}

TEST(Dataset, LabelsCsvErrorsNameFileAndLine) {
  const TestFolder folder;
  folder.Write("a.png", Picture(1));
  folder.Write("c.txt", "x");
  const auto refused = [&](std::string_view rows, std::string_view line, std::string_view part) {
    folder.Write("labels.csv", rows);
    OpenFails(folder.path(), kImages, (folder / "labels.csv").string(), line, part);
  };
  refused("", "labels.csv", "empty");
  refused("name,label\na.png,1\n", "line 1", "file,label");
  refused("file,label\na.png\n", "line 2", "1 columns");
  refused("file,label\na.png,1,2\n", "line 2", "3 columns");
  refused("file,label\na.png,1\n./a.png,2\n", "line 3", "first on line 2");
  refused("file,label\nmissing.png,1\n", "line 2", "missing.png");
  refused("file,label\n../a.png,1\n", "line 2", "below the folder");
  refused("file,label\nx/../a.png,1\n", "line 2", "below the folder");
  refused("file,label\n/etc/passwd,1\n", "line 2", "below the folder");
  refused("file,label\n,1\n", "line 2", "below the folder");
  refused("file,label\na.png,-1\n", "line 2", "'-1'");
  refused("file,label\na.png,1.5\n", "line 2", "'1.5'");
  refused("file,label\na.png, 1\n", "line 2", "' 1'");
  refused("file,label\na.png,99999999999999999999\n", "line 2", "no integer");
  refused("file,label\n\"a.png,1\n", "line 2", "quote");
  refused("file,label\na\"b.png,1\n", "line 2", "quote");
  refused("file,label\nc.txt,1\n", "line 2", "neither an image");
  folder.Write("labels.csv", "file,label\n");
  OpenFails(folder.path(), kImages, "no samples", folder.path().string());
}

TEST(Dataset, ClassFolders) {
  const TestFolder folder;
  folder.Write("dog/2.png", Picture(1));
  folder.Write("dog/1.PNG", Picture(2));
  folder.Write("cat/3.png", Picture(3));
  folder.Write("eel/readme.txt", "");
  folder.Write(".hidden/4.png", Picture(4));
  const Dataset data = Open(folder.path(), kImages);
  ASSERT_EQ(data.size(), 3);
  EXPECT_EQ(data.NameOf(0), "cat/3.png");
  EXPECT_EQ(data.LabelOf(0), 0);
  EXPECT_EQ(data.NameOf(1), "dog/1.PNG");
  EXPECT_EQ(data.LabelOf(2), 1);
  ASSERT_EQ(data.notes().size(), 1u);
  EXPECT_NE(data.notes()[0].find("eel"), std::string::npos);
}

TEST(Dataset, FlatFolderHasNoLabels) {
  const TestFolder folder;
  folder.Write("b.png", Picture(1));
  folder.Write("a.png", Picture(2));
  folder.Write("notes.txt", "");
  const Dataset data = Open(folder.path(), kImages);
  ASSERT_EQ(data.size(), 2);
  EXPECT_EQ(data.NameOf(0), "a.png");
  EXPECT_FALSE(data.has_labels());
  EXPECT_FALSE(data.Load(0).label.has_value());
  EXPECT_NE(data.notes().at(0).find("notes.txt"), std::string::npos);
  ExpectError(
      ErrorCode::kBadData, [&] { data.CheckLabels(10); }, "no labels");
}

TEST(Dataset, NpyRowsAndLabelFile) {
  const TestFolder folder;
  WriteNpy(folder / "x.npy", Rows(3).view());
  WriteNpy(folder / "y.npy", Tensor::Of<uint8_t>(Shape{3}, {5, 0, 9}).view());
  const Dataset data =
      Open(folder / "x.npy", kRows, {.preprocess = {}, .labels = folder / "y.npy"});
  ASSERT_EQ(data.size(), 3);
  const Sample sample = data.Load(2);
  EXPECT_EQ(sample.name, "x.npy[2]");
  EXPECT_EQ(sample.label, 9);
  EXPECT_EQ(sample.inputs[0].shape(), (Shape{1, 2}));
  EXPECT_EQ(sample.inputs[0].data<float>()[1], 5.0F);
  const Batch batch = data.LoadBatch(1, 2);
  EXPECT_EQ(batch.inputs[0].shape(), (Shape{2, 2}));
  EXPECT_EQ(batch.inputs[0].data<float>()[0], 2.0F);
  EXPECT_EQ(batch.inputs[0].data<float>()[3], 5.0F);
  EXPECT_EQ(batch.labels, (std::vector<int64_t>{0, 9}));
  WriteNpy(folder / "y.npy", Tensor::Of<uint8_t>(Shape{2}, {5, 0}).view());
  ExpectError(
      ErrorCode::kBadData,
      [&] { (void)Open(folder / "x.npy", kRows, {.preprocess = {}, .labels = folder / "y.npy"}); },
      "2 labels for 3 samples");
}

TEST(Dataset, ArraysByInputName) {
  const TestFolder folder;
  const std::vector<InputSpec> two = {{"ids", DType::kInt64, {-1, 3}},
                                      {"x", DType::kFloat32, {-1, 2}}};
  NamedTensors tensors;
  tensors.tensors["x"] = Rows(2);
  tensors.tensors["ids"] = Tensor::Of<int32_t>(Shape{2, 3}, {1, 2, 3, 4, 5, 6});
  tensors.tensors["labels"] = Tensor::Of<int64_t>(Shape{2}, {1, 0});
  tensors.tensors["spare"] = Rows(2);
  WriteSafetensors(folder / "d.safetensors", tensors);
  const Dataset data = Open(folder / "d.safetensors", two);
  ASSERT_EQ(data.size(), 2);
  const Sample sample = data.Load(1);
  EXPECT_EQ(sample.inputs[0].data<int64_t>()[0], 4);
  EXPECT_EQ(sample.inputs[1].data<float>()[0], 2.0F);
  EXPECT_EQ(sample.label, 0);
  EXPECT_NE(data.notes().at(0).find("spare"), std::string::npos);
  OpenFails(folder / "d.safetensors", {{"y", DType::kFloat32, {-1, 2}}},
            "no array for the input 'y'", "ids");

  // The same as a folder of .npy; the ':' of the name cannot stand in a file name.
  std::filesystem::create_directory(folder / "arrays");
  WriteNpy(folder / "arrays/x_0.npy", Rows(2).view());
  WriteNpy(folder / "arrays/labels.npy", tensors.tensors["labels"].view());
  const Dataset npy = Open(folder / "arrays", {{"x:0", DType::kFloat32, {-1, 2}}});
  EXPECT_EQ(npy.size(), 2);
  EXPECT_EQ(npy.LabelOf(0), 1);

  tensors.tensors["x"] = Rows(3);
  WriteSafetensors(folder / "d.safetensors", tensors);
  OpenFails(folder / "d.safetensors", two, "2 samples for the input 'ids' and 3 for 'x'");
}

TEST(Dataset, SingleInputTakesTheSingleArray) {
  const TestFolder folder;
  NamedTensors tensors;
  tensors.tensors["arr_0"] = Rows(2);
  tensors.tensors["labels"] = Tensor::Of<int64_t>(Shape{2}, {1, 0});
  WriteSafetensors(folder / "d.safetensors", tensors);
  EXPECT_EQ(Open(folder / "d.safetensors").Load(1).label, 0);
}

TEST(Dataset, FolderOfSampleArrays) {
  const TestFolder folder;
  WriteNpy(folder / "s1.npy", Tensor::Of<float>(Shape{2}, {1, 2}).view());
  WriteNpy(folder / "s2.npy", Tensor::Of<float>(Shape{1, 2}, {3, 4}).view());
  const Dataset data = Open(folder.path());
  ASSERT_EQ(data.size(), 2);
  EXPECT_EQ(data.Load(0).inputs[0].shape(), (Shape{1, 2}));
  EXPECT_EQ(data.Load(1).inputs[0].data<float>()[1], 4.0F);
  WriteNpy(folder / "s3.npy", Rows(2).view());
  ExpectError(
      ErrorCode::kBadData, [&] { (void)Open(folder.path()).Load(2); }, "s3.npy", "[2,2]");
}

TEST(Dataset, ElementTypes) {
  const TestFolder folder;
  const auto value = [&](const Tensor& t) {
    WriteNpy(folder / "t.npy", t.view());
    return Open(folder / "t.npy").Load(0).inputs[0].data<float>()[0];
  };
  EXPECT_EQ(value(Tensor::Of<double>(Shape{1, 2}, {0.1, 0})), 0.1F);
  EXPECT_EQ(value(Tensor::Of<int8_t>(Shape{1, 2}, {-128, 0})), -128.0F);
  EXPECT_EQ(value(Tensor::Of<uint64_t>(Shape{1, 2}, {uint64_t{1} << 63, 0})), 0x1p63F);
  EXPECT_EQ(value(Tensor::Of<bool>(Shape{1, 2}, {true, false})), 1.0F);
  const struct {
    uint16_t bits;
    float value;
  } halves[] = {{0x3c00, 1.0F},     {0xc500, -5.0F},
                {0x0001, 0x1p-24F}, {0x83ff, -1023 * 0x1p-24F},
                {0x7bff, 65504.0F}, {0x0400, 0x1p-14F}};
  for (const auto& half : halves) {
    Tensor t(DType::kFloat16, Shape{1, 2});
    static_cast<uint16_t*>(t.mutable_raw())[0] = half.bits;
    EXPECT_EQ(value(t), half.value);
  }
  WriteNpy(folder / "t.npy", Tensor::Of<int64_t>(Shape{1, 2}, {0, int64_t{1} << 40}).view());
  ExpectError(
      ErrorCode::kBadData,
      [&] {
        (void)Open(folder / "t.npy", {{"x", DType::kInt32, {-1, 2}}}).Load(0);
      },
      "t.npy[0]", "1099511627776", "int32");
  WriteNpy(folder / "t.npy", Rows(1).view());
  OpenFails(folder / "t.npy", {{"x", DType::kInt32, {-1, 2}}}, "float32", "int32");
}

TEST(Dataset, ShapesAreCheckedWhenOpened) {
  const TestFolder folder;
  WriteNpy(folder / "t.npy", Rows(4).view());
  OpenFails(folder / "t.npy", {{"x", DType::kFloat32, {-1, 3}}}, "[1,2]", "[?,3]");
  OpenFails(folder / "t.npy", {{"x", DType::kFloat32, {-1, 2, 1}}}, "[1,2]");
  OpenFails(folder / "t.npy", {{"x", DType::kFloat32, {1, 2}}, {"y", DType::kFloat32, {1, 2}}},
            "x, y");
  WriteNpy(folder / "s.npy", Tensor::Scalar(1.0F).view());
  OpenFails(folder / "s.npy", kRows, "scalar");
}

TEST(Dataset, NonFiniteValuesNameSampleAndInput) {
  const TestFolder folder;
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    WriteNpy(folder / "t.npy", Tensor::Of<float>(Shape{2, 2}, {1, 2, 3, bad}).view());
    const Dataset data = Open(folder / "t.npy");
    EXPECT_EQ(data.Load(0).inputs.size(), 1u);
    ExpectError(
        ErrorCode::kBadData, [&] { (void)data.Load(1); }, "t.npy[1]", "'x'", "element 1",
        std::isnan(bad) ? "NaN" : "infinite");
    ExpectError(
        ErrorCode::kBadData, [&] { (void)data.LoadBatch(0, 2); }, "t.npy[1]");
  }
  // A double beyond float32 becomes infinite, and is told so.
  WriteNpy(folder / "t.npy", Tensor::Of<double>(Shape{1, 2}, {1e300, 0}).view());
  ExpectError(
      ErrorCode::kBadData, [&] { (void)Open(folder / "t.npy").Load(0); }, "infinite");
}

TEST(Dataset, PreprocessingOfArrays) {
  const TestFolder folder;
  // uint8 [N,H,W,3]: as image files, resized too.
  Tensor stored(DType::kUint8, Shape{1, 4, 4, 3});
  for (auto& v : stored.mutable_data<uint8_t>()) v = 255;
  WriteNpy(folder / "i.npy", stored.view());
  DatasetOptions torch{
      .preprocess = MakePreprocess({.preset = "imagenet-torch", .resize = "2", .crop = "2"}),
      .labels = {}};
  const Sample image = Open(folder / "i.npy", kImages, torch).Load(0);
  EXPECT_EQ(image.inputs[0].shape(), (Shape{1, 3, 2, 2}));
  EXPECT_EQ(image.inputs[0].data<float>()[4], static_cast<float>((1.0 - 0.456) / 0.224));
  // float32 [N,3,H,W]: normalized over the channel axis.
  Tensor floats(DType::kFloat32, Shape{1, 3, 2, 2});
  for (auto& v : floats.mutable_data<float>()) v = 255.0F;
  WriteNpy(folder / "f.npy", floats.view());
  EXPECT_EQ(Open(folder / "f.npy", kImages, torch).Load(0).inputs[0].data<float>()[4],
            static_cast<float>((1.0 - 0.456) / 0.224));
  // Without a channel axis only one mean and deviation make sense.
  WriteNpy(folder / "r.npy", Rows(1).view());
  EXPECT_EQ(Open(folder / "r.npy", kRows,
                 {.preprocess = MakePreprocess({.mean = "3", .std = "2"}), .labels = {}})
                .Load(0)
                .inputs[0]
                .data<float>()[1],
            -1.0F);
  ExpectError(
      ErrorCode::kBadData, [&] { (void)Open(folder / "r.npy", kRows, torch); }, "resize and crop");
  ExpectError(
      ErrorCode::kBadData,
      [&] {
        (void)Open(folder / "r.npy", kRows,
                   {.preprocess = MakePreprocess({.mean = "1,2,3"}), .labels = {}});
      },
      "takes no images");
  ExpectError(
      ErrorCode::kBadData,
      [&] {
        (void)Open(folder / "f.npy", kImages,
                   {.preprocess = MakePreprocess({.order = "bgr"}), .labels = {}});
      },
      "bgr");
}

TEST(Dataset, SelectAndHash) {
  const TestFolder folder;
  WriteNpy(folder / "t.npy", Rows(5).view());
  const Dataset data = Open(folder / "t.npy");
  const Dataset tail = data.Select(1, -1).Select(1, 3);
  ASSERT_EQ(tail.size(), 3);
  EXPECT_EQ(tail.NameOf(0), "t.npy[2]");
  EXPECT_EQ(tail.Load(2).inputs[0].data<float>()[0], 8.0F);
  EXPECT_NE(tail.ContentHash(), data.ContentHash());
  EXPECT_EQ(data.Select(0, 5).ContentHash(), data.ContentHash());
  ExpectError(
      ErrorCode::kBadData, [&] { (void)data.Select(5, -1); }, "5 samples");
  ExpectError(
      ErrorCode::kBadData, [&] { (void)data.Select(2, 4); }, "asked for 4");
  ExpectError(
      ErrorCode::kBadData, [&] { (void)data.Select(0, 0); }, "asked for 0");
  const std::string before = data.ContentHash();
  WriteNpy(folder / "t.npy", Rows(5, 0.5F).view());
  EXPECT_NE(Open(folder / "t.npy").ContentHash(), before);
}

TEST(Dataset, InMemoryGivesTheSameSamples) {
  const TestFolder folder;
  WriteNpy(folder / "t.npy", Rows(5).view());
  const Dataset data = Open(folder / "t.npy").Select(1, 3);
  const Dataset kept = data.InMemory(int64_t{1} << 20);
  const Dataset part = kept.Select(1, 2);
  EXPECT_EQ(kept.ContentHash(), data.ContentHash());
  for (int64_t i = 0; i < 2; ++i) {
    const Sample a = data.Load(i + 1);
    const Sample b = part.Load(i);
    EXPECT_EQ(a.name, b.name);
    ASSERT_EQ(a.inputs[0].elements(), b.inputs[0].elements());
    for (int64_t e = 0; e < a.inputs[0].elements(); ++e) {
      EXPECT_EQ(a.inputs[0].data<float>()[static_cast<size_t>(e)],
                b.inputs[0].data<float>()[static_cast<size_t>(e)]);
    }
  }
  // Kept samples are lent, not copied; those that are too large are read anew.
  EXPECT_EQ(part.Load(0).inputs[0].raw(), part.Load(0).inputs[0].raw());
  const Dataset large = data.InMemory(1);
  EXPECT_NE(large.Load(0).inputs[0].raw(), kept.Load(0).inputs[0].raw());
}

TEST(Dataset, HashKnowsNamesLabelsAndBytes) {
  const TestFolder folder;
  folder.Write("a.png", Picture(1));
  folder.Write("b.png", Picture(1));
  const auto hash = [&](std::string_view rows) {
    folder.Write("labels.csv", Cat("file,label\n", rows));
    return Open(folder.path(), kImages).ContentHash();
  };
  const std::string first = hash("a.png,1\n");
  EXPECT_EQ(hash("a.png,1\r\n"), first);
  EXPECT_NE(hash("b.png,1\n"), first);
  EXPECT_NE(hash("a.png,2\n"), first);
  folder.Write("a.png", Picture(2));
  EXPECT_NE(hash("a.png,1\n"), first);
}

TEST(Dataset, WhatCannotBeOpened) {
  const TestFolder folder;
  ExpectError(
      ErrorCode::kIo, [&] { (void)Open(folder / "missing"); }, "missing");
  OpenFails(folder.path(), kImages, folder.path().string(), "no samples");
  OpenFails(folder.Write("d.txt", "x"), kRows, "d.txt", ".npy");
  WriteNpy(folder / "e.npy", Rows(0).view());
  OpenFails(folder / "e.npy", kRows, "no samples");
  std::filesystem::create_directory(folder / "i");
  folder.Write("i/a.png", Picture(1));
  OpenFails(folder / "i", kRows, "takes no images");
  OpenFails(folder / "i", {kImages[0], kRows[0]}, "image, x");
  folder.Write("i/a.png", "");
  ExpectError(
      ErrorCode::kBadFile, [&] { (void)Open(folder / "i", kImages).Load(0); }, "a.png");
  std::filesystem::remove(folder / "i/a.png");
  std::filesystem::create_symlink("nowhere", folder / "i/a.png");
  ExpectError(
      ErrorCode::kIo, [&] { (void)Open(folder / "i", kImages).Load(0); }, "a.png");
}

TEST(Dataset, LoadsFromSeveralThreads) {
  const TestFolder folder;
  for (int i = 0; i < 16; ++i)
    folder.Write(Cat("f", i + 10, ".png"), Picture(static_cast<uint8_t>(i + 1)));
  const Dataset data = Open(folder.path(), kImages);
  const ThreadScope threads(4);
  std::vector<float> seen(16);
  ParallelForEach(16, [&](int64_t i) {
    seen[static_cast<size_t>(i)] = data.Load(i).inputs[0].data<float>()[1];
  });
  for (size_t i = 0; i < 16; ++i) EXPECT_EQ(seen[i], static_cast<float>(i + 1));
}

}  // namespace
}  // namespace octet
