// What several pieces of work need and one of them computes: the others wait for it.
#pragma once

#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <string>

namespace octet {

template <typename Value>
class Memo {
 public:
  // compute() gives a Value; an exception reaches everybody who asked.
  template <typename Compute>
  std::shared_ptr<const Value> Get(const std::string& key, const Compute& compute) {
    std::promise<std::shared_ptr<const Value>> promise;
    std::shared_future<std::shared_ptr<const Value>> known;
    bool mine = false;
    {
      const std::lock_guard lock(mutex_);
      const auto it = values_.find(key);
      mine = it == values_.end();
      known = mine ? values_.emplace(key, promise.get_future().share()).first->second : it->second;
    }
    if (mine) {
      try {
        promise.set_value(std::make_shared<const Value>(compute()));
      } catch (...) {
        promise.set_exception(std::current_exception());
      }
    }
    return known.get();
  }
  [[nodiscard]] size_t size() const {
    const std::lock_guard lock(mutex_);
    return values_.size();
  }

 private:
  mutable std::mutex mutex_;
  std::map<std::string, std::shared_future<std::shared_ptr<const Value>>> values_;
};

}  // namespace octet
