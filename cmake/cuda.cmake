# fastconv/_cuda: the kernels, by nvcc.
enable_language(CUDA)
set(CMAKE_CUDA_STANDARD 17)
set(CMAKE_CUDA_RUNTIME_LIBRARY Static)  # where a wheel is installed, the driver is all that CUDA needs
set(CMAKE_CUDA_VISIBILITY_PRESET hidden)

# A library of its own, because kernels do not see Python: a build in another virtual environment reuses its objects.
set(CUDA_SOURCES ${KERNELS})
list(FILTER CUDA_SOURCES EXCLUDE REGEX csrc/emulator/)  # kernels that are wrong on purpose, for tests
add_library(kernels STATIC ${CUDA_SOURCES})
target_include_directories(kernels PUBLIC csrc ${CMAKE_CUDA_TOOLKIT_INCLUDE_DIRECTORIES})
target_compile_options(kernels PRIVATE -Xcompiler=-Wall,-Wextra)
if(CMAKE_CUDA_COMPILER_VERSION VERSION_GREATER_EQUAL 12.8)
  target_compile_options(kernels PRIVATE --compress-mode=size)
endif()

pybind11_add_module(_cuda MODULE csrc/bindings.cpp)
target_compile_definitions(_cuda PRIVATE FASTCONV_MODULE=_cuda)
target_link_libraries(_cuda PRIVATE kernels)
if(CMAKE_SYSTEM_NAME STREQUAL "Linux")
  # Our copy of the CUDA runtime stays ours, whichever other copies the process loads.
  target_link_options(_cuda PRIVATE -Wl,--exclude-libs,ALL)
endif()
