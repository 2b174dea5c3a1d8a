# Turns the CUDA language on. Included by the top folder when STRAIT_CUDA is ON; defines
#   strait_cuda_folder(<name> [DEPS ...] SOURCES ...): a static library of .cu and .cpp files with the toolkit's headers.
list(APPEND CMAKE_MODULE_PATH ${CMAKE_CURRENT_LIST_DIR})

if(NOT CMAKE_CUDA_COMPILER AND NOT DEFINED ENV{CUDACXX} AND EXISTS /usr/local/cuda/bin/nvcc)
  set(CMAKE_CUDA_COMPILER /usr/local/cuda/bin/nvcc)  # where NVIDIA's packages put it without touching PATH
endif()
if(NOT CMAKE_CUDA_ARCHITECTURES)
  # The a: wgmma, TMA and setmaxnreg are Hopper's own. -real: no PTX in the binary, which no other chip could run.
  # 80 is A100 and, as 86, RTX 3090; 89 is RTX 4090, 120 is RTX 5090.
  set(CMAKE_CUDA_ARCHITECTURES 80-real 89-real 90a-real 120-real CACHE STRING "GPU architectures")
endif()
set(STRAIT_CUDA_HOPPER OFF)
if(90a-real IN_LIST CMAKE_CUDA_ARCHITECTURES)
  set(STRAIT_CUDA_HOPPER ON)  # the kernels that run on nothing else too
endif()
enable_language(CUDA)
find_package(CUDAToolkit 12.9 REQUIRED)  # the first with cuBLASLt's block scales

# CMake 3.25 does not know the flag that makes nvcc read C++20.
set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
set(CMAKE_CUDA_STANDARD 20)
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
if(CCACHE)
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${CCACHE})
endif()

set(STRAIT_NVCC_FLAGS -lineinfo --expt-relaxed-constexpr -Xcompiler=-Wall,-Wextra,-Wno-restrict,-ffp-contract=off)
if(STRAIT_WERROR)
  list(APPEND STRAIT_NVCC_FLAGS -Werror all-warnings)
endif()

function(strait_cuda_folder name)
  cmake_parse_arguments(ARG "" "" "DEPS;SOURCES" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  target_compile_options(${name} PRIVATE "$<$<COMPILE_LANGUAGE:CUDA>:${STRAIT_NVCC_FLAGS}>")
  target_include_directories(${name} SYSTEM PUBLIC ${CUDAToolkit_INCLUDE_DIRS})
  target_link_libraries(${name} PUBLIC ${ARG_DEPS} CUDA::cudart_static)
endfunction()
