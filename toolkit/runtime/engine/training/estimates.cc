#include "engine/training/estimates.h"

#include <fcntl.h>
#include <unistd.h>

#include "engine/error.h"

namespace toolkit {

void Estimates::begin(int64_t step, const Json& session) {
  file_ = File(path_, O_RDWR | O_CREAT);
  std::string text(size_t(file_.size()), ' ');
  file_.read_at(&text[0], text.size(), 0);
  size_t end = 0;
  if (step > 0) {
    const std::string last = format("{\"type\":\"step\",\"step\":%lld,", (long long)step);
    const size_t at = text.rfind(last);
    end = at == std::string::npos ? at : text.find('\n', at);
    if (end == std::string::npos) {
      fail("%s lacks step %lld of the saved state. Start a new run", path_.c_str(),
           (long long)step);
    }
    ++end;
  }
  if (ftruncate(file_.fd(), off_t(end)) != 0) fail_errno("shorten", path_);
  end_ = int64_t(end);
  const std::string line = session.str() + "\n";
  text.resize(end);
  const size_t before = text.rfind("{\"type\":\"session\"");
  const bool known = before != std::string::npos && text.compare(before, line.size(), line) == 0;
  waiting_ = known ? "" : line;
}

void Estimates::add(int64_t step, double lr, const std::vector<double>& slopes) {
  std::string list;
  for (double slope : slopes) list += (list.empty() ? "" : ",") + json_number(slope);
  Json line;
  line.field("type", "step").field("step", step).field("lr", lr).raw("g", "[" + list + "]");
  waiting_ += line.str() + "\n";
}

void Estimates::save() {
  file_.write_at(waiting_.data(), waiting_.size(), end_);
  if (fsync(file_.fd()) != 0) fail_errno("write", path_);
  end_ += int64_t(waiting_.size());
  waiting_.clear();
}

}  // namespace toolkit
