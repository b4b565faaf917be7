// Split training (arXiv 2506.02940): the lower layers here, the others with the loss on a computer.
//
// The two meet in the folder `split` of the run. A question is the file `ask`: a line of words, and
// for a step labels, positions and starts [T] and hidden states [T, D] of row after row. The answer
// is the file `answer`: a line of words, and gradients [T, D] of row after row, or the adapters of
// the upper layers for a save. Both appear whole, by rename, and are gone once they were read.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cinttypes>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <thread>

#include "engine/error.h"
#include "engine/files/files.h"
#include "engine/training/methods/backpropagation.h"

namespace toolkit {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::milliseconds kGlance(2), kTell(10'000);
constexpr std::chrono::seconds kPatience(60);  // of a save once the run is asked to stop
constexpr size_t kLine = 4096;

// Throws UsageError unless every layer that is trained here is below the cut.
int64_t cut_of(const MethodParts& parts) {
  const int64_t cut = parts.options.cut, layers = parts.network.adapter().layers();
  if (cut >= layers) {
    fail_usage("--cut %lld leaves no layer above it: the model has %lld", (long long)cut,
               (long long)layers);
  }
  if (parts.trained.list().back() < cut) return cut;
  fail_usage("--method split trains layers below --cut %lld here. Give them as --layers 0-%lld",
             (long long)cut, (long long)cut - 1);
}

class Split : public Backpropagation, public UpperLayers {
 public:
  explicit Split(const MethodParts& parts)
      : Backpropagation(parts, cut_of(parts)),
        cut_(parts.options.cut),
        folder_(parts.options.out + "/split") {
    make_directories(folder_);
    remove_file(path("ask"));
    remove_file(path("answer"));
    parts.passes.cut(cut_, *this);
  }

  void begin(int64_t step, const Origin& origin) override {
    if (origin.taken >= 0) {
      fail_usage("--method split takes no --take-adapter: a part of it is the computer's");
    }
    done_ = step;
    session_ = Clock::now().time_since_epoch().count();
  }

  StepResult step(const std::vector<int64_t>& samples, StepSize size) override {
    size_ = size;
    StepResult result = Backpropagation::step(samples, size);
    result.grad_norm = std::hypot(result.grad_norm, std::sqrt(squares_above_));
    done_ = size.step;
    return result;
  }

  // Names are asked for, so that the other side needs to know nothing of the order here.
  void saving() override {
    open_question(format("save %lld 0 0 0 0 0", (long long)done_));
    each_upper([this](int64_t layer, const AdapterTensor& tensor) {
      const std::string name = layer_key(tensor.key, layer) + "\n";
      question_.write(name.data(), name.size());
    });
    send_question();
    Clock::time_point asked = Clock::time_point::max();
    wait([&] {
      if (!parts_.passes.asked_to_end()) return;
      asked = std::min(asked, Clock::now());
      if (Clock::now() - asked < kPatience) return;
      fail(
          "the computer with the upper layers did not answer for a minute, so nothing was "
          "saved. Resume the run from there with toolkit train --resume");
    });
    each_upper([this](int64_t layer, const AdapterTensor& tensor) {
      const size_t bytes = tensor.count * sizeof(float);
      parts_.updater.change(layer,
                            [&](float* values) { read_answer(values + tensor.offset, bytes); });
    });
    close_answer();
  }

  void begin(size_t rows, int64_t labelled) override {
    const int64_t tokens = parts_.network.seq_len();
    open_question(format("step %lld %.17g %lld %zu %lld %zu", (long long)size_.step, size_.lr,
                         (long long)labelled, rows, (long long)tokens,
                         parts_.network.hidden_bytes() / sizeof(float) / size_t(tokens)));
    left_ = rows;
  }

  void give(const Frame& frame) override {
    const size_t bytes = size_t(parts_.network.seq_len()) * sizeof(int32_t);
    for (const int32_t* words : {frame.labels, frame.positions, frame.start}) {
      question_.write(words, bytes);
    }
    question_.write(frame.hidden, parts_.network.hidden_bytes());
  }

  double loss(const std::function<void()>& waiting) override {
    send_question();
    wait(waiting);
    return loss_;
  }

  void take(float* gradient) override {
    read_answer(gradient, parts_.network.hidden_bytes());
    if (--left_ == 0) close_answer();
  }

 private:
  std::string path(const char* name) const { return folder_ + "/" + name; }

  template <typename Body>
  void each_upper(Body body) const {
    for (int64_t layer = cut_; layer < layout_.layers(); ++layer) {
      for (const AdapterTensor& tensor : layout_.tensors(layer)) body(layer, tensor);
    }
  }

  void open_question(const std::string& words) {
    question_ = File(path("ask.new"), O_WRONLY | O_CREAT | O_TRUNC);
    const std::string line =
        format("%lld %lld %s\n", (long long)session_, (long long)++number_, words.c_str());
    question_.write(line.data(), line.size());
  }

  // What is asked again after a crash of the device needs no fsync.
  void send_question() {
    question_.close();
    if (rename(path("ask.new").c_str(), path("ask").c_str()) != 0) {
      fail_errno("rename", path("ask.new"));
    }
  }

  void wait(const std::function<void()>& waiting) {
    const auto begin = Clock::now();
    for (bool told = false; !find_answer(); std::this_thread::sleep_for(kGlance)) {
      waiting();
      if (told || Clock::now() < begin + kTell) continue;
      told = true;
      parts_.trace.event("waiting_for_computer", "for the layers above the cut");
      parts_.trace.flush();
    }
  }

  // Whether there is one to this question; one to another is thrown away.
  bool find_answer() {
    const std::string name = path("answer");
    if (!file_exists(name)) return false;
    answer_ = File(name, O_RDONLY);
    char line[kLine + 1] = {};
    const ssize_t count = pread(answer_.fd(), line, kLine, 0);
    if (count < 0) fail_errno("read", name);
    const char* const end = strchr(line, '\n');
    int64_t session = 0, number = 0;
    int words = 0;
    const int read = sscanf(line, "%" SCNd64 " %" SCNd64 "%n", &session, &number, &words);
    if (end == nullptr || read != 2 || session != session_ || number != number_) {
      answer_.close();
      remove_file(name);
      return false;
    }
    begin_ = end + 1 - line;
    const std::string rest(line + words, size_t(end - line) - size_t(words));
    if (rest.rfind(" failed ", 0) == 0) {
      close_answer();
      fail("%s", rest.substr(strlen(" failed ")).c_str());
    }
    if (sscanf(rest.c_str(), "%lf %lf", &loss_, &squares_above_) == 2) return true;
    fail("the answer to step %lld cannot be understood. Resume the run", (long long)size_.step);
  }

  void read_answer(void* to, size_t bytes) {
    answer_.read_at(to, bytes, begin_);
    begin_ += int64_t(bytes);
  }

  void close_answer() {
    answer_.close();
    remove_file(path("ask"));
    remove_file(path("answer"));
  }

  const int64_t cut_;
  const std::string folder_;
  int64_t session_ = 0, number_ = 0, done_ = 0, begin_ = 0;
  size_t left_ = 0;  // rows whose gradients were not read
  StepSize size_ = {};
  File question_, answer_;
  double loss_ = 0, squares_above_ = 0;
};

}  // namespace

extern const MethodRow kSplit;
const MethodRow kSplit = {
    "split",
    "exact gradients of the layers below --cut here, and the others with the loss on the computer "
    "that asked for the run: hidden states go up, their gradients come down",
    {{"checkpoints"}, {"cut"}},
    true,
    true,
    true,
    false,
    [](const MethodParts& parts) -> std::unique_ptr<StepMethod> {
      return std::make_unique<Split>(parts);
    }};

}  // namespace toolkit
