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
/* Runs to the end or to a requested stop. The callback may be null. */
TOOLKIT_API int toolkit_trainer_run(toolkit_trainer* trainer, toolkit_progress_callback callback,
                                    void* user);
/* Ends the run at the next step boundary. Safe from any thread and from signal handlers. */
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

/* The commands `gradients` and `evaluate`, with their options. */
TOOLKIT_API int toolkit_gradients(const toolkit_option* options, size_t count,
                                  toolkit_line_callback print, void* user);
TOOLKIT_API int toolkit_evaluate(const toolkit_option* options, size_t count,
                                 toolkit_line_callback print, void* user);
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
