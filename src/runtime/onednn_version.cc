#include "runtime/onednn_version.h"

#include <dnnl.h>

#include "base/error.h"

namespace octet {

std::string OneDnnVersion() {
  const dnnl_version_t* version = dnnl_version();
  return Cat(version->major, ".", version->minor, ".", version->patch);
}

}  // namespace octet
