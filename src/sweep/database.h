// A sweep's SQLite file. Every point is one transaction of a write-ahead log: after a kill it is
// there whole or not at all. Tables: docs/sweeps.md.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "sweep/record.h"

namespace octet {

class SweepDatabase {
 public:
  enum class Open { kCreate, kExisting, kEither };
  // Throws kIo where the file cannot be opened, kBadFile where it is no database of sweeps of this
  // version, kInvalidArgument where it exists and should be created or the other way round.
  SweepDatabase(const std::string& path, Open how);
  ~SweepDatabase();
  SweepDatabase(const SweepDatabase&) = delete;
  SweepDatabase& operator=(const SweepDatabase&) = delete;

  // Writes the record, and the views that are not there yet, as one transaction. A record of the
  // same id is replaced. May be called from several threads.
  void Put(const PointRecord& record, const std::vector<const ViewSet*>& views = {});
  [[nodiscard]] std::optional<PointStatus> StatusOf(const std::string& id) const;

  // No point and no float model; false where that cannot be read.
  [[nodiscard]] bool IsEmpty() const noexcept;

  // By ordinal; float models first. Without layers, ranges, smoothing: those are read by id.
  [[nodiscard]] std::vector<PointRecord> Points() const;
  [[nodiscard]] std::vector<AnalyzeResult::Layer> Layers(const std::string& id) const;
  [[nodiscard]] std::vector<QuantizeResult::Activation> Ranges(const std::string& id) const;
  [[nodiscard]] std::vector<SmoothingRow> Smoothing(const std::string& id) const;
  [[nodiscard]] std::optional<ViewSet> Views(const std::string& id) const;

  void SetMeta(const std::string& key, const std::string& value);
  [[nodiscard]] std::string Meta(const std::string& key) const;  // empty where it is not there

  // Takes over all points and views of another database; those that are here already stay, unless
  // they failed here and not there.
  void Merge(const std::string& other);

 private:
  class Statement;
  void Execute(const char* sql) const;
  void CreateTables() const;
  void PutViews(const ViewSet& views) const;

  struct Handle;
  std::string path_;
  std::unique_ptr<Handle> db_;
  mutable std::recursive_mutex mutex_;
};

// True where the file begins as SQLite's do.
[[nodiscard]] bool IsSqliteFile(const std::string& path);

}  // namespace octet
