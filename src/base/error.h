// Building error messages. The exception itself is public: octet/error.h.
#pragma once

#include <sstream>
#include <string>

#include "octet/error.h"

namespace octet {

// Concatenates the arguments as operator<< prints them.
template <typename... Args>
[[nodiscard]] std::string Cat(const Args&... args) {
  std::ostringstream out;
  (out << ... << args);
  return out.str();
}

template <typename... Args>
[[noreturn]] void Fail(ErrorCode code, const Args&... args) {
  throw Error(code, Cat(args...));
}

// An invariant of Octet itself; what depends on the caller's data gets a Fail() with its own words.
#define OCTET_INVARIANT(condition)                                          \
  do {                                                                      \
    if (!(condition))                                                       \
      ::octet::Fail(::octet::ErrorCode::kInternal, __FILE__, ":", __LINE__, \
                    ": broken invariant: ", #condition);                    \
  } while (false)

}  // namespace octet
