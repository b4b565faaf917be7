// Files: whole reads and writes, atomic replacement; the open Runtime counts what is written.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace toolkit {

// Owns a file descriptor.
class File {
 public:
  File() = default;
  File(const std::string& path, int flags, int mode = 0644);  // throws Error
  File(File&& other) noexcept;
  File& operator=(File&& other) noexcept;
  ~File();

  int fd() const { return fd_; }
  bool is_open() const { return fd_ >= 0; }
  const std::string& path() const { return path_; }
  int64_t size() const;
  void close();

  // Read or write all bytes or throw Error; a short file is an error.
  void read_at(void* data, size_t bytes, int64_t offset) const;
  void write(const void* data, size_t bytes);
  // Writes what the storage takes and returns how much that was; fewer leave the cause in errno.
  size_t write_some(const void* data, size_t bytes);
  void write_at(const void* data, size_t bytes, int64_t offset);

 private:
  int fd_ = -1;
  std::string path_;
};

// Writes PATH through a temporary name: nothing with the final name ever holds part of the content.
// Without commit() the temporary file is removed. Throws Error where PATH is a device or a
// directory.
class AtomicFile {
 public:
  explicit AtomicFile(const std::string& path);
  ~AtomicFile();
  void write(const void* data, size_t bytes) { file_.write(data, bytes); }
  std::string temporary() const { return path_ + ".tmp"; }  // where it is until then
  void commit();                                            // fsync, rename, fsync of the directory

 private:
  std::string path_;
  File file_;
  bool committed_ = false;
};

void make_directories(const std::string& path);  // each made for good, not only in memory
bool file_exists(const std::string& path);
// Also where there is none.
void remove_file(const std::string& path);
void remove_empty_directory(const std::string& path);             // leaves one that holds something
std::vector<std::string> names_in(const std::string& directory);  // none where there is none
void copy_file(const std::string& from, const std::string& to);   // atomic

}  // namespace toolkit
