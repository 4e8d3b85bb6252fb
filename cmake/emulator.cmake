# One build of fastconv/_emulated: the same kernels, compiled as C++ against the emulator. KIND is
#
#   plain  for speed
#   asan   with AddressSanitizer and UndefinedBehaviorSanitizer
#   trace  every memory access goes to csrc/emulator/trace, by the hooks of -fsanitize=thread without its library
set(CUDA_INCLUDE "" CACHE PATH "Folder of cuda_runtime.h: a toolkit's, or a wheel's")
if(KIND STREQUAL "plain")
  set(TARGET _emulated)
  set(OPTIONS -O2)
elseif(KIND STREQUAL "asan")
  set(TARGET _emulated_asan)
  set(OPTIONS -O1 -fsanitize=address,undefined -fno-sanitize=vptr -fno-sanitize-recover=all -fno-omit-frame-pointer)
elseif(KIND STREQUAL "trace")
  set(TARGET _emulated_trace)
  set(OPTIONS -O1 -fno-tree-vectorize -fsanitize=thread --param=tsan-instrument-func-entry-exit=0)
else()
  message(FATAL_ERROR "FASTCONV_EMULATOR: ${KIND} is none of plain, asan and trace")
endif()

# Every build rounds alike: g++ contracts a * b + c by default, where it optimises enough.
set(COMMON -march=x86-64-v3 -ffp-contract=off -g1 -gdwarf-4 -Wall -Wextra -Wno-unknown-pragmas -Wno-psabi -Wno-unused-parameter)
file(GLOB PLANTED CONFIGURE_DEPENDS csrc/emulator/planted/*.cu)  # kernels with bugs, for tests of the emulator
set(SOURCES ${KERNELS} ${PLANTED})
list(FILTER SOURCES EXCLUDE REGEX device/runtime.cu)

add_library(${TARGET}_kernels OBJECT ${SOURCES})
set_source_files_properties(${SOURCES} TARGET_DIRECTORY ${TARGET}_kernels PROPERTIES LANGUAGE CXX)
target_compile_options(${TARGET}_kernels PRIVATE -x c++ ${COMMON} ${OPTIONS})
target_include_directories(${TARGET}_kernels PUBLIC csrc)
target_include_directories(${TARGET}_kernels SYSTEM PUBLIC ${CUDA_INCLUDE})

# The emulator itself is never traced: it would see itself.
file(GLOB RUNTIME CONFIGURE_DEPENDS csrc/emulator/*.cpp)
set(RUNTIME_OPTIONS -O3)
if(KIND STREQUAL "asan")
  list(APPEND RUNTIME_OPTIONS -fsanitize=address)
elseif(KIND STREQUAL "trace")
  file(GLOB TRACER CONFIGURE_DEPENDS csrc/emulator/trace/*.cpp)
  list(APPEND RUNTIME ${TRACER})
endif()
add_library(${TARGET}_runtime OBJECT ${RUNTIME})
target_compile_options(${TARGET}_runtime PRIVATE ${COMMON} ${RUNTIME_OPTIONS})
target_include_directories(${TARGET}_runtime PUBLIC csrc)
target_include_directories(${TARGET}_runtime SYSTEM PUBLIC ${CUDA_INCLUDE})

pybind11_add_module(${TARGET} MODULE NO_EXTRAS csrc/bindings.cpp)
target_compile_definitions(${TARGET} PRIVATE FASTCONV_MODULE=${TARGET} FASTCONV_EMULATED)
target_compile_options(${TARGET} PRIVATE -O1)
target_link_libraries(${TARGET} PRIVATE ${TARGET}_kernels ${TARGET}_runtime)
if(KIND STREQUAL "asan")
  target_link_options(${TARGET} PRIVATE -fsanitize=address,undefined)
endif()
