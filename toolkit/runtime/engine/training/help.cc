// What `trainer COMMAND --help` prints, from the table of options.
#include "engine/training/methods/method.h"
#include "engine/training/optimizers/optimizer.h"
#include "engine/training/options.h"

namespace toolkit {
namespace {

constexpr size_t kIndent = 36;

struct Text {
  const char *name, *summary, *example;
};

constexpr Text kTexts[kCommands] = {
    {"train", "Train a bundle's adapter; trace, adapter and resume state go to the run directory.",
     "trainer train --bundle bundles/smol --data data/chat/train.ptd --out runs/a --steps 50"},
    {"gradients",
     "Compute one step's loss and gradients without changing anything; prints a JSON line.",
     "trainer gradients --bundle bundles/smol --data data/chat/train.ptd --samples 0,1 --out "
     "g.safetensors"},
    {"evaluate", "Compute loss and perplexity of an adapter; prints JSON lines.",
     "trainer evaluate --bundle bundles/smol --data data/chat/validation.ptd"},
    {"describe",
     "Tell what this trainer can do: options, methods, optimizers with what they remember of a\n"
     "tensor, instruction sets.",
     "trainer describe --json --shape 8x896,4864x8"},
    {"generate",
     "Write what follows a prompt; prints JSON lines. Requests are lines, numbered from 1 on:\n"
     "  set OPTION VALUE  for the requests that follow\n"
     "  reply TOKEN ..    to the whole prompt; a beginning that is known is not computed again\n"
     "  score K TOKEN ..  log probabilities of these tokens but the first K, which is 1 or more\n"
     "  cancel            ends the replies asked for before; has no number and no answer\n"
     "Every answer has the number of its request.",
     "echo 'reply 1 42 7' | trainer generate --bundle bundles/smol --max-tokens 20"},
    {"replay",
     "Make an adapter from another one and the moves of zeroth-order steps, bit by bit; prints a "
     "JSON line.",
     "trainer replay --bundle bundles/smol --adapter a.ptd --moves moves.ptd --out b.ptd"},
};

/// Who reads an option, and defaults of their own: "sgd, adamw: " and ", lion 0.99".
struct Readers {
  std::string names, fallbacks;

  template <typename Rows>
  void add(const Rows& rows, const std::string& option) {
    for (const auto& row : rows) {
      for (const OptionUse& use : row.options) {
        if (option != use.name) continue;
        names += (names.empty() ? "" : ", ") + std::string(row.name);
        if (use.fallback == nullptr) continue;
        fallbacks += std::string(", ") + row.name + " " + use.fallback;
      }
    }
  }
};

std::string line_of(const OptionRow& row, Command command, const Options& defaults) {
  Readers readers;
  readers.add(methods(), row.name);
  readers.add(optimizers(), row.name);
  std::string line = "  --" + row.name + (row.value.empty() ? "" : " " + row.value);
  line.resize(line.size() < kIndent ? kIndent : line.size() + 1, ' ');
  line += (readers.names.empty() ? "" : readers.names + ": ") + row.help;
  if (row.required_by(command)) return line + " (required)\n";
  const std::string fallback = row.value.empty() ? "" : row.text_in(defaults);
  if (fallback.empty()) return line + "\n";
  return line + " (default " + fallback + readers.fallbacks + ")\n";
}

}  // namespace

const char* command_name(Command command) { return kTexts[int(command)].name; }

std::string help_text(Command command) {
  const Text& text = kTexts[int(command)];
  std::string lines = std::string("usage: trainer ") + text.name + " [options]\n\n" + text.summary +
                      "\n\noptions:\n";
  const Options defaults;
  for (const OptionRow& row : option_rows()) {
    if (row.in(command)) lines += line_of(row, command, defaults);
  }
  return lines + "\nexample:\n  " + text.example + "\n";
}

}  // namespace toolkit
