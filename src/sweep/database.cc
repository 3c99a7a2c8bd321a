#include "sweep/database.h"

#include <sqlite3.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>

#include "base/error.h"

namespace octet {
namespace {

using nlohmann::json;

constexpr int kApplication = 0x4F637450;  // "OctP"
constexpr int kSchema = 1;

constexpr const char* kTables = R"sql(
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE points (
  id TEXT PRIMARY KEY, kind TEXT NOT NULL, ordinal INTEGER NOT NULL,
  sweep TEXT NOT NULL, block TEXT NOT NULL, model TEXT NOT NULL, label TEXT NOT NULL,
  settings TEXT NOT NULL, recipe TEXT NOT NULL,
  model_sha256 TEXT NOT NULL, calibration_sha256 TEXT NOT NULL, evaluation_sha256 TEXT NOT NULL,
  version TEXT NOT NULL, isa TEXT NOT NULL, cost REAL,
  status TEXT NOT NULL, error TEXT NOT NULL, analyze_note TEXT NOT NULL, warnings TEXT NOT NULL,
  views_before TEXT NOT NULL, views_after TEXT NOT NULL,
  samples INTEGER NOT NULL, macs_int8_fraction REAL,
  quantize_s REAL, evaluate_s REAL, analyze_s REAL, seconds REAL,
  latency_s REAL, latency_mad_s REAL);
CREATE TABLE metrics (
  point TEXT NOT NULL REFERENCES points(id) ON DELETE CASCADE,
  name TEXT NOT NULL, value REAL, lo REAL, hi REAL, PRIMARY KEY (point, name)) WITHOUT ROWID;
CREATE TABLE layers (
  point TEXT NOT NULL REFERENCES points(id) ON DELETE CASCADE,
  position INTEGER NOT NULL, node TEXT NOT NULL, op TEXT NOT NULL, value TEXT NOT NULL,
  local_sqnr_db REAL, accumulated_sqnr_db REAL, l1 REAL, cosine REAL, saturated REAL,
  PRIMARY KEY (point, position)) WITHOUT ROWID;
CREATE TABLE ranges (
  point TEXT NOT NULL REFERENCES points(id) ON DELETE CASCADE,
  position INTEGER NOT NULL, value TEXT NOT NULL, lo REAL, hi REAL, scale REAL,
  zero_point INTEGER, format TEXT NOT NULL, method TEXT NOT NULL, clipped REAL,
  PRIMARY KEY (point, position)) WITHOUT ROWID;
CREATE TABLE smoothing (
  point TEXT NOT NULL REFERENCES points(id) ON DELETE CASCADE,
  position INTEGER NOT NULL, channels TEXT NOT NULL, round INTEGER, applied INTEGER, alpha REAL,
  errors TEXT NOT NULL, PRIMARY KEY (point, position)) WITHOUT ROWID;
CREATE TABLE views (
  id TEXT NOT NULL, position INTEGER NOT NULL, value TEXT NOT NULL, lo REAL, hi REAL,
  channel_min TEXT NOT NULL, channel_max TEXT NOT NULL, counts TEXT NOT NULL,
  PRIMARY KEY (id, position)) WITHOUT ROWID;
)sql";

constexpr const char* kPointColumns =
    "id, kind, ordinal, sweep, block, model, label, settings, recipe, model_sha256, "
    "calibration_sha256, evaluation_sha256, version, isa, cost, status, error, analyze_note, "
    "warnings, views_before, views_after, samples, macs_int8_fraction, quantize_s, evaluate_s, "
    "analyze_s, seconds, latency_s, latency_mad_s";

std::string Dump(const json& j) { return j.dump(-1, ' ', false, json::error_handler_t::replace); }

// Nine digits make a float whole again.
json Floats(const std::vector<float>& values) {
  json list = json::array();
  for (float v : values) list.push_back(std::isfinite(v) ? json(v) : json(nullptr));
  return list;
}

double NumberOr(const json& j, double otherwise) {
  return j.is_number() ? j.get<double>() : otherwise;
}

}  // namespace

std::string NameOf(PointStatus status) {
  switch (status) {
    case PointStatus::kDone:
      return "done";
    case PointStatus::kFailed:
      return "failed";
    case PointStatus::kRefused:
      return "refused";
  }
  Fail(ErrorCode::kInternal, "a status of a point that has no name");
}

namespace {

// Of what SQLite said last.
ErrorCode CodeOf(sqlite3* db) {
  const int rc = sqlite3_errcode(db);
  return rc == SQLITE_CORRUPT || rc == SQLITE_NOTADB ? ErrorCode::kBadFile : ErrorCode::kIo;
}

}  // namespace

struct SweepDatabase::Handle {
  sqlite3* db = nullptr;
  ~Handle() { sqlite3_close_v2(db); }
};

// A prepared statement; parameters are bound and columns are read from left to right.
class SweepDatabase::Statement {
 public:
  Statement(const SweepDatabase& owner, const std::string& sql) : owner_(owner) {
    if (sqlite3_prepare_v2(owner.db_->db, sql.c_str(), -1, &statement_, nullptr) != SQLITE_OK)
      Throw(sql);
  }
  ~Statement() { sqlite3_finalize(statement_); }
  Statement(const Statement&) = delete;
  Statement& operator=(const Statement&) = delete;

  Statement& Bind(const std::string& text) {
    sqlite3_bind_text(statement_, ++bound_, text.data(), static_cast<int>(text.size()),
                      SQLITE_TRANSIENT);
    return *this;
  }
  Statement& Bind(int64_t v) {
    sqlite3_bind_int64(statement_, ++bound_, v);
    return *this;
  }
  // NaN becomes NULL, infinities are kept.
  Statement& Bind(double v) {
    sqlite3_bind_double(statement_, ++bound_, v);
    return *this;
  }
  Statement& BindPositive(double v) {  // below 0: NULL
    return Bind(v < 0 ? std::numeric_limits<double>::quiet_NaN() : v);
  }

  bool Step() {
    const int rc = sqlite3_step(statement_);
    column_ = 0;
    if (rc == SQLITE_ROW) return true;
    if (rc != SQLITE_DONE) Throw("step");
    return false;
  }
  void Run() {
    while (Step()) {
    }
    sqlite3_reset(statement_);
    bound_ = 0;
  }

  std::string Text() {
    const int c = column_++;
    const auto* text = reinterpret_cast<const char*>(sqlite3_column_text(statement_, c));
    return text == nullptr
               ? std::string()
               : std::string(text, static_cast<size_t>(sqlite3_column_bytes(statement_, c)));
  }
  int64_t Int() { return sqlite3_column_int64(statement_, column_++); }
  double Real() { return RealOr(std::numeric_limits<double>::quiet_NaN()); }
  double RealOr(double null) {
    const int c = column_++;
    return sqlite3_column_type(statement_, c) == SQLITE_NULL ? null
                                                             : sqlite3_column_double(statement_, c);
  }
  json Json() {
    json j = json::parse(Text(), nullptr, false);
    if (j.is_discarded())
      Fail(ErrorCode::kBadFile, "'", owner_.path_, "': a column does not hold JSON");
    return j;
  }

 private:
  [[noreturn]] void Throw(const std::string& what) const {
    Fail(CodeOf(owner_.db_->db), "database '", owner_.path_, "': ", sqlite3_errmsg(owner_.db_->db),
         " (", what, ")");
  }
  const SweepDatabase& owner_;
  sqlite3_stmt* statement_ = nullptr;
  int bound_ = 0, column_ = 0;
};

namespace {

// Where nothing may be written, SQLite cannot keep the files beside a write-ahead log. A database
// that was closed has none, and nobody changes it: it is read as it lies there.
bool IsReadOnly(const std::string& path) {
  const auto folder = std::filesystem::absolute(path).parent_path();
  return access(path.c_str(), W_OK) != 0 || access(folder.c_str(), W_OK) != 0;
}

std::string ImmutableUri(const std::string& path) {
  std::string uri = "file:";
  for (const char c : std::filesystem::absolute(path).string()) {
    if (c == '%' || c == '?' || c == '#') {
      uri += c == '%' ? "%25" : c == '?' ? "%3f" : "%23";
    } else {
      uri += c;
    }
  }
  return uri + "?immutable=1";
}

}  // namespace

SweepDatabase::SweepDatabase(const std::string& path, Open how)
    : path_(path), db_(std::make_unique<Handle>()) {
  const bool exists = std::filesystem::exists(path);
  if (exists && how == Open::kCreate) {
    Fail(ErrorCode::kInvalidArgument, "'", path,
         "' exists; --resume goes on with it, another name begins anew");
  }
  if (!exists && how == Open::kExisting) Fail(ErrorCode::kIo, "no database '", path, "'");
  if (exists && !IsSqliteFile(path))
    Fail(ErrorCode::kBadFile, "'", path, "' is no SQLite database");
  if (!exists) {
    std::error_code error;
    const auto folder = std::filesystem::path(path).parent_path();
    if (!folder.empty()) std::filesystem::create_directories(folder, error);
    if (error)
      Fail(ErrorCode::kIo, "cannot make the folder '", folder.string(), "': ", error.message());
  }
  const bool only_read = how == Open::kExisting && IsReadOnly(path);
  if (only_read && std::filesystem::exists(path + "-wal"))
    Fail(ErrorCode::kIo, "database '", path,
         "': the newest points are in its write-ahead log, which cannot be joined where nothing "
         "may be written; copy both files");
  const int flags = only_read ? SQLITE_OPEN_READONLY | SQLITE_OPEN_URI
                              : SQLITE_OPEN_READWRITE | (exists ? 0 : SQLITE_OPEN_CREATE);
  const std::string name = only_read ? ImmutableUri(path) : path;
  if (sqlite3_open_v2(name.c_str(), &db_->db, flags, nullptr) != SQLITE_OK)
    Fail(ErrorCode::kIo, "cannot open '", path, "': ", sqlite3_errmsg(db_->db));
  sqlite3_busy_timeout(db_->db, 60000);
  if (!only_read) {
    Execute("PRAGMA journal_mode = WAL");
    Execute("PRAGMA synchronous = NORMAL");
    Execute("PRAGMA foreign_keys = ON");
  }
  int64_t application = 0, schema = 0;
  {
    Statement a(*this, "PRAGMA application_id");
    if (a.Step()) application = a.Int();
    Statement v(*this, "PRAGMA user_version");
    if (v.Step()) schema = v.Int();
  }
  // A file without tables is what a kill leaves that came before the first transaction.
  Statement tables(*this, "SELECT count(*) FROM sqlite_master");
  const bool is_empty = tables.Step() && tables.Int() == 0;
  if (is_empty && how != Open::kExisting) {
    tables.Run();
    CreateTables();
  } else if (application != kApplication || schema != kSchema) {
    Fail(ErrorCode::kBadFile, "'", path, "' is no sweep of this version of Octet (application ",
         application, ", schema ", schema, "; expected ", kApplication, ", ", kSchema, ")");
  }
}

SweepDatabase::~SweepDatabase() = default;

void SweepDatabase::Execute(const char* sql) const {
  char* message = nullptr;
  if (sqlite3_exec(db_->db, sql, nullptr, nullptr, &message) == SQLITE_OK) return;
  const ErrorCode code = CodeOf(db_->db);
  const std::string text = message == nullptr ? "unknown" : message;
  sqlite3_free(message);
  Fail(code, "database '", path_, "': ", text);
}

void SweepDatabase::CreateTables() const {
  Execute("BEGIN IMMEDIATE");
  Execute(kTables);
  Execute(Cat("PRAGMA application_id = ", kApplication).c_str());
  Execute(Cat("PRAGMA user_version = ", kSchema).c_str());
  Execute("COMMIT");
}

void SweepDatabase::PutViews(const ViewSet& views) const {
  Statement there(*this, "SELECT 1 FROM views WHERE id = ? LIMIT 1");
  if (there.Bind(views.id).Step()) return;
  Statement insert(*this, "INSERT INTO views VALUES (?,?,?,?,?,?,?,?)");
  for (size_t i = 0; i < views.values.size(); ++i) {
    const ActivationView& v = views.values[i];
    insert.Bind(views.id).Bind(static_cast<int64_t>(i)).Bind(v.value);
    insert.Bind(static_cast<double>(v.lo)).Bind(static_cast<double>(v.hi));
    insert.Bind(Dump(Floats(v.channel_min))).Bind(Dump(Floats(v.channel_max)));
    insert.Bind(Dump(v.counts)).Run();
  }
}

void SweepDatabase::Put(const PointRecord& r, const std::vector<const ViewSet*>& views) {
  const std::lock_guard lock(mutex_);
  Execute("BEGIN IMMEDIATE");
  try {
    Statement(*this, "DELETE FROM points WHERE id = ?").Bind(r.id).Run();
    json settings = json::array();
    for (const auto& [key, value] : r.settings) settings.push_back({key, value});
    Statement point(*this, Cat("INSERT INTO points (", kPointColumns,
                               ") VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,"
                               "?)"));
    point.Bind(r.id).Bind(r.kind).Bind(r.ordinal).Bind(r.sweep).Bind(r.block).Bind(r.model);
    point.Bind(r.label).Bind(Dump(settings)).Bind(r.recipe).Bind(r.model_sha256);
    point.Bind(r.calibration_sha256).Bind(r.evaluation_sha256).Bind(r.version).Bind(r.isa);
    point.BindPositive(r.cost).Bind(NameOf(r.status)).Bind(r.error).Bind(r.analyze_note);
    point.Bind(Dump(r.warnings)).Bind(r.views_before).Bind(r.views_after).Bind(r.samples);
    point.Bind(r.macs_int8_fraction).Bind(r.quantize_s).Bind(r.evaluate_s).Bind(r.analyze_s);
    point.Bind(r.seconds).BindPositive(r.latency_s).BindPositive(r.latency_mad_s).Run();

    Statement metric(*this, "INSERT INTO metrics VALUES (?,?,?,?,?)");
    for (const auto& [name, m] : r.metrics)
      metric.Bind(r.id).Bind(name).Bind(m.value).Bind(m.lo).Bind(m.hi).Run();
    Statement layer(*this, "INSERT INTO layers VALUES (?,?,?,?,?,?,?,?,?,?)");
    int64_t position = 0;
    for (const auto& l : r.layers) {
      layer.Bind(r.id).Bind(position++).Bind(l.node).Bind(l.op).Bind(l.value);
      layer.Bind(l.local_sqnr_db).Bind(l.accumulated_sqnr_db).Bind(l.l1).Bind(l.cosine);
      layer.Bind(l.saturated).Run();
    }
    Statement range(*this, "INSERT INTO ranges VALUES (?,?,?,?,?,?,?,?,?,?)");
    position = 0;
    for (const auto& a : r.ranges) {
      range.Bind(r.id).Bind(position++).Bind(a.value).Bind(static_cast<double>(a.lo));
      range.Bind(static_cast<double>(a.hi)).Bind(static_cast<double>(a.scale));
      range.Bind(int64_t{a.zero_point})
          .Bind(a.format)
          .Bind(a.method)
          .Bind(a.clipped_fraction)
          .Run();
    }
    Statement smoothing(*this, "INSERT INTO smoothing VALUES (?,?,?,?,?,?,?)");
    position = 0;
    for (const auto& s : r.smoothing) {
      json errors = json::array();
      for (size_t i = 0; i < s.alphas.size(); ++i) errors.push_back({s.alphas[i], s.errors[i]});
      smoothing.Bind(r.id).Bind(position++).Bind(s.group).Bind(int64_t{s.round});
      smoothing.Bind(int64_t{s.applied}).Bind(static_cast<double>(s.chosen)).Bind(Dump(errors));
      smoothing.Run();
    }
    for (const ViewSet* v : views) {
      if (v != nullptr) PutViews(*v);
    }
    Execute("COMMIT");
  } catch (...) {
    sqlite3_exec(db_->db, "ROLLBACK", nullptr, nullptr, nullptr);
    throw;
  }
}

std::optional<PointStatus> SweepDatabase::StatusOf(const std::string& id) const {
  const std::lock_guard lock(mutex_);
  Statement s(*this, "SELECT status FROM points WHERE id = ?");
  if (!s.Bind(id).Step()) return std::nullopt;
  const std::string name = s.Text();
  for (PointStatus status : {PointStatus::kDone, PointStatus::kFailed, PointStatus::kRefused}) {
    if (NameOf(status) == name) return status;
  }
  Fail(ErrorCode::kBadFile, "'", path_, "': a point has the status '", name, "'");
}

bool SweepDatabase::IsEmpty() const noexcept {
  try {
    const std::lock_guard lock(mutex_);
    Statement s(*this, "SELECT 1 FROM points LIMIT 1");
    return !s.Step();
  } catch (const std::exception&) {
    return false;
  }
}

std::vector<PointRecord> SweepDatabase::Points() const {
  const std::lock_guard lock(mutex_);
  std::vector<PointRecord> points;
  Statement s(*this, Cat("SELECT ", kPointColumns,
                         " FROM points ORDER BY kind, sweep, ordinal, label, id"));
  Statement metrics(*this, "SELECT name, value, lo, hi FROM metrics WHERE point = ?");
  while (s.Step()) {
    PointRecord r;
    r.id = s.Text();
    r.kind = s.Text();
    r.ordinal = s.Int();
    r.sweep = s.Text();
    r.block = s.Text();
    r.model = s.Text();
    r.label = s.Text();
    for (const auto& pair : s.Json()) r.settings.emplace_back(pair.at(0), pair.at(1));
    r.recipe = s.Text();
    r.model_sha256 = s.Text();
    r.calibration_sha256 = s.Text();
    r.evaluation_sha256 = s.Text();
    r.version = s.Text();
    r.isa = s.Text();
    r.cost = s.RealOr(-1);
    const std::string status = s.Text();
    r.status = status == "done"     ? PointStatus::kDone
               : status == "failed" ? PointStatus::kFailed
                                    : PointStatus::kRefused;
    r.error = s.Text();
    r.analyze_note = s.Text();
    r.warnings = s.Json().get<std::vector<std::string>>();
    r.views_before = s.Text();
    r.views_after = s.Text();
    r.samples = s.Int();
    r.macs_int8_fraction = s.Real();
    r.quantize_s = s.Real();
    r.evaluate_s = s.Real();
    r.analyze_s = s.Real();
    r.seconds = s.Real();
    r.latency_s = s.RealOr(-1);
    r.latency_mad_s = s.RealOr(-1);
    metrics.Bind(r.id);
    while (metrics.Step()) {
      const std::string name = metrics.Text();
      Interval& m = r.metrics[name];
      m.value = metrics.Real();
      m.lo = metrics.Real();
      m.hi = metrics.Real();
    }
    metrics.Run();  // rewinds
    points.push_back(std::move(r));
  }
  return points;
}

std::vector<AnalyzeResult::Layer> SweepDatabase::Layers(const std::string& id) const {
  const std::lock_guard lock(mutex_);
  std::vector<AnalyzeResult::Layer> layers;
  Statement s(*this,
              "SELECT node, op, value, local_sqnr_db, accumulated_sqnr_db, l1, cosine, saturated "
              "FROM layers WHERE point = ? ORDER BY position");
  s.Bind(id);
  while (s.Step()) {
    AnalyzeResult::Layer l;
    l.node = s.Text();
    l.op = s.Text();
    l.value = s.Text();
    l.local_sqnr_db = s.Real();
    l.accumulated_sqnr_db = s.Real();
    l.l1 = s.Real();
    l.cosine = s.Real();
    l.saturated = s.Real();
    layers.push_back(std::move(l));
  }
  return layers;
}

std::vector<QuantizeResult::Activation> SweepDatabase::Ranges(const std::string& id) const {
  const std::lock_guard lock(mutex_);
  std::vector<QuantizeResult::Activation> ranges;
  Statement s(*this,
              "SELECT value, lo, hi, scale, zero_point, format, method, clipped FROM ranges "
              "WHERE point = ? ORDER BY position");
  s.Bind(id);
  while (s.Step()) {
    QuantizeResult::Activation a;
    a.value = s.Text();
    a.lo = static_cast<float>(s.Real());
    a.hi = static_cast<float>(s.Real());
    a.scale = static_cast<float>(s.Real());
    a.zero_point = static_cast<int32_t>(s.Int());
    a.format = s.Text();
    a.method = s.Text();
    a.clipped_fraction = s.Real();
    ranges.push_back(std::move(a));
  }
  return ranges;
}

std::vector<SmoothingRow> SweepDatabase::Smoothing(const std::string& id) const {
  const std::lock_guard lock(mutex_);
  std::vector<SmoothingRow> rows;
  Statement s(*this,
              "SELECT channels, round, applied, alpha, errors FROM smoothing WHERE point = ? "
              "ORDER BY position");
  s.Bind(id);
  constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
  while (s.Step()) {
    SmoothingRow row;
    row.group = s.Text();
    row.round = static_cast<int>(s.Int());
    row.applied = s.Int() != 0;
    row.chosen = static_cast<float>(s.Real());
    for (const auto& pair : s.Json()) {
      row.alphas.push_back(static_cast<float>(NumberOr(pair.at(0), kNone)));
      row.errors.push_back(NumberOr(pair.at(1), kNone));
    }
    rows.push_back(std::move(row));
  }
  return rows;
}

std::optional<ViewSet> SweepDatabase::Views(const std::string& id) const {
  const std::lock_guard lock(mutex_);
  ViewSet set{id, {}};
  Statement s(*this,
              "SELECT value, lo, hi, channel_min, channel_max, counts FROM views WHERE id = ? "
              "ORDER BY position");
  s.Bind(id);
  const auto floats = [](const json& j) {
    std::vector<float> values;
    for (const auto& v : j) values.push_back(static_cast<float>(NumberOr(v, 0)));
    return values;
  };
  while (s.Step()) {
    ActivationView v;
    v.value = s.Text();
    v.lo = static_cast<float>(s.Real());
    v.hi = static_cast<float>(s.Real());
    v.channel_min = floats(s.Json());
    v.channel_max = floats(s.Json());
    v.counts = s.Json().get<std::vector<double>>();
    set.values.push_back(std::move(v));
  }
  if (set.values.empty()) return std::nullopt;
  return set;
}

void SweepDatabase::SetMeta(const std::string& key, const std::string& value) {
  const std::lock_guard lock(mutex_);
  Statement(*this, "INSERT OR REPLACE INTO meta VALUES (?,?)").Bind(key).Bind(value).Run();
}

std::string SweepDatabase::Meta(const std::string& key) const {
  const std::lock_guard lock(mutex_);
  Statement s(*this, "SELECT value FROM meta WHERE key = ?");
  return s.Bind(key).Step() ? s.Text() : std::string();
}

void SweepDatabase::Merge(const std::string& other) {
  const SweepDatabase from(other, Open::kExisting);
  for (PointRecord& record : from.Points()) {
    const auto here = StatusOf(record.id);
    if (here && !(*here == PointStatus::kFailed && record.status == PointStatus::kDone)) continue;
    record.layers = from.Layers(record.id);
    record.ranges = from.Ranges(record.id);
    record.smoothing = from.Smoothing(record.id);
    const auto before = from.Views(record.views_before);
    const auto after = from.Views(record.views_after);
    Put(record, {before ? &*before : nullptr, after ? &*after : nullptr});
  }
  for (const char* key : {"sweep", "name"}) {
    if (Meta(key).empty()) SetMeta(key, from.Meta(key));
  }
}

bool IsSqliteFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) return false;
  std::string head(16, '\0');
  in.read(head.data(), 16);
  if (in.gcount() == 0) return true;  // what a kill leaves that came before the first write
  return head == std::string("SQLite format 3\0", 16);
}

}  // namespace octet
