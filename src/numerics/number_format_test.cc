#include "numerics/number_format.h"

#include <gtest/gtest.h>

#include "base/test_folder.h"

namespace octet {
namespace {

TEST(NumberFormat, ReadsEitherKind) {
  const NumberFormat integer = NumberFormat::Parse("uint4");
  EXPECT_FALSE(integer.is_float());
  EXPECT_EQ(integer.integer(), IntFormat::Parse("uint4"));
  EXPECT_EQ(integer.bits(), 4);
  EXPECT_FALSE(integer.is_signed());
  const NumberFormat floating = NumberFormat::Parse("e2m3:bias=int");
  EXPECT_TRUE(floating.is_float());
  EXPECT_EQ(floating.floating(), FloatFormat::Parse("e2m3:bias=int"));
  EXPECT_EQ(floating.bits(), 6);
  EXPECT_TRUE(floating.is_signed());
  EXPECT_EQ(NumberFormat(), NumberFormat(kInt8));
  for (const char* name : {"int8", "uint16", "int8-narrow", "e4m3", "ue4m4", "float8_e5m2"}) {
    EXPECT_EQ(NumberFormat::Parse(name).Name(), name);
  }
  ExpectError(
      ErrorCode::kInvalidArgument, [&] { (void)integer.floating(); }, "uint4");
  ExpectError(
      ErrorCode::kInvalidArgument, [&] { (void)floating.integer(); }, "e2m3:bias=int");
}

TEST(NumberFormat, RefusesOtherNames) {
  for (const char* name : {"", "u", "fp8", "int", "e9m9", "float8", "uint8-narrow", "Int8"}) {
    ExpectError(
        ErrorCode::kInvalidArgument, [&] { (void)NumberFormat::Parse(name); },
        std::string("'") + name + "'");
  }
}

}  // namespace
}  // namespace octet
