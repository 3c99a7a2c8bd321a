#include "quantize/manifest.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/test_folder.h"

namespace octet {
namespace {

TEST(Manifest, SaysWhatWentInAndWhatWasChosen) {
  ManifestOrigin origin{"0.1.0", "portable", "abc", "def", R"({"scale": 0.5})"};
  QuantizeResult result;
  result.samples = 3;
  result.activations.push_back({"b \xff", -1, 2, 0.25F, 7, "uint8", "mse", 0});  // no UTF-8
  result.activations.push_back({"a", 0, 1, 0.5F, 0, "e4m3", "minmax", 0});
  result.kept_float.push_back({"conv", "Conv", "its weight is no constant"});
  const std::string text = ManifestJson(origin, Recipe(), result);
  EXPECT_EQ(text, ManifestJson(origin, Recipe(), result));
  const auto j = nlohmann::ordered_json::parse(text);
  EXPECT_EQ(j["model_sha256"], "abc");
  EXPECT_EQ(j["data_sha256"], "def");
  EXPECT_EQ(j["preprocess"]["scale"], 0.5);
  EXPECT_EQ(j["samples"], 3);
  EXPECT_EQ(Recipe::Parse(j["recipe"].get<std::string>()).ToYaml(), Recipe().ToYaml());
  EXPECT_EQ(j["activations"].begin()->at("zero_point"), 7);  // in the order of the graph
  EXPECT_EQ(j["activations"]["a"]["scale"], 0.5);
  EXPECT_EQ(j["kept_float"]["conv"], "its weight is no constant");

  origin.data_sha256.clear();
  EXPECT_FALSE(nlohmann::json::parse(ManifestJson(origin, Recipe(), {})).contains("data_sha256"));
  origin.preprocess_json = "{";
  ExpectError(
      ErrorCode::kInternal, [&] { (void)ManifestJson(origin, Recipe(), {}); }, "preprocessing");
}

}  // namespace
}  // namespace octet
