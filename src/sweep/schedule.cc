#include "sweep/schedule.h"

#include <algorithm>
#include <fstream>
#include <sstream>
#include <string>

#include "base/parallel.h"

namespace octet {
namespace {

// A line "NAME:   1234 kB" of a file of /proc, in bytes; 0 where it is not there.
int64_t ProcBytes(const char* file, const std::string& name) {
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    if (!line.starts_with(name + ":")) continue;
    std::istringstream rest(line.substr(name.size() + 1));
    int64_t kib = 0;
    rest >> kib;
    return kib * 1024;
  }
  return 0;
}

int64_t NumberIn(const char* file) {
  std::ifstream in(file);
  int64_t value = 0;
  return in >> value ? value : 0;  // "max": no limit
}

}  // namespace

int64_t FreeMemory() {
  int64_t available = ProcBytes("/proc/meminfo", "MemAvailable");
  const int64_t limit = NumberIn("/sys/fs/cgroup/memory.max");
  if (limit > 0) {
    const int64_t left = std::max<int64_t>(1, limit - NumberIn("/sys/fs/cgroup/memory.current"));
    available = available > 0 ? std::min(available, left) : left;
  }
  return available;
}

int JobsThatFit(int jobs, int64_t memory, int64_t peak) {
  if (memory <= 0 || peak <= 0) return std::max(1, jobs);
  return static_cast<int>(std::clamp<int64_t>(memory / peak, 1, std::max(1, jobs)));
}

int RunBeside(int64_t n, const ScheduleOptions& options,
              const std::function<void(int64_t, int)>& work) {
  if (n <= 0) return 0;
  const int wanted = options.jobs > 0 ? options.jobs : HardwareThreads();
  const int64_t before = ProcBytes("/proc/self/status", "VmRSS");
  work(0, wanted);
  if (n == 1) return 1;
  const int64_t peak = ProcBytes("/proc/self/status", "VmHWM") - before;
  // A quarter stays free for what else the machine does.
  const int64_t memory = options.memory > 0 ? options.memory : FreeMemory() / 4 * 3;
  const int jobs = static_cast<int>(std::min<int64_t>(JobsThatFit(wanted, memory, peak), n - 1));
  const ThreadScope scope(jobs);
  if (jobs == 1) {
    for (int64_t i = 1; i < n; ++i) work(i, wanted);
  } else {
    ParallelForEach(n - 1, [&](int64_t i) {
      const ThreadScope one(1);
      work(i + 1, 1);
    });
  }
  return jobs;
}

}  // namespace octet
