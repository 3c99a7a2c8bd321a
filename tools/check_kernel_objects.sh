#!/bin/sh
# No kernel object of an instruction set may define a weak symbol: the linker could take that copy,
# compiled for a CPU the program may not run on, for the whole program.
# Usage: tools/check_kernel_objects.sh [BUILD_DIR]
set -eu
build=${1:-build/release}
objects=$(find "$build" -path '*octet_kernels.dir*' \
  \( -name '*_avx2.cc.o' -o -name '*_avxvnni.cc.o' -o -name '*_avx512vnni.cc.o' \
     -o -name '*_avx512vbmi.cc.o' -o -name '*_amxint8.cc.o' \))
if [ -z "$objects" ]; then
  echo "check_kernel_objects: no kernel objects under $build; build octet_kernels there first" >&2
  exit 2
fi
status=0
for object in $objects; do
  # V, v, W, w: weak; u: unique global (inline variables, statics of inline functions).
  weak=$(nm --defined-only "$object" | grep -E ' [VvWwu] ' || true)
  if [ -n "$weak" ]; then
    echo "check_kernel_objects: $object defines weak symbols:" >&2
    echo "$weak" | c++filt >&2
    status=1
  fi
done
if [ $status -eq 0 ]; then
  echo "check_kernel_objects: $(echo "$objects" | wc -l) objects, no weak symbols"
fi
exit $status
