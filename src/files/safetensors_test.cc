#include "files/safetensors.h"

#include <gtest/gtest.h>

#include <cstring>

#include "base/file.h"
#include "base/test_folder.h"

namespace octet {
namespace {

std::string File(std::string_view header, std::string_view data) {
  std::string s;
  for (size_t i = 0; i < 8; ++i) s += static_cast<char>(uint64_t{header.size()} >> (8 * i) & 0xff);
  return s.append(header).append(data);
}

NamedTensors Parse(const std::string& file) {
  return ParseSafetensors(BytesOf(file), "x.safetensors", nullptr);
}

NamedTensors Small() {
  NamedTensors t;
  t.tensors["weight"] = Tensor::Of<float>(Shape{2, 2}, {1.0F, -2.0F, 3.5F, 0.0F});
  t.tensors["codes"] = Tensor::Of<int8_t>(Shape{3}, {-128, 0, 127});
  t.tensors["steps"] = Tensor::Of<int64_t>(Shape{}, {42});
  t.tensors["none"] = Tensor(DType::kFloat16, Shape{0, 4});
  t.metadata["format"] = "octet";
  t.metadata["quote"] = "\"é\"";
  return t;
}

TEST(Safetensors, RoundTripIsTheSameBytes) {
  const TestFolder folder;
  WriteSafetensors(folder / "a", Small());
  const NamedTensors back = ReadSafetensors(folder / "a");
  WriteSafetensors(folder / "b", back);
  EXPECT_EQ(ReadFile(folder / "a"), ReadFile(folder / "b"));
  EXPECT_EQ(back.metadata, Small().metadata);
  ASSERT_EQ(back.tensors.size(), 4u);
  EXPECT_EQ(back.tensors.at("weight").data<float>()[2], 3.5F);
  EXPECT_EQ(back.tensors.at("codes").data<int8_t>()[0], -128);
  EXPECT_EQ(back.tensors.at("steps").data<int64_t>()[0], 42);
  EXPECT_EQ(back.tensors.at("none").shape(), (Shape{0, 4}));
  EXPECT_EQ(folder.EntryCount(), 2u);
}

TEST(Safetensors, EveryTensorLiesAligned) {
  const TestFolder folder;
  WriteSafetensors(folder / "a", Small());
  const auto file = std::make_shared<MappedFile>(folder / "a");
  const auto* begin = file->bytes().data();
  const NamedTensors back = ParseSafetensors(file->bytes(), "a", file);
  for (const auto& [name, tensor] : back.tensors) {
    const auto* at = static_cast<const std::byte*>(tensor.raw());
    EXPECT_TRUE(at >= begin && at <= begin + file->bytes().size()) << name << " was copied";
    EXPECT_EQ((at - begin) % SizeOf(tensor.dtype()), 0) << name;
  }
}

TEST(Safetensors, ReadsTheReferenceFile) {
  // safetensors.numpy.save({"b": arange(2, uint16), "a": array([True])}, {"k": "v"}) of safetensors
  // 0.6
  const std::string file =
      File(R"({"__metadata__":{"k":"v"},"b":{"dtype":"U16","shape":[2],"data_offsets":[0,4]},)"
           R"("a":{"dtype":"BOOL","shape":[1],"data_offsets":[4,5]}}   )",
           std::string("\0\0\1\0\1", 5));
  const NamedTensors t = Parse(file);
  EXPECT_EQ(t.metadata.at("k"), "v");
  EXPECT_EQ(t.tensors.at("b").data<uint16_t>()[1], 1);
  EXPECT_TRUE(t.tensors.at("a").data<bool>()[0]);
}

TEST(Safetensors, MisalignedTensorsAreCopied) {
  for (size_t pad = 0; pad < 8; ++pad) {
    const std::string header =
        R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})" + std::string(pad, ' ');
    const std::string file = File(header, std::string("\0\0\x80\x3f", 4));
    const NamedTensors t = Parse(file);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(t.tensors.at("a").raw()) % 4, 0u);
    EXPECT_EQ(t.tensors.at("a").data<float>()[0], 1.0F);
  }
}

TEST(Safetensors, EveryTruncationAndBitFlip) {
  const TestFolder folder;
  WriteSafetensors(folder / "a", Small());
  const std::string file = ReadFile(folder / "a");
  for (size_t n = 0; n < file.size(); ++n) {
    ExpectError(
        ErrorCode::kBadFile, [&] { (void)Parse(file.substr(0, n)); }, "x.safetensors");
  }
  for (size_t bit = 0; bit < file.size() * 8; ++bit) {
    std::string flipped = file;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
    try {
      (void)Parse(flipped);
    } catch (const Error& e) {
      EXPECT_NE(e.code(), ErrorCode::kInternal) << e.what();
    }
  }
}

TEST(Safetensors, Hostile) {
  const auto refused = [](ErrorCode code, const std::string& header, std::string_view data,
                          std::string_view part) {
    ExpectError(
        code, [&] { (void)Parse(File(header, data)); }, "x.safetensors", part);
  };
  const auto bad = ErrorCode::kBadFile;
  refused(
      bad,
      R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})",
      "abc", "overlap");
  refused(bad, R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})", "ab", "hole");
  refused(bad, R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})", "a", "cut short");
  refused(bad, R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})", "abc", "left over");
  refused(bad, R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,7]}})", "abcdefg", "8");
  refused(bad, R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[2,0]}})", "ab", "[begin, end]");
  refused(bad, R"({"a":{"dtype":"U8","shape":[-1],"data_offsets":[0,1]}})", "a", "shape");
  refused(bad, R"({"a":{"dtype":"U8","shape":[1.5],"data_offsets":[0,1]}})", "a", "shape");
  refused(bad, R"({"a":{"dtype":"U8","shape":[18446744073709551615],"data_offsets":[0,1]}})", "a",
          "shape");
  refused(bad, R"({"a":{"dtype":"F64","shape":[4611686018427387904,4],"data_offsets":[0,1]}})", "a",
          "2^63");
  refused(
      bad,
      R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
      "ab", "two entries 'a'");
  refused(bad, R"({"a":{"dtype":"U8","shape":[1]}})", "a", "expected {dtype");
  refused(bad, R"({"a":7})", "", "expected {dtype");
  refused(bad, R"([1])", "", "no JSON object");
  refused(bad, R"({"a")", "", "no JSON");
  refused(bad, "{\"\xff\":1}", "", "no JSON");
  refused(bad, R"({"__metadata__":{"a":1}})", "", "no string");
  refused(bad, R"({"__metadata__":{"a":)" + std::string(10000, '['), "", "nested");
  refused(bad, R"({"a":{"dtype":"BOOL","shape":[1],"data_offsets":[0,1]}})", "\2", "bool");
  refused(ErrorCode::kUnsupported, R"({"a":{"dtype":"F4","shape":[1],"data_offsets":[0,1]}})", "a",
          "F4");
  refused(ErrorCode::kUnsupported,
          R"({"a":{"dtype":"U8","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,1]}})", "a",
          "rank 9");
  ExpectError(
      bad, [] { (void)Parse(std::string("\xff\xff\xff\xff\xff\xff\xff\xff{}", 10)); }, "header of");
  ExpectError(
      bad, [] { (void)Parse(std::string("\0\x2d\x31\x01\0\0\0\0{}", 10)); }, "header of");
}

TEST(Safetensors, NamesMustBeUtf8) {
  const TestFolder folder;
  NamedTensors t;
  t.tensors["\xff"] = Tensor(DType::kInt8, Shape{1});
  ExpectError(
      ErrorCode::kInvalidArgument, [&] { WriteSafetensors(folder / "a", t); }, "UTF-8");
  EXPECT_EQ(folder.EntryCount(), 0u);
}

}  // namespace
}  // namespace octet
