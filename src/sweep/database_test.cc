#include "sweep/database.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/file.h"
#include "base/test_folder.h"
#include "sweep/export.h"

namespace octet {
namespace {

using Open = SweepDatabase::Open;

PointRecord Record(const std::string& id) {
  PointRecord r;
  r.id = id;
  r.sweep = "s";
  r.model = "m";
  r.label = "a=1";
  r.settings = {{"a", "1, \"2\""}, {"b", "x"}};
  r.metrics["top1"] = {0.5, 0.25, 0.75};
  r.metrics["psnr"] = {std::numeric_limits<double>::infinity(),
                       std::numeric_limits<double>::quiet_NaN(), 3};
  r.layers = {{"conv", "Conv", "y", 40.5, 30.25, 0.1, 0.99, 0.001}};
  QuantizeResult::Activation range;
  range.value = "x";
  range.lo = -1.5F;
  range.scale = 0.1F;
  range.zero_point = 3;
  range.format = "uint8";
  range.method = "mse";
  r.ranges = {range};
  SmoothingRow row;
  row.group = "g";
  row.alphas = {std::numeric_limits<float>::quiet_NaN(), 0.1F};
  row.errors = {0.5, 0.25};
  row.chosen = 0.1F;
  row.applied = true;
  r.smoothing = {row};
  r.warnings = {"careful"};
  r.views_before = "v1";
  r.seconds = 1.5;
  return r;
}

ViewSet View(const std::string& id) {
  return {id, {{"x", {-1.0F, 0.1F}, {2.0F, 3.0F}, -1.0F, 3.0F, {1, 2.5, 0}}}};
}

TEST(SweepDatabase, WhatIsPutComesBack) {
  const TestFolder folder;
  const std::string path = folder / "deep/er/s.db";
  {
    SweepDatabase db(path, Open::kCreate);
    const ViewSet view = View("v1");
    db.Put(Record("one"), {&view, nullptr});
    db.SetMeta("name", "n");
  }
  const SweepDatabase db(path, Open::kExisting);
  EXPECT_EQ(db.Meta("name"), "n");
  EXPECT_EQ(db.Meta("other"), "");
  const auto points = db.Points();
  ASSERT_EQ(points.size(), 1U);
  const PointRecord& p = points[0];
  EXPECT_EQ(p.settings, Record("one").settings);
  EXPECT_EQ(p.metrics.at("top1").lo, 0.25);
  EXPECT_TRUE(std::isinf(p.metrics.at("psnr").value));
  EXPECT_TRUE(std::isnan(p.metrics.at("psnr").lo));
  EXPECT_EQ(p.cost, -1);
  EXPECT_EQ(p.latency_s, -1);
  EXPECT_EQ(p.warnings, std::vector<std::string>{"careful"});
  ASSERT_EQ(db.Layers("one").size(), 1U);
  EXPECT_EQ(db.Layers("one")[0].accumulated_sqnr_db, 30.25);
  ASSERT_EQ(db.Ranges("one").size(), 1U);
  EXPECT_EQ(db.Ranges("one")[0].scale, 0.1F);
  EXPECT_EQ(db.Ranges("one")[0].zero_point, 3);
  EXPECT_EQ(db.Ranges("one")[0].format, "uint8");
  ASSERT_EQ(db.Smoothing("one").size(), 1U);
  EXPECT_TRUE(std::isnan(db.Smoothing("one")[0].alphas[0]));
  EXPECT_EQ(db.Smoothing("one")[0].alphas[1], 0.1F);
  ASSERT_TRUE(db.Views("v1").has_value());
  EXPECT_EQ(db.Views("v1")->values[0].channel_min, View("v1").values[0].channel_min);
  EXPECT_EQ(db.Views("v1")->values[0].counts, View("v1").values[0].counts);
  EXPECT_FALSE(db.Views("v2").has_value());
}

TEST(SweepDatabase, PuttingAgainReplacesAll) {
  const TestFolder folder;
  SweepDatabase db(folder / "s.db", Open::kCreate);
  db.Put(Record("one"));
  PointRecord failed = Record("one");
  failed.status = PointStatus::kFailed;
  failed.metrics.clear();
  failed.layers.clear();
  db.Put(failed);
  EXPECT_EQ(db.StatusOf("one"), PointStatus::kFailed);
  EXPECT_EQ(db.Points().size(), 1U);
  EXPECT_TRUE(db.Points()[0].metrics.empty());
  EXPECT_TRUE(db.Layers("one").empty());
  EXPECT_EQ(db.Ranges("one").size(), 1U);
  EXPECT_EQ(db.StatusOf("two"), std::nullopt);
}

TEST(SweepDatabase, MergeTakesWhatIsMissingAndWhatFailedHere) {
  const TestFolder folder;
  PointRecord failed = Record("two");
  failed.status = PointStatus::kFailed;
  {
    SweepDatabase a(folder / "a.db", Open::kCreate);
    a.Put(Record("one"));
    a.Put(failed);
    SweepDatabase b(folder / "b.db", Open::kCreate);
    const ViewSet view = View("v1");
    b.Put(Record("two"), {&view});
    b.Put(Record("three"));
    b.SetMeta("name", "n");
  }
  SweepDatabase all(folder / "all.db", Open::kCreate);
  all.Merge(folder / "a.db");
  all.Merge(folder / "b.db");
  EXPECT_EQ(all.Points().size(), 3U);
  EXPECT_EQ(all.StatusOf("two"), PointStatus::kDone);
  EXPECT_TRUE(all.Views("v1").has_value());
  EXPECT_EQ(all.Layers("three").size(), 1U);
  EXPECT_EQ(all.Meta("name"), "n");
}

TEST(SweepDatabase, RefusesOtherFiles) {
  const TestFolder folder;
  folder.Write("text.db", "not a database");
  folder.Write("short.db", "SQL");
  for (const char* name : {"text.db", "short.db"}) {
    ExpectError(
        ErrorCode::kBadFile, [&] { const SweepDatabase db(folder / name, Open::kEither); }, name);
  }
  ExpectError(
      ErrorCode::kIo, [&] { const SweepDatabase db(folder / "none.db", Open::kExisting); },
      "none.db");
  { const SweepDatabase db(folder / "s.db", Open::kCreate); }
  ExpectError(
      ErrorCode::kInvalidArgument, [&] { const SweepDatabase db(folder / "s.db", Open::kCreate); },
      "--resume");
  std::string bytes = ReadFile(folder / "s.db");
  std::fill(bytes.begin() + 100, bytes.begin() + 600, '\xff');
  folder.Write("broken.db", bytes);
  ExpectError(
      ErrorCode::kBadFile, [&] { const SweepDatabase db(folder / "broken.db", Open::kExisting); },
      "broken.db", "malformed");
  // What a kill leaves that came before the first transaction.
  folder.Write("empty.db", "");
  const SweepDatabase db(folder / "empty.db", Open::kEither);
  EXPECT_TRUE(db.Points().empty());
}

TEST(SweepExport, CsvQuotesWhatItMust) {
  const TestFolder folder;
  SweepDatabase db(folder / "s.db", Open::kCreate);
  PointRecord r = Record("one");
  r.error = "line\nbreak";
  db.Put(r);
  const std::string csv = PointsAsCsv(db);
  EXPECT_NE(csv.find(",a,b,psnr,psnr_lo,psnr_hi,top1,top1_lo,top1_hi,"), std::string::npos) << csv;
  EXPECT_NE(csv.find(",\"1, \"\"2\"\"\",x,,,3,0.5,0.25,0.75,"), std::string::npos) << csv;
  EXPECT_NE(csv.find("\"line\nbreak\",one\r\n"), std::string::npos) << csv;
  const std::string json = PointsAsJson(db);
  EXPECT_NE(json.find("\"value\": null"), std::string::npos) << json;
}

}  // namespace
}  // namespace octet
