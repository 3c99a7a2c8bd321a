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
  foreach(file ${ARGN})
    if(file MATCHES "_avx512vnni\\.cc$")
      set_source_files_properties(${file} PROPERTIES COMPILE_OPTIONS
        "-mavx512f;-mavx512bw;-mavx512vl;-mavx512dq;-mavx512vnni;-mfma;-mavx2;-O3")
    elseif(file MATCHES "_avx512vbmi\\.cc$")
      set_source_files_properties(${file} PROPERTIES COMPILE_OPTIONS
        "-mavx512f;-mavx512bw;-mavx512vl;-mavx512dq;-mavx512vnni;-mavx512vbmi;-mfma;-mavx2;-O3")
    elseif(file MATCHES "_amxint8\\.cc$")
      set_source_files_properties(${file} PROPERTIES COMPILE_OPTIONS
        "-mavx512f;-mavx512bw;-mavx512vl;-mavx512dq;-mavx512vnni;-mfma;-mavx2;-mamx-tile;-mamx-int8;-O3")
    elseif(file MATCHES "_avxvnni\\.cc$")
      set_source_files_properties(${file} PROPERTIES COMPILE_OPTIONS "-mavxvnni;-mavx2;-mfma;-O3")
    elseif(file MATCHES "_avx2\\.cc$")
      set_source_files_properties(${file} PROPERTIES COMPILE_OPTIONS "-mavx2;-mfma;-O3")
    endif()
    # No fuzzer's bytes come here, and clang takes minutes to instrument one of these files.
    if(OCTET_FUZZ AND file MATCHES "_(avx2|avxvnni|avx512vnni|avx512vbmi|amxint8)\\.cc$")
      set_property(SOURCE ${file} APPEND PROPERTY COMPILE_OPTIONS -fno-sanitize=all -O1)
    endif()
  endforeach()
endfunction()
