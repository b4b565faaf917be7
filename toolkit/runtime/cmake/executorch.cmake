# Finds the ExecuTorch SDK in a wheel: sets up executorch::runtime and TOOLKIT_RPATH.
if(NOT EXECUTORCH_ROOT AND NOT CMAKE_PREFIX_PATH AND NOT CMAKE_CROSSCOMPILING)
  find_package(Python3 COMPONENTS Interpreter REQUIRED)
  execute_process(
    COMMAND ${Python3_EXECUTABLE} -c
            "import importlib.util as u; print(u.find_spec('executorch').submodule_search_locations[0])"
    OUTPUT_VARIABLE EXECUTORCH_ROOT
    OUTPUT_STRIP_TRAILING_WHITESPACE
    RESULT_VARIABLE failed)
  if(failed)
    message(FATAL_ERROR "${Python3_EXECUTABLE} has no executorch package. Pass -DEXECUTORCH_ROOT=<package folder>")
  endif()
endif()

if(EXECUTORCH_ROOT)
  find_package(executorch CONFIG REQUIRED PATHS ${EXECUTORCH_ROOT} NO_DEFAULT_PATH NO_CMAKE_FIND_ROOT_PATH)
else()
  find_package(executorch CONFIG REQUIRED)
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

set(TOOLKIT_RPATH "$ORIGIN")
if(NOT CMAKE_CROSSCOMPILING AND EXECUTORCH_RUNTIME_LIBRARY_DIR)
  list(APPEND TOOLKIT_RPATH ${EXECUTORCH_RUNTIME_LIBRARY_DIR})
endif()
list(APPEND TOOLKIT_RPATH ${TOOLKIT_EXTRA_RPATH})
set(CMAKE_BUILD_RPATH ${TOOLKIT_RPATH})
set(CMAKE_INSTALL_RPATH ${TOOLKIT_RPATH})
