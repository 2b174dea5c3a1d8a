# nvidia_find(NAME <folder> <header> <library> <version header> <version prefix> <sonames...>): finds a library of
# NVIDIA's that comes with the toolkit, from a system package, or in a Python wheel, whose folder is
# site-packages/nvidia/<folder> and which has the versioned soname alone. <NAME>_ROOT is looked at first.
# Defines the imported target NAME::NAME and the variables NAME_INCLUDE_DIR, NAME_LIBRARY and NAME_VERSION.
include(FindPackageHandleStandardArgs)

function(nvidia_find name folder header library version_header version_prefix)
  find_package(CUDAToolkit QUIET)
  if(NOT DEFINED NVIDIA_WHEELS)
    find_program(STRAIT_PYTHON NAMES python3)
    set(wheels "")
    if(STRAIT_PYTHON)
      execute_process(COMMAND ${STRAIT_PYTHON} -c "import nvidia; print(';'.join(nvidia.__path__))"
        OUTPUT_VARIABLE wheels OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
    endif()
    set(NVIDIA_WHEELS "${wheels}" CACHE STRING "site-packages/nvidia folders")
  endif()
  set(hints ${${name}_ROOT} $ENV{${name}_ROOT} ${CUDAToolkit_LIBRARY_ROOT})
  foreach(wheel ${NVIDIA_WHEELS})
    list(APPEND hints ${wheel}/${folder})
  endforeach()
  find_path(${name}_INCLUDE_DIR ${header} HINTS ${hints} ${CUDAToolkit_INCLUDE_DIRS} PATH_SUFFIXES include)
  find_library(${name}_LIBRARY NAMES ${library} ${ARGN} HINTS ${hints} ${CUDAToolkit_LIBRARY_DIR}
    PATH_SUFFIXES lib lib64 lib/x86_64-linux-gnu)
  if(${name}_INCLUDE_DIR)
    file(STRINGS ${${name}_INCLUDE_DIR}/${version_header} lines
      REGEX "define ${version_prefix}_(MAJOR|MINOR|PATCH|PATCHLEVEL) +[0-9]+")
    list(TRANSFORM lines REPLACE ".* ([0-9]+).*" "\\1")
    list(JOIN lines "." version)
    set(${name}_VERSION ${version} PARENT_SCOPE)
  endif()
  if(${name}_INCLUDE_DIR AND ${name}_LIBRARY AND NOT TARGET ${name}::${name})
    add_library(${name}::${name} UNKNOWN IMPORTED GLOBAL)
    set_target_properties(${name}::${name} PROPERTIES
      IMPORTED_LOCATION ${${name}_LIBRARY} INTERFACE_INCLUDE_DIRECTORIES ${${name}_INCLUDE_DIR})
  endif()
endfunction()
