/* The trainer as a C library: the command line, the Android app and others are thin shells over it.
 *
 * No function throws. Status codes: 0 success, 1 failure, 2 wrong options; the message is one line,
 * "cause. remedy". One trainer is open, or one of the commands below runs, at a time in a process;
 * a second one is refused. Closing it ends its threads and gives its memory back to the system.
 */
#ifndef TOOLKIT_TRAINER_H_
#define TOOLKIT_TRAINER_H_

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TOOLKIT_API __attribute__((visibility("default")))

/* Options have the names of the command line without dashes: {"lr", "1e-4"}, {"resume", "true"}. */
typedef struct {
  const char* name;
  const char* value;
} toolkit_option;

typedef struct toolkit_trainer toolkit_trainer;

typedef struct {
  int64_t step;     /* steps done */
  int64_t steps;    /* steps in all */
  int64_t tokens;   /* of the last step, prompts and padding included */
  int64_t peak_kib; /* peak memory of the process in the last step */
  double loss;      /* of the last step, mean over labelled tokens */
  double lr;
  double grad_norm;
  double seconds;  /* of the last step */
  int32_t running; /* 0 once the run is over */
  int32_t stopped; /* 1 when it ended because of a request */
} toolkit_progress;

/* Called after every step, on the thread that runs. */
typedef void (*toolkit_progress_callback)(const toolkit_progress* progress, void* user);
/* Called with one line of JSON, without a newline. */
typedef void (*toolkit_line_callback)(const char* line, void* user);

/* Opens a run with the options of `trainer train`. On failure *trainer is null and the message is
 * toolkit_trainer_last_error(NULL) on the same thread. */
TOOLKIT_API int toolkit_trainer_create(const toolkit_option* options, size_t count,
                                       toolkit_trainer** trainer);
/* What happened at the start of the run, a line each: resumed, settings_changed, restarted. The
 * text, which may be empty, belongs to the trainer. */
TOOLKIT_API const char* toolkit_trainer_notices(const toolkit_trainer* trainer);
/* Runs one step; *more is 0 once the run is over (and saved). Where a save finds the storage full,
 * the call lasts until there is room or a stop is requested. */
TOOLKIT_API int toolkit_trainer_step(toolkit_trainer* trainer, int32_t* more);
/* Has every later step tell, on the thread that runs it, that a save waits for storage that is
 * full: the system's words, and an empty line once it waits no more. The callback may be null. */
TOOLKIT_API void toolkit_trainer_tell_waiting(toolkit_trainer* trainer,
                                              toolkit_line_callback waiting, void* user);
/* Runs to the end or to a requested stop. The callback may be null. */
TOOLKIT_API int toolkit_trainer_run(toolkit_trainer* trainer, toolkit_progress_callback callback,
                                    void* user);
/* Ends the run at the next step boundary; a step that has changed nothing yet is dropped and
 * computed when the run goes on. Safe from any thread and from signal handlers. */
TOOLKIT_API void toolkit_trainer_request_stop(toolkit_trainer* trainer);
/* Adds an event to the trace: why a run pauses or goes on. Safe from any thread while the run goes
 * on. */
TOOLKIT_API void toolkit_trainer_note(toolkit_trainer* trainer, const char* event,
                                      const char* detail);
/* Call it from the thread that runs, or between steps. */
TOOLKIT_API void toolkit_trainer_progress(const toolkit_trainer* trainer,
                                          toolkit_progress* progress);
/* Frees the trainer. A run that is not over keeps what was last saved. */
TOOLKIT_API void toolkit_trainer_close(toolkit_trainer* trainer);
/* Message of the last failure: of this trainer, or with null of this thread's last call without
 * one. */
TOOLKIT_API const char* toolkit_trainer_last_error(const toolkit_trainer* trainer);

/* The commands `gradients`, `evaluate` and `replay`, with their options. */
TOOLKIT_API int toolkit_gradients(const toolkit_option* options, size_t count,
                                  toolkit_line_callback print, void* user);
TOOLKIT_API int toolkit_evaluate(const toolkit_option* options, size_t count,
                                 toolkit_line_callback print, void* user);
TOOLKIT_API int toolkit_replay(const toolkit_option* options, size_t count,
                               toolkit_line_callback print, void* user);
/* What a run with the options of `trainer train` will hold and write, as one line of JSON, all in
 * bytes: peak_bytes and the phase that has it, memory by category; checkpoints and state with
 * place, bytes and reason; spilled_bytes and state_bytes that a step writes to files;
 * saved_bytes that a save writes; storage_bytes of the run's folder at most, without its trace.
 * A step that computes nothing: it reads the bundle's programs and the data and stores nothing. */
TOOLKIT_API int toolkit_dry_run(const toolkit_option* options, size_t count,
                                toolkit_line_callback print, void* user);
/* Replies to prompts, token by token, with the options of `trainer generate`. What a prompt has in
 * common with the text before it is not computed again, for every adapter apart. */
typedef struct toolkit_generator toolkit_generator;

typedef struct {
  int32_t token;         /* that was chosen; -1: a part of the prompt was computed */
  int64_t prompt_done;   /* tokens of the prompt that were computed */
  int64_t prompt_tokens; /* of it, and of the reply where that is computed once more */
} toolkit_reply_event;

typedef struct {
  const char* reason;      /* "stop", "length", "context" or "cancel" */
  int64_t prompt_tokens;   /* of the whole prompt */
  int64_t reused_tokens;   /* of it that were known */
  int64_t computed_tokens; /* of it in prompt_seconds: the others, or fewer if cancelled before */
  int64_t tokens;          /* of the reply */
  double prompt_seconds;   /* up to the first token's choice, or the cancel before it */
  double seconds;          /* from there on */
  int64_t cache_bytes;     /* keys and values that are kept */
  int64_t adapter_bytes;   /* 0 without an adapter */
  int64_t anonymous_kib;   /* of the process at the end: memory of its own */
  int64_t file_kib;        /* and pages of files, the mapped weights among them */
  int64_t peak_kib;        /* of both, during the reply */
} toolkit_reply;

/* Called on the thread that asked; 0 ends the reply. */
typedef int32_t (*toolkit_reply_callback)(const toolkit_reply_event* event, void* user);

/* Opens a bundle. On failure *generator is null and the message is
 * toolkit_generator_last_error(NULL) on the same thread. One generator or trainer is open at a time
 * in a process. */
TOOLKIT_API int toolkit_generator_create(const toolkit_option* options, size_t count,
                                         toolkit_generator** generator);
/* Changes options of the replies that follow: `adapter`, `max-tokens` and those of the choice. None
 * is changed where one is wrong. */
TOOLKIT_API int toolkit_generator_set(toolkit_generator* generator, const toolkit_option* options,
                                      size_t count);
/* Replies to a prompt of `count` tokens. After a failure another reply may be asked for. */
TOOLKIT_API int toolkit_generator_reply(toolkit_generator* generator, const int32_t* tokens,
                                        size_t count, toolkit_reply_callback callback, void* user,
                                        toolkit_reply* reply);
/* Writes the log probability of every token from place `first` on, 1 at least, given those before
 * it, to log_probabilities [count - first]. */
TOOLKIT_API int toolkit_generator_score(toolkit_generator* generator, const int32_t* tokens,
                                        size_t count, size_t first, double* log_probabilities);
/* Tokens of prompt and reply together, at most. */
TOOLKIT_API int64_t toolkit_generator_context(const toolkit_generator* generator);
TOOLKIT_API void toolkit_generator_close(toolkit_generator* generator);
/* Message of the last failure: of this generator, or with null of this thread's last creation. */
TOOLKIT_API const char* toolkit_generator_last_error(const toolkit_generator* generator);

/* The command `describe`: options, methods, optimizers and what they remember; also while a run is
 * open. */
TOOLKIT_API int toolkit_describe(const toolkit_option* options, size_t count,
                                 toolkit_line_callback print, void* user);
/* Version, ABI, instruction set and cores as one line of JSON; the text belongs to the library.
 * Null when the environment asks for an instruction set that this processor lacks. */
TOOLKIT_API const char* toolkit_info(void);

#ifdef __cplusplus
}
#endif

#endif /* TOOLKIT_TRAINER_H_ */
