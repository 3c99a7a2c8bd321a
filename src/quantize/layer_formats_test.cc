#include "quantize/layer_formats.h"

#include <gtest/gtest.h>

#include "base/test_folder.h"

namespace octet {
namespace {

using Choice = FormatRequest::Choice;

std::vector<std::string> NamesOf(const FormatRequest& request) {
  std::vector<std::string> names;
  for (const NumberFormat& f : request.formats) names.push_back(f.Name());
  return names;
}

TEST(ParseFormats, SaysWhatIsAskedFor) {
  using Names = std::vector<std::string>;
  EXPECT_EQ(ParseFormats("e4m3").choice, Choice::kGiven);
  EXPECT_EQ(NamesOf(ParseFormats("e4m3")), Names{"e4m3"});
  EXPECT_TRUE(ParseFormats("float32").stays_float());
  EXPECT_EQ(ParseFormats("search:int8,e3m4").choice, Choice::kSearch);
  EXPECT_EQ(NamesOf(ParseFormats("search:int8,e3m4")), (Names{"int8", "e3m4"}));
  EXPECT_EQ(ParseFormats("vote:e5m2,int8").choice, Choice::kVote);
  EXPECT_EQ(NamesOf(ParseFormats("vote:e5m2,int8")), (Names{"e5m2", "int8"}));
  // One format: every split of its bits, by ascending mantissa, as ties go to the first.
  EXPECT_EQ(NamesOf(ParseFormats("vote:e4m3:bias=int")),
            (Names{"e6m1:bias=int", "e5m2:bias=int", "e4m3:bias=int", "e3m4:bias=int",
                   "e2m5:bias=int", "e1m6:bias=int"}));
}

TEST(ParseFormats, RefusesWhatIsNoChoice) {
  const auto refused = [](const char* text, const char* why) {
    ExpectError(
        ErrorCode::kInvalidArgument, [&] { (void)ParseFormats(text); }, why);
  };
  refused("search:int8", "one format");
  refused("search:int8,int8", "twice");
  refused("vote:int8", "no mantissa");
  refused("search:int8,int9x", "int9x");
  ExpectError(
      ErrorCode::kInvalidArgument, [] { (void)ParseFormats("vote:e4m3fn"); }, "e4m3fn", "finite");
}

TEST(WeightEstimatorOf, RulesComeFirst) {
  const Recipe recipe = Recipe::Parse(
      "weight_estimator: mse\nlayers: [{match: 'a*', weight_estimator: line-search}]");
  EXPECT_EQ(WeightEstimatorOf(recipe, "ab").method, RangeMethod::kLineSearch);
  EXPECT_EQ(WeightEstimatorOf(recipe, "b").method, RangeMethod::kMse);
}

}  // namespace
}  // namespace octet
