// Any bytes given to the ONNX reader end in a graph or in octet::Error; a graph that was read can
// be written, and what was written reads again.
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>

#include "files/onnx_read.h"
#include "files/onnx_write.h"
#include "octet/error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  // A folder without files: external data must not be found by chance.
  static const std::filesystem::path nowhere = "/nonexistent";
  std::string written;
  try {
    const octet::Graph graph = octet::ParseOnnx(std::as_bytes(std::span(data, size)), nowhere);
    written = octet::SerializeOnnx(graph);
  } catch (const octet::Error&) {
    return 0;
  }
  // Outside of the try: an error here is a finding.
  (void)octet::ParseOnnx(std::as_bytes(std::span(written)), nowhere);
  return 0;
}
