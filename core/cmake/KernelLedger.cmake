# Which source of the GPU kernels ran on a device. tests/gpu/ledger.json has an entry for each that did, with the hash it had.
#   cmake -D ROOT=<checkout> -P core/cmake/KernelLedger.cmake     prints the hashes, for instance those of another commit
cmake_policy(SET CMP0057 NEW)  # IN_LIST, where this file is a script

# strait_kernels(<variable> <root>): the sources that the ledger tells apart, by paths from the root of the repository.
function(strait_kernels variable root)
  file(GLOB files RELATIVE ${root} ${root}/core/ops/cuda/kernels/*.cu)
  foreach(library attention gemm_lt)  # through cuDNN and cuBLASLt
    if(EXISTS ${root}/core/ops/cuda/${library}.cpp)
      list(APPEND files core/ops/cuda/${library}.cpp)
    endif()
  endforeach()
  list(SORT files)
  set(${variable} ${files} PARENT_SCOPE)
endfunction()

# strait_kernel_sources(<variable> <root> <file>): the file and all headers of core/ops/cuda and core/ops/math that it
# includes, directly or not.
function(strait_kernel_sources variable root file)
  set(waiting ${file})
  set(seen)
  while(waiting)
    list(POP_FRONT waiting next)
    if(next IN_LIST seen OR NOT EXISTS ${root}/${next})
      continue()
    endif()
    list(APPEND seen ${next})
    file(STRINGS ${root}/${next} includes REGEX "^#include \"core/ops/(cuda|math)/")
    list(TRANSFORM includes REPLACE "^#include \"|\".*$" "")
    list(APPEND waiting ${includes})
  endwhile()
  list(SORT seen)
  set(${variable} ${seen} PARENT_SCOPE)
endfunction()

# strait_kernel_hash(<variable> <root> <file>): SHA-256 of these without white space: the same while nothing but the layout
# of lines has changed.
function(strait_kernel_hash variable root file)
  strait_kernel_sources(sources ${root} ${file})
  set(text)
  foreach(source IN LISTS sources)
    file(READ ${root}/${source} part)
    string(APPEND text "${part}")
  endforeach()
  string(REGEX REPLACE "[ \t\r\n]+" "" text "${text}")
  string(SHA256 hash "${text}")
  set(${variable} ${hash} PARENT_SCOPE)
endfunction()

# strait_kernel_ledger(<ran> <changed> <never> <root>): the kernels whose source is that of their entry, those whose source
# has changed since, and those without an entry.
function(strait_kernel_ledger ran changed never root)
  set(list_ran)
  set(list_changed)
  set(list_never)
  file(READ ${root}/tests/gpu/ledger.json ledger)
  strait_kernels(files ${root})
  foreach(file IN LISTS files)
    string(JSON ledger_hash ERROR_VARIABLE missing GET "${ledger}" ${file} hash)
    strait_kernel_hash(hash ${root} ${file})
    if(missing)
      list(APPEND list_never ${file})
    elseif(hash STREQUAL ledger_hash)
      list(APPEND list_ran ${file})
    else()
      list(APPEND list_changed ${file})
    endif()
  endforeach()
  foreach(result ran changed never)
    set(${${result}} ${list_${result}} PARENT_SCOPE)
  endforeach()
endfunction()

if(CMAKE_SCRIPT_MODE_FILE STREQUAL CMAKE_CURRENT_LIST_FILE)
  strait_kernels(files ${ROOT})
  foreach(file IN LISTS files)
    strait_kernel_hash(hash ${ROOT} ${file})
    message("${hash} ${file}")
  endforeach()
endif()
