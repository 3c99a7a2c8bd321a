// The one exception type of Octet. The library throws it and never prints, aborts or exits.
#pragma once

#include <stdexcept>
#include <string>

namespace octet {

// What kind of thing went wrong. The command line maps each to a documented exit code
// (docs/cli.md).
enum class ErrorCode {
  kInternal,         // a broken invariant of Octet itself
  kInvalidArgument,  // a parameter, option or recipe key the caller can correct
  kBadFile,          // bytes that are not what the file claims to be
  kUnsupported,      // well-formed, but outside what Octet does
  kBadData,          // calibration or evaluation data that cannot give a sound result
  kIo,               // the operating system refused a read or a write
  kCheckFailed,      // a promise that was asked for (a verification, a threshold) does not hold
};

// The message names the operation, the subject, what was got and what was expected.
class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  [[nodiscard]] ErrorCode code() const { return code_; }

 private:
  ErrorCode code_;
};

}  // namespace octet
