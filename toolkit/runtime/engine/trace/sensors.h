// Battery and thermal readings from /sys, where a device has them and lets us read.
#pragma once

#include <string>
#include <vector>

namespace toolkit {

class Sensors {
 public:
  Sensors();
  ~Sensors();
  Sensors(const Sensors&) = delete;
  Sensors& operator=(const Sensors&) = delete;

  // JSON values, empty when there is nothing to say.
  std::string battery() const;
  std::string thermal() const;

 private:
  struct Zone {
    std::string name;
    int fd;
  };
  int level_ = -1, temperature_ = -1, status_ = -1;
  std::vector<Zone> zones_;
};

}  // namespace toolkit
