#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "base/test_folder.h"
#include "files/dataset.h"

namespace octet {
namespace {

const std::vector<InputSpec> kImage = {{"x", DType::kFloat32, {-1, 3, 20, 20}}};

template <typename F>
Sample Make(const F& value) {
  Sample sample{.name = "s", .inputs = {}, .label = std::nullopt};
  Tensor t(DType::kFloat32, Shape{1, 3, 20, 20});
  auto out = t.mutable_data<float>();
  for (size_t i = 0; i < out.size(); ++i) out[i] = value(static_cast<int>(i));
  sample.inputs.push_back(std::move(t));
  return sample;
}

float Smooth(int i) { return std::sin(static_cast<float>(i) * 0.1F); }

TEST(DataCheck, GoodDataPassWithoutWarnings) {
  DataCheck check(kImage);
  check.Observe(Make(Smooth));
  check.Observe(Make([](int i) { return 0.5F * Smooth(i + 7); }));
  EXPECT_TRUE(check.Finish().empty());
}

TEST(DataCheck, ConstantAndZeroAreRefused) {
  DataCheck constant(kImage);
  constant.Observe(Make([](int) { return 3.0F; }));
  constant.Observe(Make([](int) { return 4.0F; }));
  ExpectError(
      ErrorCode::kBadData, [&] { (void)constant.Finish(); }, "every sample is constant",
      "images or activations");
  DataCheck zero(kImage);
  zero.Observe(Make([](int) { return 0.0F; }));
  ExpectError(
      ErrorCode::kBadData, [&] { (void)zero.Finish(); }, "every sample is zero");
  zero.Observe(Make(Smooth));  // one good sample suffices
  EXPECT_TRUE(zero.Finish().empty());
  ExpectError(
      ErrorCode::kBadData, [] { (void)DataCheck(kImage).Finish(); }, "no samples");
}

TEST(DataCheck, AConstantInputBesideAGoodOneIsAWarning) {
  DataCheck check({kImage[0], {"mask", DType::kInt64, {-1, 4}}, {"step", DType::kInt64, {-1}}});
  Sample sample = Make(Smooth);
  sample.inputs.push_back(Tensor::Of<int64_t>(Shape{1, 4}, {1, 1, 1, 1}));
  sample.inputs.push_back(Tensor::Of<int64_t>(Shape{1}, {5}));
  check.Observe(sample);
  const auto warnings = check.Finish();
  ASSERT_EQ(warnings.size(), 1u);  // one element cannot vary
  EXPECT_EQ(warnings[0], "input 'mask': every sample is constant");
}

TEST(DataCheck, NoiseIsRefusedUnlessAllowed) {
  std::mt19937 engine(7);
  std::normal_distribution<float> normal;
  const auto fill = [&](DataCheck& check) {
    for (int i = 0; i < 4; ++i) check.Observe(Make([&](int) { return normal(engine); }));
  };
  DataCheck check(kImage);
  fill(check);
  ExpectError(
      ErrorCode::kBadData, [&] { (void)check.Finish(); }, "'x'", "noise");
  check.Observe(Make(Smooth));
  EXPECT_TRUE(check.Finish().empty());
  DataCheck allowed(kImage, /*allow_noise=*/true);
  fill(allowed);
  EXPECT_TRUE(allowed.Finish().empty());
}

TEST(DataCheck, RawPixelsLargeValuesAndCopiesAreWarnedOf) {
  DataCheck raw(kImage);
  raw.Observe(Make([](int i) { return static_cast<float>(i % 200); }));
  raw.Observe(Make([](int i) { return static_cast<float>(i % 200); }));
  const auto warnings = raw.Finish();
  ASSERT_EQ(warnings.size(), 2u);
  EXPECT_NE(warnings[0].find("all 2 samples are the same"), std::string::npos);
  EXPECT_NE(warnings[1].find("raw pixels"), std::string::npos);
  DataCheck large(kImage);
  large.Observe(Make([](int i) { return 3e5F * Smooth(i); }));
  EXPECT_NE(large.Finish().at(0).find("normalized as in training"), std::string::npos);
}

}  // namespace
}  // namespace octet
