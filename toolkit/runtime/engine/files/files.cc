#include "engine/files/files.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "engine/error.h"
#include "engine/runtime.h"

// No rename, mkdir or access, but renameat and the like: on x86-64 the former are system calls of
// their own, and those an Android app may not make.
namespace toolkit {
namespace {

void count_written(int64_t bytes) {
  if (Runtime* runtime = Runtime::current()) runtime->count_written(bytes);
}

std::string parent(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

// Some file systems refuse to sync a directory; then they decide when its entries are safe.
void sync_directory(const std::string& path) {
  const int directory = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (directory < 0) return;
  fsync(directory);
  ::close(directory);
}

}  // namespace

File::File(const std::string& path, int flags, int mode) : path_(path) {
  fd_ = ::open(path.c_str(), flags | O_CLOEXEC, mode);
  if (fd_ < 0) fail_errno("open", path);
}

File::File(File&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)), path_(std::move(other.path_)) {}

File& File::operator=(File&& other) noexcept {
  if (this != &other) {
    close();
    fd_ = std::exchange(other.fd_, -1);
    path_ = std::move(other.path_);
  }
  return *this;
}

File::~File() { close(); }

void File::close() {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
}

int64_t File::size() const {
  struct stat status;
  if (fstat(fd_, &status) != 0) fail_errno("inspect", path_);
  return status.st_size;
}

void File::read_at(void* data, size_t bytes, int64_t offset) const {
  char* to = static_cast<char*>(data);
  while (bytes > 0) {
    const ssize_t count = pread(fd_, to, bytes, offset);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail_errno("read", path_);
    if (count == 0) fail("%s is shorter than it should be. Copy it again", path_.c_str());
    to += count;
    offset += count;
    bytes -= count;
  }
}

void File::write(const void* data, size_t bytes) {
  if (write_some(data, bytes) < bytes) fail_errno("write", path_);
}

size_t File::write_some(const void* data, size_t bytes) {
  const char* from = static_cast<const char*>(data);
  size_t done = 0;
  while (done < bytes) {
    const ssize_t count = ::write(fd_, from + done, bytes - done);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) break;
    done += size_t(count);
    count_written(count);
  }
  return done;
}

void File::write_at(const void* data, size_t bytes, int64_t offset) {
  const char* from = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t count = pwrite(fd_, from, bytes, offset);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail_errno("write", path_);
    from += count;
    offset += count;
    bytes -= count;
    count_written(count);
  }
}

AtomicFile::AtomicFile(const std::string& path) : path_(path) {
  // Renamed over, a device or a directory would be lost to everybody.
  struct stat status;
  if (stat(path.c_str(), &status) == 0 && !S_ISREG(status.st_mode)) {
    fail("%s is not an ordinary file. Choose another name", path.c_str());
  }
  file_ = File(temporary(), O_WRONLY | O_CREAT | O_TRUNC);
}

AtomicFile::~AtomicFile() {
  if (!committed_) remove_file(temporary());
}

void AtomicFile::commit() {
  if (fsync(file_.fd()) != 0) fail_errno("write", path_);
  file_.close();
  if (renameat(AT_FDCWD, temporary().c_str(), AT_FDCWD, path_.c_str()) != 0)
    fail_errno("rename", temporary());
  committed_ = true;
  sync_directory(parent(path_));
}

void make_directories(const std::string& path) {
  for (size_t slash = path.find('/', 1);; slash = path.find('/', slash + 1)) {
    const std::string part = path.substr(0, slash);
    const bool made = mkdirat(AT_FDCWD, part.c_str(), 0755) == 0;
    if (!made && errno != EEXIST) fail_errno("create", part);
    if (made) sync_directory(parent(part));  // or a power loss takes it, with all that is in it
    if (slash == std::string::npos) break;
  }
  struct stat status;
  if (stat(path.c_str(), &status) != 0) fail_errno("open", path);
  if (!S_ISDIR(status.st_mode)) fail("%s is not a directory. Choose another one", path.c_str());
}

bool file_exists(const std::string& path) {
  struct stat status;
  return stat(path.c_str(), &status) == 0;
}

void remove_file(const std::string& path) { unlinkat(AT_FDCWD, path.c_str(), 0); }

void remove_empty_directory(const std::string& path) {
  unlinkat(AT_FDCWD, path.c_str(), AT_REMOVEDIR);
}

std::vector<std::string> names_in(const std::string& directory) {
  std::vector<std::string> names;
  DIR* handle = opendir(directory.c_str());
  if (handle == nullptr) return names;
  while (const dirent* entry = readdir(handle)) names.push_back(entry->d_name);
  closedir(handle);
  return names;
}

void copy_file(const std::string& from, const std::string& to) {
  File source(from, O_RDONLY);
  AtomicFile target(to);
  char buffer[16384];
  int64_t left = source.size();
  for (int64_t offset = 0; left > 0;) {
    const size_t count = left < int64_t(sizeof(buffer)) ? left : sizeof(buffer);
    source.read_at(buffer, count, offset);
    target.write(buffer, count);
    offset += count;
    left -= count;
  }
  target.commit();
}

}  // namespace toolkit
