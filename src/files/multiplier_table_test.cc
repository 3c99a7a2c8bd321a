#include "files/multiplier_table.h"

#include <gtest/gtest.h>

#include "base/file.h"
#include "base/test_folder.h"
#include "files/npy.h"

namespace octet {
namespace {

IntegerTable Products() {
  IntegerTable t{256, 256, {}};
  for (int64_t x = 0; x < 256; ++x)
    for (int64_t w = 0; w < 256; ++w)
      t.values.push_back(static_cast<int8_t>(x) * static_cast<int8_t>(w));
  return t;
}

TEST(MultiplierTable, CsvAndNpyReadBack) {
  const TestFolder folder;
  IntegerTable t = Products();
  for (const char* name : {"t.csv", "t.npy"}) {
    WriteIntegerTable(folder / name, t, "products", "int8 products");
    EXPECT_EQ(ReadMultiplierTable(folder / name), t.values) << name;
  }
  EXPECT_EQ(ReadNpy(folder / "t.npy").dtype(), DType::kInt32);
  t.values[7] = -(int64_t{1} << 40);
  WriteIntegerTable(folder / "t.npy", t, "products", "");
  EXPECT_EQ(ReadMultiplierTable(folder / "t.npy"), t.values);
}

TEST(MultiplierTable, EveryElementType) {
  const TestFolder folder;
  const auto read = [&](const Tensor& tensor) {
    WriteNpy(folder / "t.npy", tensor.view());
    return ReadMultiplierTable(folder / "t.npy")[259];
  };
  const Shape shape{256, 256};
  EXPECT_EQ(read(Tensor::Of<int8_t>(shape, std::vector<int8_t>(65536, -3))), -3);
  EXPECT_EQ(read(Tensor::Of<uint8_t>(shape, std::vector<uint8_t>(65536, 200))), 200);
  EXPECT_EQ(read(Tensor::Of<int16_t>(shape, std::vector<int16_t>(65536, -300))), -300);
  EXPECT_EQ(read(Tensor::Of<uint16_t>(shape, std::vector<uint16_t>(65536, 60000))), 60000);
  EXPECT_EQ(read(Tensor::Of<uint32_t>(shape, std::vector<uint32_t>(65536, 4000000000U))),
            4000000000);
  EXPECT_EQ(read(Tensor::Of<float>(shape, std::vector<float>(65536, -12.0F))), -12);
  EXPECT_EQ(read(Tensor::Of<double>(shape, std::vector<double>(65536, 0x1p40))), int64_t{1} << 40);
  ExpectError(
      ErrorCode::kBadFile,
      [&] { (void)read(Tensor::Of<float>(shape, std::vector<float>(65536, 0.5F))); }, "[0,0]",
      "integer");
  ExpectError(
      ErrorCode::kUnsupported,
      [&] { (void)read(Tensor::Of<uint64_t>(shape, std::vector<uint64_t>(65536, 1))); }, "uint64",
      "uint8 to uint32");
  ExpectError(
      ErrorCode::kBadFile,
      [&] {
        (void)read(Tensor::Of<float>({2, 3}, std::vector<float>(6, 0.5F)));
      },
      "[2,3]", "[256,256]");
}

TEST(MultiplierTable, RefusesBadCsv) {
  const TestFolder folder;
  const auto refused = [&](const std::string& text, const char* word) {
    folder.Write("t.csv", text);
    ExpectError(
        ErrorCode::kBadFile, [&] { (void)ReadMultiplierTable(folder / "t.csv"); }, "t.csv", word);
  };
  std::string row, whole;
  for (int i = 0; i < 256; ++i) row += i == 255 ? "1\r\n" : "1, ";
  for (int i = 0; i < 256; ++i) whole += row;
  folder.Write("t.csv", whole);
  EXPECT_EQ(ReadMultiplierTable(folder / "t.csv"), std::vector<int64_t>(65536, 1));
  // As Excel and numpy.savetxt write them.
  std::string floats = "\xEF\xBB\xBF";
  for (int i = 0; i < 256; ++i) {
    for (int j = 0; j < 255; ++j) floats += "-6.400000000000000000e+01,";
    floats += "1.0\n";
  }
  folder.Write("t.csv", floats);
  EXPECT_EQ(ReadMultiplierTable(folder / "t.csv")[511], 1);
  EXPECT_EQ(ReadMultiplierTable(folder / "t.csv")[512], -64);
  refused("1,nan\n", "'nan'");
  refused("1,1e19\n", "'1e19'");
  refused("1,1e400\n", "'1e400'");
  refused("", "0 rows");
  refused(row, "1 rows");
  refused("1,2\n", "2 columns");
  refused("1,,2\n", "column 2");
  refused("1,2.5\n", "'2.5'");
  refused(whole + row, "row 257");
  refused("1,99999999999999999999\n", "integer");
  ExpectError(
      ErrorCode::kUnsupported, [&] { (void)ReadMultiplierTable(folder / "t.txt"); }, ".txt",
      ".npy or .csv");
  ExpectError(
      ErrorCode::kIo, [&] { (void)ReadMultiplierTable(folder / "none.csv"); }, "none.csv");
}

TEST(MultiplierTable, HeaderAndHex) {
  const TestFolder folder;
  const IntegerTable t{2, 3, {0, 1, -1, 127, -128, 5}};
  WriteIntegerTable(folder / "t.h", t, "comp_e3m4_d3", "C of e3m4");
  EXPECT_EQ(
      ReadFile(folder / "t.h"),
      "// C of e3m4\n#pragma once\n\n#include <stdint.h>\n\n"
      "static const int8_t comp_e3m4_d3[2][3] = {\n    {0, 1, -1},\n    {127, -128, 5},\n};\n");
  WriteIntegerTable(folder / "t.hex", t, "comp", "C of e3m4");
  EXPECT_EQ(ReadFile(folder / "t.hex"),
            "// C of e3m4\n// 2 x 3, row by row, 8-bit two's complement\n00\n01\nff\n7f\n80\n05\n");
  const IntegerTable wide{1, 2, {128, -1}};
  WriteIntegerTable(folder / "t.hex", wide, "comp", "wide");
  EXPECT_NE(ReadFile(folder / "t.hex").find("080\nfff\n"), std::string::npos);
  ExpectError(
      ErrorCode::kUnsupported, [&] { WriteIntegerTable(folder / "t.v", t, "a", "b"); }, ".v",
      ".hex");
}

TEST(Operands, AreWrittenAsTheyAre) {
  const TestFolder folder;
  const std::vector<uint8_t> x = {1, 255, 3, 0}, w = {1, 2, 3, 4, 5, 6};
  const std::vector<int64_t> table(65536, 7), sums = {1, -2, 3, int64_t{1} << 40, 5, 6};
  const std::vector<int32_t> table_of = {0, 0, 0};
  const std::vector<float> unit = {0.1F, 1, 1}, bias = {0, 0, -0.5F}, y = {1, 2, 3, 4, 5, 6};
  LayerOperands o{"/features/conv 1", "{}\n", 2,    2,    3, 1, x, w, {table},
                  table_of,           sums,   unit, bias, y};
  const auto paths = WriteOperands(folder / "made", o, OperandFiles::kCsv);
  EXPECT_EQ(paths.size(), 9U);
  const auto text = [&](const char* what) {
    return ReadFile(folder / (std::string("made/_features_conv_1.") + what));
  };
  EXPECT_EQ(text("json"), "{}\n");
  EXPECT_EQ(text("x.csv"), "1,255\n3,0\n");
  EXPECT_EQ(text("w.csv"), "1,2\n3,4\n5,6\n");
  EXPECT_EQ(text("unit.csv"), "0.1,1,1\n");
  EXPECT_EQ(text("sum.csv"), "1,-2,3\n1099511627776,5,6\n");
  WriteOperands(folder / "made", o, OperandFiles::kNpy);
  const Tensor read = ReadNpy(folder / "made/_features_conv_1.sum.npy");
  EXPECT_EQ(read.shape(), (Shape{2, 3}));
  EXPECT_EQ(read.data<int64_t>()[3], int64_t{1} << 40);
  EXPECT_EQ(ReadMultiplierTable(folder / "made/_features_conv_1.table0.npy"), table);
  o.k = 3;
  ExpectError(
      ErrorCode::kInvalidArgument,
      [&] { (void)WriteOperands(folder.path(), o, OperandFiles::kNpy); }, "conv 1", "2 x 3");
}

}  // namespace
}  // namespace octet
