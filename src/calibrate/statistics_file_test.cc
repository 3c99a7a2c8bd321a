#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>

#include "calibrate/statistics.h"
#include "octet/error.h"

namespace octet {
namespace {

using testing::HasSubstr;

Statistics Small() {
  Statistics statistics;
  statistics.identity["model"] = "abc \"quoted\" \n";
  statistics.AddSample("s2");
  statistics.AddSample("s1");
  statistics.AddSample("s2");
  const std::vector<float> x = {1, -2, 3, 0, -0.0F, 1e-40F, 5.5F, 1e20F, std::nanf(""), 2, 2, 2};
  statistics.Observe("a/b", {DType::kFloat32, Shape{1, 3, 4}, x.data()}, 1);
  statistics.Observe("none", {DType::kFloat32, Shape{4}, x.data()}, -1);
  statistics.Observe("empty", {DType::kFloat32, Shape{0, 2}, x.data()}, 1);
  return statistics;
}

bool Same(const NamedTensors& a, const NamedTensors& b) {
  if (a.metadata != b.metadata || a.tensors.size() != b.tensors.size()) return false;
  for (const auto& [name, tensor] : a.tensors) {
    const auto other = b.tensors.find(name);
    if (other == b.tensors.end() || other->second.dtype() != tensor.dtype() ||
        !(other->second.shape() == tensor.shape()) ||
        (tensor.bytes() > 0 && std::memcmp(other->second.raw(), tensor.raw(),
                                           static_cast<size_t>(tensor.bytes())) != 0)) {
      return false;
    }
  }
  return true;
}

TEST(StatisticsFile, RoundTrips) {
  const NamedTensors file = Small().ToTensors();
  EXPECT_EQ(file.metadata.at("samples"), R"(["s1","s2","s2"])");
  const Statistics back = Statistics::FromTensors(file);
  EXPECT_TRUE(Same(back.ToTensors(), file));
  EXPECT_EQ(back.identity, Small().identity);
  EXPECT_EQ(back.At("a/b").non_finite(), 1U);
  EXPECT_EQ(back.At("a/b").channel_max()[1], 1e20F);
  EXPECT_EQ(back.At("none").channel_axis(), -1);
  // What was read merges as what was written.
  Statistics merged = Small();
  merged.Merge(back);
  Statistics twice = Small();
  twice.Merge(Small());
  EXPECT_TRUE(Same(merged.ToTensors(), twice.ToTensors()));
}

TEST(StatisticsFile, RefusesHostileContents) {
  using Change = std::function<void(NamedTensors&)>;
  const float nan = std::nanf("");
  struct Case {
    const char* words;
    Change change;
  };
  const auto set = [](const char* name, auto index, auto value) {
    return [=](NamedTensors& file) {
      file.tensors.at(name).mutable_data<decltype(value)>()[static_cast<size_t>(index)] = value;
    };
  };
  const Case cases[] = {
      {"format", [](auto& f) { f.metadata.erase("format"); }},
      {"expected 'octet.statistics'", [](auto& f) { f.metadata["format"] = "pt"; }},
      {"version '2'", [](auto& f) { f.metadata["version"] = "2"; }},
      {"'identity'", [](auto& f) { f.metadata["identity"] = "{"; }},
      {"'identity'", [](auto& f) { f.metadata["identity"] = R"({"model":7})"; }},
      {"'identity'", [](auto& f) { f.metadata["identity"] = R"({"a":"1","a":"2"})"; }},
      {"identity or samples", [](auto& f) { f.metadata["identity"] = "[]"; }},
      {"'samples'", [](auto& f) { f.metadata["samples"] = R"(["b", "a"])"; }},
      {"not sorted", [](auto& f) { f.metadata["samples"] = R"(["b","a"])"; }},
      {"unexpected tensor 'stray'", [](auto& f) { f.tensors["stray"] = Tensor::Scalar<float>(1); }},
      {"unexpected tensor 'x/y'", [](auto& f) { f.tensors["x/y"] = Tensor::Scalar<float>(1); }},
      {"expected five", [](auto& f) { f.tensors["x/bins"] = Tensor::Scalar<float>(1); }},
      {"expected five", [](auto& f) { f.tensors.erase("none/sums"); }},
      {"'none/sums'",
       [](auto& f) {
         f.tensors.erase("none/sums");
         f.tensors["x/sums"] = Tensor::Scalar<float>(1);
       }},
      {"expected int64 of rank 1",
       [](auto& f) { f.tensors["none/about"] = Tensor::Scalar<float>(1); }},
      {"axis", set("none/about", 0, int64_t{8})},
      {"axis", set("none/about", 0, int64_t{-2})},
      {"axis", set("none/about", 1, int64_t{-1})},
      {"do not fit together", set("a/b/about", 0, int64_t{-1})},
      {"do not fit together",
       [](auto& f) {
         f.tensors["none/extrema"] = Tensor(DType::kFloat32, Shape{2, 2});
       }},
      {"do not fit together",
       [](auto& f) {
         f.tensors["none/sums"] = Tensor(DType::kUint64, Shape{2, 1, 3});
       }},
      {"do not fit together",
       [](auto& f) { f.tensors["none/counts"] = Tensor(DType::kUint64, Shape{1}); }},
      {"extends from nan", set("none/extrema", 0, nan)},
      {"extends from 9", set("none/extrema", 0, 9.0F)},
      {"extends from -0", set("a/b/extrema", 1, -0.0F)},
      {"outermost bins", set("none/extrema", 1, 4.0F)},
      {"outermost bins", set("none/extrema", 0, -1.0F)},
      {"sum out of range", set("none/sums", 3, uint64_t{1} << 62)},
      {"sum out of range", set("none/sums", 7, (uint64_t{1} << 63) + 1)},
      {"not ascending", set("none/bins", 1, uint16_t{0})},
      {"is not finite", set("none/bins", 3, uint16_t{0xffff})},
      {"counts 0", set("none/counts", 0, uint64_t{0})},
      {"counts 1844", set("none/counts", 0, ~uint64_t{0})},
      {"elements in 3 channels", set("a/b/counts", 0, uint64_t{2})},
      {"has no elements",
       [](auto& f) {
         const float inf = std::numeric_limits<float>::infinity();
         f.tensors.at("none/extrema") = Tensor::Of<float>(Shape{2, 1}, {inf, -inf});
       }},
  };
  for (const Case& c : cases) {
    NamedTensors file = Small().ToTensors();
    c.change(file);
    try {
      (void)Statistics::FromTensors(file);
      ADD_FAILURE() << "was read; expected " << c.words;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kBadFile) << error.what();
      EXPECT_THAT(error.what(), HasSubstr(c.words));
    }
  }
}

TEST(StatisticsFile, CountsThatOverflowAreRefused) {
  NamedTensors file = Small().ToTensors();
  for (uint64_t& count : file.tensors.at("none/counts").mutable_data<uint64_t>()) {
    count = (uint64_t{1} << 62) - 1;
  }
  EXPECT_THROW((void)Statistics::FromTensors(file), Error);
}

// Any single byte changed: read back into something that writes the same bytes, or refused with
// kBadFile.
TEST(StatisticsFile, EveryFlippedBitIsRefusedOrCanonical) {
  std::mt19937 random(12);
  int read = 0;
  for (int i = 0; i < 3000; ++i) {
    NamedTensors file = Small().ToTensors();
    auto tensor = std::next(file.tensors.begin(), static_cast<int>(random() % file.tensors.size()));
    if (tensor->second.bytes() == 0) continue;
    auto* bytes = static_cast<uint8_t*>(tensor->second.mutable_raw());
    bytes[random() % static_cast<size_t>(tensor->second.bytes())] ^=
        static_cast<uint8_t>(1U << (random() % 8));
    try {
      EXPECT_TRUE(Same(Statistics::FromTensors(file).ToTensors(), file)) << tensor->first;
      ++read;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kBadFile) << error.what();
    }
  }
  EXPECT_GT(read, 0);
}

TEST(StatisticsFile, RefusesToWriteWhatIsNotText) {
  Statistics statistics;
  statistics.identity["model"] = "\xff";
  EXPECT_THROW((void)statistics.ToTensors(), Error);
}

}  // namespace
}  // namespace octet
