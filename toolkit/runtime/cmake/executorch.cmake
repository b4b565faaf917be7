# Finds the ExecuTorch SDK in a wheel: executorch::runtime, and the rpath of what links it. For Android it is an
# install of upstream's own CMake build, one folder per ABI, whose targets have other names.
set(TOOLKIT_EXECUTORCH_ANDROID "" CACHE PATH "ExecuTorch installs for Android: ABI/lib/cmake/ExecuTorch")
if(ANDROID)
  find_package(executorch CONFIG REQUIRED PATHS ${TOOLKIT_EXECUTORCH_ANDROID}/${ANDROID_ABI} NO_DEFAULT_PATH
               NO_CMAKE_FIND_ROOT_PATH)
  if(NOT TARGET executorch::runtime)
    add_library(toolkit_executorch INTERFACE)
    target_link_libraries(toolkit_executorch INTERFACE executorch executorch_core extension_data_loader)
    target_compile_definitions(toolkit_executorch INTERFACE C10_USING_CUSTOM_GENERATED_MACROS)
    add_library(executorch::runtime ALIAS toolkit_executorch)
  endif()
elseif(NOT EXECUTORCH_ROOT)
  find_package(executorch CONFIG QUIET)
  if(NOT executorch_FOUND AND NOT CMAKE_CROSSCOMPILING)
    find_package(Python3 COMPONENTS Interpreter REQUIRED)
    execute_process(
      COMMAND ${Python3_EXECUTABLE} -c
              "import importlib.util as u; print(u.find_spec('executorch').submodule_search_locations[0])"
      OUTPUT_VARIABLE python_package
      ERROR_QUIET OUTPUT_STRIP_TRAILING_WHITESPACE
      RESULT_VARIABLE failed)
    if(failed)
      message(FATAL_ERROR "${Python3_EXECUTABLE} has no executorch package. Install it, or pass "
                          "-DEXECUTORCH_ROOT=<folder of the package>")
    endif()
    set(EXECUTORCH_ROOT ${python_package})
  endif()
endif()
if(NOT executorch_FOUND)
  if(NOT EXECUTORCH_ROOT)
    message(FATAL_ERROR "Cross-compiling needs -DEXECUTORCH_ROOT=<executorch folder of the target's unpacked wheel>")
  endif()
  find_package(executorch CONFIG REQUIRED PATHS ${EXECUTORCH_ROOT} NO_DEFAULT_PATH NO_CMAKE_FIND_ROOT_PATH)
endif()

# The kernels bring their own threads: without this every process would load ExecuTorch's pool as well.
function(toolkit_drop_interface property value)
  get_target_property(values executorch::runtime ${property})
  list(REMOVE_ITEM values ${value})
  set_property(TARGET executorch::runtime PROPERTY ${property} ${values})
endfunction()
if(TARGET executorch::threadpool)
  toolkit_drop_interface(INTERFACE_LINK_LIBRARIES executorch::threadpool)
  toolkit_drop_interface(INTERFACE_COMPILE_DEFINITIONS ET_USE_THREADPOOL)
endif()

# Beside the binary on a device; on this machine also where the wheel keeps libexecutorch.so. A wheel of ours
# carries the library: it may have been built against one in a folder that is gone by then.
set(CMAKE_BUILD_RPATH "$ORIGIN" ${TOOLKIT_EXTRA_RPATH})
set(CMAKE_INSTALL_RPATH ${CMAKE_BUILD_RPATH})
if("${SKBUILD_STATE}" STREQUAL "wheel")
  get_target_property(options executorch::runtime INTERFACE_LINK_OPTIONS)
  list(FILTER options EXCLUDE REGEX "-rpath,[^$]")
  set_property(TARGET executorch::runtime PROPERTY INTERFACE_LINK_OPTIONS ${options})
  install(FILES ${EXECUTORCH_RUNTIME_LIBRARY_DIR}/libexecutorch.so DESTINATION toolkit/runtime/lib)
elseif("${SKBUILD_STATE}" STREQUAL "editable")
  # The build may be isolated as well (uv sync); the package is then beside ours in site-packages.
  list(APPEND CMAKE_INSTALL_RPATH "$ORIGIN/../../../executorch/lib")
endif()
if(NOT CMAKE_CROSSCOMPILING)
  list(APPEND CMAKE_BUILD_RPATH ${EXECUTORCH_RUNTIME_LIBRARY_DIR})
  if(NOT "${SKBUILD_STATE}" STREQUAL "wheel")
    list(APPEND CMAKE_INSTALL_RPATH ${EXECUTORCH_RUNTIME_LIBRARY_DIR})
  endif()
endif()
