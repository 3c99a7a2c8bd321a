#include "sweep/spec.h"

#include <gtest/gtest.h>

#include <map>

#include "base/test_folder.h"

namespace octet {
namespace {

// A reader of recipes that takes anything but `bad`.
std::string Read(const std::string& yaml, const std::string& origin) {
  if (yaml.find("bad") != std::string::npos)
    Fail(ErrorCode::kInvalidArgument, origin, ": this makes no sense");
  return yaml;
}

SweepSpec Parse(const std::string& text) {
  return ParseSweep("models: [m.onnx]\ndata: d\n" + text, "/folder", "s.yaml", Read);
}

std::string Labels(const SweepSpec& spec) {
  std::string all;
  for (const auto& p : spec.points) all += p.Label() + "\n";
  return all;
}

TEST(SweepSpec, GridsAreSpreadWithTheLastKeyFastest) {
  EXPECT_EQ(Labels(Parse("grid: {a: [1, 2], b: [x, y]}\n")),
            "a=1 b=x\na=1 b=y\na=2 b=x\na=2 b=y\n");
  EXPECT_EQ(Labels(Parse("grid: [{a: [1, 2]}, {b: 3}]\npoints: [{c: 4}]\n")),
            "a=1\na=2\nb=3\nc=4\n");
  EXPECT_EQ(Labels(Parse("base: {a: 1}\n")), "base\n");
}

TEST(SweepSpec, RangesHoldBothEndsAndReadAsWritten) {
  const SweepSpec spec = Parse("grid: {alpha: {from: 0.05, to: 0.95, step: 0.05}}\n");
  ASSERT_EQ(spec.points.size(), 19U);
  EXPECT_EQ(spec.points[0].settings[0].second, "0.05");
  EXPECT_EQ(spec.points[2].settings[0].second, "0.15");
  EXPECT_EQ(spec.points[18].settings[0].second, "0.95");
}

TEST(SweepSpec, CoupledKeysTakeOneValueOrOneEach) {
  EXPECT_EQ(Labels(Parse("grid: {a + b: [1, [2, 3]]}\n")), "a=1 b=1\na=2 b=3\n");
  ExpectError(
      ErrorCode::kInvalidArgument, [] { (void)Parse("grid: {a + b: [[1, 2, 3]]}\n"); }, "3 values",
      "s.yaml:3");
}

TEST(SweepSpec, BlocksInheritTheBase) {
  const SweepSpec spec = Parse(
      "base: {a: 1, b: 1}\n"
      "blocks:\n  - {name: one, grid: {c: [5]}}\n  - {base: {b: 2}, points: [{c: 5}]}\n");
  ASSERT_EQ(spec.points.size(), 2U);
  EXPECT_EQ(spec.points[0].block, "one");
  EXPECT_EQ(spec.points[0].recipe, "a: 1\nb: 1\nc: 5");
  EXPECT_EQ(spec.points[1].recipe, "a: 1\nb: 2\nc: 5");
}

TEST(SweepSpec, EqualPointsAreTakenOnce) {
  const SweepSpec spec = Parse("grid: {a: [1, 2]}\npoints: [{a: 1}]\n");
  EXPECT_EQ(spec.points.size(), 2U);
  EXPECT_EQ(spec.duplicates, 1);
  EXPECT_EQ(spec.points[1].ordinal, 1);
}

TEST(SweepSpec, ExclusionsLookAtTheEffectiveRecipe) {
  const SweepSpec spec =
      Parse("base: {b: 0.5}\ngrid: {a: [1, 2, 3]}\nexclude: [{a: [1, 2.0], b: 0.50}, {z: 1}]\n");
  EXPECT_EQ(Labels(spec), "a=3\n");
  EXPECT_EQ(spec.excluded, 2);
}

TEST(SweepSpec, DataLayersAndCosts) {
  const SweepSpec spec = Parse(
      "grid: {calibration.samples: [4], 'layers.conv_*.skip': [true]}\n"
      "cost: {a: {1: 2.5}, b: {x: 1}}\nbase: {a: 1.0, b: x}\n");
  ASSERT_EQ(spec.points.size(), 1U);
  const SweepPoint& p = spec.points[0];
  EXPECT_EQ(p.calibration.samples, 4);
  EXPECT_EQ(p.evaluation.samples, -1);
  EXPECT_EQ(p.calibration.path, "/folder/d");
  EXPECT_EQ(p.model.path, "/folder/m.onnx");
  EXPECT_EQ(p.cost, 3.5);
  EXPECT_EQ(p.recipe, "a: 1.0\nb: x\nlayers:\n  - match: conv_*\n    skip: true");
  EXPECT_EQ(Parse("grid: {a: [1]}\n").points[0].cost, -1);
}

TEST(SweepSpec, SenselessPointsAreRefusedOrRecorded) {
  ExpectError(
      ErrorCode::kInvalidArgument, [] { (void)Parse("grid: {a: [1, bad]}\n"); },
      "point a=bad: this makes no sense", "skip_invalid");
  const SweepSpec spec = Parse("grid: {a: [1, bad]}\nskip_invalid: true\n");
  ASSERT_EQ(spec.points.size(), 2U);
  EXPECT_EQ(spec.points[0].refused, "");
  EXPECT_EQ(spec.points[1].refused, "s.yaml: point a=bad: this makes no sense");
  ExpectError(
      ErrorCode::kInvalidArgument, [] { (void)Parse("grid: {a: [bad]}\nskip_invalid: true\n"); },
      "every point is refused");
}

TEST(SweepSpec, MistakesAreNamedWithTheirLine) {
  const auto wrong = [](const std::string& text, const std::string& part) {
    ExpectError(
        ErrorCode::kInvalidArgument, [&] { (void)Parse(text); }, "s.yaml", part);
  };
  wrong("frob: 1\n", "s.yaml:3: 'frob'");
  wrong("points: [{a: 1, a + b: 2}]\n", "set twice");
  wrong("grid: {a: {from: 1, to: 2, step: 0}}\n", "step > 0");
  wrong("grid: {a: {from: 1, to: 2}}\n", "{from, to, step}");
  wrong("grid: {a: []}\n", "'grid.a' is empty");
  wrong("grid: 3\n", "not a mapping");
  wrong("analyze: -1\n", "whole number");
  wrong("bench: slow\n", "a number");
  wrong("points: [3]\n", "'points' is not a mapping");
  wrong("exclude: [{}]\ngrid: {a: [1]}\n", "exclude");
  wrong("grid: {calibration.samples: [many]}\n", "whole number");
  wrong("a: [\n", "not valid YAML");
  ExpectError(
      ErrorCode::kInvalidArgument, [] { (void)ParseSweep("data: d\n", "", "s.yaml", Read); },
      "no 'models'");
  ExpectError(
      ErrorCode::kInvalidArgument,
      [] { (void)ParseSweep("models: [a/m.onnx, b/m.onnx]\ndata: d\n", "", "s.yaml", Read); },
      "two models named 'm'");
}

}  // namespace
}  // namespace octet
