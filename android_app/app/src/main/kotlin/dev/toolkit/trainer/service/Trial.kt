package dev.toolkit.trainer.service

import dev.toolkit.trainer.R
import dev.toolkit.trainer.Words
import dev.toolkit.trainer.engine.Engine
import dev.toolkit.trainer.engine.Trainer
import dev.toolkit.trainer.store.AppException
import dev.toolkit.trainer.store.Bundle
import dev.toolkit.trainer.store.DataSet
import dev.toolkit.trainer.store.Estimates
import dev.toolkit.trainer.store.RunSettings
import dev.toolkit.trainer.store.deleteTree
import java.io.File

/** Two steps of a run that is thrown away, to know what one takes on this phone. */
class Trial(private val controller: RunController, private val scratch: File, private val estimates: Estimates) {
    @Volatile private var open: Trainer? = null

    @Volatile private var cancelled = false

    /** Ends it, between two sequences of a step; then nothing was measured. From any thread, also before it has begun. */
    fun cancel() {
        cancelled = true
        open?.requestStop()
    }

    /**
     * @throws dev.toolkit.trainer.engine.EngineException it cannot be trained
     * @throws AppException the engine is not to be had, or a run has taken it
     */
    fun measure(bundle: Bundle, data: DataSet, settings: RunSettings) = controller.lend { guest ->
        scratch.deleteTree()
        val short = settings.copy(steps = STEPS, warmupSteps = 0, evalEvery = 0, patience = 0, keep = "last", keepCheckpoints = 0, saveEvery = 0)
        val options = short.options() + mapOf(
            "bundle" to bundle.folder.path, "data" to data.train.path, "out" to scratch.path, "threads" to settings.threads.toString(),
            "trace" to "off",
        )
        try {
            Engine.open(options).use { trainer ->
                open = trainer
                if (cancelled) return@lend
                guest.whenWanted { trainer.requestStop() }
                // The second one: the first reads the model from storage.
                repeat(STEPS) { trainer.step() }
                if (cancelled) return@lend
                if (guest.isWanted) throw AppException(Words.of(R.string.trial_ended))
                estimates.learn(bundle, data.sequenceLength, settings.gradientAccumulation, trainer.progress())
            }
        } finally {
            open = null
            scratch.deleteTree()
        }
    }

    private companion object {
        const val STEPS = 2
    }
}
