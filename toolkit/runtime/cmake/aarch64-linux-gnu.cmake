# Cross-compiles for arm64 with Debian's GNU compiler (package g++-aarch64-linux-gnu).
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)

# Programs come from this machine, headers and libraries from the compiler and the folders given.
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)

# Phones with 16 KiB pages load segments aligned to 16 KiB or more.
set(CMAKE_EXE_LINKER_FLAGS_INIT "-Wl,-z,max-page-size=65536")
set(CMAKE_SHARED_LINKER_FLAGS_INIT "-Wl,-z,max-page-size=65536")

# Tests run on this machine through the emulator, with the cross compiler's own libraries.
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64 -L /usr/aarch64-linux-gnu)
