# Warnings as errors for our sources; flags that the promise of equal bits rests on.
add_library(octet_flags INTERFACE)
target_compile_options(octet_flags INTERFACE -Wall -Wextra -Wshadow -Wconversion -Werror
                       -ffp-contract=off -fno-math-errno)
if(OCTET_SANITIZE)
  target_compile_options(octet_flags INTERFACE -fsanitize=${OCTET_SANITIZE} -fno-omit-frame-pointer
                         -fno-sanitize-recover=all)
  target_link_options(octet_flags INTERFACE -fsanitize=${OCTET_SANITIZE})
endif()
