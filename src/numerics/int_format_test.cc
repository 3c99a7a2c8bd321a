#include "numerics/int_format.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "octet/error.h"

namespace octet {
namespace {

TEST(IntFormat, HasTheCodesOfItsName) {
  struct Case {
    const char* name;
    int32_t qmin;
    int32_t qmax;
  };
  for (const Case& c :
       {Case{"int8", -128, 127}, Case{"uint8", 0, 255}, Case{"int4", -8, 7}, Case{"uint4", 0, 15},
        Case{"int8-narrow", -127, 127}, Case{"int2", -2, 1}, Case{"int2-narrow", -1, 1},
        Case{"int16", -32768, 32767}, Case{"uint16", 0, 65535}}) {
    const IntFormat format = IntFormat::Parse(c.name);
    EXPECT_EQ(format.qmin(), c.qmin) << c.name;
    EXPECT_EQ(format.qmax(), c.qmax) << c.name;
    EXPECT_EQ(format.levels(), c.qmax - c.qmin + 1) << c.name;
    EXPECT_EQ(format.Name(), c.name);
  }
  EXPECT_EQ(IntFormat::Parse("int8-narrow"), kInt8Narrow);
}

TEST(IntFormat, RefusesOtherNames) {
  for (const char* name :
       {"", "int", "u", "uint", "int1", "int17", "int08", "int8 ", " int8", "Int8", "uint8-narrow",
        "int8-wide", "-narrow", "int8-narrow-narrow", "int-8", "int99999999999", "e4m3fn"}) {
    try {
      (void)IntFormat::Parse(name);
      ADD_FAILURE() << "'" << name << "' was taken";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument) << name;
      EXPECT_THAT(error.what(), testing::HasSubstr(std::string("'") + name + "'"));
    }
  }
}

}  // namespace
}  // namespace octet
