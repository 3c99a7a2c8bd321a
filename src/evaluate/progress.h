// Tells a caller how far long work has come, a few times a second, from one thread at a time.
#pragma once

#include <chrono>
#include <mutex>
#include <string>
#include <utility>

#include "octet/results.h"

namespace octet {

class ProgressMeter {
 public:
  ProgressMeter(const Progress& progress, std::string stage, int64_t total)
      : progress_(progress), event_{std::move(stage), 0, total} {}

  // One more unit is done. May be called from several threads.
  void Step() {
    if (!progress_) return;
    const std::lock_guard lock(mutex_);
    ++event_.done;
    const auto now = std::chrono::steady_clock::now();
    if (event_.done != event_.total && now - last_ < std::chrono::milliseconds(200)) return;
    last_ = now;
    progress_(event_);
  }

 private:
  const Progress& progress_;
  ProgressEvent event_;
  std::mutex mutex_;
  std::chrono::steady_clock::time_point last_;
};

}  // namespace octet
