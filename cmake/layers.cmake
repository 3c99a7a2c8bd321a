# octet_layer(NAME [DEPENDS layers...] [LINK targets...]): a static library of src/NAME/*.cc, and one test
# program of its *_test.cc. Files are globbed: a test cannot be forgotten.
function(octet_layer NAME)
  cmake_parse_arguments(ARG "" "" "DEPENDS;LINK" ${ARGN})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/${NAME}/*.cc)
  set(tests ${sources})
  list(FILTER sources EXCLUDE REGEX "_test\\.cc$")
  list(FILTER tests INCLUDE REGEX "_test\\.cc$")

  set(linked ${ARG_LINK})
  foreach(layer ${ARG_DEPENDS})
    list(APPEND linked octet_${layer})
  endforeach()
  if(sources)
    add_library(octet_${NAME} STATIC ${sources})
    target_include_directories(octet_${NAME} PUBLIC ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR}/include)
    target_link_libraries(octet_${NAME} PUBLIC ${linked} PRIVATE octet_flags)
    octet_isa_flags(${sources})
  else()
    add_library(octet_${NAME} INTERFACE)
    target_include_directories(octet_${NAME} INTERFACE ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR}/include)
    target_link_libraries(octet_${NAME} INTERFACE ${linked})
  endif()

  if(OCTET_TESTS AND tests)
    add_executable(octet_${NAME}_tests ${tests})
    target_link_libraries(octet_${NAME}_tests PRIVATE octet_${NAME} octet_flags GTest::gmock GTest::gtest_main
                          ZLIB::ZLIB)  # base/test_golden.h
    target_compile_definitions(octet_${NAME}_tests PRIVATE OCTET_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
    add_test(NAME ${NAME} COMMAND octet_${NAME}_tests)
    # An allocation that cannot be met returns null under the sanitizer too, as the tests expect.
    set_tests_properties(${NAME} PROPERTIES ENVIRONMENT ASAN_OPTIONS=allocator_may_return_null=1)
  endif()
endfunction()

# Kernel files are compiled for the instruction set their name ends in. They are leaves: they include
# kernels/abi.h and C headers only, and export nothing weak (tools/check_kernel_objects.sh).
function(octet_isa_flags)
  set(avx2 -mavx2 -mfma -O3)
  set(avxvnni -mavxvnni ${avx2})
  set(avx512vnni -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni ${avx2})
  set(avx512vbmi -mavx512vbmi ${avx512vnni})
  set(amxint8 -mamx-tile -mamx-int8 ${avx512vnni})
  foreach(file ${ARGN})
    if(file MATCHES "_(avx2|avxvnni|avx512vnni|avx512vbmi|amxint8)\\.cc$")
      set(flags ${${CMAKE_MATCH_1}})
      # No fuzzer's bytes come here, and clang takes minutes to instrument one of these files.
      if(OCTET_FUZZ)
        list(APPEND flags -fno-sanitize=all -O1)
      endif()
      set_source_files_properties(${file} PROPERTIES COMPILE_OPTIONS "${flags}")
    endif()
  endforeach()
endfunction()
