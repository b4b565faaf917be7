package dev.toolkit.trainer.ui

import android.content.Context
import dev.toolkit.trainer.TrainerApp
import dev.toolkit.trainer.service.TrainingService
import dev.toolkit.trainer.store.AppException
import dev.toolkit.trainer.store.Run
import dev.toolkit.trainer.store.RunState

/** The run of the sample, or why there is none. */
class Sampled(val run: Run?, val problem: String?)

/** "Try it with the sample", from the introduction and from a first screen that has nothing to show. */
object FirstRun {
    /** Makes the run; [TrainerApp.sampling] tells whoever listens. */
    fun prepare(app: TrainerApp) = app.sampling.begin {
        try {
            Sampled(app.sample.prepare(), null)
        } catch (error: AppException) {
            Sampled(null, error.message)
        }
    }

    /** Starts it unless it is over, and shows its page; whoever asked for it waits, so it does not wait for the charger. */
    fun open(context: Context, run: Run) {
        if (run.state != RunState.COMPLETED) TrainingService.startAtOnce(context, run.name)
        context.startActivity(RunActivity.intent(context, run.name))
    }
}
